"""The border of TreeExplainer: what it converts, checks, refuses. tests/property/test_tree_explanations.py holds its values."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from assay._core import TreeExplainer
from assay.errors import CoreError
from tests.support.onnx_models import INPUT_COUNT, linear_model, tree_model

# Two stumps, on amount (at 100) and count (at 3): 0.1, 0.3, 0.6 or 0.8.
MODEL = tree_model().SerializeToString()
BACKGROUND = np.zeros((1, INPUT_COUNT), np.float32)


def make(model: bytes = MODEL, background: object = BACKGROUND, **changes: object) -> TreeExplainer:
    return TreeExplainer(
        **{"model": model, "output": "score", "column": 0, "feature_count": INPUT_COUNT, "background": background, **changes}
    )


def test_a_row_is_its_base_and_its_contributions() -> None:
    explainer = make()
    assert (explainer.player_count, explainer.feature_count) == (INPUT_COUNT, INPUT_COUNT)
    assert explainer.base == pytest.approx(0.09375)
    assert 0 < explainer.memory_bytes < 10_000
    margins, contributions = explainer.explain(np.array([[100, 5, 3], [0, 0, 0]], np.float32))
    np.testing.assert_allclose(margins, [0.8125, 0.09375])
    np.testing.assert_allclose(contributions, [[0.5, 0, 0.21875], [0, 0, 0]])
    np.testing.assert_array_equal(explainer.score(margins), margins)


def test_groups_are_players() -> None:
    explainer = make(groups=[1, 0, 1], player_count=2)
    _, contributions = explainer.explain(np.array([[100, 5, 3]], np.float32))
    np.testing.assert_allclose(contributions, [[0, 0.71875]])
    assert make(groups=[1, 0, 1]).player_count == INPUT_COUNT


def test_no_rows_are_explained_by_nothing() -> None:
    margins, contributions = make().explain(np.empty((0, INPUT_COUNT), np.float32))
    assert margins.shape == (0,)
    assert contributions.shape == (0, INPUT_COUNT)
    assert make().score(margins).shape == (0,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": b"no model"}, "the model cannot be read"),
        ({"model": linear_model().SerializeToString()}, "MatMul"),
        ({"output": "other"}, "no trees lead to the output"),
        ({"column": 1}, "1 targets, the score is number 1"),
        ({"feature_count": 2, "background": BACKGROUND[:, :2].copy()}, "feature 2 of 2"),
        ({"background": BACKGROUND[:0]}, "1 to 128 background rows, not 0"),
        ({"background": np.zeros((129, INPUT_COUNT), np.float32)}, "1 to 128 background rows, not 129"),
        ({"groups": [0, 1, 2], "player_count": 2}, "a player for each feature"),
    ],
)
def test_what_cannot_be_explained_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(CoreError) as refused:
        make(**changes)
    assert refused.value.reason == "EXPLAIN_UNSUPPORTED"
    assert words in str(refused.value)


def test_the_largest_background() -> None:
    assert make(background=np.zeros((128, INPUT_COUNT), np.float32)).base == make().base


@pytest.mark.parametrize(
    "changes",
    [
        {"background": BACKGROUND.astype(np.float64)},
        {"background": BACKGROUND[0]},
        {"background": np.zeros((2, INPUT_COUNT + 1), np.float32)},
        {"background": np.zeros((INPUT_COUNT, 2), np.float32).T},
        {"groups": [0, 1]},
        {"groups": [0, 1, -1]},
        {"groups": [0, 1, 1 << 32]},
        {"column": -1},
        {"player_count": -1},
    ],
)
def test_arguments_of_another_shape_are_errors(changes: dict[str, object]) -> None:
    with pytest.raises((ValueError, OverflowError)):
        make(**changes)


def test_rows_of_another_shape_are_errors() -> None:
    explainer = make()
    for rows in (BACKGROUND.astype(np.float64), BACKGROUND[0], np.zeros((1, INPUT_COUNT + 1), np.float32)):
        with pytest.raises(ValueError, match=r"rows: expected float32 \(n, 3\)"):
            explainer.explain(rows)
    for margins in (np.zeros(2, np.float32), np.zeros((2, 1))):
        with pytest.raises(ValueError, match=r"margins: expected float64 \(n,\)"):
            explainer.score(margins)


def test_threads_ask_one_explainer() -> None:
    """All get the bits that one gets alone, and the rows stay as they are."""
    rows = np.random.default_rng(5).uniform(0, 200, (2_000, INPUT_COUNT)).astype(np.float32)
    rows.flags.writeable = False
    explainer = make(background=np.random.default_rng(6).uniform(0, 200, (128, INPUT_COUNT)).astype(np.float32))
    expected = explainer.explain(rows)
    with ThreadPoolExecutor(4) as pool:
        for margins, contributions in pool.map(lambda _: explainer.explain(rows), range(20)):
            np.testing.assert_array_equal(margins, expected[0])
            np.testing.assert_array_equal(contributions, expected[1])
