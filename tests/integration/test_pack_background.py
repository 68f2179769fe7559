"""What a bundle brings to explain its scores: which rows are chosen, who the players are, and that it travels unchanged."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from assay.cli.model import app
from assay.errors import InputError
from assay.features.rows import unpack_rows
from assay.models.bundle import read_bundle
from assay.models.pack import Rows
from assay.models.quantize import QuantizeRequest, quantize_bundle
from assay.models.reasons import load_reasons
from assay.models.verify import VerifiedModel, verify_bundle
from tests.support.bundles import FEATURE_SET, edit_manifest, pack, runtime, sample_rows
from tests.support.onnx_models import input_value, linear_model, make_model, tree_model, weights
from tests.support.trained_mlp import trained_mlp

INPUTS = ("amount", "is_night", "tx_count_1d")
REASONS: dict[str, Any] = {
    "groups": {"habit": ["amount", "tx_count_1d"]},
    "reasons": {
        "table": "2026-11",
        "codes": [{"code": "HABIT_UNUSUAL", "for": "habit", "analyst": "Far from habit.", "customer": "It is unusual for you."}],
    },
}


def verified(bundle: Path) -> VerifiedModel:
    return verify_bundle(bundle, runtime(), batch_rows_max=8)


def rows_in_order(count: int) -> Rows:
    """Rows whose amount says where they stand."""
    zeros = np.zeros(count)
    return Rows(columns={"amount": np.arange(count, dtype=np.float64), "is_night": zeros, "tx_count_1d": zeros + 1})


def amounts(model: VerifiedModel) -> list[float]:
    """Of the background, in its order."""
    assert model.explanation is not None
    return list(unpack_rows(model.plan, model.explanation.background)["input"][:, 0])


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})


# --- which rows


def test_rows_are_spread_over_the_order_of_time(tmp_path: Path) -> None:
    chosen = amounts(verified(pack(tree_model(), tmp_path, rows=rows_in_order(10_001), background_rows=5)))
    assert chosen == [0, 2_500, 5_000, 7_500, 10_000]


@pytest.mark.parametrize(
    ("there", "asked", "kept"), [(1, None, 1), (100, None, 100), (129, None, 128), (129, 128, 128), (9, 1, 1)]
)
def test_how_many_rows_are_kept(tmp_path: Path, there: int, asked: int | None, kept: int) -> None:
    model = verified(pack(tree_model(), tmp_path, rows=rows_in_order(there), background_rows=asked))
    assert len(set(amounts(model))) == kept
    assert model.bundle.manifest.explanation is not None
    assert model.bundle.manifest.explanation.background_rows == kept


def bent_model() -> onnx.ModelProto:
    """One weighing, and something before it that bends: not linear."""
    bend = onnx.helper.make_node("Relu", ["input"], ["bent"])
    weigh = onnx.helper.make_node("MatMul", ["bent", "weights"], ["margin"])
    return make_model([bend, weigh, onnx.helper.make_node("Sigmoid", ["margin"], ["score"])], initializers=[weights()])


@pytest.mark.parametrize(("model", "kept"), [(tree_model, 128), (linear_model, 128), (bent_model, 16), (trained_mlp, 16)])
def test_a_model_that_is_read_gets_more_rows_than_one_that_is_run(tmp_path: Path, model: Any, kept: int) -> None:
    assert len(amounts(verified(pack(model(), tmp_path, batch_tolerance=1e-6)))) == kept


@pytest.mark.parametrize("asked", [-1, 129])
def test_no_number_of_rows(tmp_path: Path, asked: int) -> None:
    with pytest.raises(InputError, match=r"expected 0 .* to 128"):
        pack(tree_model(), tmp_path, background_rows=asked)
    assert list(tmp_path.iterdir()) == []


def test_without_a_background_a_bundle_serves_and_explains_nothing(tmp_path: Path) -> None:
    bundle = pack(tree_model(), tmp_path, background_rows=0)
    assert "background.npz" not in [file.name for file in bundle.iterdir()]
    assert verified(bundle).explanation is None
    with pytest.raises(InputError, match="without background rows nothing is explained"):
        pack(tree_model(), tmp_path, version="2", background_rows=0, reasons=load_reasons(REASONS, INPUTS))


def test_a_bundle_from_before_explanations_loads(tmp_path: Path) -> None:
    bundle = pack(tree_model(), tmp_path)
    (bundle / "background.npz").unlink()

    def forget(manifest: dict[str, Any]) -> None:
        del manifest["explanation"], manifest["files"]["background.npz"]

    edit_manifest(bundle, forget)
    assert verified(bundle).explanation is None


def test_the_same_rows_and_reasons_give_the_same_bytes(tmp_path: Path) -> None:
    given = {"created": datetime(2026, 11, 23, tzinfo=UTC), "reasons": load_reasons(REASONS, INPUTS)}
    first, second = (read_bundle(pack(tree_model(), tmp_path / place, **given)) for place in ("a", "b"))
    assert first.files == second.files
    assert "background.npz" in first.files


# --- players and words


def test_players_and_reasons_of_a_loaded_bundle(tmp_path: Path) -> None:
    """Players come in the order of their first input, whatever the order of the groups."""
    bundle = pack(tree_model(), tmp_path, reasons=load_reasons(REASONS, INPUTS))
    model = verified(bundle)
    explanation = model.explanation
    assert explanation is not None
    assert model.plan.input_names == INPUTS
    assert explanation.players == ("habit", "is_night")
    assert explanation.player_of_input == (0, 1, 0)
    assert explanation.reason_table == "2026-11"
    assert [reason and (reason.code, reason.customer) for reason in explanation.reasons] == [
        ("HABIT_UNUSUAL", "It is unusual for you."),
        None,
    ]
    assert explanation.background.shape == (128, model.plan.row_bytes)
    assert explanation.background_sha256 == hashlib.sha256((bundle / "background.npz").read_bytes()).hexdigest()


def test_players_of_a_model_with_several_onnx_inputs(tmp_path: Path) -> None:
    """They follow the feature set, not the places in the tensors; a group may take from both, and so does a row."""
    concat = onnx.helper.make_node("Concat", ["when", "what"], ["all"], axis=1)
    mean = onnx.helper.make_node("ReduceMean", ["all"], ["score"], axes=[1], keepdims=1)
    model = make_model([concat, mean], inputs=[input_value("when", ("batch", 2)), input_value("what", ("batch", 1))])
    mapping = {"when": ["tx_count_1d", "is_night"], "what": ["amount"]}
    given = sample_rows()
    bundle = pack(model, tmp_path, rows=given, tensor_features=mapping, background_rows=2, reasons=load_reasons(REASONS, INPUTS))
    loaded = verified(bundle)
    assert loaded.explanation is not None
    assert loaded.plan.input_names == INPUTS
    assert (loaded.explanation.players, loaded.explanation.player_of_input) == (("habit", "is_night"), (0, 1, 0))
    tensors = unpack_rows(loaded.plan, loaded.explanation.background)
    kept = {"tx_count_1d": tensors["when"][:, 0], "is_night": tensors["when"][:, 1], "amount": tensors["what"][:, 0]}
    for name, column in kept.items():
        assert np.array_equal(column, given.columns[name][[0, -1]].astype(np.float32))


def test_without_groups_every_input_is_a_player(tmp_path: Path) -> None:
    explanation = verified(pack(tree_model(), tmp_path)).explanation
    assert explanation is not None
    assert explanation.players == INPUTS
    assert explanation.player_of_input == (0, 1, 2)
    assert (explanation.reasons, explanation.reason_table) == ((None, None, None), None)


def test_a_quantised_model_is_explained_by_its_parents_background(tmp_path: Path) -> None:
    """The same bytes, though other rows are given: what both say of a transaction can be compared."""
    reasons = load_reasons(REASONS, INPUTS)
    parent = read_bundle(pack(trained_mlp(), tmp_path, batch_tolerance=1e-6, background_rows=7, reasons=reasons))
    report = quantize_bundle(QuantizeRequest(parent.path, "1-int8", sample_rows(600, seed=5)), tmp_path, runtime())
    assert report.place is not None
    made = read_bundle(report.place)
    assert made.files["background.npz"] == parent.files["background.npz"]
    assert made.manifest.explanation == parent.manifest.explanation

    silent = pack(trained_mlp(), tmp_path, version="2", batch_tolerance=1e-6, background_rows=0)
    report = quantize_bundle(QuantizeRequest(silent, "2-int8", sample_rows(600, seed=5)), tmp_path, runtime())
    assert report.place is not None
    assert read_bundle(report.place).manifest.explanation is None


# --- as people run it


@pytest.fixture
def given(tmp_path: Path) -> list[str | Path]:
    """The options of `assay model pack` that every test here has."""
    (tmp_path / "model.onnx").write_bytes(tree_model().SerializeToString())
    (tmp_path / "set.yaml").write_bytes(FEATURE_SET)
    (tmp_path / "reasons.yaml").write_text(json.dumps(REASONS))  # JSON is YAML, too
    pq.write_table(pa.table(sample_rows().columns), tmp_path / "rows.parquet")
    return [
        *("pack", "--model", tmp_path / "model.onnx", "--feature-set", tmp_path / "set.yaml", "--name", "tiny", "--version", "1"),
        *("--rows", tmp_path / "rows.parquet", "--score-output", "score", "--library", "by-hand=1", "--allow-dirty"),
        *("--out", tmp_path / "models"),
    ]


def test_pack_with_reasons_then_check(given: list[str | Path], tmp_path: Path) -> None:
    packed = run(*given, "--reasons", tmp_path / "reasons.yaml", "--background-rows", "64")
    assert packed.exit_code == 0, packed.output
    bundle = tmp_path / "models" / "tiny" / "1"
    said = "64 background rows; 2 players of 3 inputs; reasons 2026-11 for 1 of them, 1 with a text for customers"
    assert said in run("check", bundle).output
    document = json.loads(run("check", bundle, "--json").stdout)
    assert document["explanation"] == {
        "background_rows": 64,
        "background_sha256": hashlib.sha256((bundle / "background.npz").read_bytes()).hexdigest(),
        "players": ["habit", "is_night"],
        "groups": {"habit": ["amount", "tx_count_1d"]},
        "reason_table": "2026-11",
        "reasons": {"habit": "HABIT_UNUSUAL"},
    }


def test_check_of_a_bundle_that_explains_nothing(given: list[str | Path], tmp_path: Path) -> None:
    assert run(*given, "--background-rows", "0").exit_code == 0
    bundle = tmp_path / "models" / "tiny" / "1"
    assert "none: there is no background.npz" in run("check", bundle).output
    assert json.loads(run("check", bundle, "--json").stdout)["explanation"] is None


def test_reasons_that_do_not_fit_the_model_are_refused(given: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "reasons.yaml").write_text("groups:\n  habit: [amount, tx_count_7d]\n")
    refused = run(*given, "--reasons", tmp_path / "reasons.yaml")
    assert refused.exit_code == 4
    assert "reasons.yaml:2: groups.habit[1]: expected an input of the model" in refused.output
    assert not (tmp_path / "models").exists()
    assert run(*given, "--background-rows", "129").exit_code == 2
