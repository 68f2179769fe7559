"""Trains a model of online payments: replay through assay's own feature code -> XGBoost -> ONNX -> bundle.

    python examples/online_payments/train.py --data data --out models

Every row is what the server would have seen at that moment: payments before it, and the customer's attributes as they were known.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

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
from assay.models.ort_library import find_library
from assay.models.pack import PackRequest, find_commit, pack_bundle, read_rows, sha256_of_file

FEATURE_SET_FILE = Path(__file__).resolve().with_name("feature_set.yaml")
TRAINING_SHARE = 0.7  # of the time; the rest tests
THRESHOLDS = (Threshold(decision="challenge", score=0.3), Threshold(decision="decline", score=0.9))


def main(
    data: Annotated[Path, typer.Option(help="Directory with events.jsonl and customers.jsonl (generate.py).")] = Path("data"),
    out: Annotated[Path, typer.Option(help="Where to write online_payments/VERSION/.")] = Path("models"),
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    force: Annotated[bool, typer.Option("--force", help="Replace this version if it exists.")] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Train although the git commit does not say everything.")
    ] = False,
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
        inputs = np.stack([table[name].to_numpy() for name in feature_set.input_names], axis=1)
        is_fraud = labels(events, table["transaction_id"].to_pylist())
        model = fit(inputs, is_fraud)
        request = PackRequest(
            name="online_payments",
            version=version,
            model_bytes=to_onnx(model, inputs.shape[1]),
            feature_set_bytes=FEATURE_SET_FILE.read_bytes(),
            rows=rows,
            commit=commit,
            data_sha256=sha256_of_file(events),
            score_output="probabilities",
            score_column=1,
            thresholds=THRESHOLDS,
        )
        place = pack_bundle(request, out, _core.OrtRuntime(str(find_library())), is_replacing=force)
    except AssayError as error:
        fail(str(error))
    console.print(f"packed [bold]{place}[/]; look at it with: assay model check {place}", soft_wrap=True)


def labels(events: Path, transaction_ids: list[str]) -> NDArray[np.bool_]:
    """Whether each transaction was fraud, (n,)."""
    with events.open() as file:
        known = {event["transaction_id"]: event["is_fraud"] for event in map(json.loads, file)}
    return np.array([known[transaction_id] for transaction_id in transaction_ids])


def fit(inputs: NDArray[np.float32], is_fraud: NDArray[np.bool_]) -> xgboost.XGBClassifier:
    """Trains on the first weeks, says how good it is on the rest. Inputs (n, inputs) in order of time; NaN is a missing value."""
    count = int(len(inputs) * TRAINING_SHARE)
    model = xgboost.XGBClassifier(n_estimators=60, max_depth=4, learning_rate=0.2, base_score=0.5, random_state=0, n_jobs=1)
    model.fit(inputs[:count], is_fraud[:count].astype(np.int32))
    precision = average_precision_score(is_fraud[count:], model.predict_proba(inputs[count:])[:, 1])
    console.print(f"average precision {precision:.3f} on the last {1 - TRAINING_SHARE:.0%} of the payments")
    return model


def to_onnx(model: xgboost.XGBClassifier, input_count: int) -> bytes:
    """One input of all features, outputs `label` and `probabilities`."""
    converted = convert_xgboost(model, initial_types=[("input", FloatTensorType([None, input_count]))])
    return bytes(converted.SerializeToString())


if __name__ == "__main__":
    typer.run(main)
