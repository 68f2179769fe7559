"""What `assay model check` asks of a bundle beyond what a server needs: does it say what the trained model said, did labels leak,
and what does a batch cost.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from assay.models.golden import parse_golden, parse_source_scores
from assay.models.invariance import buckets_up_to
from assay.models.leaks import check_leaks
from assay.models.manifest import GOLDEN_FILE, MODEL_FILE
from assay.models.refusal import BundleRefusedError
from assay.models.source_parity import check_source_parity
from assay.models.verify import Step, VerifiedModel, make_scorer

GATE_CHECKS: Final = ("source parity", "leaks", "latency")
_RUNS = 15


@dataclass(frozen=True)
class BucketCost:
    """One batch size, warm: the median of its runs, conversion to and from NumPy included."""

    rows: int
    latency_us: float


def gate_bundle(verified: VerifiedModel, batch_rows_max: int, latency_us_max: float | None, step: Step) -> list[BucketCost]:
    """Runs the steps of GATE_CHECKS. `latency_us_max`: the most that a batch of any size may take; None: it is only reported.

    Raises BundleRefusedError at the first that says no.
    """
    manifest = verified.bundle.manifest
    rows, _ = parse_golden(verified.bundle.files[GOLDEN_FILE], verified.plan)
    batch_rows_max = verified.batch_rows_max(batch_rows_max)
    scorer = make_scorer(verified.model, verified.plan, verified.score_output, verified.score_column, batch_rows_max)
    with step("source parity") as found:
        said = parse_source_scores(verified.bundle.files[GOLDEN_FILE])
        if (said is None) != (manifest.source is None):
            raise BundleRefusedError(GOLDEN_FILE, "scores of the source and the manifest do not belong together", "pack it again")
        found.detail = "not known: packed from an ONNX file (assay.pack keeps the source's scores)"
        if said is not None and manifest.source is not None:
            found.detail = check_source_parity(manifest.source, said, scorer(rows))
    with step("leaks") as found:
        found.detail = check_leaks(manifest.training)
    with step("latency") as found:
        costs = []
        for count in buckets_up_to(batch_rows_max):
            batch = np.take(rows, range(count), axis=0, mode="wrap")
            took = []
            for _ in range(_RUNS):
                started = time.perf_counter_ns()
                scorer(batch)
                took.append(time.perf_counter_ns() - started)
            costs.append(BucketCost(count, statistics.median(took) / 1000))
        found.detail = ", ".join(f"{cost.rows}: {cost.latency_us:.0f}" for cost in costs) + " us"
        slow = [cost for cost in costs if latency_us_max is not None and cost.latency_us > latency_us_max]
        if slow:
            reason = f"a batch of {slow[0].rows} takes {slow[0].latency_us:.0f} us, --latency-us-max is {latency_us_max:g}"
            raise BundleRefusedError(
                MODEL_FILE, reason, "use a smaller or quantised model, a smaller --batch-rows-max, or allow it"
            )
    return costs
