"""Percentiles of the core's latency histograms: off by less than 1.6 % of the value from 64 ns to 137 s, exact below.

Histograms only grow; what happened between two looks is the difference of their counts:

    before = fine_counts(lane.inference)
    ...
    quantile_s(since(fine_counts(lane.inference), before), 0.99)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from assay._core import FINE_UPPER_NS, STAGES, EngineMetrics, LatencyHistogram

# As the core numbers priorities from 1, and orders a lane's histograms. Shadow rows are no client's.
PRIORITY_NAMES: Final = ("interactive", "bulk", "shadow")

FineCounts = Mapping[int, int]
"""Fine bucket (an index into FINE_UPPER_NS) -> how many values are in it."""


def fine_counts(histograms: Iterable[LatencyHistogram]) -> FineCounts:
    """Of several together, for example of all priorities, or of all lanes."""
    counts: Counter[int] = Counter()
    for histogram in histograms:
        counts.update(dict(histogram.fine))
    return counts


def together(counts: Iterable[FineCounts]) -> FineCounts:
    """Of several one."""
    total: Counter[int] = Counter()
    for one in counts:
        total.update(one)
    return total


def since(now: FineCounts, before: FineCounts) -> FineCounts:
    """What came after `before`. A lane that was removed meanwhile takes its values with it: less than nothing is nothing."""
    return {index: count - before.get(index, 0) for index, count in now.items() if count > before.get(index, 0)}


def quantile_s(counts: FineCounts, q: float) -> float | None:
    """The middle of the bucket of the smallest value that a share `q` (0..1) of all does not pass, in seconds. None: there are no
    values."""
    total = sum(counts.values())
    # The tolerance keeps 0.999 of 1,000 at rank 999: the product is a hair above it.
    rank = max(1, math.ceil(q * total - 1e-6))
    seen = 0
    for index in sorted(counts):
        seen += counts[index]
        if seen >= rank:
            return middle_s(index)
    return None


def latencies_document(metrics: EngineMetrics) -> list[dict[str, Any]]:
    """What /latencies answers: every histogram of the lanes, named and labelled as on /metrics, with its fine counts as pairs."""
    documents: list[dict[str, Any]] = []
    for lane in metrics.lanes:
        of = {"model": lane.model, "version": lane.version}
        for priority, histogram in zip(PRIORITY_NAMES, lane.inference, strict=True):
            labels = {**of, "priority": priority}
            documents.append({"name": "inference_latency_seconds", "labels": labels, "fine": histogram.fine})
        for (stage, _, _), histogram in zip(STAGES, lane.stages, strict=True):
            documents.append({"name": "assay_stage_seconds", "labels": {**of, "stage": stage}, "fine": histogram.fine})
    return documents


def middle_s(index: int) -> float:
    """Of a fine bucket, in seconds."""
    low_ns = FINE_UPPER_NS[index - 1] + 1 if index > 0 else 0
    return (low_ns + FINE_UPPER_NS[index]) / 2e9
