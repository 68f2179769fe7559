"""How long an event is on its way from its producer's hand through Kafka, `assay ingest` and Redis to where a score sees it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import redis

from assay._core import EmbeddedStore, EventWriter, FeaturePlan
from benchmarks.measure import Ratio, process_cpu_s
from benchmarks.run import Run
from tests.support.mock_kafka import MockKafka, mock_kafka
from tests.support.redis_server import RedisServer

EVENTS_PER_S = 5_000
PROBES_PER_S = 50  # events of customers and terminals that nobody has seen: readable is what is there
RUN_S, WARMUP_S = 12.0, 3.0  # the mock broker looks its log through from the start: the longer it is, the slower it is
PARTITIONS = 8
CUSTOMERS, TERMINALS = 5_000, 10_000  # as the demo's
P99_MS = 150.0
EVENT_CPU_US = 20.0  # 50,000 of them are a second
LOST_S = 10.0  # a probe that takes longer is lost
SEED = 7
# A broker answers a fetch when there is something; the mock one, if there is nothing at once, when this time is over.
BROKER_WAIT = ("--kafka-option", "fetch.wait.max.ms=10")


def freshness(run: Run) -> list[Ratio]:
    """5,000 events a second, two records each; broker, Redis and producer on the same cores: p99 of the time until both records
    of an event can be read; and what an event costs the ingestion."""
    ratio = Ratio("produced to readable at 5,000 events/s, p99 over 150 ms", "<= 1", "ms")
    cpu = Ratio("the same, processor time of assay ingest over 20 us an event: cores for 50,000/s", "reported", "us")
    for index in range(min(run.pairs, 5)):
        with mock_kafka() as kafka, closing(RedisServer()) as server, server.client() as client:
            kafka.create("events", PARTITIONS)
            with _ingesting(kafka, server.url, run.material.folder / "ingest.log") as pid:
                stream = _Stream(kafka, client, run.material.plan, pid)
                times_ms = stream.run()
        ratio.pairs.append((float(np.percentile(times_ms, 99)), P99_MS))
        cpu.pairs.append((stream.event_cpu_us, EVENT_CPU_US))
        run.report(f"freshness: {index + 1}, p50 {np.median(times_ms):.0f} ms, p99 {ratio.pairs[-1][0]:.0f} ms")
    return [ratio, cpu]


def ingest_command(kafka: MockKafka, topic: str, group: str, store: str) -> list[str]:
    """`assay ingest --kafka` of the demo's events."""
    command = [sys.executable, "-m", "assay", "ingest", "--kafka", kafka.brokers, "--topic", topic, "--group", group]
    return [*command, "--store", store, "--fail-on-reject", *BROKER_WAIT]


# --- implementation ---


@contextmanager
def _ingesting(kafka: MockKafka, store: str, log: Path) -> Iterator[int]:
    """Its process id."""
    command = ingest_command(kafka, "events", "bench", store)
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


@dataclass
class _Probe:
    sent_s: float
    keys: list[bytes]


@dataclass
class _Stream:
    """A producer at a steady pace, and a reader that asks for probes every millisecond."""

    kafka: MockKafka
    client: redis.Redis
    plan: FeaturePlan
    ingest_pid: int
    event_cpu_us: float = 0.0  # of that process
    _waiting: dict[int, _Probe] = field(default_factory=dict)
    _times_ms: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> list[float]:
        self._wait_for_first()
        reader = threading.Thread(target=self._read)
        reader.start()
        try:
            cpu_s = process_cpu_s(self.ingest_pid)
            self._produce(WARMUP_S + RUN_S)
            self._wait_for_rest()
            self.event_cpu_us = 1e6 * (process_cpu_s(self.ingest_pid) - cpu_s) / (EVENTS_PER_S * (WARMUP_S + RUN_S))
        finally:
            self._is_over.set()
            reader.join()
        return self._times_ms[int(WARMUP_S * PROBES_PER_S) :]

    def _wait_for_first(self) -> None:
        """A consumer takes a while to be given its partitions."""
        producer = self.kafka.producer()
        names = EventWriter(self.plan, EmbeddedStore())
        producer.produce("events", _event(-1, "first", "first"), b"first")
        producer.flush()
        deadline_s = time.monotonic() + 60
        while not self.client.exists(names.record_of("customer", "first").key):
            assert time.monotonic() < deadline_s, "nothing is ingested: build/bench/ingest.log says why"
            time.sleep(0.01)

    def _produce(self, seconds: float) -> None:
        random = np.random.default_rng(SEED)
        producer = self.kafka.producer()
        names = EventWriter(self.plan, EmbeddedStore())
        count = int(seconds * EVENTS_PER_S)
        customers, terminals = random.integers(0, CUSTOMERS, count), random.integers(0, TERMINALS, count)
        started_s = time.monotonic()
        for number in range(count):
            customer, terminal = str(customers[number]), str(terminals[number])
            if number % (EVENTS_PER_S // PROBES_PER_S) == 0:
                customer, terminal = f"probe-{number}", f"probe-{number}"
                keys = [names.record_of("customer", customer).key, names.record_of("terminal", terminal).key]
                with self._lock:
                    self._waiting[number] = _Probe(time.monotonic(), keys)
            producer.produce("events", _event(number, customer, terminal), customer.encode())
            producer.poll(0)
            ahead_s = started_s + number / EVENTS_PER_S - time.monotonic()
            if ahead_s > 0.001:
                time.sleep(ahead_s)
        assert producer.flush(LOST_S) == 0

    def _read(self) -> None:
        while not self._is_over.wait(0.001):
            with self._lock:
                waiting = list(self._waiting.items())
            if not waiting:
                continue
            found: Any = self.client.mget([key for _, probe in waiting for key in probe.keys])
            now_s = time.monotonic()
            for index, (number, probe) in enumerate(waiting):
                if all(record is not None for record in found[2 * index : 2 * index + 2]):
                    self._times_ms.append((now_s - probe.sent_s) * 1_000)
                    with self._lock:
                        del self._waiting[number]

    def _wait_for_rest(self) -> None:
        deadline_s = time.monotonic() + LOST_S
        while self._waiting:
            assert time.monotonic() < deadline_s, f"{len(self._waiting)} events are not readable {LOST_S:g} s after the last one"
            time.sleep(0.01)


def _event(number: int, customer: str, terminal: str) -> bytes:
    event = {
        "transaction_id": f"fresh-{number}",
        "event_time": datetime.now(UTC).isoformat(),
        "entities": {"customer_id": customer, "terminal_id": terminal},
        "features": {"amount_minor": 1_000 + number % 5_000},
    }
    return json.dumps(event).encode()
