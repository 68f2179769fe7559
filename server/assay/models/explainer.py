"""Who says why the scores of a bundle's model are what they are: the core's explainer, made of the model and the bundle's
background, and held against golden scores before it serves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay._core import ExplainedModel, FeaturePlan
from assay.errors import CoreError
from assay.features.rows import PackedRows
from assay.models.bundle import Bundle
from assay.models.explanation import ExplanationBasis
from assay.models.manifest import BACKGROUND_FILE

GOLDEN_ROWS_MAX = 64  # that are explained to prove the explainer: a start has no time for all


@dataclass(frozen=True)
class Explaining:
    """The explainer of one model version, or why there is none."""

    explained: ExplainedModel | None
    detail: str


def make_explaining(
    bundle: Bundle, plan: FeaturePlan, basis: ExplanationBasis | None, rows: PackedRows, scores: NDArray[np.float64]
) -> Explaining:
    """`rows` and `scores`: golden ones, some of which must be explained. A model that cannot be explained scores all the same."""
    if basis is None:
        return Explaining(None, f"none: there is no {BACKGROUND_FILE} (assay model pack makes one)")
    score = bundle.manifest.score
    try:
        explained = ExplainedModel(
            plan=plan,
            model=bundle.model_bytes,
            output=score.output,
            column=score.column,
            background=basis.background.tobytes(),
            background_sha256=basis.background_sha256,
            groups=basis.player_of_input,
            group_names=basis.players,
            reasons=_reasons(basis),
            reasons_version=basis.reason_table or "",
        )
    except CoreError as error:
        return Explaining(None, f"none: {error}")
    wrong = _count_wrong(explained, rows[:GOLDEN_ROWS_MAX], scores)
    if wrong:
        return Explaining(None, f"none: explanations of {wrong} golden rows do not add up to their scores")
    return Explaining(explained, basis.describe())


def _reasons(basis: ExplanationBasis) -> list[tuple[str, str, str]]:
    """As ExplainedModel takes them. No table: none."""
    if basis.reason_table is None:
        return []
    return [(one.code, one.analyst, one.customer or "") if one else ("", "", "") for one in basis.reasons]


def _count_wrong(explained: ExplainedModel, rows: PackedRows, scores: NDArray[np.float64]) -> int:
    return sum(explained.explain(row.tobytes(), float(score)) is None for row, score in zip(rows, scores, strict=False))
