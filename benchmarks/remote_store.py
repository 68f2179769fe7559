"""Redis as the feature store, on the same cores as everything else: scores from it, ingestion into it, and what a packed record
saves over a hash."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import redis

from assay.demo.history import DEMO_PARAMETERS, demo_log
from assay.demo.simulator import simulate
from assay.features.ingest import ingest_events, ingest_log
from assay.features.store import open_store
from benchmarks.measure import Ratio, interleave
from benchmarks.native import MESSAGES
from benchmarks.processes import SCORE, Server, assay_server, grpcio_server
from benchmarks.run import Run
from tests.support.redis_server import RedisServer

VARIED_MESSAGES = 20_000
GRPCIO_LOAD = {"requests": 6_000, "clients": 4, "in_flight": 16}
NATIVE_LOAD = ("--warmup", "1", "--connections", "4", "--streams", "16")
INGEST_EVENTS = 60_000
HASH_PIPELINE = 1_000  # commands
HASH_FIELDS = 8
LAYOUT_ROWS = (1, 10, 100)
LAYOUT_READS = 2_000  # rows of a measurement
SEED = 5


def redis_score(run: Run) -> list[Ratio]:
    """Unary Score of distinct transactions, 64 in flight, with features from Redis: over the embedded store's rate on the grpcio
    transport, and against the budgets on the native one."""
    messages = run.material.messages_file(VARIED_MESSAGES)
    bench_messages = run.material.bench_file(MESSAGES)
    over = Ratio("grpcio: unary Score with Redis over the embedded store", ">= 0.8", "requests/s")
    rate = Ratio("native: unary Score with Redis over 20,000/s", ">= 1", "requests/s")
    p99 = Ratio("the same, p99 over 12 ms", "<= 1", "us")
    cpu = Ratio("the same, server CPU over 0.018 s per 1,000", "reported", "CPU s per 1,000")
    with _filled_redis(run) as url:
        with grpcio_server(run.material, "--store", url) as remote, grpcio_server(run.material) as embedded:

            def rate_of(server: Server) -> Callable[[], float]:
                return lambda: server.varied_load(SCORE, messages, **GRPCIO_LOAD).rate

            for server in (remote, embedded):
                rate_of(server)()
            interleave(over, rate_of(remote), rate_of(embedded), run.pairs, run.report)
        with assay_server(run.material, "--transport", "native", "--store", url) as server:
            for index in range(run.pairs):
                step = server.bench(bench_messages, 4.0, *NATIVE_LOAD)
                assert set(step["outcomes"]) == {"OK"}, step["outcomes"]
                rate.pairs.append((step["rate"], 20_000.0))
                p99.pairs.append((step["latency_us"]["p99"], 12_000.0))
                cpu.pairs.append((step["server_cpu_s_per_1000"], 0.018))
                run.report(f"native with Redis: {index + 1}/{run.pairs}, {step['rate']:,.0f}/s")
    return [over, rate, p99, cpu]


def redis_ingest(run: Run) -> list[Ratio]:
    """JSON lines into an empty Redis, two records an event: events a second, and over a pipeline of two HSETs an event."""
    rate = Ratio("ingestion into Redis over 12,000 events/s", ">= 1", "events/s")
    over = Ratio("ingestion into Redis over a plain HSET pipeline", ">= 0.4", "events/s")
    path = events_file(run)
    random = np.random.default_rng(SEED)
    customers, terminals = random.integers(0, 4_000, INGEST_EVENTS), random.integers(0, 8_000, INGEST_EVENTS)
    entities = list(zip(customers.tolist(), terminals.tolist(), strict=True))
    with closing(RedisServer()) as server, server.client() as client:

        def ingested() -> float:
            client.flushall()
            started = time.perf_counter()
            with open_store(server.url) as store:
                summary = ingest_events(path, store.writer(run.material.plan), run.material.plan, run.material.feature_set)
            assert summary.recorded_count == INGEST_EVENTS, summary
            return INGEST_EVENTS / (time.perf_counter() - started)

        interleave(over, ingested, lambda: hset_rate(client, entities), min(run.pairs, 5), run.report)
        rate.pairs = [(ours, 12_000.0) for ours, _ in over.pairs]
    return [rate, over]


def redis_layout(run: Run) -> list[Ratio]:
    """Reading both records of 1, 10 and 100 transactions: pipelines over the one MGET of packed records."""
    ratios = []
    random = np.random.default_rng(SEED)
    with _filled_redis(run) as url, redis.Redis.from_url(url) as client:
        keys = [key for key in client.scan_iter("a1:*", count=10_000) if b":customer:" in key or b":terminal:" in key]
        _make_hashes(client, keys)
        for rows in LAYOUT_ROWS:
            reads: dict[str, Callable[[list[bytes]], object]] = {
                "GETs in a pipeline": lambda batch: _pipelined(client, [("GET", key) for key in batch]),
                "HMGETs in a pipeline": lambda batch: _pipelined(client, [("HMGET", b"h:" + key, *_fields()) for key in batch]),
                "HGETALLs in a pipeline": lambda batch: _pipelined(client, [("HGETALL", b"h:" + key) for key in batch]),
            }

            def us_a_row(read: Callable[[list[bytes]], object], rows: int = rows) -> float:
                batches = [list(batch) for batch in random.choice(np.array(keys, dtype=object), (LAYOUT_READS // rows, 2 * rows))]
                started = time.perf_counter()
                for batch in batches:
                    read(batch)
                return 1e6 * (time.perf_counter() - started) / (len(batches) * rows)

            for name, read in reads.items():
                ratio = Ratio(f"reading {rows} rows: {name} over one MGET of packed records", "reported", "us a row")
                packed = lambda: us_a_row(lambda batch: client.mget(batch))  # noqa: E731
                interleave(ratio, lambda read=read: us_a_row(read), packed, run.pairs, run.report)
                ratios.append(ratio)
    return ratios


def fill_redis(run: Run, url: str) -> None:
    """With the demo's history."""
    run.report("filling Redis with the demo's history")
    with open_store(url) as store:
        ingest_log(demo_log(run.material.plan), store.writer(run.material.plan))


def events_file(run: Run) -> Path:
    """The newest INGEST_EVENTS of the demo's history, one JSON object a line."""
    path = run.material.folder / f"events-{INGEST_EVENTS}.jsonl"
    if not path.exists():
        lines = [line for block in simulate(DEMO_PARAMETERS).json_lines() for line in block.splitlines(keepends=True)]
        path.write_bytes(b"".join(lines[-INGEST_EVENTS:]))
    return path


def hset_rate(client: redis.Redis, entities: Sequence[tuple[str | int, str | int]]) -> float:
    """What writing finished values costs, in events a second: two hashes of HASH_FIELDS fields for the customer and the terminal
    of each."""
    client.flushall()
    fields = dict.fromkeys(_fields(), "123.456")
    started = time.perf_counter()
    events = iter(entities)
    while batch := list(islice(events, HASH_PIPELINE // 2)):
        with client.pipeline(transaction=False) as pipeline:
            for customer, terminal in batch:
                pipeline.hset(f"c:{customer}", mapping=fields)
                pipeline.hset(f"t:{terminal}", mapping=fields)
            pipeline.execute()
    return len(entities) / (time.perf_counter() - started)


# --- implementation ---


@contextmanager
def _filled_redis(run: Run) -> Iterator[str]:
    with closing(RedisServer()) as server:
        fill_redis(run, server.url)
        yield server.url


def _make_hashes(client: redis.Redis, keys: Sequence[bytes]) -> None:
    for first in range(0, len(keys), HASH_PIPELINE):
        with client.pipeline(transaction=False) as pipeline:
            for key in keys[first : first + HASH_PIPELINE]:
                pipeline.hset(b"h:" + key, mapping=dict.fromkeys(_fields(), "123.456"))
            pipeline.execute()


def _fields() -> list[str]:
    return [f"feature_{i}_7d" for i in range(HASH_FIELDS)]


def _pipelined(client: redis.Redis, commands: Sequence[tuple[object, ...]]) -> list[object]:
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute())
