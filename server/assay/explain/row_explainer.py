"""Explains rows of the past by the model that gave their scores, and finds out whether a model is that one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay._core import ExplainedModel, FeaturePlan
from assay.explain.messages import shortened
from assay.models.bundle import Bundle
from assay.models.explainer import asking
from assay.models.explanation import ExplanationBasis
from assay.v1.scoring_pb2 import Explanation

if TYPE_CHECKING:
    from assay.models.invariance import Scorer
    from assay.v1.audit_pb2 import LineageRecord


@dataclass(frozen=True)
class RowExplainer:
    """Of one model version. Any thread."""

    bundle: Bundle
    plan: FeaturePlan
    basis: ExplanationBasis
    explained: ExplainedModel
    score: Scorer  # on the CPU; asked where nothing can be read of the model

    @property
    def name(self) -> str:
        return self.bundle.manifest.name

    @property
    def version(self) -> str:
        return self.bundle.manifest.version

    def explain(
        self, row: bytes, score: float, *, is_by_input: bool, top_k: int = 0, go_on: Callable[[], None] = lambda: None
    ) -> Explanation | None:
        """None: it does not add up to the score. `go_on` is called before the model is asked, each time: what it raises ends it.
        Raises CoreError."""
        ask = asking(self.plan, self.score)

        def ask_on(rows: bytes) -> list[float]:
            go_on()
            return ask(rows)

        found = self.explained.explain(row, score, by_input=is_by_input, ask=ask_on)
        return None if found is None else shortened(Explanation.FromString(found), top_k)


def find_obstacle(lineage: LineageRecord | None, bundle: Bundle, plan: FeaturePlan) -> str | None:
    """Why the bundle's model is not the one behind `lineage`, in words: its explanation, or one of other rows, would be none of
    this score. None: it is."""
    if lineage is None:
        return "the record of its model is damaged or missing in its segment: nothing says which bundle gave the score"
    made_by = lineage.provenance
    if made_by.model_sha256 != bundle.model_sha256:
        return f"another model gave the score: {made_by.model} {made_by.version}, SHA-256 {made_by.model_sha256[:16]}..."
    if made_by.schema_hash != plan.schema_hash or lineage.row_bytes != plan.row_bytes:
        return "the same model file with another feature set gave the score: its rows are others"
    return None
