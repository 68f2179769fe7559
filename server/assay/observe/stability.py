"""How far counts of now are from counts of then, and what chance alone explains: the formulas of drift (docs/drift.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

EMPTY_BIN_ROWS: Final = 0.5  # what a bin without rows counts for, else one value in an empty bin would be infinite
BAND_CONFIDENCE: Final = 0.999
_EXACT_VARIANCE_MAX: Final = 300.0  # above it a binomial's quantile is Cornish and Fisher's, right to a row
_NORMAL: Final = NormalDist()


def stability_index(then: ArrayLike, now: ArrayLike) -> float:
    """Population stability index of counts (bins,) over the same bins: sum of (n - t) * ln(n / t) over the shares n, t of a bin.

    Bins that are empty on both sides are left out; one that is empty on one side counts as EMPTY_BIN_ROWS there.
    """
    pair = np.array([then, now], np.float64)
    shares_then, shares_now = np.maximum(pair, EMPTY_BIN_ROWS) / np.maximum(1.0, pair.sum(axis=1, keepdims=True))
    terms = (shares_now - shares_then) * np.log(shares_now / shares_then)
    return float(terms[pair.any(axis=0)].sum())


def merge_tail(counts: Sequence[int], share_min: float) -> int:
    """How many bins to keep so that the last of them, with all that are above it, has at least this share of the rows: deciles,
    where the bins are deciles and parts of the highest one."""
    least = share_min * sum(counts)
    above = 0
    for kept in range(len(counts), 0, -1):
        above += counts[kept - 1]
        if above >= least:
            return kept
    return 1


def alert_ratio(baseline_rate: float, baseline_rows: int, alerts: int, scores: int) -> float:
    """Share of alerts now by the baseline's share. One that was 0 counts as EMPTY_BIN_ROWS of its rows."""
    return alerts / scores / _possible_rate(baseline_rate, baseline_rows)


def alert_band(baseline_rate: float, baseline_rows: int, scores: int, confidence: float = BAND_CONFIDENCE) -> tuple[float, float]:
    """Between what the ratio lies, with this probability, where nothing has changed: quantiles of a binomial.

    The baseline's own rate is a sample too: the ratio of two shares varies as that of one share, of n * b / (n + b) rows, and a
    known rate does. So many rows the binomial has; a large baseline leaves n as it is.
    """
    rows = scores * baseline_rows // (scores + baseline_rows)
    rate = _possible_rate(baseline_rate, baseline_rows)
    if rows == 0:
        return 0.0, math.inf
    tail = (1.0 - confidence) / 2
    low, high = (binomial_quantile(rows, rate, probability) for probability in (tail, 1.0 - tail))
    return low / (rows * rate), high / (rows * rate)


def binomial_quantile(trials: int, rate: float, probability: float) -> int:
    """The smallest k for which at most k successes have at least this probability. 0 < rate <= 1."""
    if rate >= 1.0:
        return trials
    mean, variance = trials * rate, trials * rate * (1.0 - rate)
    if variance > _EXACT_VARIANCE_MAX:
        z = _NORMAL.inv_cdf(probability)
        skewed = mean + z * math.sqrt(variance) + (z * z - 1.0) * (1.0 - 2.0 * rate) / 6.0
        return min(trials, max(0, math.ceil(skewed - 0.5)))
    # Ten deviations below the mean (of a skewed one: from 0) nothing is lost that a probability of 0.0005 would miss.
    k = max(0, int(mean - 10.0 * math.sqrt(variance)))
    log_term = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
    term = math.exp(log_term + k * math.log(rate) + (trials - k) * math.log1p(-rate))
    below = term
    while below < probability and k < trials:
        term *= (trials - k) / (k + 1) * rate / (1.0 - rate)
        k += 1
        below += term
    return k


# --- implementation ---


def _possible_rate(rate: float, rows: int) -> float:
    return max(rate, EMPTY_BIN_ROWS / max(1, rows))
