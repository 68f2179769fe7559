"""Figures of quality against scikit-learn's, differences between two models' scores, and outcomes read from a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from assay.errors import InputError
from assay.models.outcomes import read_outcomes
from assay.models.quality import Outcomes, auc, average_precision, card_precision, measure_difference, measure_quality

START = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 300))
def test_auc_and_average_precision_are_scikit_learns(seed: int, distinct: int, count: int) -> None:
    """Few distinct scores: ties are where implementations differ."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, distinct, count) / distinct
    is_fraud = random.random(count) < 0.3
    is_fraud[:2] = (True, False)
    assert auc(is_fraud, scores) == pytest.approx(roc_auc_score(is_fraud, scores), abs=1e-12)
    assert average_precision(is_fraud, scores) == pytest.approx(average_precision_score(is_fraud, scores), abs=1e-12)


def test_decisions_flip_at_the_threshold_itself() -> None:
    """A score at a threshold has the decision; one below it has not."""
    before, after = np.array([0.5, 0.5, 0.2, 0.9]), np.array([0.5, 0.4999, 0.1, 0.7])
    found = measure_difference(before, after, [0.5, 0.8])
    assert (found.rows, found.decision_flips, found.decision_flips_share) == (4, 2, 0.5)
    assert found.score_difference_max == pytest.approx(0.2)
    assert measure_difference(before, after, []).decision_flips == 0


def test_card_precision_needs_cards() -> None:
    is_fraud, scores = np.array([True, False]), np.array([0.9, 0.1])
    assert measure_quality(Outcomes(is_fraud), scores).card_precision is None
    cards = Outcomes(is_fraud, np.zeros(2, np.int64), np.array([4, 5]))
    assert measure_quality(cards, scores).card_precision == pytest.approx(1 / 100)
    assert card_precision(np.zeros(2, np.int64), np.array([4, 5]), is_fraud, scores, cards_per_day=1) == 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    columns = {
        "is_fraud": [0, 1, 0],
        "late": [None, 1, 0],
        "odd": [0, 1, 2],
        "card": ["b", "a", "b"],
        "event_time": pa.array([START + timedelta(minutes=20 * step) for step in range(3)], pa.timestamp("us", tz="UTC")),
        "day_text": ["x", "y", "z"],
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def test_outcomes_have_days_and_cards(path: Path) -> None:
    outcomes = read_outcomes(path, "is_fraud", "card", "event_time")
    assert outcomes.is_fraud.tolist() == [False, True, False]
    assert outcomes.days is not None
    assert outcomes.cards is not None
    day = START.toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()
    assert outcomes.days.tolist() == [day, day, day + 1], "midnight UTC falls between the second and the third"
    assert outcomes.cards[0] == outcomes.cards[2] != outcomes.cards[1]
    assert read_outcomes(path, "is_fraud", None, "no such column").days is None


@pytest.mark.parametrize(
    ("label", "card", "time", "words"),
    [
        ("fraud", None, "event_time", "no column fraud; it has is_fraud, late"),
        ("late", None, "event_time", "column late holds 1 nulls"),
        ("odd", None, "event_time", "column odd: expected 0 and 1"),
        ("card", None, "event_time", "column card: expected 0 and 1"),
        ("is_fraud", "card", "day_text", "column day_text is string; expected timestamps"),
    ],
)
def test_bad_outcomes_name_the_column(path: Path, label: str, card: str | None, time: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_outcomes(path, label, card, time)


def test_npz_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="npz has none"):
        read_outcomes(tmp_path / "rows.npz", "is_fraud", None, "event_time")
