"""How the demo's model is judged: four weekly folds in time order, and a gate that no leaking model passes.

The protocol is the prequential one of the Fraud Detection Handbook (Le Borgne et al., ULB, 2022), in code of our own. A fold is a
week of training, a week in which labels are still unknown, and a week of testing; the next fold begins a week later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from assay.models.quality import card_precision

FIRST_TRAINING_DAY = date(2018, 7, 25)
FOLD_COUNT = 4
TRAINING_DAYS, DELAY_DAYS, TEST_DAYS = 7, 7, 7

# Average precision over the four folds, XGBoost with the parameters of train.py on the full-size simulation. Honest features give
# about 0.70; terminal risk without its label delay gives above 0.90, because the label is then among the inputs.
AVERAGE_PRECISION_MIN = 0.66
AVERAGE_PRECISION_MAX = 0.75


class GateError(Exception):
    """The features are not what they should be; no bundle may be made from them."""


@dataclass(frozen=True)
class LabelledRows:
    """n transactions in time order: what the model sees, and what is known of them. Shapes (n, inputs) and (n,)."""

    inputs: NDArray[np.float32]
    is_fraud: NDArray[np.bool_]
    days: NDArray[np.int64]
    customer_ids: NDArray[np.int32]


@dataclass(frozen=True)
class Fold:
    """Days since the first transaction, each a half-open range."""

    training: tuple[int, int]
    test: tuple[int, int]


@dataclass(frozen=True)
class Metrics:
    """Of one fold, or the mean of several."""

    auc_roc: float
    average_precision: float
    card_precision: float  # among the CARDS_PER_DAY highest cards of a day, the share that is compromised

    @staticmethod
    def mean(parts: list[Metrics]) -> Metrics:
        values = np.array([[part.auc_roc, part.average_precision, part.card_precision] for part in parts])
        return Metrics(*values.mean(axis=0).tolist())


@dataclass(frozen=True)
class FoldResult:
    """One fold's scores on its test rows, for curves."""

    metrics: Metrics
    is_fraud: NDArray[np.bool_]
    scores: NDArray[np.float64]


# Trains on inputs (n, inputs) and labels (n,), returns a function from inputs (m, inputs) to scores (m,).
Train = Callable[[NDArray[np.float32], NDArray[np.bool_]], Callable[[NDArray[np.float32]], NDArray[Any]]]


def folds(first_day: date, training_days: int = TRAINING_DAYS) -> Iterator[Fold]:
    """The folds of a simulation that starts on `first_day`. More training days reach further back; the test weeks stay."""
    start = (FIRST_TRAINING_DAY - first_day).days
    for index in range(FOLD_COUNT):
        end_of_training = start + 7 * index + TRAINING_DAYS
        first_test_day = end_of_training + DELAY_DAYS
        yield Fold((end_of_training - training_days, end_of_training), (first_test_day, first_test_day + TEST_DAYS))


def evaluate(rows: LabelledRows, first_day: date, train: Train, training_days: int = TRAINING_DAYS) -> list[FoldResult]:
    """Trains and tests every fold."""
    results = []
    for fold in folds(first_day, training_days):
        training, test = training_rows(rows, fold), test_rows(rows, fold)
        score = train(rows.inputs[training], rows.is_fraud[training])
        scores = np.asarray(score(rows.inputs[test]), np.float64)
        labels = rows.is_fraud[test]
        metrics = Metrics(
            float(roc_auc_score(labels, scores)),
            float(average_precision_score(labels, scores)),
            card_precision(rows.days[test], rows.customer_ids[test], labels, scores),
        )
        results.append(FoldResult(metrics, labels, scores))
    return results


def training_rows(rows: LabelledRows, fold: Fold) -> NDArray[np.int64]:
    """Positions of a fold's training rows."""
    return np.flatnonzero((rows.days >= fold.training[0]) & (rows.days < fold.training[1]))


def test_rows(rows: LabelledRows, fold: Fold) -> NDArray[np.int64]:
    """Positions of a fold's test rows: on each day without the customers then known to be compromised (their cards are blocked).

    Known on a test day are frauds from the start of the last training week until eight days before.
    """
    kept = []
    known_from = fold.training[1] - TRAINING_DAYS
    for day in range(*fold.test):
        is_known = rows.is_fraud & (rows.days >= known_from) & (rows.days <= day - DELAY_DAYS - 1)
        of_day = np.flatnonzero(rows.days == day)
        kept.append(of_day[~np.isin(rows.customer_ids[of_day], rows.customer_ids[is_known])])
    return np.concatenate(kept)


def check_gate(average_precision: float) -> None:
    """Raises GateError unless the average precision is what honest features give."""
    if average_precision < AVERAGE_PRECISION_MIN:
        raise GateError(
            f"average precision {average_precision:.3f} is below {AVERAGE_PRECISION_MIN}: features or training are broken. "
            "(The gate holds for the full-size simulation; smaller ones give less.)"
        )
    if average_precision > AVERAGE_PRECISION_MAX:
        raise GateError(
            f"average precision {average_precision:.3f} is above {AVERAGE_PRECISION_MAX}: too good to be true. A feature "
            "knows the label: look at views with labels and their delay."
        )
