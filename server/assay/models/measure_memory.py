"""What a bundle takes of memory, session and batches: `python -m assay.models.measure_memory BUNDLE MANIFEST_SHA256 ROWS_MAX`.

A process of its own, so that nothing else is counted: what is resident before the session is made, with it, and at the peak of
each batch size, the smallest first. ONNX Runtime's arena keeps what it has grown to, so a size counts with all that are below it,
as in a server that has seen them. stdout is one JSON document {"session_bytes": n, "batches": [[rows, bytes over that], ...]}.

The kernel keeps the peak (VmHWM) and starts it anew on request; where it does not, the status is UNMEASURABLE. The bundle was
proved before, by the process that asks.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Final

import numpy as np

from assay._core import OrtModel, OrtRuntime
from assay.features.compile import compile_plan
from assay.models.bundle import read_bundle
from assay.models.golden import parse_golden
from assay.models.inspect_onnx import CPU_SECONDS_MAX
from assay.models.invariance import buckets_up_to
from assay.models.manifest import GOLDEN_FILE
from assay.models.ort_library import find_library
from assay.models.verify import find_score_output, load_feature_set, tensor_mappings

UNMEASURABLE: Final = 3
OTHER_BUNDLE: Final = 4
_RUNS = 3
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(path: Path, manifest_sha256: str, batch_rows_max: int) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bundle = read_bundle(path)
    if bundle.manifest_sha256 != manifest_sha256:
        return OTHER_BUNDLE
    try:
        start_peak_anew()
    except OSError:
        return UNMEASURABLE
    plan = compile_plan(load_feature_set(bundle), tensor_mappings(bundle.manifest))
    rows, _ = parse_golden(bundle.files[GOLDEN_FILE], plan)
    runtime = OrtRuntime(str(find_library()))

    before = resident_bytes("VmRSS")
    model = OrtModel(runtime, bundle.model_bytes)
    with_session = resident_bytes("VmRSS")
    output = find_score_output(model, bundle.manifest)
    batches, most = [], 0
    for count in buckets_up_to(batch_rows_max):
        batch = np.take(rows, range(count), axis=0, mode="wrap")
        start_peak_anew()
        for _ in range(_RUNS):
            model.run_rows(plan, batch, output)
        most = max(most, resident_bytes("VmHWM") - with_session)
        batches.append((count, most))
    sys.stdout.write(json.dumps({"session_bytes": max(0, with_session - before), "batches": batches}))
    return 0


def start_peak_anew() -> None:
    """The peak is then what is resident now. Raises OSError where the kernel does not do that."""
    _CLEAR_REFS.write_text("5")


def resident_bytes(which: str) -> int:
    """VmRSS: now; VmHWM: at the peak."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{which}:"))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
