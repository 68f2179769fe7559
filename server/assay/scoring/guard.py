"""The guard of a rollout: for a while after a promotion, or while a canary runs, it compares the new version with the former one.

Everything here is arithmetic on what it is given; nothing reads a clock or the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from assay._core import LaneMetrics
from assay.config import GuardConfig
from assay.observe.latencies import FineCounts, fine_counts, quantile_s, since


@dataclass(frozen=True)
class Observed:
    """What one version did, since it was loaded, or (the difference of two) for a while."""

    failed_rows: int  # the model failed them
    missed_rows: int  # its feature set refused them, or they were late
    latencies: FineCounts

    @classmethod
    def of(cls, lane: LaneMetrics) -> Observed:
        return cls(lane.failed_rows, lane.missed_rows, fine_counts(lane.inference))

    def since(self, before: Observed) -> Observed:
        """A lane that was removed meanwhile takes its counts with it: less than nothing is nothing."""
        return Observed(
            max(0, self.failed_rows - before.failed_rows),
            max(0, self.missed_rows - before.missed_rows),
            since(self.latencies, before.latencies),
        )

    @property
    def rows(self) -> int:
        return self.failed_rows + self.missed_rows + sum(self.latencies.values())

    @property
    def failed_ratio(self) -> float:
        return self.failed_rows / self.rows if self.rows else 0.0

    @property
    def missed_ratio(self) -> float:
        return self.missed_rows / self.rows if self.rows else 0.0

    @property
    def p99_s(self) -> float | None:
        return quantile_s(self.latencies, 0.99)


NOTHING: Final = Observed(0, 0, {})
SLOW_INTERVALS: Final = 3


def find_failures(new: Observed, former: Observed, limits: GuardConfig) -> str | None:
    """In words, if the new version's model failed more rows than it may beside the former one's, counted of rows_min at least."""
    allowed_rows = (former.failed_ratio + limits.failed_ratio_max) * max(new.rows, limits.rows_min)
    if new.failed_rows <= allowed_rows + 1e-9:
        return None
    return f"{new.failed_rows} of {new.rows} rows failed ({new.failed_ratio:.2%}; before: {former.failed_ratio:.2%})"


def find_missed(new: Observed, former: Observed, limits: GuardConfig) -> str | None:
    """In words, if more of its rows were refused by its feature set, or late, than may beside the former one's."""
    if new.missed_ratio <= former.missed_ratio + limits.failed_ratio_max:
        return None
    return (
        f"{new.missed_rows} of {new.rows} rows were refused or late ({new.missed_ratio:.2%}; before: {former.missed_ratio:.2%})"
    )


def find_slowness(new: Observed, former: Observed, limits: GuardConfig) -> str | None:
    """In words, if the new version's p99 is larger than it may be beside the former's; None too where that had too few rows."""
    p99_s, former_p99_s = new.p99_s, former.p99_s
    if p99_s is None or former_p99_s is None or former.rows < limits.rows_min:
        return None
    allowed_s = max(former_p99_s * limits.latency_ratio_max, limits.latency_ms_min / 1000)
    if p99_s <= allowed_s:
        return None
    return f"p99 is {p99_s * 1e3:.1f} ms; before: {former_p99_s * 1e3:.1f} ms, allowed: {allowed_s * 1e3:.1f} ms"


def find_drift(drift: float | None, limits: GuardConfig) -> str | None:
    """In words, if the new version's scores are further from its own baseline than they may. None: that cannot be told yet."""
    if drift is None or drift <= limits.drift_max:
        return None
    return f"the drift of its scores from its baseline is {drift:.3f}; allowed: {limits.drift_max:g}"


class Watch:
    """One version under guard, beside the former one. Not thread-safe.

    WATCHING until its time is over (of a canary: without end), or until there is a breach. Rows are judged in intervals, each of
    which ends once the new version has had rows_min rows. Failures of its model count at once; rows that it refused or was late
    for, and its p99, in SLOW_INTERVALS intervals one after the other: a machine that stalls makes any version slow for a moment,
    and a caller may send nonsense for a while.
    """

    def __init__(
        self,
        version: str,
        former: str,
        *,
        look: Callable[[str], Observed | None],
        ends_at_s: float | None,
        former_before: Observed | None = None,
    ) -> None:
        """`look`: what a version has done so far; None: it is gone. `former_before`: what the former did while it was champion,
        for a promotion; None: both answer at the same time."""
        self.version = version
        self.former = former
        self.ends_at_s = ends_at_s
        self._look = look
        self._former_before = former_before
        self.intervals = 0  # that were judged
        self._bad_intervals = 0
        self._started = look(version) or NOTHING
        self._former_started = look(former) or NOTHING

    def is_over(self, now_s: float) -> bool:
        return self.ends_at_s is not None and now_s >= self.ends_at_s

    def check(self, drift: float | None, limits: GuardConfig) -> str | None:
        """What is wrong with the version, in words. None: nothing, or too little was seen. `drift`: of its scores now."""
        now = self._look(self.version)
        if now is None:
            return None
        new = now.since(self._started)
        former_now = self._look(self.former) or NOTHING
        former = self._former_before or former_now.since(self._former_started)
        if failures := find_failures(new, former, limits):
            return failures
        if new.rows < limits.rows_min:
            return find_drift(drift, limits)
        self._started, self._former_started = now, former_now
        self.intervals += 1
        trouble = find_missed(new, former, limits) or find_slowness(new, former, limits)
        self._bad_intervals = self._bad_intervals + 1 if trouble else 0
        return (trouble if self._bad_intervals >= SLOW_INTERVALS else None) or find_drift(drift, limits)
