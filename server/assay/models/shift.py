"""How far a sample is from the distribution that a model was trained on: PSI over its frozen bins, nulls one bin more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.models.baseline import Histogram
from assay.observe.stability import stability_index

NOTABLE_PSI = 0.1  # the usual reading: below nothing, to 0.25 a look, above it another population
LARGE_PSI = 0.25
VALUES_MIN = 1_000  # PSI of fewer is noise


def population_shift(baseline: Histogram, values: NDArray[Any]) -> float:
    """PSI of `values` (n,), NaN being null; n > 0."""
    return shift_of_counts(baseline, count_bins(baseline, values))


def count_bins(baseline: Histogram, values: NDArray[Any]) -> NDArray[np.int64]:
    """How many of `values` (n,) fall into each bin, and last how many are null. Counts of parts of a sample add up."""
    numbers = values.astype(np.float64)
    present = numbers[np.isfinite(numbers)]
    bins = np.bincount(np.searchsorted(baseline.edges, present, side="right"), minlength=len(baseline.edges) + 1)
    return np.append(bins, len(numbers) - len(present))


def shift_of_counts(baseline: Histogram, counts: NDArray[np.int64]) -> float:
    """PSI of what count_bins() counted."""
    return stability_index([*baseline.counts, baseline.nulls], counts)
