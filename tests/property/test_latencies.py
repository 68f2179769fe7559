"""Percentiles of the core's histograms against numpy's, over latencies that an engine really measured; and their arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay._core import FINE_UPPER_NS, LATENCY_BOUNDS_NS, LatencyHistogram
from assay.observe.latencies import fine_counts, middle_s, quantile_s, since

LATENCIES = st.lists(st.integers(1_000, 100_000_000_000), min_size=1, max_size=300)


def histogram_of(values: list[int]) -> LatencyHistogram:
    """As the core has it: its own buckets, filled here by search."""
    places, counts = np.unique(np.searchsorted(FINE_UPPER_NS, values), return_counts=True)
    coarse = np.bincount(np.searchsorted(LATENCY_BOUNDS_NS, values), minlength=len(LATENCY_BOUNDS_NS) + 1)
    fine = tuple((int(place), int(count)) for place, count in zip(places, counts, strict=True))
    return LatencyHistogram(tuple(coarse.tolist()), sum(values), fine)


@given(LATENCIES, st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_percentile_is_off_by_less_than_two_percent(values: list[int], q: float) -> None:
    found = quantile_s(fine_counts([histogram_of(values)]), q)
    exact = np.quantile(values, q, method="inverted_cdf") / 1e9
    assert found == pytest.approx(exact, rel=0.016)


@given(LATENCIES, LATENCIES)
def test_what_came_between_two_looks_is_what_came(before: list[int], after: list[int]) -> None:
    first, second = histogram_of(before), histogram_of(before + after)
    assert since(fine_counts([second]), fine_counts([first])) == fine_counts([histogram_of(after)])
    assert fine_counts([first, histogram_of(after)]) == fine_counts([second])


def test_nothing_has_no_percentile() -> None:
    assert quantile_s({}, 0.99) is None
    assert since({}, {3: 4}) == {}  # its lane was removed


def test_fine_buckets_hold_every_bound_of_the_page() -> None:
    assert set(LATENCY_BOUNDS_NS) < set(FINE_UPPER_NS)
    assert list(FINE_UPPER_NS) == sorted(FINE_UPPER_NS)
    assert middle_s(0) == 0.0
