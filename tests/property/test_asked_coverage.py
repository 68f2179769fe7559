"""Models that are asked, against the same models read: how often a contribution's interval holds the exact value.

The demo's model is of trees, so its exact values are known; it is asked as a network would be.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from numpy.typing import NDArray

from assay._core import ExplainedModel
from assay.demo.paths import bundle_path
from assay.models.explainer import asking
from assay.models.golden import parse_golden
from assay.models.manifest import GOLDEN_FILE
from assay.models.verify import VerifiedModel, make_scorer, verify_bundle
from assay.v1 import scoring_pb2
from tests.support.bundles import runtime

SCALE = int(os.environ.get("ASSAY_TEST_SCALE", "1"))
ROUNDS = 8
STUDENT_T = 2.3646  # of 7 degrees of freedom, 97.5 %
FLOAT32_NOISE = 2e-3  # of log-odds of a score near 1, which the model gives in float32
Values = dict[str, tuple[float, float]]  # by player: contribution and standard error


@pytest.fixture(scope="module")
def demo() -> VerifiedModel:
    return verify_bundle(bundle_path(), runtime(), batch_rows_max=256)


def told(data: bytes | None) -> Values:
    assert data is not None
    found = scoring_pb2.Explanation.FromString(data)
    return {one.player: (one.contribution, one.standard_error) for one in found.contributions}


def explainer(demo: VerifiedModel, background: NDArray[np.uint8], scores: NDArray[np.float64] | None) -> ExplainedModel:
    """With scores of the background: it is asked."""
    basis = demo.explanation
    assert basis is not None
    return ExplainedModel(
        plan=demo.plan,
        model=demo.bundle.model_bytes,
        output=demo.bundle.manifest.score.output,
        column=demo.score_column,
        background=background.tobytes(),
        background_sha256=basis.background_sha256,
        groups=basis.player_of_input,
        group_names=basis.players,
        background_scores=None if scores is None else scores.tolist(),
        are_probabilities=scores is not None,
    )


@pytest.mark.parametrize("by_input", [False, True], ids=["groups", "inputs"])
def test_intervals_hold_the_exact_values_at_their_rate(demo: VerifiedModel, by_input: bool) -> None:
    """95 of 100 by Student's t. What only rare orders move may look surer than it is: 92 is the least that is let pass."""
    basis = demo.explanation
    assert basis is not None
    background = basis.background[::8]
    score = make_scorer(demo.model, demo.plan, demo.score_output, demo.score_column)
    exact, asked = explainer(demo, background, None), explainer(demo, background, score(background))
    rows, scores = parse_golden(demo.bundle.files[GOLDEN_FILE], demo.plan)
    inside = total = 0
    for row, its_score in list(zip(rows, scores, strict=True))[: 40 * SCALE]:
        truth = told(exact.explain(row.tobytes(), float(its_score), by_input=by_input))
        sampled = told(
            asked.explain(
                row.tobytes(), float(its_score), by_input=by_input, ask=asking(demo.plan, score), rounds=(ROUNDS, ROUNDS)
            )
        )
        for player in truth.keys() | sampled.keys():
            value, error = sampled.get(player, (0.0, 0.0))
            inside += abs(value - truth.get(player, (0.0, 0.0))[0]) <= STUDENT_T * error + FLOAT32_NOISE
            total += 1
    print(f"{inside} of {total}: {inside / total:.3f}")
    assert inside / total >= 0.92


def test_base_and_margin_are_those_of_the_exact_explanation(demo: VerifiedModel) -> None:
    """No order moves them."""
    basis = demo.explanation
    assert basis is not None
    background = basis.background[::8]
    score = make_scorer(demo.model, demo.plan, demo.score_output, demo.score_column)
    exact, asked = explainer(demo, background, None), explainer(demo, background, score(background))
    rows, scores = parse_golden(demo.bundle.files[GOLDEN_FILE], demo.plan)
    for row, its_score in list(zip(rows, scores, strict=True))[:10]:
        read = scoring_pb2.Explanation.FromString(exact.explain(row.tobytes(), float(its_score)) or b"")
        data = asked.explain(row.tobytes(), float(its_score), ask=asking(demo.plan, score), rounds=(ROUNDS, ROUNDS))
        sampled = scoring_pb2.Explanation.FromString(data or b"")
        assert sampled.base_margin == pytest.approx(read.base_margin, abs=1e-4)
        assert sampled.margin == pytest.approx(read.margin, abs=1e-4 * max(1.0, abs(read.margin)))
        assert sampled.margin_space == read.margin_space == scoring_pb2.MARGIN_SPACE_LOG_ODDS
        assert sampled.residual < 1e-9
