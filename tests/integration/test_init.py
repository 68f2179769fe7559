"""Your own model: freshly trained, exported by its own tools, made ready by `assay init`, served by `assay serve NAME`.

Every score is the library's own probability.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

from assay.features.feature_set import FeatureSet
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.server import ServeProcess

for extra in ("xgboost", "sklearn", "skl2onnx", "onnxmltools", "pandas"):
    pytest.importorskip(extra, reason="needs: pip install scikit-learn skl2onnx onnxmltools xgboost-cpu pandas")

import pandas as pd  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of the training libraries, about each other

ROWS = 400
COLUMNS = ["amount", "Hour Of Day", "is_vpn"]  # one name that the exporter and the feature set both change
FEATURES = ["amount", "hour_of_day", "is_vpn"]


def payments() -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Columns of three types, and which payments are fraud."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            # What float32 holds exactly: the model is trained on what the CSV says.
            "amount": random.exponential(50, ROWS).astype(np.float32).astype(np.float64).round(1),
            "Hour Of Day": random.integers(0, 24, ROWS),
            "is_vpn": random.integers(0, 2, ROWS).astype(bool),
        }
    )
    risk = frame["amount"] / 50 + 2 * frame["is_vpn"] + (frame["Hour Of Day"] < 6) + random.normal(0, 0.5, ROWS)
    return frame, np.asarray(risk > 3.5).astype(int)


@dataclass(frozen=True)
class Trained:
    """A model, what it was exported to, the sample for `assay init`, and its own probabilities of the sample's rows."""

    onnx: bytes
    sample: pd.DataFrame
    probabilities: np.ndarray[Any, Any]
    tolerance: float


def exported(model: Any, inputs: Any) -> bytes:
    """skl2onnx, as its documentation says and docs/quickstart.md repeats."""
    from skl2onnx import to_onnx

    return bytes(
        to_onnx(model, inputs[:1], target_opset={"": 17, "ai.onnx.ml": 3}, options={"zipmap": False}).SerializeToString()
    )


def of_array(model: Any, dtype: Any, tolerance: float) -> Trained:
    """A scikit-learn model of one matrix."""
    frame, is_fraud = payments()
    inputs = frame.to_numpy(dtype)
    model.fit(inputs, is_fraud)
    return Trained(exported(model, inputs), frame, model.predict_proba(inputs)[:, 1], tolerance)


def logistic_regression() -> Trained:
    from sklearn.linear_model import LogisticRegression

    return of_array(LogisticRegression(max_iter=1_000), np.float32, 1e-5)


def logistic_regression_float64() -> Trained:
    from sklearn.linear_model import LogisticRegression

    return of_array(LogisticRegression(max_iter=1_000), np.float64, 1e-12)


def neural_net() -> Trained:
    from sklearn.neural_network import MLPClassifier

    return of_array(MLPClassifier((8,), max_iter=200, random_state=0), np.float32, 1e-4)


def random_forest_int64() -> Trained:
    from sklearn.ensemble import RandomForestClassifier

    frame, is_fraud = payments()
    frame = frame.assign(amount=frame["amount"].astype(np.int64))
    inputs = frame.to_numpy(np.int64)
    model = RandomForestClassifier(10, random_state=0).fit(inputs, is_fraud)
    return Trained(exported(model, inputs), frame, model.predict_proba(inputs)[:, 1], 1e-6)


def pipeline_of_columns() -> Trained:
    """A pipeline on a DataFrame: one ONNX input a column, each of its own type."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame, is_fraud = payments()
    steps = ColumnTransformer([("scale", StandardScaler(), COLUMNS[:2]), ("keep", "passthrough", COLUMNS[2:])])
    model = make_pipeline(steps, LogisticRegression()).fit(frame, is_fraud)
    inputs = frame.astype({"amount": np.float32})
    # In another order: with names, columns are found by them.
    return Trained(exported(model, inputs), frame[COLUMNS[::-1]], model.predict_proba(frame)[:, 1], 1e-5)


def xgboost_by_onnxmltools() -> Trained:
    import onnxmltools
    import xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    frame, is_fraud = payments()
    inputs = frame.to_numpy(np.float32)
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=3).fit(inputs, is_fraud)
    onnx = onnxmltools.convert_xgboost(model, initial_types=[("input", FloatTensorType([None, 3]))])
    return Trained(onnx.SerializeToString(), frame, model.predict_proba(inputs)[:, 1], 1e-6)


def xgboost_with_nulls() -> Trained:
    """Through skl2onnx, with its converter registered; trained on missing values."""
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    update_registered_converter(
        xgboost.XGBClassifier,
        "XGBoostXGBClassifier",
        calculate_linear_classifier_output_shapes,
        convert_xgboost,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    frame, is_fraud = payments()
    frame = frame.assign(amount=frame["amount"].mask(np.arange(ROWS) % 5 == 3))
    inputs = frame.to_numpy(np.float32, na_value=np.nan)
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=3).fit(inputs, is_fraud)
    return Trained(exported(model, inputs), frame, model.predict_proba(inputs)[:, 1], 1e-6)


MODELS: dict[str, Callable[[], Trained]] = {
    "logistic": logistic_regression,
    "logistic64": logistic_regression_float64,
    "neural": neural_net,
    "forest-int64": random_forest_int64,
    "pipeline": pipeline_of_columns,
    "xgboost": xgboost_by_onnxmltools,
    "xgboost-nulls": xgboost_with_nulls,
}


def assay(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "assay", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty directory where a person works."""
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def trained(workplace: Path) -> dict[str, Trained]:
    """Every model, after `assay init`."""
    made = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, train in MODELS.items():
            made[name] = model = train()
            (workplace / f"{name}.onnx").write_bytes(model.onnx)
            model.sample.assign(is_fraud=0).to_csv(workplace / f"{name}.csv", index=False)
            found = assay(
                *("init", name, "--model", f"{name}.onnx", "--sample", f"{name}.csv", "--label", "is_fraud"), cwd=workplace
            )
            assert found.returncode == 0, f"{name}: {found.stderr}"
    return made


@pytest.fixture(scope="module")
def stub(workplace: Path, trained: dict[str, Trained]) -> Iterator[scoring_pb2_grpc.ScoringServiceStub]:
    """One server with all of them, by name."""
    with ServeProcess(*trained, cwd=workplace) as server, grpc.insecure_channel(server.target) as channel:
        yield scoring_pb2_grpc.ScoringServiceStub(channel)


def request_of(features: FeatureSet, row: pd.Series[Any], model: str) -> scoring_pb2.ScoreRequest:
    """A request as a client would write it from the feature set: each value in its declared type, nulls left out."""
    request = scoring_pb2.ScoreRequest(transaction_id="t", entities={"customer_id": "c"}, model=model)
    request.event_time.GetCurrentTime()
    for name, column in zip(FEATURES, COLUMNS, strict=True):
        value = row[column]
        if not pd.isna(value):
            kind = {"float64": ("double_value", float), "int64": ("int64_value", int), "bool": ("bool_value", bool)}
            field, convert = kind[features.request_features[name].dtype]
            setattr(request.features[name], field, convert(value))
    return request


@pytest.mark.parametrize("name", MODELS)
def test_the_served_model_gives_the_librarys_probabilities(
    name: str, workplace: Path, trained: dict[str, Trained], stub: scoring_pb2_grpc.ScoringServiceStub
) -> None:
    model = trained[name]
    features = FeatureSet.load(workplace / "models" / name / "feature_set.yaml")
    requests = [request_of(features, row, name) for _, row in model.sample.iloc[:64].iterrows()]
    scores = [stub.Score(request).score for request in requests]
    np.testing.assert_allclose(scores, model.probabilities[:64], rtol=0, atol=model.tolerance)
    assert len(set(scores)) > 5, "a model that says the same of everybody proves nothing"


@pytest.mark.parametrize("name", MODELS)
def test_the_sample_request_is_the_samples_first_row(
    name: str, workplace: Path, trained: dict[str, Trained], stub: scoring_pb2_grpc.ScoringServiceStub
) -> None:
    text = (workplace / "models" / name / "sample_request.json").read_text()
    answer = stub.Score(json_format.Parse(text, scoring_pb2.ScoreRequest()))
    assert answer.score == pytest.approx(trained[name].probabilities[0], abs=trained[name].tolerance)
    assert answer.provenance.model == name


def test_types_follow_the_model_and_the_sample(workplace: Path, trained: dict[str, Trained]) -> None:
    def dtypes(name: str) -> list[str]:
        features = FeatureSet.load(workplace / "models" / name / "feature_set.yaml")
        return [features.request_features[feature].dtype for feature in FEATURES]

    assert dtypes("logistic") == ["float64", "float64", "bool"]  # one float32 matrix; true and false stay what they are
    assert dtypes("forest-int64") == ["int64", "int64", "bool"]
    assert dtypes("pipeline") == ["float64", "int64", "bool"]  # by input
    nulls = FeatureSet.load(workplace / "models" / "xgboost-nulls" / "feature_set.yaml")
    assert not nulls.request_features["amount"].is_required
    assert {item.name: item.when_null for item in nulls.model_inputs} == {
        "amount": "nan",
        "hour_of_day": "error",
        "is_vpn": "error",
    }


def test_a_null_that_the_model_did_not_learn_is_refused(stub: scoring_pb2_grpc.ScoringServiceStub, workplace: Path) -> None:
    features = FeatureSet.load(workplace / "models" / "xgboost" / "feature_set.yaml")
    request = request_of(features, payments()[0].iloc[0], "xgboost")
    del request.features["amount"]
    with pytest.raises(grpc.RpcError) as error:
        stub.Score(request)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_next_version_is_packed_by_the_printed_command_and_served_by_name(workplace: Path, tmp_path: Path) -> None:
    """init prints the command; after a change of feature_set.yaml it makes version 2, which NAME then means."""
    model = pipeline_of_columns()
    (tmp_path / "m.onnx").write_bytes(model.onnx)
    model.sample.to_csv(tmp_path / "rows.csv", index=False)
    printed = assay("init", "own", "--model", "m.onnx", "--sample", "rows.csv", cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    features = tmp_path / "models" / "own" / "feature_set.yaml"
    features.write_text(
        features.read_text()
        .replace("hour_of_day: {dtype: int64}", "hour_of_day: {dtype: int64, minimum: 0, maximum: 23}")
        .replace('version: "1"', 'version: "2"')
    )
    command = next(line for line in printed.stderr.splitlines() if line.strip().startswith("assay model pack"))
    packed = assay(*shlex.split(command)[1:], cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr

    with ServeProcess("own", cwd=tmp_path) as server, grpc.insecure_channel(server.target) as channel:
        assert server.ready["models"] == [{"model": "own", "version": "2", "device": "cpu"}]
        scores = scoring_pb2_grpc.ScoringServiceStub(channel)
        request = json_format.Parse((features.parent / "sample_request.json").read_text(), scoring_pb2.ScoreRequest())
        assert scores.Score(request).score == pytest.approx(model.probabilities[0], abs=model.tolerance)
        request.features["hour_of_day"].int64_value = 24
        with pytest.raises(grpc.RpcError) as error:
            scores.Score(request)
        assert "hour_of_day" in error.value.details()
    again = assay("init", "own", "--model", "m.onnx", "--sample", "rows.csv", cwd=tmp_path)
    assert again.returncode == 4
    assert "this version exists" in again.stderr
    assert "minimum: 0" in features.read_text(), "the owner's changes are gone"


def test_without_a_sample_it_says_loudly_that_the_rows_are_random(workplace: Path, trained: dict[str, Trained]) -> None:
    found = assay("init", "blind", "--model", "xgboost.onnx", cwd=workplace)
    assert found.returncode == 0, found.stderr
    assert "WARNING: without --sample the golden rows and the drift baseline are RANDOM" in found.stderr
    features = FeatureSet.load(workplace / "models" / "blind" / "feature_set.yaml")
    assert features.input_names == ("f0", "f1", "f2")


def test_the_lines_that_serve_prints_use_the_sample(workplace: Path, trained: dict[str, Trained]) -> None:
    command = [
        sys.executable,
        "-m",
        "assay",
        "serve",
        "logistic",
        "--listen",
        "127.0.0.1:0",
        "--admin-socket",
        "off",
        "--set",
        "log_format=text",
        "--set",
        "metrics_listen=off",
        "--audit-sink",
        "none",
    ]
    with subprocess.Popen(command, cwd=workplace, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stderr:
                lines.append(line.strip())
                if line.startswith("Ctrl-C"):
                    break
            grpcurl = next(line for line in lines if line.startswith("grpcurl"))
            score = next(line for line in lines if " score " in line)
            answer = subprocess.run(grpcurl, shell=True, cwd=workplace, capture_output=True, text=True, timeout=60, check=False)
            assert answer.returncode == 0, answer.stderr
            expected = pytest.approx(trained["logistic"].probabilities[0], abs=1e-5)
            assert json.loads(answer.stdout)["score"] == expected
            answer = assay(*shlex.split(score)[1:], "--json", cwd=workplace)
            assert json.loads(answer.stdout)["score"] == expected
        finally:
            process.terminate()
            process.communicate(timeout=60)
