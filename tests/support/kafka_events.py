"""Random events of few customers and terminals, `assay ingest --kafka` as a process, and the state of a store as bytes."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import struct
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis

from assay.features.redis_writer import HEADER_BYTES
from tests.support.feature_sets import SHOP
from tests.support.mock_kafka import OPTIONS, MockKafka
from tests.support.redis_server import view_of

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
VOLATILE = ((12, 16), (40, 48), (64, 128))  # bytes of a record: checksum, time of writing, fences
FENCES_AT, FENCE = 64, struct.Struct("<IIq")  # of events, then of labels: source, epoch, offset
SHOP_BYTES = {"customer": (40, 96), "terminal": (32, 48)}  # of an entry and of a tile, by view: docs/row-record.md
TILE_COUNT_AT = 24  # in a tile: of its events
SECRET = "4111111111111111"  # in rejects: must never be shown


def time_of(seconds: float) -> str:
    return (FIRST + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def make_events(rng: random.Random, count: int, *, first: int = 0, terminal_count: int = 30) -> list[dict[str, Any]]:
    """In order of time, about five minutes apart for each customer. While no ring overflows (256 events of an entity) any order
    gives the same state."""
    return [
        {
            "transaction_id": f"t{number}",
            "event_time": time_of(number * 7 + rng.random()),
            "entities": {"customer_id": f"c{rng.randrange(40)}", "terminal_id": f"m{rng.randrange(terminal_count)}"},
            "features": {"amount_minor": rng.randrange(100_000), "channel": rng.choice(["web", "pos", None])},
        }
        for number in range(first, first + count)
    ]


def send_events(kafka: MockKafka, topic: str, events: Sequence[dict[str, Any]], *, key: str = "customer_id") -> None:
    kafka.send(topic, ((event["entities"][key].encode(), json.dumps(event).encode()) for event in events))


def of_entity(events: Sequence[dict[str, Any]], entity: str) -> list[dict[str, Any]]:
    """The same for the views of one entity alone."""
    return [event | {"entities": {entity: event["entities"][entity]}} for event in events]


def make_labels(rng: random.Random, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One of each event: five days later, now and then a fraud."""
    return [
        {name: event[name] for name in ("transaction_id", "event_time", "entities")}
        | {"is_fraud": rng.random() < 0.2, "label_time": time_of(number * 7 + 5 * 86_400)}
        for number, event in enumerate(events)
    ]


def send_labels(kafka: MockKafka, topic: str, labels: Sequence[dict[str, Any]]) -> None:
    kafka.send(topic, ((label["entities"]["terminal_id"].encode(), json.dumps(label).encode()) for label in labels))


class IngestProcess:
    """`assay ingest --kafka`, as a user starts it."""

    def __init__(self, kafka: MockKafka, folder: Path, store: str, *arguments: str, feature_set: str = SHOP) -> None:
        command = [sys.executable, "-m", "assay", "ingest", "--kafka", kafka.brokers, "--store", store, *OPTIONS]
        self.process = subprocess.Popen(
            [*command, "--feature-set", _written(folder, feature_set), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def metrics(self) -> Callable[[], str]:
        """A function that gives the metrics page (--metrics-listen), once its address was said."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/metrics", line):
                return lambda: urllib.request.urlopen(found[0], timeout=20).read().decode().replace(".0\n", "\n")
        raise AssertionError("no line names the address")

    def wait(self) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        try:
            out, said = self.process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, out, said

    def terminate(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def ingesting(kafka: MockKafka, folder: Path, store: str, *arguments: str, feature_set: str = SHOP) -> Iterator[IngestProcess]:
    running = IngestProcess(kafka, folder, store, *arguments, feature_set=feature_set)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()


def ingest_to_end(kafka: MockKafka, folder: Path, store: str, *arguments: str, feature_set: str = SHOP) -> tuple[int, str, str]:
    with ingesting(kafka, folder, store, "--stop-at-end", *arguments, feature_set=feature_set) as running:
        return running.wait()


def ingest_file(folder: Path, store: str, events: Sequence[dict[str, Any]], *, feature_set: str = SHOP) -> None:
    """The same events from a file."""
    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    command = [sys.executable, "-m", "assay", "ingest", "--events", str(path), "--store", store]
    command += ["--feature-set", _written(folder, feature_set)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def state_of(client: redis.Redis) -> dict[bytes, bytes]:
    """Every record by its key, without what differs from way to way: checksum, time of writing, fences."""
    return {key: _state(value) for key in client.scan_iter("a1:*") if (value := client.get(key)) is not None}


def event_counts(state: Mapping[bytes, bytes]) -> dict[str, int]:
    """How many events the records of each view of SHOP hold, one by one or in tiles. By the bytes alone, not by the core."""
    counts: Counter[str] = Counter()
    for key, record in state.items():
        view = view_of(key)
        entry_bytes, tile_bytes = SHOP_BYTES[view]
        entries, tiles = struct.unpack_from("<II", record, 52)
        first_tile = HEADER_BYTES + entries * entry_bytes
        assert len(record) == first_tile + tiles * tile_bytes, key
        counts[view] += entries
        for tile in range(tiles):
            counts[view] += struct.unpack_from("<Q", record, first_tile + tile * tile_bytes + TILE_COUNT_AT)[0]
    return dict(counts)


# --- implementation ---


def _written(folder: Path, feature_set: str) -> str:
    path = folder / "features.yaml"
    if not path.exists() or path.read_text() != feature_set:  # else a process that starts may be reading it
        path.write_text(feature_set)
    return str(path)


def _state(record: bytes) -> bytes:
    header = bytearray(record[:HEADER_BYTES])
    for start, end in VOLATILE:
        header[start:end] = bytes(end - start)
    return bytes(header) + record[HEADER_BYTES:]
