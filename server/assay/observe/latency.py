"""Percentiles of the rows that were answered between two looks at the core's histograms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from assay._core import LATENCY_BOUNDS_NS, LaneMetrics


def answered_counts(lane: LaneMetrics) -> tuple[int, ...]:
    """Answered rows of a lane since its start, by bucket of their latency."""
    return lane.inference.counts


def counts_between(before: Sequence[int] | None, after: Sequence[int]) -> list[int]:
    """What was added since `before`, bucket by bucket. A histogram that has shrunk is another one: all of it is new."""
    if before is None or any(later < earlier for earlier, later in zip(before, after, strict=True)):
        return list(after)
    return [later - earlier for earlier, later in zip(before, after, strict=True)]


def sum_of(histograms: Iterable[Sequence[int]]) -> list[int]:
    """Of several histograms one. Of none: an empty one."""
    total = [0] * (len(LATENCY_BOUNDS_NS) + 1)
    for counts in histograms:
        total = [one + other for one, other in zip(total, counts, strict=True)]
    return total


def percentile_s(counts: Sequence[int], quantile: float, bounds_ns: Sequence[int] = LATENCY_BOUNDS_NS) -> float | None:
    """The latency that `quantile` (0..1) of the rows did not pass, as Prometheus' histogram_quantile() estimates it: evenly
    spread within a bucket; past the last bound, that bound. `counts` of each bucket alone, the last without a bound. None: no
    rows."""
    cumulative = list(accumulate(counts))
    total = cumulative[-1] if cumulative else 0
    if total == 0:
        return None
    rank = quantile * total
    bucket = next(index for index, count in enumerate(cumulative) if count >= rank and count > 0)
    if bucket == len(bounds_ns):
        return bounds_ns[-1] / 1e9
    lower_ns = bounds_ns[bucket - 1] if bucket else 0
    below = cumulative[bucket - 1] if bucket else 0
    share = (rank - below) / counts[bucket] if counts[bucket] else 1.0
    return (lower_ns + (bounds_ns[bucket] - lower_ns) * share) / 1e9
