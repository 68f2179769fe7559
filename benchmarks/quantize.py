"""What INT8 gives a large model: its size, and its rows a second against FP32 on one thread. Converted as users convert."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from assay._core import FeaturePlan, OrtModel, OrtRuntime
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.rows import PackedRows, pack_rows
from assay.models.conversion import convert_model
from assay.models.inspection import inspect_model
from assay.models.invariance import Scorer
from assay.models.ort_library import find_library
from assay.models.throughput import has_vnni, measure_throughput
from assay.models.verify import make_scorer
from benchmarks.large_models import FEATURE_SET, mlp, rows, transformer
from benchmarks.measure import Ratio
from benchmarks.run import Run

BYTES_MAX = 115_000_000
CALIBRATION_ROWS = 64
MLP_BATCHES = (1, 16, 64, 256)
TRANSFORMER_BATCHES = (1, 4)  # a row of it is 29 billion multiplications and additions
# With VNNI: what the post-mortem had from batches of 16 up, and what was measured for one row.
BUDGETS = {1: ">= 2.7", 16: ">= 3.5", 64: ">= 3.5", 256: ">= 3.5"}


def quantize(run: Run) -> list[Ratio]:
    """An MLP of 456 MB and a transformer of 455 MB, one after the other: each needs some gigabytes while it is converted."""
    if not has_vnni():
        run.say("this processor has no VNNI: the figures for INT8 throughput have no budget here")
    budgets = BUDGETS if has_vnni() else {}
    return [
        *_quantize(run, "MLP", mlp, MLP_BATCHES, budgets),
        *_quantize(run, "transformer", transformer, TRANSFORMER_BATCHES, {}),
    ]


# --- implementation ---


def _quantize(run: Run, what: str, make: Callable[[], bytes], batches: tuple[int, ...], budgets: dict[int, str]) -> list[Ratio]:
    plan = compile_plan(FeatureSet.parse(FEATURE_SET))
    runtime = OrtRuntime(str(find_library()))
    run.report(f"{what}: making it")
    before = make()
    tensors = {"input": rows(max(CALIBRATION_ROWS, *batches))}
    inspection = inspect_model(before)
    assert not inspection.problems, inspection.problems
    run.report(f"{what}: converting it")
    calibration = {"input": tensors["input"][:CALIBRATION_ROWS]}
    after = convert_model(before, "int8-static", inspection, calibration, score_output="score")
    size = Ratio(f"{what}: bytes of INT8 over 115 MB", "<= 1", "bytes", [(float(len(after)), float(BYTES_MAX))])
    smaller = Ratio(f"{what}: bytes of FP32 over INT8", "reported", "bytes", [(float(len(before)), float(len(after)))])

    packed = pack_rows(plan, tensors)
    scorers = {"INT8": _scorer(runtime, after, plan), "FP32": _scorer(runtime, before, plan)}
    del before, after
    moved = np.abs(_scores(scorers["INT8"], packed, batches[-1]) - _scores(scorers["FP32"], packed, batches[-1]))
    run.say(f"{what}: a score moves by {moved.mean():.4f} on average, {moved.max():.4f} at most (random weights)")
    ratios = [size, smaller]
    for batch_rows in batches:
        ratio = Ratio(f"{what}: INT8 over FP32 in batches of {batch_rows}", budgets.get(batch_rows, "reported"), "rows/s")
        for pair in range(run.pairs):
            names = list(scorers) if pair % 2 == 0 else list(scorers)[::-1]
            in_turn = {name: scorers[name] for name in names}
            found = measure_throughput(in_turn, packed, batches=[batch_rows], run_s=0.5, rounds=1)[0].rows_per_s
            ratio.pairs.append((found["INT8"], found["FP32"]))
            run.report(f"{ratio.name}: pair {pair + 1}/{run.pairs}, ratio so far {ratio.value:.3f}")
        ratios.append(ratio)
    return ratios


def _scorer(runtime: OrtRuntime, model_bytes: bytes, plan: FeaturePlan) -> Scorer:
    return make_scorer(OrtModel(runtime, model_bytes), plan, 0, 0)


def _scores(score: Scorer, packed: PackedRows, batch_rows: int) -> np.ndarray:
    return np.concatenate([score(packed[first : first + batch_rows]) for first in range(0, min(len(packed), 64), batch_rows)])
