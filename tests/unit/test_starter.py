"""What `assay init` decides from a model's inputs and outputs, and everything that it refuses to guess."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from google.protobuf import json_format
from onnx import TensorProto, helper

from assay._core import DecodedTransaction
from assay.cli.examples import SAMPLE_BYTES_MAX, example_request, find_sample_request
from assay.errors import AssayError, BundleError, InputError
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.models.bundle import read_bundle
from assay.models.inspection import OnnxTensor
from assay.models.manifest import Explanation, Threshold
from assay.models.reasons import CODES_MAX, load_reasons
from assay.models.sample_csv import SampleFile
from assay.models.score_output import ScorePlace, choose_score
from assay.models.starter import Started, StarterRequest, start_model
from assay.models.starter_files import feature_set_yaml
from assay.models.starter_inputs import InputElement, feature_name, map_inputs
from assay.models.starter_reasons import reasons_yaml, starter_reasons
from assay.v1.scoring_pb2 import ScoreRequest
from tests.support.bundles import runtime
from tests.support.onnx_models import input_value, linear_model, make_model, output_value, tree_model

FLOAT, INT64, STRING, BOOL, DOUBLE = 1, 7, 8, 9, 11


def tensor(name: str, kind: int = FLOAT, *dims: int) -> OnnxTensor:
    return OnnxTensor(name, kind, dims)


def sample_of(**columns: Sequence[str]) -> SampleFile:
    return SampleFile(Path("rows.csv"), tuple(columns), tuple(zip(*columns.values(), strict=True)), False, "0" * 64)


# --- inputs


def names(elements: tuple[InputElement, ...]) -> list[tuple[str, str, str]]:
    return [(element.tensor, element.column, element.feature) for element in elements]


def test_one_input_takes_the_columns_in_their_order() -> None:
    sample = sample_of(**{"V 1": ["1"], "is_fraud": ["0"], "amount": ["2"]})
    found = map_inputs([tensor("X", FLOAT, 2)], sample, "is_fraud")
    assert names(found) == [("X", "V 1", "v_1"), ("X", "amount", "amount")]


def test_without_a_sample_elements_are_counted() -> None:
    assert [element.feature for element in map_inputs([tensor("X", FLOAT, 3)])] == ["f0", "f1", "f2"]
    assert [element.feature for element in map_inputs([tensor("Amount", FLOAT, 1)])] == ["amount"]
    assert [element.feature for element in map_inputs([tensor("Amount", FLOAT)])] == ["amount"]  # rank 1: the batch alone
    several = map_inputs([tensor("Amount", FLOAT, 1), tensor("card", INT64, 1, 2)])
    assert [element.feature for element in several] == ["amount", "card_0", "card_1"]
    assert [element.dtype for element in several] == ["float32", "int64", "int64"]


def test_several_inputs_find_their_columns_by_name() -> None:
    sample = sample_of(**{"is_vpn": ["true"], "Hour Of Day": ["1"]})
    found = map_inputs([tensor("Hour_Of_Day", INT64, 1), tensor("is_vpn", BOOL, 1)], sample)
    assert names(found) == [("Hour_Of_Day", "Hour Of Day", "hour_of_day"), ("is_vpn", "is_vpn", "is_vpn")]


@pytest.mark.parametrize(
    ("inputs", "columns", "label", "says"),
    [
        ([tensor("X", FLOAT, 2)], ["a", "b", "is_fraud"], None, r"3 columns \(a, b, is_fraud\), but the model's input X takes 2"),
        ([tensor("X", FLOAT, 2)], ["a"], None, r"1 columns \(a\).*takes 2 values"),
        ([tensor("X", FLOAT, 2)], ["a", "b"], "frud", "--label: rows.csv has no column frud"),
        ([tensor("X", FLOAT, 2)], ["fraud", "b"], "frud", r"did you mean fraud\?"),
        ([tensor("X", FLOAT, 2)], ["a", "is_fraud"], None, "is_fraud is reserved; if it is the sample's label, leave it out"),
        ([tensor("X", FLOAT, 2)], ["a", "Event-Time"], None, "event_time is reserved; rename it"),
        ([tensor("X", FLOAT, 2)], ["a b", "A_B"], None, "a b and A_B would both be the feature a_b"),
        ([tensor("a", FLOAT, 1), tensor("b", FLOAT, 1)], ["a", "c"], None, "no column for the model's input b; c is no input"),
        ([tensor("a", FLOAT, 1), tensor("b", FLOAT, 1)], ["a", "A", "b"], None, "two columns are one feature"),
        ([tensor("a", FLOAT, 1), tensor("A", FLOAT, 1)], ["a", "b"], None, "a and A would both be the feature a"),
        ([tensor("X", FLOAT, 257)], None, None, "the model takes 257 values a row, and a request carries at most 256"),
        ([tensor("é", FLOAT, 1)], None, None, "a feature's name needs a letter a-z or a digit"),
        ([tensor("x" * 65, FLOAT, 1)], None, None, "at most 64 characters"),
    ],
)
def test_columns_that_are_not_the_models_are_refused(
    inputs: list[OnnxTensor], columns: list[str] | None, label: str | None, says: str
) -> None:
    sample = None if columns is None else SampleFile(Path("rows.csv"), tuple(columns), (), False, "")
    with pytest.raises(InputError, match=says):
        map_inputs(inputs, sample, label)


def test_256_values_are_the_limit() -> None:
    assert len(map_inputs([tensor("X", FLOAT, 256)])) == 256


def test_names_become_features() -> None:
    assert feature_name("TX_AMOUNT (EUR)") == "tx_amount_eur"
    assert feature_name("0") == "f0"
    assert feature_name("__x__") == "x"
    assert feature_name("x" * 64) == "x" * 64


# --- the score


LABEL = tensor("label", INT64)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([LABEL, tensor("probabilities", FLOAT, 2)], ScorePlace("probabilities", 1)),
        ([LABEL, tensor("probabilities", DOUBLE, 2)], ScorePlace("probabilities", 1)),
        ([tensor("score", FLOAT, 1)], ScorePlace("score", 0)),
        ([tensor("score", FLOAT)], ScorePlace("score", 0)),
        ([tensor("margin", FLOAT, 1), tensor("output_probability", FLOAT, 2)], ScorePlace("output_probability", 1)),
    ],
)
def test_the_score_is_found_where_it_is_unambiguous(outputs: list[OnnxTensor], expected: ScorePlace) -> None:
    assert choose_score(outputs) == expected


@pytest.mark.parametrize(
    ("outputs", "output", "column", "says"),
    [
        ([LABEL], None, None, "no output of float32 or float64"),
        ([tensor("a", FLOAT, 1), tensor("b", FLOAT, 1)], None, None, "several outputs .* --score-output: a, b"),
        ([tensor("prob_a", FLOAT, 1), tensor("prob_b", FLOAT, 1)], None, None, "several outputs"),
        ([LABEL, tensor("probabilities", FLOAT, 3)], None, None, "has 3 columns: say which .* --score-column"),
        ([LABEL, tensor("probabilities", FLOAT, -1)], None, None, "an unknown number of columns"),
        ([tensor("label", STRING), tensor("probabilities", FLOAT, 2)], None, None, "classes are words"),
        ([LABEL, tensor("probabilities", FLOAT, 2)], "label", None, "no such float output; expected one of: probabilities"),
        ([LABEL, tensor("probabilities", FLOAT, 2)], None, 2, r"has 2 column\(s\), counted from 0"),
    ],
)
def test_a_score_that_would_be_a_guess_is_refused(
    outputs: list[OnnxTensor], output: str | None, column: int | None, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        choose_score(outputs, output, column)


def test_the_users_choice_holds() -> None:
    outputs = [tensor("a", FLOAT, 1), tensor("b", FLOAT, -1)]
    assert choose_score(outputs, "b", 7) == ScorePlace("b", 7)
    words = [tensor("label", STRING), tensor("probabilities", FLOAT, 2)]
    assert choose_score(words, None, 0) == ScorePlace("probabilities", 0)


def test_a_models_own_words_are_shown_safely() -> None:
    with pytest.raises(InputError) as error:
        choose_score([tensor("\x1b[31mred", FLOAT, 3)])
    assert "\x1b" not in str(error.value)


# --- files


def test_names_that_yaml_reads_as_something_else_are_quoted() -> None:
    elements = map_inputs([tensor("X", FLOAT, 4)], sample_of(on=["1"], null=["2"], no=["3"], customer_id=["4"]))
    columns = {element.feature: [1.0] for element in elements}
    text = feature_set_yaml("own", elements, columns, source="m\nx: 1", is_generated=False, pack_command="assay\x1b")
    features = FeatureSet.parse(text)
    assert features.input_names == ("on", "null", "no", "customer_id")
    assert features.entities == ["customer_id_2"]
    assert "\x1b" not in text


# --- the whole, without a server


def start(tmp_path: Path, model: onnx.ModelProto | bytes, sample: SampleFile | None = None, **changes: object) -> Started:
    path = tmp_path / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    values = {"name": "own", "version": "1", "model_path": path, "out": tmp_path / "models", "sample": sample, **changes}
    return start_model(StarterRequest(**values), runtime())  # type: ignore[arg-type]


def test_a_tree_with_nulls_is_made_ready(tmp_path: Path) -> None:
    sample = sample_of(amount=["50.0", "", "150.5"], is_night=["true", "false", "true"], tx=["1", "5", "2"])
    started = start(tmp_path, tree_model(), sample)
    assert started.bundle == tmp_path / "models" / "own" / "1"
    assert sorted(path.name for path in started.directory.iterdir()) == [
        "1",
        "feature_set.yaml",
        "reasons.yaml",
        "rows.parquet",
        "sample_request.json",
    ]
    features = FeatureSet.load(started.directory / "feature_set.yaml")
    assert features.request_features["is_night"].dtype == "bool"
    assert [item.when_null for item in features.model_inputs] == ["nan", "error", "error"]
    manifest = yaml.safe_load((started.bundle / "manifest.yaml").read_text())
    assert manifest["thresholds"] == [{"decision": "review", "score": 0.5}, {"decision": "decline", "score": 0.9}]
    assert manifest["lineage"]["data_sha256"] == "0" * 64
    assert manifest["lineage"]["git_is_dirty"] is True


def copying_model(**changes: object) -> onnx.ModelProto:
    return make_model([helper.make_node("Identity", ["input"], ["score"])], **changes)  # type: ignore[arg-type]


def margin_model() -> onnx.ModelProto:
    """Ten times the sum of a row: no probability."""
    nodes = [helper.make_node("ReduceSum", ["input", "axes"], ["score"], keepdims=1)]
    axes = onnx.numpy_helper.from_array(np.array([1], np.int64), "axes")
    return make_model(nodes, initializers=[axes])


def text_model() -> onnx.ModelProto:
    nodes = [helper.make_node("Equal", ["input", "input"], ["same"]), helper.make_node("Cast", ["same"], ["score"], to=1)]
    text = helper.make_tensor_value_info("input", TensorProto.STRING, ("batch", 1))
    return make_model(nodes, inputs=[text], opsets={"": 19})


@pytest.mark.parametrize(
    ("model", "changes", "says"),
    [
        (tree_model(), {"name": "../own"}, "NAME: expected 1 to 64 characters"),
        (tree_model(), {"name": "Own"}, "NAME: expected"),
        (tree_model(), {"name": "own\n"}, "NAME: expected"),
        (tree_model(), {"name": ""}, "NAME: expected"),
        (tree_model(), {"version": "1/2"}, "--version: expected"),
        (tree_model(), {"version": ".."}, "--version: expected"),
        (tree_model(), {"version": "rows.parquet"}, "--version: expected"),
        (tree_model(), {"model_path": Path("gone.onnx")}, "gone.onnx: cannot be read"),
        (b"\x80\x04pickle", {}, "this is a pickle"),
        (b"not a model", {}, "not an ONNX model"),
        (margin_model(), {}, "is no probability: scores of the rows go from"),
        (copying_model(outputs=[output_value(dims=("batch", 3))]), {}, "3 columns"),
        (copying_model(opsets={"": 13}), {}, "target_opset={'': 17"),
        (copying_model(inputs=[input_value(dims=(1, 3))], outputs=[output_value(dims=(1, 3))]), {}, "first axis is fixed"),
        (text_model(), {}, "it takes text: train on numbers instead"),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_nothing_behind(
    tmp_path: Path, model: onnx.ModelProto | bytes, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(AssayError) as error:
        start(tmp_path, model, **changes)
    assert says in str(error.value)
    left = [path.name for path in tmp_path.rglob("*")]
    assert sorted(left) in (["m.onnx"], ["m.onnx", "models"])


def test_margins_are_served_with_thresholds_of_their_own(tmp_path: Path) -> None:
    started = start(tmp_path, margin_model(), thresholds=[Threshold(decision="decline", score=200.0)])
    assert started.scores.max() > 1


def test_nulls_that_the_model_does_not_know_are_named(tmp_path: Path) -> None:
    sample = sample_of(amount=["1", ""], hour=["1", "2"], tx=["1", "5"])
    with pytest.raises(InputError, match=r"1 rows with empty cells \(amount\) score NaN: the model knows no missing values"):
        start(tmp_path, linear_model(), sample)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    start(tmp_path, tree_model())
    with pytest.raises(BundleError, match="this version exists, and a version never changes"):
        start(tmp_path, tree_model())
    with pytest.raises(BundleError, match=r"feature_set.yaml: exists and may hold your changes"):
        start(tmp_path, tree_model(), version="2")
    assert not (tmp_path / "models" / "own" / "2").exists()


def test_serve_shows_a_sample_that_the_version_takes(tmp_path: Path) -> None:
    started = start(tmp_path, tree_model(), sample_of(amount=["50.0"], is_night=["true"], tx=["1"]))
    plan = compile_plan(FeatureSet.load(started.directory / "feature_set.yaml"))
    path = started.request_path
    text = path.read_text()
    assert find_sample_request(started.bundle, plan) == path
    for wrong in ("{]", text.replace('"own"', '"other"'), text.replace("amount", "sum"), " " * SAMPLE_BYTES_MAX + text):
        path.write_text(wrong)
        assert find_sample_request(started.bundle, plan) is None
    path.unlink()
    assert find_sample_request(started.bundle, plan) is None
    os.mkfifo(path)  # opening one waits for a writer
    assert find_sample_request(started.bundle, plan) is None


@pytest.mark.parametrize("dtype", ["int64", "float64"])
@pytest.mark.parametrize("bounds", [{}, {"minimum": 18}, {"maximum": -5}, {"minimum": -9, "maximum": -5}, {"maximum": 0}])
def test_a_made_up_request_keeps_to_the_declared_ranges(dtype: str, bounds: dict[str, float]) -> None:
    feature = {"dtype": dtype, **bounds}
    text = {"name": "own", "version": "1", "entities": ["customer_id"], "request_features": {"x": feature}, "views": {}}
    feature_set = FeatureSet.parse(yaml.safe_dump({**text, "inputs": [{"name": "x", "dtype": "float64"}]}))
    request = json_format.ParseDict(example_request(feature_set, is_demo=False), ScoreRequest())
    assert isinstance(compile_plan(feature_set).decode_score_request(request.SerializeToString()), DecodedTransaction)


def test_reasons_are_a_start_for_their_owner(tmp_path: Path) -> None:
    """Inputs that differ by their window are one thing; every player has a code; customers are told nothing yet."""
    sample = sample_of(avg_7d=["50.0", "60.0"], night=["0", "1"], avg_30d=["1", "2"])
    started = start(tmp_path, tree_model(), sample)
    inputs = ("avg_7d", "night", "avg_30d")
    written = load_reasons(started.reasons_path, inputs)
    assert written.groups == {"avg": ["avg_7d", "avg_30d"]}
    assert written.reasons is not None
    assert [(reason.code, reason.player, reason.customer) for reason in written.reasons.codes] == [
        ("AVG", "avg", None),
        ("NIGHT", "night", None),
    ]
    explanation = read_bundle(started.bundle).manifest.explanation
    assert explanation == Explanation(background_rows=2, groups=written.groups, reasons=written.reasons)
    assert f"--reasons {started.reasons_path}" in started.pack_command


def test_without_a_sample_nothing_is_explained(tmp_path: Path) -> None:
    """Random rows are nothing to compare with."""
    started = start(tmp_path, tree_model())
    assert read_bundle(started.bundle).manifest.explanation is None
    assert not started.reasons_path.exists()
    assert "--background-rows 0" in started.pack_command


def test_as_many_reasons_as_a_table_may_have() -> None:
    """Of a model with more inputs some have no code; names that YAML reads as something else stay names."""
    names = [f"f{index}" for index in range(CODES_MAX - 1)]
    for inputs in ([*names, "on"], [*names, "on", "one_more"]):
        text = reasons_yaml("own", starter_reasons(inputs))
        table = load_reasons(yaml.safe_load(text), inputs).reasons
        assert table is not None
        assert [reason.player for reason in table.codes] == [*names, "on"]


def test_a_window_of_an_input_that_stands_for_itself_is_no_group() -> None:
    assert "groups" not in starter_reasons(["amount", "amount_1d", "amount_7d", "count_1h", "speed_2"])


def test_generated_rows_are_the_same_every_time(tmp_path: Path) -> None:
    first, second = (start(tmp_path, tree_model(), out=tmp_path / name) for name in ("a", "b"))
    for name in ("golden.npz", "baseline.json"):
        assert (first.bundle / name).read_bytes() == (second.bundle / name).read_bytes()
