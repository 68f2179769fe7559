"""Trains a model of online payments: replay through assay's own feature code -> XGBoost -> ONNX -> bundle.

    python examples/online_payments/train.py --data data --out models

Every row is what the server would have seen at that moment: payments before it, and the customer's attributes as they were known.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer
import xgboost
from numpy.typing import NDArray
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.metrics import average_precision_score

from assay import _core
from assay.cli.output import console, fail
from assay.errors import AssayError
from assay.features.feature_set import FeatureSet
from assay.features.replay import replay
from assay.models.manifest import Threshold
from assay.models.mlflow_runs import training_run
from assay.models.ort_library import find_library
from assay.models.pack import PackRequest, find_commit, pack_bundle, read_rows, sha256_of_file
from assay.models.reasons import load_reasons

FEATURE_SET_FILE = Path(__file__).resolve().with_name("feature_set.yaml")
REASONS_FILE = FEATURE_SET_FILE.with_name("reasons.yaml")
TRAINING_SHARE = 0.7  # of the time; the rest tests
XGBOOST_PARAMETERS: dict[str, Any] = {
    "n_estimators": 60,
    "max_depth": 4,
    "learning_rate": 0.2,
    "base_score": 0.5,
    "random_state": 0,
}
THRESHOLDS = (Threshold(decision="challenge", score=0.3), Threshold(decision="decline", score=0.9))


def main(
    data: Annotated[Path, typer.Option(help="Directory with events.jsonl and customers.jsonl (generate.py).")] = Path("data"),
    out: Annotated[Path, typer.Option(help="Where to write online_payments/VERSION/.")] = Path("models"),
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    force: Annotated[bool, typer.Option("--force", help="Replace this version if it exists.")] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Train although the git commit does not say everything.")
    ] = False,
    mlflow: Annotated[
        str, typer.Option(metavar="URI", help="Log the training and its bundle to this MLflow: sqlite:///FILE.")
    ] = "",
) -> None:
    """Train the model and write its bundle."""
    commit = find_commit(FEATURE_SET_FILE.parent)
    if commit.is_dirty and not allow_dirty:
        fail("there are changes that are not committed (or no git)", hint="commit them, or pass --allow-dirty")
    feature_set = FeatureSet.load(FEATURE_SET_FILE)
    events = data / "events.jsonl"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            rows_path = Path(scratch) / "rows.parquet"
            summary = replay(feature_set, events, rows_path, attributes={"account": data / "customers.jsonl"})
            table = pq.read_table(rows_path)
            rows = read_rows(rows_path)
        console.print(f"{summary.row_count:,} rows of {summary.event_count:,} payments")
        data_sha256 = sha256_of_file(events)
        inputs = np.stack([table[name].to_numpy() for name in feature_set.input_names], axis=1)
        is_fraud = labels(events, table["transaction_id"].to_pylist())
        logged = training_run(mlflow, "online_payments", commit, data_sha256, XGBOOST_PARAMETERS) if mlflow else nullcontext()
        with logged as run:
            model, precision = fit(inputs, is_fraud)
            request = PackRequest(
                name="online_payments",
                version=version,
                model_bytes=to_onnx(model, inputs.shape[1]),
                feature_set_bytes=FEATURE_SET_FILE.read_bytes(),
                rows=rows,
                commit=commit,
                data_sha256=data_sha256,
                score_output="probabilities",
                score_column=1,
                thresholds=THRESHOLDS,
                mlflow_run=None if run is None else run.run_id,
                parameters=None if run is None else {name: str(value) for name, value in XGBOOST_PARAMETERS.items()},
                reasons=load_reasons(REASONS_FILE, feature_set.input_names),
            )
            place = pack_bundle(request, out, _core.OrtRuntime(str(find_library())), is_replacing=force)
            if run is not None:
                run.log_metrics({"average_precision": precision})
                run.log_bundle(place)
                console.print(
                    f"logged to MLflow; get it there with: assay model pull mlflow:runs:/{run.run_id}/bundle", soft_wrap=True
                )
    except AssayError as error:
        fail(str(error))
    console.print(f"packed [bold]{place}[/]; look at it with: assay model check {place}", soft_wrap=True)


def labels(events: Path, transaction_ids: list[str]) -> NDArray[np.bool_]:
    """Whether each transaction was fraud, (n,)."""
    with events.open() as file:
        known = {event["transaction_id"]: event["is_fraud"] for event in map(json.loads, file)}
    return np.array([known[transaction_id] for transaction_id in transaction_ids])


def fit(inputs: NDArray[np.float32], is_fraud: NDArray[np.bool_]) -> tuple[xgboost.XGBClassifier, float]:
    """Trains on the first weeks, and says how good it is on the rest: its average precision there. Inputs (n, inputs) in order of
    time; NaN is a missing value."""
    count = int(len(inputs) * TRAINING_SHARE)
    model = xgboost.XGBClassifier(**XGBOOST_PARAMETERS, n_jobs=1)
    model.fit(inputs[:count], is_fraud[:count].astype(np.int32))
    precision = float(average_precision_score(is_fraud[count:], model.predict_proba(inputs[count:])[:, 1]))
    console.print(f"average precision {precision:.3f} on the last {1 - TRAINING_SHARE:.0%} of the payments")
    return model, precision


def to_onnx(model: xgboost.XGBClassifier, input_count: int) -> bytes:
    """One input of all features, outputs `label` and `probabilities`."""
    converted = convert_xgboost(model, initial_types=[("input", FloatTensorType([None, input_count]))])
    return bytes(converted.SerializeToString())


if __name__ == "__main__":
    typer.run(main)
