"""ModelInfer on the native transport against its budgets: the 200 trees without a bundle, distinct rows as raw tensors. The
generator (`assay bench`) is on the same cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay.cli.bench_messages import write_messages
from assay.inference import open_inference_pb2 as pb
from benchmarks.baselines import onnxruntime_alone
from benchmarks.measure import Ratio, interleave
from benchmarks.native import MESSAGES, all_ok
from benchmarks.processes import MODEL_INFER, Server, assay_server
from benchmarks.run import Run

ROWS = 64  # of a request that has many
RUN_S = 4.0


def infer(run: Run) -> list[Ratio]:
    """One row a request, 64 in flight: rate, p99 and CPU. 64 rows a request: rows per CPU second of the whole server against ONNX
    Runtime alone on the ready matrix, with and without the audit log."""
    matrix = run.material.matrix(run.material.requests(MESSAGES))
    single, many = run.material.folder / "infer-1.bin", run.material.folder / f"infer-{ROWS}.bin"
    write_messages(single, _requests(matrix, 1), len(matrix))
    write_messages(many, _requests(matrix, ROWS), len(matrix) // ROWS)
    rate = Ratio("ModelInfer, 1 row, 64 in flight, over 60,000/s", ">= 1", "requests/s")
    cpu = Ratio("the same, server CPU over 0.020 s per 1,000", "<= 1", "CPU s per 1,000")
    p99 = Ratio("the same, p99 over 3 ms", "reported", "us")
    recorded = Ratio(f"ModelInfer, {ROWS} rows, with the audit log, over ONNX Runtime alone", ">= 0.8", "rows per CPU s")
    silent = Ratio("the same without the audit log", ">= 0.8", "rows per CPU s")
    alone = onnxruntime_alone(run, matrix[:ROWS], ROWS, "rows_per_cpu_s")
    model = run.material.bundle / "model.onnx"
    native, off = ("--transport", "native", "--store", "embedded:"), ("--set", "audit.level=off")
    with (
        assay_server(run.material, *native, bundle=model) as server,
        assay_server(run.material, *native, *off, bundle=model) as without,
    ):
        alone()
        for index in range(run.pairs):
            step = all_ok(server.bench(single, RUN_S, *_options(4, 16)))
            rate.pairs.append((step["rate"], 60_000.0))
            cpu.pairs.append((step["server_cpu_s_per_1000"], 0.020))
            p99.pairs.append((step["latency_us"]["p99"], 3_000.0))
            run.report(f"ModelInfer of one row: {index + 1}/{run.pairs}, {step['rate']:,.0f}/s")
        interleave(recorded, _rows_per_cpu_s(server, many), alone, run.pairs, run.report)
        interleave(silent, _rows_per_cpu_s(without, many), alone, run.pairs, run.report)
    return [rate, cpu, p99, recorded, silent]


# --- implementation ---


def _requests(matrix: NDArray[np.float32], rows: int) -> Iterator[bytes]:
    """Of `rows` rows each, in order."""
    request = pb.ModelInferRequest(model_name="model", raw_input_contents=[b""])
    request.inputs.add(name="input", datatype="FP32", shape=[rows, matrix.shape[1]])
    for first in range(0, len(matrix) - rows + 1, rows):
        request.id = f"bench-{first}"
        request.raw_input_contents[0] = matrix[first : first + rows].tobytes()
        yield request.SerializeToString()


def _options(connections: int, streams: int) -> tuple[str, ...]:
    return ("--method", MODEL_INFER, "--warmup", "1", "--connections", str(connections), "--streams", str(streams))


def _rows_per_cpu_s(server: Server, messages: Path) -> Callable[[], float]:
    return lambda: 1000 * ROWS / float(all_ok(server.bench(messages, 3.0, *_options(2, 4)))["server_cpu_s_per_1000"])
