"""The guard's arithmetic: when a new version is taken back, and when too little was seen to say."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from assay._core import FINE_UPPER_NS
from assay.config import GuardConfig
from assay.scoring.guard import NOTHING, Observed, Watch, find_drift, find_failures, find_slowness

LIMITS = GuardConfig(rows_min=100, failed_ratio_max=0.01, latency_ratio_max=2.0, latency_ms_min=10.0, drift_max=0.5)


def seen(rows: int, ms: float = 1.0, failed: int = 0, missed: int = 0) -> Observed:
    """`rows` answered in `ms` each, and some that failed."""
    return Observed(failed, missed, {bisect_left(FINE_UPPER_NS, ms * 1e6): rows})


def test_failures_count_beyond_what_the_former_had() -> None:
    assert find_failures(seen(990, failed=10), NOTHING, LIMITS) is None  # the limit itself
    assert find_failures(seen(989, failed=11), NOTHING, LIMITS) is not None
    assert find_failures(seen(950, failed=50), seen(950, failed=50), LIMITS) is None  # the store's fault, not the model's
    assert "5.00%; before: 1.00%" in str(find_failures(seen(950, failed=50), seen(990, failed=10), LIMITS))


def test_p99_counts_beside_the_former_and_above_a_floor() -> None:
    assert find_slowness(seen(1000, ms=9.0), seen(1000, ms=1.0), LIMITS) is None  # 9 times, and harmless
    assert "p99 is" in str(find_slowness(seen(1000, ms=50.0), seen(1000, ms=20.0), LIMITS))
    assert find_slowness(seen(1000, ms=30.0), seen(1000, ms=20.0), LIMITS) is None
    assert find_slowness(seen(1000, ms=50.0), seen(99, ms=20.0), LIMITS) is None  # nothing to compare with


def test_drift_needs_no_former() -> None:
    assert find_drift(None, LIMITS) is None
    assert find_drift(0.5, LIMITS) is None
    assert "drift of its scores from its baseline is 0.510" in str(find_drift(0.51, LIMITS))


class Lanes:
    """What each version has done so far; tests add to it."""

    def __init__(self) -> None:
        self.now: dict[str, Observed | None] = {"1": seen(1000, ms=5.0, failed=500), "2": seen(400, ms=900.0, failed=400)}

    def look(self, version: str) -> Observed | None:
        return self.now[version]

    def watch(self, **options: Any) -> Watch:
        return Watch("2", "1", look=self.look, **{"ends_at_s": None, **options})

    def more(self, version: str, ms: float, rows: int = 100, failed: int = 0, missed: int = 0) -> None:
        """It has had these rows, too."""
        before = self.now[version] or NOTHING
        latencies = dict(before.latencies)
        for bucket, count in seen(rows, ms).latencies.items():
            latencies[bucket] = latencies.get(bucket, 0) + count
        self.now[version] = Observed(before.failed_rows + failed, before.missed_rows + missed, latencies)


def test_nothing_is_said_before_enough_was_seen() -> None:
    lanes = Lanes()
    watch = lanes.watch()
    assert watch.check(None, LIMITS) is None  # what was before does not count
    lanes.more("2", ms=1.0, rows=49, failed=1)  # of 100 that would be the limit
    assert watch.check(None, LIMITS) is None
    assert "drift" in str(watch.check(0.7, LIMITS))
    lanes.more("2", ms=1.0, rows=0, failed=1)
    assert "2 of 51 rows failed" in str(watch.check(None, LIMITS))


def test_rows_that_are_refused_or_late_count_once_they_go_on() -> None:
    """A version that wants what callers do not send refuses them all; a caller that sends nonsense for a while is no reason."""
    lanes = Lanes()
    watch = lanes.watch()

    def interval(missed: int) -> str | None:
        lanes.more("1", 5.0)
        lanes.more("2", 5.0, rows=100 - missed, missed=missed)
        return watch.check(None, LIMITS)

    assert [interval(100), interval(100), interval(0), interval(100), interval(100)] == [None] * 5
    assert "100 of 100 rows were refused or late" in str(interval(100))
    other = lanes.watch()
    for _ in range(5):  # of both: what is sent is nonsense
        lanes.more("1", 5.0, rows=0, missed=100)
        lanes.more("2", 5.0, rows=0, missed=100)
        assert other.check(None, LIMITS) is None


def test_a_canary_that_stays_slower_is_found_and_a_stall_is_forgiven() -> None:
    lanes = Lanes()
    watch = lanes.watch()

    def interval(ms: float, former_ms: float = 5.0) -> str | None:
        lanes.more("1", former_ms)
        lanes.more("2", ms)
        return watch.check(None, LIMITS)

    assert [interval(900.0), interval(900.0), interval(5.0), interval(900.0), interval(900.0)] == [None] * 5
    assert "p99 is" in str(interval(900.0))
    assert not watch.is_over(1e9)
    other = lanes.watch()
    for _ in range(9):  # both are slow: the machine is
        lanes.more("1", 900.0)
        lanes.more("2", 900.0)
        assert other.check(None, LIMITS) is None


def test_rows_of_a_quiet_canary_are_gathered() -> None:
    lanes = Lanes()
    watch = lanes.watch()
    found = []
    for _ in range(29):
        lanes.more("1", 5.0, rows=1000)
        lanes.more("2", 900.0, rows=10)
        found.append(watch.check(None, LIMITS))
    assert found == [None] * 29
    lanes.more("2", 900.0, rows=10)
    assert "p99 is" in str(watch.check(None, LIMITS))


def test_a_promotion_is_compared_with_what_the_former_did_as_champion() -> None:
    lanes = Lanes()
    watch = lanes.watch(ends_at_s=60.0, former_before=seen(900, ms=500.0, failed=100))
    for _ in range(5):
        lanes.more("2", ms=900.0, failed=10)  # as the former did
        assert watch.check(None, LIMITS) is None
    assert watch.intervals == 5
    lanes.more("2", ms=900.0, failed=100)
    assert "100 of 200 rows" in str(watch.check(None, LIMITS))
    assert (watch.is_over(59.9), watch.is_over(60.0)) == (False, True)


def test_a_version_that_is_gone_is_not_judged() -> None:
    lanes = Lanes()
    watch = lanes.watch()
    lanes.now["2"] = None
    assert watch.check(None, LIMITS) is None
    lanes.now |= {"1": None, "2": seen(600, ms=900.0, failed=500)}
    assert "100 of 300 rows failed" in str(watch.check(None, LIMITS))


def test_nothing_has_no_ratio_and_no_p99() -> None:
    assert (NOTHING.rows, NOTHING.failed_ratio, NOTHING.p99_s) == (0, 0.0, None)
    assert (seen(3, failed=1).rows, seen(3, failed=1).failed_ratio) == (4, 0.25)
