"""Who says why the scores of a bundle's model are what they are: the core's explainer, made of the model and the bundle's
background, and held against golden scores before it serves. Trees and linear models are read; any other model is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from assay._core import ExplainedModel, FeaturePlan
from assay.errors import CoreError
from assay.features.rows import PackedRows
from assay.models.bundle import Bundle
from assay.models.explanation import ExplanationBasis
from assay.models.invariance import Scorer
from assay.models.manifest import BACKGROUND_FILE

# That are explained to prove the explainer: a start has no time for all. A model that is asked scores thousands of rows for each.
GOLDEN_ROWS_MAX = 64
ASKED_GOLDEN_ROWS_MAX = 1
_PROOF_ROUNDS = (4, 4)  # the fewest that give errors


@dataclass(frozen=True)
class Explaining:
    """The explainer of one model version, or why there is none."""

    explained: ExplainedModel | None
    detail: str


def make_explaining(
    bundle: Bundle,
    plan: FeaturePlan,
    basis: ExplanationBasis | None,
    rows: PackedRows,
    scores: NDArray[np.float64],
    scorer: Scorer,
) -> Explaining:
    """`rows` and `scores`: golden ones, some of which must be explained. A model that cannot be explained scores all the same."""
    if basis is None:
        return Explaining(None, f"none: there is no {BACKGROUND_FILE} (assay model pack makes one)")
    try:
        explained, how = _make_explained(bundle, plan, basis, scores, scorer)
        wrong = _count_wrong(explained, rows, scores, scorer)
    except CoreError as error:
        return Explaining(None, f"none: {error}")
    if wrong:
        return Explaining(None, f"none: explanations of {wrong} golden rows do not add up to their scores")
    return Explaining(explained, f"{how}; {basis.describe()}")


def asking(plan: FeaturePlan, scorer: Scorer) -> Callable[[bytes], list[float]]:
    """As ExplainedModel.explain() asks."""

    def ask(rows: bytes) -> list[float]:
        scores: list[float] = scorer(np.frombuffer(rows, np.uint8).reshape(-1, plan.row_bytes)).tolist()
        return scores

    return ask


def _make_explained(
    bundle: Bundle, plan: FeaturePlan, basis: ExplanationBasis, golden_scores: NDArray[np.float64], scorer: Scorer
) -> tuple[ExplainedModel, str]:
    """It, and how it explains. Raises CoreError: nothing explains this model with this background."""
    make = partial(
        ExplainedModel,
        plan=plan,
        model=bundle.model_bytes,
        output=bundle.manifest.score.output,
        column=bundle.manifest.score.column,
        background=basis.background.tobytes(),
        background_sha256=basis.background_sha256,
        groups=basis.player_of_input,
        group_names=basis.players,
        reasons=_reasons(basis),
        reasons_version=basis.reason_table or "",
    )
    try:
        return make(), "exact"
    except CoreError as error:
        if error.reason != "EXPLAIN_UNSUPPORTED":
            raise
        why = error.message
    background_scores = scorer(basis.background)
    are_probabilities = _are_probabilities(bundle, np.concatenate([background_scores, golden_scores]))
    asked = make(background_scores=background_scores.tolist(), are_probabilities=are_probabilities)
    return asked, f"sampled, since the model must be asked ({why})"


def _are_probabilities(bundle: Bundle, scores: NDArray[np.float64]) -> bool:
    """As far as one sees: contributions to a probability are told in log-odds, as those of trees are."""
    minimums = [threshold.score for threshold in bundle.manifest.thresholds]
    return bool(((scores >= 0) & (scores <= 1)).all()) and all(0 <= minimum <= 1 for minimum in minimums)


def _reasons(basis: ExplanationBasis) -> list[tuple[str, str, str]]:
    """As ExplainedModel takes them. No table: none."""
    if basis.reason_table is None:
        return []
    return [(one.code, one.analyst, one.customer or "") if one else ("", "", "") for one in basis.reasons]


def _count_wrong(explained: ExplainedModel, rows: PackedRows, scores: NDArray[np.float64], scorer: Scorer) -> int:
    ask = asking(explained.plan, scorer)
    proven = rows[: ASKED_GOLDEN_ROWS_MAX if explained.is_asked else GOLDEN_ROWS_MAX]
    return sum(
        explained.explain(row.tobytes(), float(score), ask=ask, rounds=_PROOF_ROUNDS) is None
        for row, score in zip(proven, scores, strict=False)
    )
