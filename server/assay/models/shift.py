"""How far a sample is from the distribution that a model was trained on: PSI over the baseline's frozen bins, nulls one bin more.

Bins that hold nothing on one side count as half a row, else one value in an empty bin would be infinite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.models.baseline import Histogram

NOTABLE_PSI = 0.1  # the usual reading: below nothing, to 0.25 a look, above it another population
LARGE_PSI = 0.25
VALUES_MIN = 1_000  # PSI of fewer is noise


def population_shift(baseline: Histogram, values: NDArray[Any]) -> float:
    """PSI of `values` (n,), NaN being null; n > 0."""
    numbers = values.astype(np.float64)
    present = numbers[np.isfinite(numbers)]
    bins = np.bincount(np.searchsorted(baseline.edges, present, side="right"), minlength=len(baseline.edges) + 1)
    now = np.append(bins, len(numbers) - len(present))
    then = np.append(np.array(baseline.counts), baseline.nulls)
    shares_now, shares_then = (np.maximum(counts, 0.5) / max(1, counts.sum()) for counts in (now, then))
    is_used = (now > 0) | (then > 0)
    terms = (shares_now - shares_then) * np.log(shares_now / shares_then)
    return float(terms[is_used].sum())
