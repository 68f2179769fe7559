"""Random events of few customers and terminals, `assay ingest --kafka` as a process, and the state of a store as bytes."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis

from assay.features.redis_writer import HEADER_BYTES
from tests.support.feature_sets import SHOP
from tests.support.mock_kafka import OPTIONS, MockKafka

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
VOLATILE = ((12, 16), (40, 48))  # bytes of a record: checksum, time of writing
SECRET = "4111111111111111"  # in rejects: must never be shown


def time_of(seconds: float) -> str:
    return (FIRST + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def make_events(rng: random.Random, count: int, *, first: int = 0) -> list[dict[str, Any]]:
    """In order of time, about five minutes apart for each customer: no ring overflows, so that any order gives the same state."""
    return [
        {
            "transaction_id": f"t{number}",
            "event_time": time_of(number * 7 + rng.random()),
            "entities": {"customer_id": f"c{rng.randrange(40)}", "terminal_id": f"m{rng.randrange(30)}"},
            "features": {"amount_minor": rng.randrange(100_000), "channel": rng.choice(["web", "pos", None])},
        }
        for number in range(first, first + count)
    ]


def send_events(kafka: MockKafka, topic: str, events: Sequence[dict[str, Any]]) -> None:
    kafka.send(topic, ((event["entities"]["customer_id"].encode(), json.dumps(event).encode()) for event in events))


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

    def __init__(self, kafka: MockKafka, folder: Path, store: str, *arguments: str) -> None:
        feature_set = folder / "shop.yaml"
        feature_set.write_text(SHOP)
        command = [sys.executable, "-m", "assay", "ingest", "--kafka", kafka.brokers, "--store", store, *OPTIONS]
        self.process = subprocess.Popen(
            [*command, "--feature-set", str(feature_set), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

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
def ingesting(kafka: MockKafka, folder: Path, store: str, *arguments: str) -> Iterator[IngestProcess]:
    running = IngestProcess(kafka, folder, store, *arguments)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()


def ingest_to_end(kafka: MockKafka, folder: Path, store: str, *arguments: str) -> tuple[int, str, str]:
    with ingesting(kafka, folder, store, "--stop-at-end", *arguments) as running:
        return running.wait()


def ingest_file(folder: Path, store: str, events: Sequence[dict[str, Any]]) -> None:
    """The same events from a file."""
    (folder / "shop.yaml").write_text(SHOP)
    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    command = [sys.executable, "-m", "assay", "ingest", "--events", str(path), "--store", store]
    subprocess.run([*command, "--feature-set", str(folder / "shop.yaml")], check=True, capture_output=True, timeout=120)


def state_of(client: redis.Redis) -> dict[bytes, bytes]:
    """Every record by its key, without what differs from write to write: checksum and time of writing."""
    return {key: _state(value) for key in client.scan_iter("a1:*") if (value := client.get(key)) is not None}


def _state(record: bytes) -> bytes:
    header = bytearray(record[:HEADER_BYTES])
    for start, end in VOLATILE:
        header[start:end] = bytes(end - start)
    return bytes(header) + record[HEADER_BYTES:]
