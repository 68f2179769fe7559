"""The native transport against its budgets: closed and open loops of distinct transactions, batches, one request at a time. The
generator (`assay bench`) is on the same cores."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from assay.cli.bench_messages import write_messages
from assay.v1 import scoring_pb2
from benchmarks.baselines import assay_response, onnxruntime_alone
from benchmarks.crowd import crowd_file, crowd_snapshot
from benchmarks.measure import Ratio, interleave
from benchmarks.processes import SCORE_BATCH, Server, assay_server, bare_echo
from benchmarks.run import BATCH_ROWS, Run

MESSAGES = 200_000
RUN_S = 4.0
OPEN_LOOP_RATE, OPEN_LOOP_S, OPEN_LOOP_WARMUP_S = 50_000, 60.0, 5.0
OPEN_LOOP_RUNS_MAX = 5  # a minute each
BATCH_MESSAGES = 400
LONE_ROWS = 4_000


def closed_loop(run: Run) -> list[Ratio]:
    """Rate, p99 and CPU against the budgets, rate against the grpcio transport."""
    messages = run.material.bench_file(MESSAGES)
    by_streams = {
        streams: (
            Ratio(f"native: unary Score, {4 * streams} in flight, over 60,000/s", ">= 1", "requests/s"),
            Ratio(f"the same, p99 over {p99_us / 1000:g} ms", "<= 1", "us"),
            Ratio("the same, server CPU over 0.018 s per 1,000", "<= 1", "CPU s per 1,000"),
            float(p99_us),
        )
        for streams, p99_us in ((16, 3_000), (32, 6_000))
    }
    over = Ratio("native over grpcio: unary Score, 64 in flight", ">= 10", "requests/s")
    on_grpcio = ("--transport", "grpcio", "--store", f"embedded:{_copy(run, run.material.snapshot)}")
    with assay_server(run.material, "--transport", "native") as fast, assay_server(run.material, *on_grpcio) as slow:

        def measure(streams: int) -> float:
            rate, p99, cpu, p99_us = by_streams[streams]
            step = all_ok(fast.bench(messages, RUN_S, "--warmup", "1", "--connections", "4", "--streams", str(streams)))
            rate.pairs.append((step["rate"], 60_000.0))
            p99.pairs.append((step["latency_us"]["p99"], p99_us))
            cpu.pairs.append((step["server_cpu_s_per_1000"], 0.018))
            return float(step["rate"])

        def measure_grpcio() -> float:
            return float(slow.bench(messages, RUN_S, "--warmup", "1", "--connections", "4", "--streams", "16")["rate"])

        interleave(over, lambda: measure(16), measure_grpcio, run.pairs, run.report)
        for index in range(run.pairs):
            measure(32)
            run.report(f"native, 128 in flight: {index + 1}/{run.pairs}")
    return [ratio for row in by_streams.values() for ratio in row[:3]] + [over]


def open_loop(run: Run) -> list[Ratio]:
    """Poisson arrivals of a crowd's transactions (crowd.py), latency from the intended send time; and the same load on a bare
    echo, which shows what the machine and the generator alone do to the tail."""
    total = int(OPEN_LOOP_RATE * (OPEN_LOOP_S + OPEN_LOOP_WARMUP_S) * 1.01)
    messages = crowd_file(run.material, total, run.report)
    store = f"embedded:{crowd_snapshot(run.material, run.report)}"
    p99 = Ratio("open loop, Poisson 50,000/s for 60 s, Zipf: p99 over 5 ms", "<= 1", "us")
    p999 = Ratio("the same, p99.9 over 12 ms", "<= 1", "us")
    answered = Ratio("the same, answered OK of offered", ">= 1", "calls")
    cpu = Ratio("the same, server CPU over 0.018 s per 1,000", "reported", "CPU s per 1,000")
    floor = Ratio("the same, p99 over a bare echo's", "reported", "us")
    floor_999 = Ratio("the same, p99.9 over a bare echo's", "reported", "us")
    response = assay_response(run, run.material.requests(1)[0].SerializeToString())
    options = ("--warmup", str(OPEN_LOOP_WARMUP_S), "--rate", str(OPEN_LOOP_RATE), "--connections", "8", "--streams", "64")
    with assay_server(run.material, "--transport", "native", "--store", store) as server, bare_echo(response) as echo:
        for index in range(min(run.pairs, OPEN_LOOP_RUNS_MAX)):
            step = server.bench(messages, OPEN_LOOP_S, *options, "--seed", str(index + 1))
            bare = echo.bench(messages, OPEN_LOOP_S / 3, *options, "--seed", str(index + 1))["latency_us"]
            floor.pairs.append((_or_endless(step["latency_us"]["p99"]), bare["p99"]))
            floor_999.pairs.append((_or_endless(step["latency_us"]["p99.9"]), bare["p99.9"]))
            p99.pairs.append((_or_endless(step["latency_us"]["p99"]), 5_000.0))
            p999.pairs.append((_or_endless(step["latency_us"]["p99.9"]), 12_000.0))
            answered.pairs.append((step["outcomes"].get("OK", 0), step["offered"]))
            cpu.pairs.append((step["server_cpu_s_per_1000"], 0.018))
            run.report(f"open loop: {index + 1}, p99 {step['latency_us']['p99']} us, p99.9 {step['latency_us']['p99.9']} us")
    return [p99, p999, answered, floor, floor_999, cpu]


def native_batch(run: Run) -> list[Ratio]:
    """ScoreBatch of 256 distinct rows: rows per CPU second of the whole server against ONNX Runtime alone on the ready matrix."""
    requests = run.material.requests(BATCH_MESSAGES * BATCH_ROWS)
    batches = [requests[first : first + BATCH_ROWS] for first in range(0, len(requests), BATCH_ROWS)]
    messages = run.material.folder / "batches.bin"
    write_messages(
        messages, (scoring_pb2.ScoreBatchRequest(requests=rows).SerializeToString() for rows in batches), BATCH_MESSAGES
    )
    recorded = Ratio("native: ScoreBatch(256), with the audit log, over ONNX Runtime alone", ">= 0.6", "rows per CPU s")
    ratio = Ratio("the same without the audit log", ">= 0.7", "rows per CPU s")
    alone = onnxruntime_alone(run, run.material.matrix(batches[0]), BATCH_ROWS, "rows_per_cpu_s")
    options = ("--method", SCORE_BATCH, "--warmup", "1", "--connections", "2", "--streams", "2")
    without = ("--set", "audit.level=off", "--store", f"embedded:{_copy(run, run.material.snapshot)}")
    with (
        assay_server(run.material, "--transport", "native") as recording,
        assay_server(run.material, "--transport", "native", *without) as silent,
    ):

        def rows_per_cpu_s(server: Server) -> Callable[[], float]:
            return lambda: 1000 * BATCH_ROWS / float(all_ok(server.bench(messages, 3.0, *options))["server_cpu_s_per_1000"])

        alone()
        interleave(recorded, rows_per_cpu_s(recording), alone, run.pairs, run.report)
        interleave(ratio, rows_per_cpu_s(silent), alone, run.pairs, run.report)
    return [recorded, ratio]


def native_lone(run: Run) -> list[Ratio]:
    """One request at a time: p50 against that of nghttp2 answering the same bytes, with the model's own time added."""
    requests = run.material.requests(LONE_ROWS)
    messages = run.material.bench_file(MESSAGES)
    ratio = Ratio("native: one request at a time, p50, over a bare echo and the model", "<= 1.5", "us")
    alone = onnxruntime_alone(run, run.material.matrix(requests), 1, "call_us_p50")
    response = assay_response(run, requests[0].SerializeToString())
    options = ("--warmup", "0.5", "--connections", "1", "--streams", "1")
    with assay_server(run.material, "--transport", "native") as server, bare_echo(response) as echo:
        alone()

        def p50_us() -> float:
            return float(all_ok(server.bench(messages, 2.0, *options))["latency_us"]["p50"])

        def echo_and_model_us() -> float:
            return float(all_ok(echo.bench(messages, 2.0, *options))["latency_us"]["p50"]) + alone()

        interleave(ratio, p50_us, echo_and_model_us, run.pairs, run.report)
    return [ratio]


def all_ok(step: dict[str, Any]) -> dict[str, Any]:
    """The step, of which every call was answered."""
    assert set(step["outcomes"]) == {"OK"}, step["outcomes"]
    return step


# --- implementation ---


def _copy(run: Run, snapshot: Path) -> Path:
    """A store belongs to one server: another one has a copy."""
    return Path(shutil.copy(snapshot, run.material.folder / "store2.snapshot"))


def _or_endless(us: float | None) -> float:
    """None: that call got no answer."""
    return float(np.inf) if us is None else us
