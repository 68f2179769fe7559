"""`assay ingest --kafka` itself: a topic that is full, into an empty Redis, as a process."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from contextlib import closing
from pathlib import Path

from benchmarks.freshness import ingest_command
from benchmarks.measure import Ratio, interleave
from benchmarks.remote_store import INGEST_EVENTS, events_file, hset_rate
from benchmarks.run import Run
from tests.support.mock_kafka import MockKafka, mock_kafka
from tests.support.redis_server import RedisServer

TOPIC = "payments"
PARTITIONS = 6  # of about 10,000 events: the mock broker drops silently what is older than 15,000
RATE = 12_000.0


def kafka_ingest(run: Run) -> list[Ratio]:
    """The demo's newest events, two records each, broker and Redis on the same cores: events a second from the moment that the
    process has its partitions until it says that it is at the end, all committed; and over a pipeline of two HSETs for each of
    the same events."""
    rate = Ratio("assay ingest --kafka over 12,000 events/s", ">= 1", "events/s")
    over = Ratio("assay ingest --kafka over a plain HSET pipeline", ">= 0.4", "events/s")
    events = [line.rstrip() for line in events_file(run).read_bytes().splitlines()]
    entities = [_entities(event) for event in events]
    groups = (f"bench-{number}" for number in itertools.count())
    with mock_kafka() as kafka, closing(RedisServer()) as server, server.client() as client:
        kafka.create(TOPIC, PARTITIONS)
        kafka.send(TOPIC, zip((customer.encode() for customer, _ in entities), events, strict=True))

        def ingested() -> float:
            client.flushall()
            return INGEST_EVENTS / _seconds(kafka, server.url, next(groups), run.material.folder / "ingest.log")

        ingested()
        interleave(over, ingested, lambda: hset_rate(client, entities), min(run.pairs, 5), run.report)
    rate.pairs = [(ours, RATE) for ours, _ in over.pairs]
    return [rate, over]


# --- implementation ---


def _entities(event: bytes) -> tuple[str, str]:
    entities = json.loads(event)["entities"]
    return entities["customer_id"], entities["terminal_id"]


def _seconds(kafka: MockKafka, store: str, group: str, log: Path) -> float:
    """Of one run, without its start."""
    command = [*ingest_command(kafka, TOPIC, group, store), "--stop-at-end", "--json"]
    with log.open("w") as kept, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            kept.write(line)
            if "partitions assigned" in line:
                break
        started_s = time.perf_counter()
        said = process.stdout.readline()
        took_s = time.perf_counter() - started_s
        said += process.stdout.read()
        kept.write(process.stderr.read())
    assert process.returncode == 0, f"{log} says why"
    assert json.loads(said)["recorded_count"] == INGEST_EVENTS, said
    return took_s
