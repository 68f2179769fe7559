"""ONNX Runtime's Python API on a ready matrix, one thread: what a score costs without a server around it.

python -m benchmarks.servers.onnxruntime_alone MODEL MATRIX ROWS     each line on stdin is answered by one of JSON on stdout
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
import onnxruntime as ort

ROWS_PER_RUN = 150_000


def main() -> None:
    model, matrix_path, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    matrix = np.load(matrix_path)
    calls = [{name: matrix[first : first + rows]} for first in range(0, len(matrix) - rows + 1, rows)]
    for _ in range(20):
        session.run(["probabilities"], calls[0])
    for _ in sys.stdin:
        repeats = max(1, ROWS_PER_RUN // (rows * len(calls))) if rows > 1 else 1
        times_us = []
        start_s = time.process_time()
        for _ in range(repeats):
            for call in calls:
                start_ns = time.perf_counter_ns()
                session.run(["probabilities"], call)
                times_us.append((time.perf_counter_ns() - start_ns) / 1000)
        cpu_s = time.process_time() - start_s
        found = {"rows_per_cpu_s": repeats * len(calls) * rows / cpu_s, "call_us_p50": statistics.median(times_us)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
