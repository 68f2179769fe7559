"""What a verified bundle says of its own scores: the right inputs by name, exactly where the model is read, and as near as it
says where the model is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from assay.errors import CoreError
from assay.features.rows import unpack_rows
from assay.models.explainer import asking
from assay.models.pack import Rows, packed_rows
from assay.models.reasons import load_reasons
from assay.models.verify import VerifiedModel, make_scorer, verify_bundle
from assay.v1 import scoring_pb2
from tests.support.bundles import pack, runtime, sample_rows
from tests.support.onnx_models import input_value, linear_model, make_model, tree_model, weights
from tests.support.shapley import shapley_values
from tests.support.trained_mlp import trained_mlp

INPUTS = ("amount", "is_night", "tx_count_1d")
GROUPS: dict[str, Any] = {"groups": {"habit": ["amount", "tx_count_1d"]}}
Names = tuple[str, ...]


def verified(bundle: Path) -> VerifiedModel:
    return verify_bundle(bundle, runtime(), batch_rows_max=8)


def score_function(model: VerifiedModel) -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
    return make_scorer(model.model, model.plan, model.score_output, model.score_column)


def packed(model: VerifiedModel, **values: float) -> NDArray[np.uint8]:
    """One row, (1, row_bytes), of named inputs."""
    return packed_rows(Rows(columns={name: np.array([value]) for name, value in values.items()}), model.plan)


def explain(model: VerifiedModel, row: NDArray[np.uint8], **options: Any) -> scoring_pb2.Explanation:
    assert model.explained is not None
    score = score_function(model)
    data = model.explained.explain(row.tobytes(), float(score(row)[0]), ask=asking(model.plan, score), **options)
    assert data is not None
    return scoring_pb2.Explanation.FromString(data)


def contributions(found: scoring_pb2.Explanation) -> dict[str, float]:
    return {one.player: one.contribution for one in found.contributions}


def exact(model: VerifiedModel, row: NDArray[np.uint8], players: dict[str, Names]) -> dict[str, float]:
    """By the definition, in log-odds, of a model of one float32 tensor whose elements are the inputs in order."""
    assert model.explanation is not None
    (tensor,) = unpack_rows(model.plan, model.explanation.background)
    background = unpack_rows(model.plan, model.explanation.background)[tensor]
    score = score_function(model)

    def margins(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        columns = {name: rows[:, place].astype(np.float64) for place, name in enumerate(INPUTS)}
        scores = np.clip(score(packed_rows(Rows(columns=columns), model.plan)), 1e-7, 1 - 1e-7)
        return np.log(scores / (1 - scores))

    groups = [next(i for i, members in enumerate(players.values()) if name in members) for name in INPUTS]
    values = shapley_values(margins, unpack_rows(model.plan, row)[tensor][0], background, groups, len(players))
    return dict(zip(players, values, strict=True))


# --- whose contribution it is


@pytest.mark.parametrize("make", ["trees", "linear", "asked"])
def test_contributions_have_the_names_of_their_inputs_whatever_the_order_of_the_tensors(tmp_path: Path, make: str) -> None:
    """The model's input is (count, amount, night): another order than the feature set's."""
    models = {"trees": stump_on_second, "linear": weighing_second, "asked": asking_second}
    mapping = {"input": ["tx_count_1d", "amount", "is_night"]}
    model = verified(pack(models[make](), tmp_path, tensor_features=mapping, reasons=load_reasons(GROUPS, INPUTS)))
    row = packed(model, amount=290.0, is_night=1.0, tx_count_1d=8.0)
    assert set(contributions(explain(model, row, by_input=True))) == {"amount"}
    assert set(contributions(explain(model, row))) == {"habit"}


def test_contributions_of_several_tensors_have_the_names_of_their_inputs(tmp_path: Path) -> None:
    concat = onnx.helper.make_node("Concat", ["when", "what"], ["all"], axis=1)
    weigh = onnx.helper.make_node("MatMul", ["all", "weights"], ["margin"])
    score = onnx.helper.make_node("Sigmoid", ["margin"], ["score"])
    only_what = onnx.numpy_helper.from_array(np.array([[0.0], [0.0], [0.01]], dtype=np.float32), "weights")
    inputs = [input_value("when", ("batch", 2)), input_value("what", ("batch", 1))]
    model = make_model([concat, weigh, score], inputs=inputs, initializers=[only_what])
    mapping = {"when": ["tx_count_1d", "is_night"], "what": ["amount"]}
    loaded = verified(pack(model, tmp_path, tensor_features=mapping, background_rows=16))
    found = explain(loaded, packed(loaded, amount=290.0, is_night=1.0, tx_count_1d=8.0), by_input=True)
    assert set(contributions(found)) == {"amount"}


def stump_on_second() -> onnx.ModelProto:
    model = tree_model()
    features = next(one for one in model.graph.node[0].attribute if one.name == "nodes_featureids")
    features.ints[:] = [1] * len(features.ints)
    return model


def weighing_second() -> onnx.ModelProto:
    return make_model(
        [
            onnx.helper.make_node("MatMul", ["input", "weights"], ["margin"]),
            onnx.helper.make_node("Sigmoid", ["margin"], ["score"]),
        ],
        initializers=[onnx.numpy_helper.from_array(np.array([[0.0], [0.01], [0.0]], dtype=np.float32), "weights")],
    )


def asking_second() -> onnx.ModelProto:
    model = weighing_second()
    model.graph.node[0].input[0] = "bent"
    model.graph.node.insert(0, onnx.helper.make_node("Relu", ["input"], ["bent"]))
    return model


# --- models that must be asked


def test_a_network_is_explained_as_exactly_as_it_says(tmp_path: Path) -> None:
    """With two or three players few orders are left to chance: the interval holds, or nearly, for every player of many rows."""
    model = verified(pack(trained_mlp(), tmp_path, batch_tolerance=1e-6, reasons=load_reasons(GROUPS, INPUTS)))
    assert model.explained is not None
    assert model.explained.is_asked
    rows = sample_rows(40, seed=9)
    by_name = {name: (name,) for name in INPUTS}
    missed = 0
    for i in range(40):
        row = packed(model, **{name: float(rows.columns[name][i]) for name in INPUTS})
        found = explain(model, row, by_input=True)
        assert found.method == scoring_pb2.EXPLANATION_METHOD_PERMUTATION
        assert found.margin_space == scoring_pb2.MARGIN_SPACE_LOG_ODDS
        assert found.residual < 1e-6
        errors = {one.player: one.standard_error for one in found.contributions}
        for player, value in exact(model, row, by_name).items():
            missed += abs(contributions(found).get(player, 0.0) - value) > 2.4 * errors.get(player, 0.0) + 1e-4
    assert missed <= 12  # of 120; a tenth


def test_two_players_are_exact(tmp_path: Path) -> None:
    model = verified(pack(trained_mlp(), tmp_path, batch_tolerance=1e-6, reasons=load_reasons(GROUPS, INPUTS)))
    row = packed(model, amount=280.0, is_night=1.0, tx_count_1d=7.0)
    found = explain(model, row)
    told = {name: pytest.approx(value, abs=1e-5) for name, value in contributions(found).items()}
    assert exact(model, row, {"habit": ("amount", "tx_count_1d"), "is_night": ("is_night",)}) == told
    assert all(one.standard_error == 0 for one in found.contributions)


def test_the_same_row_is_explained_by_the_same_bits(tmp_path: Path) -> None:
    model = verified(pack(trained_mlp(), tmp_path, batch_tolerance=1e-6))
    row = packed(model, amount=200.0, is_night=0.0, tx_count_1d=3.0)
    first, again = explain(model, row, by_input=True), explain(model, row, by_input=True)
    assert first == again


def test_a_score_that_is_no_probability_is_explained_as_it_is(tmp_path: Path) -> None:
    bend = onnx.helper.make_node("Relu", ["input"], ["bent"])
    weigh = onnx.helper.make_node("MatMul", ["bent", "weights"], ["score"])
    model = verified(pack(make_model([bend, weigh], initializers=[weights()]), tmp_path, thresholds=()))
    found = explain(model, packed(model, amount=280.0, is_night=1.0, tx_count_1d=7.0))
    assert found.margin_space == scoring_pb2.MARGIN_SPACE_SCORE
    total = found.base_margin + sum(one.contribution for one in found.contributions)
    assert total == pytest.approx(found.margin, rel=1e-6)


@pytest.mark.parametrize("model", [linear_model, tree_model])
def test_a_model_that_can_be_read_is_not_asked(tmp_path: Path, model: Callable[[], onnx.ModelProto]) -> None:
    loaded = verified(pack(model(), tmp_path))
    assert loaded.explained is not None
    assert not loaded.explained.is_asked


def test_a_model_that_must_be_asked_says_so_where_nobody_can_be_asked(tmp_path: Path) -> None:
    model = verified(pack(trained_mlp(), tmp_path, batch_tolerance=1e-6))
    assert model.explained is not None
    row = packed(model, amount=1.0, is_night=0.0, tx_count_1d=1.0).tobytes()
    with pytest.raises(ValueError, match="ask: this model must be asked"):
        model.explained.explain(row, 0.5)
    with pytest.raises(ValueError, match="ask: expected 64 scores, not 1"):
        model.explained.explain(row, 0.5, ask=lambda rows: [0.5], by_input=True, rounds=(1_000, 1_000))
    with pytest.raises(CoreError, match="MODEL_OUTPUT_INVALID"):
        model.explained.explain(row, 0.5, ask=lambda rows: [float("nan")] * (len(rows) // len(row)), by_input=True)


def test_check_says_that_a_model_is_asked_and_why(tmp_path: Path) -> None:
    seen: dict[str, str] = {}
    bundle = pack(trained_mlp(), tmp_path, batch_tolerance=1e-6, rows=Rows(columns=sample_rows(300).columns))
    verify_bundle(bundle, runtime(), batch_rows_max=8, observe=lambda result: seen.update({result.check: result.detail}))
    assert seen["explanation"].startswith("sampled, since the model must be asked (")
    assert "16 background rows" in seen["explanation"]
