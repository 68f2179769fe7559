"""`assay model pack`: a bundle from a model, its feature set and rows of the training."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.model_pull import TrackingUri, checked_uri
from assay.cli.options import pairs
from assay.cli.output import EXIT_REFUSED, EXIT_USAGE, console, fail, shown
from assay.errors import AssayError, InputError

if TYPE_CHECKING:
    from assay.models.manifest import Training
    from assay.models.pack import Commit, Rows
    from assay.models.reasons import ReasonsFile


class Split(StrEnum):
    time = "time"
    random = "random"
    unknown = "unknown"


def pack(
    model: Annotated[
        str,
        typer.Option(metavar="FILE|mlflow:runs:/RUN/ARTIFACT", help="The ONNX model: a file, or one that was logged to MLflow."),
    ],
    feature_set: Annotated[Path, typer.Option(help="The feature set it was trained on (YAML).", exists=True, dir_okay=False)],
    name: Annotated[str, typer.Option(help="Name of the model: a-z, 0-9, '.', '_', '-'.")],
    version: Annotated[str, typer.Option(help="Version. A version never changes once it is packed.")],
    rows: Annotated[
        Path,
        typer.Option(
            help="Training rows: Parquet from `assay features replay`, or npz with one array per ONNX input.",
            exists=True,
            dir_okay=False,
        ),
    ],
    score_output: Annotated[str, typer.Option(help="The ONNX output that holds the score.")],
    score_column: Annotated[int, typer.Option(min=0, help="Which element of its row.")] = 0,
    thresholds: Annotated[
        str, typer.Option(help="From which score which decision (challenge, review, decline): review=0.6,decline=0.9.")
    ] = "",
    input: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FEATURES", help="Features (a,b,c) of each ONNX input, where there are several. Repeatable."),
    ] = None,
    batch_tolerance: Annotated[
        float | None, typer.Option(min=0.0, help="How much a score may move with its batch. Default: 0 for trees, else 1e-6.")
    ] = None,
    timeout_ms: Annotated[int, typer.Option(min=1, help="Deadline of a request that names none.")] = 1000,
    data_sha256: Annotated[
        str | None,
        typer.Option(help="SHA-256 of the training data. Default: what the run of MLflow says, or of the file of rows."),
    ] = None,
    library: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VERSION", help="A library of the training, for the lineage. Default: what the file says. Repeatable."
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of --rows with 1 or true for fraud: looks for inputs that give it away."),
    ] = None,
    split: Annotated[Split, typer.Option(help="How training and test rows were parted. random is refused.")] = Split.unknown,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="An input that may give the label away, or random-split. The manifest says so. Repeatable."
        ),
    ] = None,
    mlflow_run: Annotated[str | None, typer.Option(help="MLflow run, for the lineage, where --model is a file.")] = None,
    tracking_uri: TrackingUri = None,
    reasons: Annotated[
        Path | None,
        typer.Option(
            help="Groups of inputs and codes of reasons (YAML), for explanations: docs/bundles.md.", exists=True, dir_okay=False
        ),
    ] = None,
    background_rows: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=128,
            help="Rows that explanations compare with. Default: 128 for trees and linear models, else 16. 0: explain nothing.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write NAME/VERSION/.", file_okay=False)] = Path("models"),
    force: Annotated[bool, typer.Option("--force", help="Replace this version if it exists.")] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Pack although the git commit does not say everything.")
    ] = False,
) -> None:
    """Make a bundle: schema hash, golden rows, baseline, SHA-256 of everything. It is verified before it is put in place.

    Exit code 4: refused; nothing was written.

    Examples:

        assay model pack --model model.onnx --feature-set feature_set.yaml --rows rows.parquet --name card_fraud --version 2
        --score-output probabilities --score-column 1 --thresholds review=0.6,decline=0.9

        assay model pack ... --label-column is_fraud --split time --accept terminal_risk_7d --library xgboost=3.2.0

        assay model pack ... --reasons reasons.yaml --background-rows 64
    """
    from assay._core import OrtRuntime
    from assay.models.inspection import read_model
    from assay.models.ort_library import find_library
    from assay.models.pack import PackRequest, pack_bundle, parse_thresholds, read_rows, refuse_unknown_library, sha256_of_file

    libraries = pairs("--library", library or [], "NAME=VERSION")
    with ExitStack() as held:  # what was fetched goes when the command ends
        source = _find_model(model, feature_set, mlflow_run, checked_uri(tracking_uri), held, is_dirty_allowed=allow_dirty)
        try:
            with console.status("reading the model", spinner="line"):
                model_bytes, inspection = read_model(source.path)
            refuse_unknown_library(inspection, libraries)
            given = read_rows(rows)
            request = PackRequest(
                name=name,
                version=version,
                model_bytes=model_bytes,
                feature_set_bytes=feature_set.read_bytes(),
                rows=given,
                commit=source.commit,
                data_sha256=data_sha256 or source.data_sha256 or sha256_of_file(rows),
                score_output=score_output,
                score_column=score_column,
                thresholds=parse_thresholds(thresholds),
                tensor_features=dict(_parse_input(text) for text in input or []),
                batch_tolerance=batch_tolerance,
                timeout_ms=timeout_ms,
                mlflow_run=source.mlflow_run,
                parameters=source.parameters,
                training=_look_for_leaks(feature_set, rows, given, label_column, split, accept or []),
                background_rows=background_rows,
                reasons=_read_reasons(reasons, feature_set),
                libraries=libraries,
            )
            with console.status("packing", spinner="line"):
                runtime = OrtRuntime(str(find_library()))
                place = pack_bundle(request, out, runtime, model_file=model, is_replacing=force, inspection=inspection)
        except (AssayError, OSError) as error:
            fail(str(error), EXIT_REFUSED)
    there = shown(str(place))
    console.print(f"packed [bold]{there}[/]; look at it with: assay model check {there}", soft_wrap=True)


# --- implementation ---


@dataclass(frozen=True)
class _ModelSource:
    """Where a model lies, and what is known of its training."""

    path: Path
    commit: Commit
    mlflow_run: str | None
    data_sha256: str | None = None
    parameters: dict[str, str] | None = None


def _find_model(
    model: str, feature_set: Path, mlflow_run: str | None, tracking_uri: str | None, held: ExitStack, *, is_dirty_allowed: bool
) -> _ModelSource:
    """Fetches it where it is in MLflow. Ends the command where there is none, or where nobody knows which code made it."""
    from assay.models.mlflow_runs import SCHEME, fetch, refuse_unsaid_commit
    from assay.models.pack import find_commit, refuse_dirty

    try:
        if not model.startswith(SCHEME):
            if not Path(model).is_file():
                fail(f"--model: there is no file {model}", EXIT_USAGE)
            commit = find_commit(feature_set.resolve().parent)
            refuse_dirty(commit, is_allowed=is_dirty_allowed, option="--allow-dirty")
            return _ModelSource(Path(model), commit, mlflow_run)
        if mlflow_run is not None:
            fail("--mlflow-run: --model names a run already; leave it out", EXIT_USAGE)
        with console.status("fetching the model", spinner="line"):
            fetched = fetch(model, tracking_uri, Path(held.enter_context(TemporaryDirectory(prefix="assay-model-"))))
        if fetched.onnx_file is None:
            fail(f"{model}: this is a bundle already; fetch it: assay model pull {model}", EXIT_REFUSED)
        run = fetched.run
        refuse_unsaid_commit(run, is_allowed=is_dirty_allowed)
        return _ModelSource(fetched.onnx_file, run.commit, run.run_id, run.data_sha256, run.parameters)
    except InputError as error:
        fail(str(error))


def _look_for_leaks(
    feature_set: Path, rows_file: Path, rows: Rows, label_column: str | None, split: Split, accept: list[str]
) -> Training | None:
    import numpy as np

    from assay.features.feature_set import FeatureSet
    from assay.models.leaks import look_for_leaks
    from assay.models.outcomes import read_outcomes

    labels = None if label_column is None else read_outcomes(rows_file, label_column, None, "").is_fraud
    # An npz has no labels, so its values are not looked at; names are.
    columns = {name: rows.columns.get(name, np.empty(0)) for name in FeatureSet.load(feature_set).input_names}
    return look_for_leaks(columns, labels, split.value, accept)


def _read_reasons(path: Path | None, feature_set: Path) -> ReasonsFile:
    from assay.features.feature_set import FeatureSet
    from assay.models.reasons import ReasonsFile, load_reasons

    return ReasonsFile() if path is None else load_reasons(path, FeatureSet.load(feature_set).input_names)


def _parse_input(text: str) -> tuple[str, list[str]]:
    tensor, _, features = text.partition("=")
    if not tensor or not features:
        raise InputError("--input: expected NAME=FEATURE,FEATURE")
    return tensor, [feature.strip() for feature in features.split(",")]
