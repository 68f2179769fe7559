"""TreeExplainer on random ensembles: it reads a model as ONNX Runtime does or refuses it, and its values are Shapley's by their
definition, with ONNX Runtime itself as what is explained."""

from __future__ import annotations

import os
import random

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from assay._core import TreeExplainer
from assay.errors import CoreError
from tests.support.random_trees import OUTPUT, RandomTrees, random_trees
from tests.support.shapley import shapley_values

SCALE = int(os.environ.get("ASSAY_TEST_SCALE", "1"))
EXPLAINED_MIN = 0.5  # of the random models: the others ONNX Runtime reads in ways that are not explained
# Of the sum of the trees' largest leaves. ONNX Runtime adds up in float32, each addition off by 6e-8 of it at most: a dozen trees
# with up to three weights a leaf, a base and a logistic function stay below.
TOLERANCE = 1e-5
EXACT = 1e-12  # sums of doubles


class OnnxRuntime:
    """One column of a model's output."""

    def __init__(self, model: bytes, column: int, *, takes_doubles: bool) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._column, self._dtype = column, np.float64 if takes_doubles else np.float32

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        found: NDArray[np.floating] = self._session.run([OUTPUT], {"input": rows.astype(self._dtype)})[0]
        return found.reshape(len(rows), -1)[:, self._column].astype(np.float64)


def explain(made: RandomTrees, groups: list[int] | None = None, player_count: int | None = None) -> TreeExplainer | None:
    """None: refused."""
    features = made.rows.shape[1]
    try:
        return TreeExplainer(made.model, OUTPUT, made.column, features, made.background, groups=groups, player_count=player_count)
    except CoreError as error:
        if error.reason != "EXPLAIN_UNSUPPORTED":
            raise
        return None


def check_close(found: object, expected: object, made: RandomTrees, relative: float = TOLERANCE) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * max(made.leaf_sum, 1.0), err_msg=made.kind)


def test_scores_are_onnx_runtimes(rng: random.Random) -> None:
    counts = [0, 0]
    for _ in range(200 * SCALE):
        made = random_trees(rng, features_max=30, background_rows_max=128, row_count=40)
        explainer = explain(made)
        counts[explainer is not None] += 1
        if explainer is None:
            continue
        margins, contributions = explainer.explain(made.rows)
        check_close(
            explainer.score(margins), OnnxRuntime(made.model, made.column, takes_doubles=made.takes_doubles)(made.rows), made
        )
        check_close(explainer.base + contributions.sum(axis=1), margins, made, EXACT)
    assert counts[True] >= EXPLAINED_MIN * sum(counts)


def test_values_are_shapleys_by_definition(rng: random.Random) -> None:
    for index in range(100 * SCALE):
        # 12 features are 4,096 coalitions: now and then.
        made = random_trees(rng, features_max=12 if index % 10 == 0 else 7, background_rows_max=6, row_count=2)
        features = made.rows.shape[1]
        groups, players = None, features
        if rng.random() < 0.4:
            players = rng.randint(1, features)
            groups = [rng.randrange(players) for _ in range(features)]
        explainer = explain(made, groups, players)
        if explainer is None:
            continue
        margin = OnnxRuntime(made.margin_model, made.margin_column, takes_doubles=made.takes_doubles)
        margins, contributions = explainer.explain(made.rows)
        check_close(margins, margin(made.rows), made)
        check_close(explainer.base, margin(made.background).mean(), made)
        for row, values in zip(made.rows, contributions, strict=True):
            check_close(values, shapley_values(margin, row, made.background, groups or range(features), players), made)
