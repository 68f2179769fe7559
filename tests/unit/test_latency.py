"""Percentiles of what was added between two histograms, against the samples themselves."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay._core import LATENCY_BOUNDS_NS
from assay.observe.latency import counts_between, percentile_s, sum_of

BUCKETS = len(LATENCY_BOUNDS_NS) + 1
TIMES = st.lists(st.integers(0, 2 * LATENCY_BOUNDS_NS[-1]), max_size=300)


def histogram(times_ns: list[int]) -> list[int]:
    counts = [0] * BUCKETS
    for time_ns in times_ns:
        counts[bisect_left(LATENCY_BOUNDS_NS, time_ns)] += 1
    return counts


@given(before=TIMES, added=TIMES, quantile=st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_it_lies_in_the_bucket_of_the_real_one(before: list[int], added: list[int], quantile: float) -> None:
    found = percentile_s(counts_between(histogram(before), histogram(before + added)), quantile)
    if not added:
        assert found is None
        return
    assert found is not None
    real_ns: Any = np.quantile(added, quantile, method="inverted_cdf")
    bucket = bisect_left(LATENCY_BOUNDS_NS, int(real_ns))
    upper = LATENCY_BOUNDS_NS[min(bucket, BUCKETS - 2)]
    lower = LATENCY_BOUNDS_NS[bucket - 1] if bucket else 0
    assert lower / 1e9 <= found * (1 + 1e-12)
    assert found <= upper / 1e9 * (1 + 1e-12)


def test_as_prometheus_does_it() -> None:
    """histogram_quantile() of a bucket of 10 in (1, 2]: the middle is 1.5; of its documentation's rules for the last bucket."""
    bounds = (1_000_000_000, 2_000_000_000)
    assert percentile_s([0, 10, 0], 0.5, bounds) == pytest.approx(1.5)
    assert percentile_s([10, 0, 0], 0.5, bounds) == pytest.approx(0.5)
    assert percentile_s([0, 0, 3], 0.5, bounds) == 2.0
    assert percentile_s([9, 0, 1], 0.99, bounds) == 2.0
    assert percentile_s([0, 0, 0], 0.5, bounds) is None


def test_one_that_has_shrunk_is_another_one() -> None:
    """A model that was loaded anew counts from nothing."""
    assert counts_between([5, 1], [2, 3]) == [2, 3]
    assert counts_between(None, [2, 3]) == [2, 3]
    assert counts_between([1, 3], [2, 3]) == [1, 0]


def test_sums() -> None:
    assert sum_of([]) == [0] * BUCKETS
    assert sum(sum_of([histogram([1, 2]), histogram([3])])) == 3
