"""The window over the core's counts, with a clock that stands still until told; what is exported of it."""

from __future__ import annotations

import random

import pytest

from assay._core import DECISIONS, DriftCounts
from assay.features.clock_inputs import clock_inputs
from assay.features.feature_set import FeatureSet
from assay.models.drift_reference import drift_reference
from assay.observe import drift
from assay.observe.drift import COPIES_MAX, SCORES_MIN, TICK_S, WINDOW_S, DriftReference, DriftWatch, FrozenBins
from assay.observe.drift_metrics import drift_families
from assay.observe.stability import stability_index
from tests.support.server import FEATURE_SET

OF = {"model": "m", "version": "1"}


def reference(rows: int = 10_000, **fields: object) -> DriftReference:
    """One input of three bins, a score of ten, the highest of them 1 % of the rows."""
    amount = FrozenBins((1.0, 2.0), (rows // 2, rows // 4, rows // 4 - rows // 100), rows // 100)
    tenth = rows // 10
    score = FrozenBins(tuple(n / 10 for n in range(1, 11)), (tenth,) * 9 + (tenth - rows // 100, rows // 100), 0)
    return DriftReference("m", "1", rows, score, {"amount": amount}, {"review": 0.02, "decline": 0.01}, **fields)  # type: ignore[arg-type]


class Core:
    """Counts as the core has them; add() scores rows."""

    def __init__(self, model: str = "m") -> None:
        self.model = model
        self.score = [0] * 11
        self.amount = [0] * 3
        self.nulls = self.imputed = self.reviews = self.declines = 0
        self.reads = 0

    def add(self, rows: int, *, score_bin: int | None = None, amount_bin: int = 0, nulls: int = 0, imputed: int = 0) -> None:
        """Scores spread over the deciles, unless one bin is named."""
        for index in range(10):
            self.score[index] += rows // 10 if score_bin is None else 0
        if score_bin is not None:
            self.score[score_bin] += rows
            self.reviews += rows if score_bin >= 9 else 0
            self.declines += rows if score_bin >= 10 else 0
        self.amount[amount_bin] += rows - nulls
        self.nulls += nulls
        self.imputed += imputed

    def read(self) -> list[DriftCounts]:
        self.reads += 1
        alerts = ((DECISIONS["review"], self.reviews), (DECISIONS["decline"], self.declines))
        score = tuple(self.score)
        one = DriftCounts(self.model, "1", sum(score), score, alerts, (tuple(self.amount),), (self.nulls,), (self.imputed,))
        return [one]


class House:
    """A watch over such a core."""

    def __init__(self, of: DriftReference | None = None) -> None:
        self.now = 1_000.0
        self.core = Core()
        self.watch = DriftWatch(self.core.read, lambda: self.now)
        self.watch.add(of or reference())

    def pass_time(self, seconds: float, rows_per_tick: int = 0, **row: int) -> None:
        """Polled once a tick."""
        for _ in range(int(seconds / TICK_S)):
            if rows_per_tick:
                self.core.add(rows_per_tick, **row)
            self.now += TICK_S
            self.watch.poll()

    def report(self) -> drift.DriftReport:
        report = self.watch.report("m", "1")
        assert report is not None
        return report


def value(house: House, name: str, **labels: str) -> float | None:
    """Of the page; None: it is not there."""
    for family in drift_families(house.watch.reports()):
        for sample in family.samples:
            if sample.name == name and sample.labels == {**OF, **labels}:
                return float(sample.value)
    return None


def test_there_is_no_value_before_so_many_scores() -> None:
    house = House()
    house.core.add(SCORES_MIN - 10)
    assert value(house, "model_prediction_drift_score") is None
    assert value(house, "assay_input_drift_score", feature="amount") is None
    assert value(house, "assay_alert_rate_ratio", decision="review") is None
    assert value(house, "assay_drift_window_scores") == SCORES_MIN - 10
    assert house.report().prediction_drift is None
    assert sum(house.report().score.counts) == SCORES_MIN - 10  # they are shown all the same
    house.core.add(10)
    assert value(house, "model_prediction_drift_score") is not None
    assert value(house, "assay_drift_window_scores") == SCORES_MIN


def test_a_small_baseline_is_not_measured_against() -> None:
    house = House(reference(rows=SCORES_MIN - 100))
    house.core.add(10 * SCORES_MIN)
    assert value(house, "model_prediction_drift_score") is None
    assert value(house, "assay_drift_window_scores") == 10 * SCORES_MIN


def test_values_are_of_the_counts() -> None:
    house = House()
    house.core.add(2_000, amount_bin=1, nulls=500, imputed=30)
    house.core.add(100, score_bin=10)
    report = house.report()
    then = house.report().reference
    now = (200,) * 10 + (100,)
    assert report.score.counts == now
    assert report.score.psi == pytest.approx(stability_index(then.score.counts, now))
    assert report.decile_psi == pytest.approx(stability_index([1_000] * 10, [*now[:9], 300]))
    assert report.prediction_drift == max(report.score.psi or 0, report.decile_psi or 0)
    assert value(house, "model_prediction_drift_score") == report.prediction_drift
    (amount,) = report.inputs
    assert (amount.counts, amount.nulls, amount.imputed) == ((100, 1_500, 0), 500, 30)
    assert amount.psi == pytest.approx(stability_index([5_000, 2_500, 2_400, 100], [100, 1_500, 0, 500]))
    assert value(house, "assay_input_drift_score", feature="amount") == amount.psi
    assert value(house, "assay_input_null_ratio", feature="amount") == pytest.approx(500 / 2_100)
    assert value(house, "assay_input_null_baseline_ratio", feature="amount") == pytest.approx(0.01)
    assert value(house, "assay_imputed_values_total", feature="amount") == 30
    assert value(house, "assay_alert_rate_ratio", decision="review") == pytest.approx(100 / 2_100 / 0.02)
    assert value(house, "assay_alert_rate_ratio", decision="decline") == pytest.approx(100 / 2_100 / 0.01)
    high = value(house, "assay_alert_rate_ratio_high", decision="decline")
    low = value(house, "assay_alert_rate_ratio_low", decision="decline")
    assert low is not None
    assert high is not None
    assert low < 1 < high < 100 / 2_100 / 0.01


def test_a_window_is_ten_minutes_and_forgets_what_was_before() -> None:
    house = House()
    house.pass_time(3_600, rows_per_tick=2_000, score_bin=0)
    bad = house.report()
    assert bad.prediction_drift is not None
    assert bad.prediction_drift > 1
    house.pass_time(WINDOW_S + TICK_S, rows_per_tick=2_000)
    good = house.report()
    assert WINDOW_S <= good.age_s <= WINDOW_S + TICK_S
    assert good.scores <= 2_000 * (WINDOW_S + TICK_S) / TICK_S
    assert good.prediction_drift is not None
    assert good.prediction_drift < 0.1  # nothing in the highest bin, which has 1 % of the baseline
    assert value(house, "assay_imputed_values_total", feature="amount") == 0


def test_a_slow_hour_is_extended_until_it_tells_something() -> None:
    """20 scores in ten seconds: ten minutes hold 1,200. Then 10 in a minute: they hold 100, and a window of 1,000 is older."""
    house = House()
    house.pass_time(3_600, rows_per_tick=20)
    assert WINDOW_S <= house.report().age_s <= WINDOW_S + TICK_S
    for _ in range(120):
        house.core.add(10)
        house.pass_time(60)
    report = house.report()
    assert SCORES_MIN <= report.scores <= SCORES_MIN + 100
    assert 5_000 < report.age_s < 7_000
    house.pass_time(20_000)  # nobody pays at all: the last thousand stay what is known
    assert house.report().scores == report.scores
    assert house.report().prediction_drift == report.prediction_drift


def test_a_server_that_just_started_has_the_time_since_then() -> None:
    house = House()
    house.pass_time(120, rows_per_tick=200)
    assert (house.report().age_s, house.report().scores) == (120, 2_400)


def test_the_copies_are_bounded_at_any_pace(rng: random.Random) -> None:
    house = House()
    copies = house.watch._windows["m", "1"]
    largest = 0
    for _ in range(25):
        rows = rng.choice((0, 10, 10, 50, 300, 5_000))
        for _ in range(rng.randint(1, 150)):
            house.core.add(rows)
            house.now += TICK_S
            house.watch.poll()
            largest = max(largest, len(copies))
            report = house.report()
            total = sum(house.core.score)
            assert report.scores >= min(total, SCORES_MIN)
            # No later begin would have done, give or take a tick and what copies lie apart.
            assert report.age_s <= WINDOW_S + TICK_S or report.scores <= SCORES_MIN + 5_000 + SCORES_MIN // 20
    assert 10 < largest <= COPIES_MAX


def test_the_core_is_asked_once_a_tick() -> None:
    house = House()
    for _ in range(100):
        house.now += 1
        house.watch.poll()
    assert house.core.reads == 100 / TICK_S


def test_a_lane_that_is_loaded_again_begins_anew() -> None:
    house = House()
    house.pass_time(1_200, rows_per_tick=1_000, score_bin=0)
    fresh = Core()
    fresh.add(1_500)
    house.core.__dict__.update(fresh.__dict__)
    report = house.report()
    assert report.scores == 1_500
    assert report.prediction_drift is not None
    assert report.prediction_drift < 0.05


def test_models_without_a_baseline_are_left_out() -> None:
    house = House()
    house.core.model = "other"
    house.core.add(5_000)
    assert house.watch.reports() == []
    assert house.watch.report("m", "1") is None
    families = list(drift_families(house.watch.reports()))
    assert len(families) == 9  # the page names them all the same
    assert not any(family.samples for family in families)
    assert drift_reference("m", "1", None, FeatureSet.parse(FEATURE_SET)) is None


def test_inputs_that_follow_the_clock_are_known() -> None:
    derived = "derived:\n  is_night: {op: is_night, first_hour: 0, last_hour: 6}\n  hour: {op: hour}\n"
    inputs = "inputs: [amount, ratio, tx_count_1d, amount_sum_1d, is_night, {name: evening, from: hour}]"
    text = FEATURE_SET.replace("derived:\n", derived)
    text = text[: text.index("inputs:")] + inputs
    assert clock_inputs(FeatureSet.parse(text)) == {"is_night", "evening"}
    house = House(reference(clock_inputs=frozenset({"amount"})))
    assert house.report().inputs[0].follows_clock
