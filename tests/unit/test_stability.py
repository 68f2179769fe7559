"""The formulas of drift, against slow ones, SciPy and chance itself."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from assay.demo.paths import bundle_path, feature_set_path
from assay.features.feature_set import FeatureSet
from assay.models.baseline import SCORE_QUANTILES, make_histogram, parse_baseline
from assay.models.shift import population_shift
from assay.observe.drift import DRIFT_LINE, SCORES_MIN
from assay.observe.stability import (
    EMPTY_BIN_ROWS,
    alert_band,
    alert_ratio,
    binomial_quantile,
    merge_tail,
    stability_index,
)


def slow_index(then: list[int], now: list[int]) -> float:
    """As a person writes it down."""
    total = 0.0
    for count_then, count_now in zip(then, now, strict=True):
        if count_then == 0 and count_now == 0:
            continue
        share_then = (count_then or EMPTY_BIN_ROWS) / sum(then)
        share_now = (count_now or EMPTY_BIN_ROWS) / sum(now)
        total += (share_now - share_then) * math.log(share_now / share_then)
    return total


def test_the_index_is_its_sum(rng: random.Random) -> None:
    for _ in range(200):
        bins = rng.randint(1, 20)
        then, now = ([rng.choice((0, 1, rng.randint(1, 10_000))) for _ in range(bins)] for _ in range(2))
        then[0] += 1
        now[-1] += 1
        assert stability_index(then, now) == pytest.approx(slow_index(then, now), rel=1e-12, abs=1e-12)
        assert stability_index(then, then) == 0.0
        assert stability_index(now, then) == pytest.approx(stability_index(then, now))


def test_a_sample_is_measured_by_the_same_formula(rng: random.Random) -> None:
    values = np.array([rng.gauss(0, 1) if rng.random() < 0.9 else math.nan for _ in range(5_000)])
    baseline = make_histogram(values, (0.1, 0.5, 0.9))
    moved = values[:2_000] + 0.5
    present = moved[~np.isnan(moved)]
    bins = [0] * len(baseline.counts)
    for value in present:
        bins[sum(value >= edge for edge in baseline.edges)] += 1
    expected = slow_index([*baseline.counts, baseline.nulls], [*bins, len(moved) - len(present)])
    assert population_shift(baseline, moved) == pytest.approx(expected, rel=1e-12)


def test_deciles_are_blind_to_alerts_that_rise_tenfold_and_tail_bins_nearly() -> None:
    """Scores as a fraud model's: 99.5 % low, 0.5 % high; the high ones rise tenfold. The alert rate's own ratio does see it."""
    generator = np.random.default_rng(0)

    def scores(rows: int, alert_share: float) -> np.ndarray:
        alerts = int(rows * alert_share)
        return np.concatenate([generator.beta(0.5, 60, rows - alerts), generator.beta(5, 2, alerts)])

    then, now = scores(400_000, 0.005), scores(100_000, 0.05)
    baseline = make_histogram(then, SCORE_QUANTILES)
    counts = np.bincount(np.searchsorted(baseline.edges, now, side="right"), minlength=len(baseline.counts))
    kept = merge_tail(baseline.counts, 0.05)
    assert kept == 10
    deciles_then, deciles_now = ([*found[: kept - 1], sum(found[kept - 1 :])] for found in (baseline.counts, counts.tolist()))
    assert stability_index(deciles_then, deciles_now) == pytest.approx(0.016, abs=0.003)
    assert stability_index(baseline.counts, counts) == pytest.approx(0.106, abs=0.02)
    rate = float(np.mean(then >= 0.5))
    alerts = int(np.sum(now >= 0.5))
    assert alert_ratio(rate, len(then), alerts, len(now)) == pytest.approx(10, rel=0.05)
    assert alert_band(rate, len(then), len(now))[1] < 1.2


@pytest.mark.parametrize("scores", [SCORES_MIN, 5 * SCORES_MIN])
def test_chance_alone_never_raises_the_drift_score(scores: int) -> None:
    """20,000 windows drawn from the demo's baseline itself. docs/drift.md gives these numbers."""
    feature_set = FeatureSet.load(feature_set_path())
    baseline = parse_baseline((bundle_path() / "baseline.json").read_bytes(), feature_set.input_names)
    counts = np.array(baseline.score.counts)
    drawn = np.random.default_rng(1).multinomial(scores, counts / counts.sum(), 20_000)
    found = np.array([stability_index(counts, window) for window in drawn])
    expected = (len(counts) - 1) * (1 / scores + 1 / baseline.rows)
    print(f"{scores} scores: mean {found.mean():.4f}, 99.9 % {np.quantile(found, 0.999):.4f}, largest {found.max():.4f}")
    assert found.mean() == pytest.approx(expected, rel=0.15)  # what theory says of it
    assert found.max() < DRIFT_LINE / 2


def test_the_tail_is_what_lies_above_the_last_decile() -> None:
    assert merge_tail([100] * 9 + [90, 5, 4, 1], 0.05) == 10
    assert merge_tail([100] * 10, 0.05) == 10
    assert merge_tail([996, 4], 0.05) == 1  # a score that says one thing of nearly all
    assert merge_tail([0, 0], 0.05) == 2
    assert merge_tail([1_000], 0.05) == 1


@pytest.mark.parametrize("probability", [0.0005, 0.5, 0.9995])
def test_the_binomials_quantile_is_scipys(probability: float, rng: random.Random) -> None:
    for _ in range(300):
        trials = round(10 ** rng.uniform(0, 7.5))
        rate = min(1.0, max(1e-6, 10 ** rng.uniform(-5, 0.02)))
        found, expected = binomial_quantile(trials, rate, probability), int(stats.binom.ppf(probability, trials, rate))
        is_exact = trials * rate * (1 - rate) <= 300
        assert abs(found - expected) <= (0 if is_exact else 1), (trials, rate)


@pytest.mark.parametrize(
    ("baseline_rows", "scores", "outside_max"),
    [(270_000, 1_000, 0.001), (270_000, 100_000, 0.002), (3_000, 3_000, 0.004), (2_000, 1_000_000, 0.008)],
)
def test_the_band_holds_what_chance_makes(baseline_rows: int, scores: int, outside_max: float) -> None:
    """Both shares are samples of one population. Nominal: one in 1,000 windows is outside. Less, for counts are whole; more where
    the baseline itself has a dozen alerts."""
    generator = np.random.default_rng(2)
    rounds, rate = 10_000, 0.0064
    outside = 0
    for then, now in zip(generator.binomial(baseline_rows, rate, rounds), generator.binomial(scores, rate, rounds), strict=True):
        found = then / baseline_rows
        low, high = alert_band(found, baseline_rows, scores)
        outside += not low <= alert_ratio(found, baseline_rows, int(now), scores) <= high
    print(f"{baseline_rows} and {scores}: {outside / rounds:.5f} outside")
    assert outside / rounds < outside_max


def test_a_rate_of_zero_counts_as_half_a_row() -> None:
    assert alert_ratio(0.0, 10_000, 0, 1_000) == 0.0
    assert alert_ratio(0.0, 10_000, 1, 1_000) == pytest.approx(20)  # one in 1,000, by half in 10,000
    low, high = alert_band(0.0, 10_000, 1_000)
    assert low == 0.0
    assert 20 < high < 100  # one alert is no news, ten are
    assert alert_ratio(0.0, 10_000, 10, 1_000) > high


def test_bands_at_the_ends() -> None:
    assert alert_band(1.0, 10_000, 1_000) == (1.0, 1.0)
    assert alert_band(0.5, 0, 1_000) == (0.0, math.inf)
    assert binomial_quantile(10, 1.0, 0.5) == 10
