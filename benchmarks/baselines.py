"""Baselines that are no server: ONNX Runtime alone, and the answer that empty handlers repeat."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import SCORE, assay_server
from benchmarks.run import Run


def assay_response(run: Run, message: bytes) -> Path:
    """A file with assay's answer to `message`: the empty handler sends as many bytes."""
    path = run.material.folder / "response.bin"
    with assay_server(run.material) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        path.write_bytes(channel.unary_unary(f"/{SCORE}")(message))
    return path


def onnxruntime_alone(run: Run, matrix: NDArray[np.float32], rows: int, figure: str) -> Callable[[], float]:
    """ONNX Runtime on the ready matrix, `rows` a call, in a process of its own: `rows_per_cpu_s` or `call_us_p50`."""
    path = run.material.folder / f"matrix-{rows}.npy"
    np.save(path, matrix)
    command = [sys.executable, "-m", "benchmarks.servers.onnxruntime_alone"]
    command += [str(run.material.bundle / "model.onnx"), str(path), str(rows)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        return float(json.loads(process.stdout.readline())[figure])

    return measure
