"""How good scores are, and how far two models' scores of the same rows are apart.

The figures are those of the Fraud Detection Handbook (Le Borgne et al., ULB, 2022), in code of our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CARDS_PER_DAY: Final = 100  # what investigators can look at

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """What became of n rows. `days` and `cards` (whom a row belongs to), for card precision, or neither."""

    is_fraud: NDArray[np.bool_]
    days: NDArray[np.int64] | None = None
    cards: NDArray[Any] | None = None


@dataclass(frozen=True)
class Quality:
    """Of one model's scores. Card precision: among the CARDS_PER_DAY highest cards of a day, the share that is compromised."""

    auc: float
    average_precision: float
    card_precision: float | None


@dataclass(frozen=True)
class Difference:
    """Between two models' scores of the same rows."""

    rows: int
    score_difference_max: float
    score_difference_mean: float
    decision_flips: int  # rows that get another decision

    @property
    def decision_flips_share(self) -> float:
        return self.decision_flips / self.rows


def measure_quality(outcomes: Outcomes, scores: Scores) -> Quality:
    """Of scores (n,) for rows with known outcomes, of which at least one is fraud and one is not."""
    cards = None
    if outcomes.cards is not None and outcomes.days is not None:
        cards = card_precision(outcomes.days, outcomes.cards, outcomes.is_fraud, scores)
    return Quality(auc(outcomes.is_fraud, scores), average_precision(outcomes.is_fraud, scores), cards)


def measure_difference(before: Scores, after: Scores, thresholds: list[float]) -> Difference:
    """Between scores (n,) of the same rows. `thresholds`: ascending; a score at or above one gets its decision."""
    moved = np.abs(after - before)
    flips = np.searchsorted(thresholds, before, side="right") != np.searchsorted(thresholds, after, side="right")
    return Difference(len(before), float(moved.max()), float(moved.mean()), int(flips.sum()))


def auc(is_fraud: NDArray[np.bool_], scores: Scores) -> float:
    """The chance that a fraud scores higher than another row; a tie counts half."""
    _, groups, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[groups]  # from 1; those of a tie are shared
    frauds = int(is_fraud.sum())
    return float((ranks[is_fraud].sum() - frauds * (frauds + 1) / 2) / (frauds * (len(scores) - frauds)))


def average_precision(is_fraud: NDArray[np.bool_], scores: Scores) -> float:
    """Precision at every threshold, weighted by the recall it adds. Rows of one score are found together."""
    values, groups = np.unique(scores, return_inverse=True)
    rows = np.bincount(groups, minlength=len(values))[::-1]
    frauds = np.bincount(groups, weights=is_fraud, minlength=len(values))[::-1]
    precision = np.cumsum(frauds) / np.cumsum(rows)
    return float((precision * frauds).sum() / frauds.sum())


def card_precision(
    days: NDArray[np.int64],
    cards: NDArray[Any],
    is_fraud: NDArray[np.bool_],
    scores: Scores,
    cards_per_day: int = CARDS_PER_DAY,
) -> float:
    """Mean over days of the share of compromised cards among the `cards_per_day` with the highest scores.

    A compromised card that was found is blocked and not shown again.
    """
    precisions = []
    found = np.empty(0, cards.dtype)
    for day in np.unique(days):
        of_day = np.flatnonzero((days == day) & ~np.isin(cards, found))
        names, card_of_row = np.unique(cards[of_day], return_inverse=True)
        card_scores = np.full(len(names), -np.inf)
        np.maximum.at(card_scores, card_of_row, scores[of_day])
        is_compromised = np.zeros(len(names), np.bool_)
        np.logical_or.at(is_compromised, card_of_row, is_fraud[of_day])
        top = np.argsort(-card_scores, kind="stable")[:cards_per_day]
        precisions.append(is_compromised[top].sum() / cards_per_day)
        found = np.concatenate([found, names[top][is_compromised[top]]])
    return float(np.mean(precisions))
