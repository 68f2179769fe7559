"""The budgets of the grpcio transport, of telemetry and of starting, one function each; native.py and native_load.py have
the native transport's. Every ratio is assay over its baseline, from interleaved pairs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from assay.v1 import scoring_pb2
from benchmarks.audit_levels import audit
from benchmarks.baselines import assay_response, onnxruntime_alone
from benchmarks.before import before
from benchmarks.drift_cost import drift
from benchmarks.event_watch import watch
from benchmarks.explain_cost import explain
from benchmarks.explained_load import explained
from benchmarks.freshness import freshness
from benchmarks.infer import infer
from benchmarks.kafka_ingest import kafka_ingest
from benchmarks.measure import Ratio, Sample, interleave, process_rss_bytes
from benchmarks.native import MESSAGES, closed_loop, native_batch, native_lone, open_loop
from benchmarks.native_load import abuse, overload, soak
from benchmarks.processes import (
    SCORE,
    SCORE_BATCH,
    Server,
    assay_server,
    empty_server,
    free_port,
    grpcio_server,
    hand_written_server,
    otlp_sink,
    scraped,
)
from benchmarks.quantize import quantize
from benchmarks.remote_store import redis_ingest, redis_layout, redis_score
from benchmarks.rollout import rollout
from benchmarks.run import BATCH_ROWS, Run
from benchmarks.sizing import redis_sizing
from benchmarks.store_away import redis_away
from benchmarks.tree_predictors import trees

VARIED_MESSAGES = 20_000
# Closed loop, 64 requests in flight on 4 connections: enough to keep both cores busy, as a core banking service would.
UNARY_LOAD = {"requests": 6_000, "clients": 4, "in_flight": 16}
BATCH_LOAD = {"requests": 600, "clients": 2, "in_flight": 2}


def unary(run: Run) -> list[Ratio]:
    """Unary Score: rate against an empty grpc.aio handler, of one message (h2load) and of distinct transactions, and against the
    hand-written server; CPU time of a scored request."""
    message = run.material.requests(1)[0].SerializeToString()
    messages = run.material.messages_file(VARIED_MESSAGES)
    empty = Ratio("unary Score over an empty grpc.aio handler", ">= 0.85", "requests/s")
    varied = Ratio("the same, distinct transactions", ">= 0.85", "requests/s")
    hand = Ratio("unary Score over the hand-written server", "> 1", "requests/s")
    cpu = Ratio("CPU per 1,000 unary Scores over the empty handler's", "reported", "CPU s per 1,000")
    response = assay_response(run, message)
    with grpcio_server(run.material) as assay, empty_server(response) as bare, _hand_written(run) as written:
        for server in (assay, bare, written):
            server.load(SCORE, message, **UNARY_LOAD)
        costs: dict[int, list[float]] = {assay.pid: [], bare.pid: []}

        def rate(server: Server) -> Callable[[], float]:
            def measure() -> float:
                sample: Sample = server.load(SCORE, message, **UNARY_LOAD)
                costs.setdefault(server.pid, []).append(1000 / sample.work_per_cpu_s)
                return sample.rate

            return measure

        interleave(empty, rate(assay), rate(bare), run.pairs, run.report)
        cpu.pairs = list(zip(costs[assay.pid], costs[bare.pid], strict=True))
        interleave(varied, _varied_rate(assay, messages), _varied_rate(bare, messages), run.pairs, run.report)
        interleave(hand, rate(assay), rate(written), run.pairs, run.report)
    return [empty, varied, hand, cpu]


def batch(run: Run) -> list[Ratio]:
    """ScoreBatch of 256: rows per CPU second of the whole server against ONNX Runtime alone on the ready matrix, and against the
    hand-written server."""
    requests = run.material.requests(BATCH_ROWS)
    message = scoring_pb2.ScoreBatchRequest(requests=requests).SerializeToString()
    matrix = run.material.matrix(requests)
    runtime = Ratio("ScoreBatch(256) over ONNX Runtime alone", ">= 0.6", "rows per CPU s")
    hand = Ratio("ScoreBatch(256) over the hand-written server", "> 1", "rows per CPU s")
    alone = onnxruntime_alone(run, matrix, BATCH_ROWS, "rows_per_cpu_s")
    with grpcio_server(run.material) as assay, _hand_written(run) as written:

        def rows_per_cpu_s(server: Server) -> Callable[[], float]:
            return lambda: server.load(SCORE_BATCH, message, rows=BATCH_ROWS, **BATCH_LOAD).work_per_cpu_s

        for measure in (rows_per_cpu_s(assay), rows_per_cpu_s(written), alone):
            measure()
        interleave(runtime, rows_per_cpu_s(assay), alone, run.pairs, run.report)
        interleave(hand, rows_per_cpu_s(assay), rows_per_cpu_s(written), run.pairs, run.report)
    return [runtime, hand]


def rows(run: Run) -> list[Ratio]:
    """Decode + fold + assemble of one row: 15 inputs, two views, distinct transactions of random customers. Nanoseconds."""
    messages = [request.SerializeToString() for request in run.material.requests(20_000)]
    ratio = Ratio("decode + fold + assemble, ns a row, over 1,500 ns", "<= 1", "ns")
    reader = run.material.reader
    reader.measure(messages, 1)
    return [interleave(ratio, lambda: reader.measure(messages, 5) / (5 * len(messages)), lambda: 1500.0, run.pairs, run.report)]


def lone(run: Run) -> list[Ratio]:
    """One request at a time, distinct transactions: median latency against the empty handler's."""
    message = run.material.requests(1)[0].SerializeToString()
    messages = run.material.messages_file(VARIED_MESSAGES)
    ratio = Ratio("one request at a time, p50, over an empty grpc.aio handler", "<= 1.3", "us")
    response = assay_response(run, message)
    with grpcio_server(run.material) as assay, empty_server(response) as bare:
        for server in (assay, bare):
            _lone_p50(server, messages)()
        interleave(ratio, _lone_p50(assay, messages), _lone_p50(bare, messages), run.pairs, run.report)
    return [ratio]


def inline(run: Run) -> list[Ratio]:
    """What inline runs are worth: the same server with and without them, distinct transactions."""
    messages = run.material.messages_file(VARIED_MESSAGES)
    rate = Ratio("unary Score, inline runs over runners", "reported", "requests/s")
    latency = Ratio("one request at a time, p50, inline runs over runners", "reported", "us")
    # A store belongs to one server: the other one has a copy.
    snapshot = Path(shutil.copy(run.material.snapshot, run.material.folder / "store2.snapshot"))
    other = ("--set", "lane.inline_run_us_max=0", "--store", f"embedded:{snapshot}")
    with grpcio_server(run.material) as with_inline, grpcio_server(run.material, *other) as without:
        for server in (with_inline, without):
            _varied_rate(server, messages)()
        interleave(rate, _varied_rate(with_inline, messages), _varied_rate(without, messages), run.pairs, run.report)
        interleave(latency, _lone_p50(with_inline, messages), _lone_p50(without, messages), run.pairs, run.report)
    return [rate, latency]


def telemetry(run: Run) -> list[Ratio]:
    """What metrics (scraped every 5 s), the audit log (level spool) and traces of 1 % of the calls cost: work per CPU second of
    the same server, with over without. Distinct transactions."""
    messages = run.material.bench_file(MESSAGES)
    ratio = Ratio("metrics, audit log and 1 % tracing, on over off", ">= 0.97", "requests per CPU s")
    snapshot = Path(shutil.copy(run.material.snapshot, run.material.folder / "store2.snapshot"))
    metrics_port = free_port()
    with otlp_sink() as sink:
        on = ("--set", f"tracing.endpoint=http://127.0.0.1:{sink.port}", "--set", "tracing.sample_ratio=0.01")
        on += ("--set", f"metrics_listen=127.0.0.1:{metrics_port}")
        off = ("--set", "metrics_listen=off", "--set", "audit.level=off", "--store", f"embedded:{snapshot}")
        with (
            assay_server(run.material, *on) as with_all,
            assay_server(run.material, *off) as without,
            scraped(metrics_port, interval_s=5.0),
        ):

            def work(server: Server) -> Callable[[], float]:
                options = ("--warmup", "0.5", "--connections", "4", "--streams", "16")
                return lambda: 1000 / float(server.bench(messages, 3.0, *options)["server_cpu_s_per_1000"])

            for server in (with_all, without):
                work(server)()
            interleave(ratio, work(with_all), work(without), run.pairs, run.report)
    return [ratio]


def start(run: Run) -> list[Ratio]:
    """Start of a server whose material is there, and its memory when idle."""
    seconds = Ratio("start to serving, s, over 2 s", "<= 1", "s")
    memory = Ratio("idle server, MiB, over 150 MiB", "<= 1", "MiB")
    for index in range(min(run.pairs, 5)):
        with assay_server(run.material) as server:
            seconds.pairs.append((server.ready_s, 2.0))
            memory.pairs.append((process_rss_bytes(server.pid) / (1 << 20), 150.0))
        run.report(f"start: {index + 1}")
    return [seconds, memory]


BENCHES: dict[str, Callable[[Run], list[Ratio]]] = {
    "unary": unary,
    "inline": inline,
    "batch": batch,
    "rows": rows,
    "lone": lone,
    "telemetry": telemetry,
    "rollout": rollout,
    "audit": audit,
    "native": closed_loop,
    "native_batch": native_batch,
    "native_lone": native_lone,
    "infer": infer,
    "open_loop": open_loop,
    "overload": overload,
    "abuse": abuse,
    "soak": soak,
    "redis": redis_score,
    "redis_ingest": redis_ingest,
    "redis_layout": redis_layout,
    "redis_away": redis_away,
    "redis_sizing": redis_sizing,
    "kafka_ingest": kafka_ingest,
    "freshness": freshness,
    "watch": watch,
    "drift": drift,
    "explain": explain,
    "explained": explained,
    "start": start,
    "quantize": quantize,
    "trees": trees,
    "before": before,
}
BY_NAME_ONLY = ("soak", "quantize", "before")  # too long to run with the others, or too large, or in want of PyTorch


# --- implementation ---


def _varied_rate(server: Server, messages: Path) -> Callable[[], float]:
    return lambda: server.varied_load(SCORE, messages, **UNARY_LOAD).rate


def _lone_p50(server: Server, messages: Path) -> Callable[[], float]:
    return lambda: server.latency_us_p50(SCORE, messages, 1500)


def _hand_written(run: Run) -> AbstractContextManager[Server]:
    """The hand-written server with ready rows of every customer that will ask."""
    requests = run.material.requests(4_000)
    features = run.material.folder / "features.npz"
    if not features.exists():
        customers = np.array([request.entities["customer_id"] for request in requests])
        np.savez(features, customers=customers, rows=run.material.matrix(requests))
    return hand_written_server(run.material, features)
