"""Makes the demo's model: simulated transactions -> replay through assay's own feature code -> XGBoost -> ONNX -> bundle.

    python examples/card_fraud/train.py --out models

The rows come from the same C++ code that serves, so the model is trained on exactly what it will see. Before a bundle is written
the model passes the leak gate (evaluation.py), and the ONNX file must give XGBoost's own probabilities.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import evaluation  # beside this file
import matplotlib as mpl
import numpy as np
import typer
import xgboost
from numpy.typing import NDArray
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from rich.table import Table
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from sklearn.metrics import precision_recall_curve

from assay import _core
from assay.cli.output import console, fail, progress
from assay.demo.simulator import SimulatorParameters, Transactions, simulate
from assay.errors import AssayError
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.rows import input_columns
from assay.models.manifest import Threshold
from assay.models.mlflow_runs import training_run
from assay.models.ort_library import find_library
from assay.models.pack import PackRequest, Rows, find_commit, pack_bundle
from assay.models.reasons import load_reasons

FEATURE_SET_FILE = Path(__file__).resolve().with_name("feature_set.yaml")
REASONS_FILE = FEATURE_SET_FILE.with_name("reasons.yaml")
# exact and base_score are set on purpose: today's defaults (hist, an estimated base score) lose a tenth of the average precision,
# because with few frauds the first splits are pruned.
XGBOOST_PARAMETERS: dict[str, Any] = {
    "n_estimators": 100,
    "learning_rate": 0.1,
    "max_depth": 3,
    "tree_method": "exact",
    "base_score": 0.5,
    "random_state": 0,
    "n_jobs": 1,
}
FINAL_TRAINING_DAYS = 28
THRESHOLDS = (
    Threshold(decision="challenge", score=0.3),
    Threshold(decision="review", score=0.6),
    Threshold(decision="decline", score=0.9),
)
PROBABILITY_DIFFERENCE_MAX = 1e-6
EVENTS_PER_STEP = 50_000
STORE_BYTES_MAX = 4 << 30


def main(
    out: Annotated[Path, typer.Option(help="Where to write NAME/VERSION/ and the plot.")] = Path("models"),
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    feature_set_path: Annotated[
        Path, typer.Option("--feature-set", help="Another feature set over the same events.", exists=True, dir_okay=False)
    ] = FEATURE_SET_FILE,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
    customers: Annotated[int, typer.Option(min=1, help="Fewer customers do not pass the gate.")] = 5_000,
    terminals: Annotated[int, typer.Option(min=1)] = 10_000,
    force: Annotated[bool, typer.Option("--force", help="Replace this version if it exists.")] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Train although the git commit does not say everything.")
    ] = False,
    mlflow: Annotated[
        str, typer.Option(metavar="URI", help="Log the training and its bundle to this MLflow: sqlite:///FILE.")
    ] = "",
) -> None:
    """Train the demo's model and write its bundle."""
    commit = find_commit(feature_set_path.resolve().parent)
    if commit.is_dirty and not allow_dirty:
        fail("there are changes that are not committed (or no git)", hint="commit them, or pass --allow-dirty")
    feature_set = FeatureSet.load(feature_set_path)
    with console.status("simulating", spinner="line"):
        transactions = simulate(SimulatorParameters(seed=seed, customers=customers, terminals=terminals))
    columns, data_sha256 = replay(feature_set, transactions)
    rows = evaluation.LabelledRows(
        np.stack(list(columns.values()), axis=1), transactions.is_fraud, transactions.days, transactions.customer_ids
    )
    results = evaluate(rows, transactions)
    out.mkdir(parents=True, exist_ok=True)
    plot(results, out / "card_fraud_evaluation.png")
    metrics = evaluation.Metrics.mean([result.metrics for result in results])
    try:
        evaluation.check_gate(metrics.average_precision)
    except evaluation.GateError as error:
        fail(str(error), hint="no bundle was written")

    last_days = np.flatnonzero(transactions.days >= int(transactions.days[-1]) + 1 - FINAL_TRAINING_DAYS)
    with console.status("training and packing", spinner="line"):
        model = fit(rows.inputs[last_days], rows.is_fraud[last_days])
        model_bytes = to_onnx(model, list(columns))
        check_parity(model, model_bytes, rows.inputs[last_days])
    try:
        logged = training_run(mlflow, "card_fraud", commit, data_sha256, XGBOOST_PARAMETERS) if mlflow else nullcontext()
        with console.status("packing", spinner="line"), logged as run:
            request = PackRequest(
                name="card_fraud",
                version=version,
                model_bytes=model_bytes,
                feature_set_bytes=feature_set_path.read_bytes(),
                rows=Rows(columns={name: values[last_days].astype(np.float64) for name, values in columns.items()}),
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
                run.log_metrics({name: getattr(metrics, name) for name in ("auc_roc", "average_precision", "card_precision")})
                run.log_bundle(place)
    except AssayError as error:
        fail(str(error))
    if run is not None:
        console.print(f"logged to MLflow; get it there with: assay model pull mlflow:runs:/{run.run_id}/bundle", soft_wrap=True)
    console.print(f"packed [bold]{place}[/]; look at it with: assay model check {place}", soft_wrap=True)


def replay(feature_set: FeatureSet, transactions: Transactions) -> tuple[dict[str, NDArray[np.float32]], str]:
    """Every model input as the server would have seen it at the time, (n,) by name; and the SHA-256 of the events."""
    plan = compile_plan(feature_set)
    log = _core.EventLog(plan)
    digest = hashlib.sha256()
    with progress("reading events", len(transactions)) as advance:
        for block in transactions.json_lines(EVENTS_PER_STEP):
            digest.update(block)
            log.append(block)
            advance(log.event_count)
        log.sort()
    if log.rejected_count or log.event_count != len(transactions):
        fail(f"{log.rejected_count} simulated events were rejected, the first: {log.rejections()[0].violations}")

    store = _core.EmbeddedStore(STORE_BYTES_MAX)
    reader, writer = _core.FeatureReader(plan, store), _core.EventWriter(plan, store)
    parts: list[dict[str, NDArray[Any]]] = []
    with progress("replaying events", log.event_count) as advance:
        for first in range(0, log.event_count, EVENTS_PER_STEP):
            stop = min(first + EVENTS_PER_STEP, log.event_count)
            rows, is_valid, _, report = log.replay(reader, writer, first, stop)
            if not is_valid.all() or report.recorded_count != stop - first:
                fail("a simulated event could not be scored or recorded; the feature set does not fit the simulation")
            if log.transaction_ids(first, stop) != [str(number) for number in range(first, stop)]:
                fail("the replay is in another order than the simulation; labels would go to the wrong rows")
            parts.append(input_columns(plan, rows))
            advance(stop)
    return {name: np.concatenate([part[name] for part in parts]) for name in plan.input_names}, digest.hexdigest()


def fit(inputs: NDArray[np.float32], is_fraud: NDArray[np.bool_]) -> xgboost.XGBClassifier:
    """The model, trained on inputs (n, 15) and labels (n,)."""
    model = xgboost.XGBClassifier(**XGBOOST_PARAMETERS)
    model.fit(inputs, is_fraud.astype(np.int32))
    return model


def evaluate(rows: evaluation.LabelledRows, transactions: Transactions) -> list[evaluation.FoldResult]:
    """The gate's four folds, with a table of them; a second line of folds is trained on as many days as the final model."""

    def train(inputs: NDArray[np.float32], is_fraud: NDArray[np.bool_]) -> Any:
        model = fit(inputs, is_fraud)
        return lambda test_inputs: model.predict_proba(test_inputs)[:, 1]

    with console.status("training four folds twice", spinner="line"):
        gate_results = evaluation.evaluate(rows, transactions.start, train)
        final_results = evaluation.evaluate(rows, transactions.start, train, FINAL_TRAINING_DAYS)
    table = Table(title="test weeks, XGBoost 100 trees of depth 3", box=None, padding=(0, 2, 0, 0), title_justify="left")
    for column in ("trained on", "fold", "AUC ROC", "average precision", "card precision@100", "frauds"):
        table.add_column(column, justify="left" if column == "trained on" else "right")
    for days, results in ((evaluation.TRAINING_DAYS, gate_results), (FINAL_TRAINING_DAYS, final_results)):
        named = [(str(index), result.metrics, str(result.is_fraud.sum())) for index, result in enumerate(results, 1)]
        for fold, metrics, frauds in [*named, ("mean", evaluation.Metrics.mean([result.metrics for result in results]), "")]:
            figures = (f"{metrics.auc_roc:.3f}", f"{metrics.average_precision:.3f}", f"{metrics.card_precision:.3f}")
            table.add_row(f"{days} days", fold, *figures, frauds)
    console.print(table)
    scores = np.concatenate([result.scores for result in final_results])
    labels = np.concatenate([result.is_fraud for result in final_results])
    for threshold in THRESHOLDS:
        above = scores >= threshold.score
        share, precision, recall = above.mean(), labels[above].mean() if above.any() else 0.0, above[labels].mean()
        console.print(
            f"{threshold.decision} from {threshold.score}: {share:.2%} of transactions, "
            f"{precision:.0%} of them fraud, {recall:.0%} of all fraud"
        )
    return gate_results


def plot(results: list[evaluation.FoldResult], path: Path) -> None:
    """Precision over recall, a curve a fold, with the gate's band beside it."""
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (curves, bars) = pyplot.subplots(1, 2, figsize=(10, 4), width_ratios=(2, 1), layout="constrained")
    for index, result in enumerate(results, 1):
        precision, recall, _ = precision_recall_curve(result.is_fraud, result.scores)
        curves.plot(recall, precision, label=f"fold {index}")
    curves.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Precision and recall of four test weeks")
    curves.legend()
    bars.bar([str(index) for index in range(1, len(results) + 1)], [result.metrics.average_precision for result in results])
    bars.axhspan(evaluation.AVERAGE_PRECISION_MIN, evaluation.AVERAGE_PRECISION_MAX, alpha=0.2, label="gate (mean of folds)")
    bars.set(xlabel="fold", ylabel="average precision", ylim=(0, 1), title="Average precision")
    bars.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def to_onnx(model: xgboost.XGBClassifier, input_names: list[str]) -> bytes:
    """ONNX, opset 17, one input of all features, outputs `label` and `probabilities`."""
    update_registered_converter(
        xgboost.XGBClassifier,
        "XGBoostXGBClassifier",
        calculate_linear_classifier_output_shapes,
        convert_xgboost,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    converted = convert_sklearn(
        model,
        name="card_fraud",
        initial_types=[("input", FloatTensorType([None, len(input_names)]))],
        target_opset={"": 17, "ai.onnx.ml": 3},
        options={id(model): {"zipmap": False}},
    )
    return bytes(converted.SerializeToString())


def check_parity(model: xgboost.XGBClassifier, model_bytes: bytes, inputs: NDArray[np.float32]) -> None:
    """The ONNX file must give XGBoost's probabilities on every row it was trained on."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # nothing of a training run leaves this machine
    import onnxruntime

    session = onnxruntime.InferenceSession(model_bytes, providers=["CPUExecutionProvider"])
    onnx_scores = session.run(["probabilities"], {"input": inputs})[0][:, 1]
    difference = float(np.abs(onnx_scores - model.predict_proba(inputs)[:, 1]).max())
    if difference > PROBABILITY_DIFFERENCE_MAX:
        fail(f"the ONNX model differs from XGBoost by {difference:.3g}; the conversion lost something")


if __name__ == "__main__":
    typer.run(main)
