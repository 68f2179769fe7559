"""`assay.pack`: from the estimator in the process that trained it to a bundle, without a pickle on the way."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assay._core import OrtRuntime
from assay.errors import InputError
from assay.features.feature_set import FeatureSet
from assay.models.convert import convert
from assay.models.leaks import look_for_leaks
from assay.models.manifest import DecisionName, Source, Threshold
from assay.models.ort_library import find_library
from assay.models.pack import PackRequest, Rows, find_commit, pack_bundle, read_rows, refuse_dirty, sha256_of_file
from assay.models.reasons import ReasonsFile, load_reasons
from assay.models.score_output import choose_score
from assay.models.source_parity import SourceScores

PARITY_TOLERANCE_DEFAULT = 1e-5

StrPath = str | os.PathLike[str]


def pack(
    estimator: Any,
    feature_set: StrPath,
    rows: Any,
    *,
    name: str,
    version: str,
    data: StrPath | None = None,
    labels: Any = None,
    split: Literal["time", "random", "unknown"] = "unknown",
    accept: Sequence[str] = (),
    thresholds: Mapping[DecisionName, float] | None = None,
    out: StrPath = "models",
    score_column: int | None = None,
    batch_tolerance: float | None = None,
    parity_tolerance: float = PARITY_TOLERANCE_DEFAULT,
    timeout_ms: int = 1_000,
    mlflow_run: str | None = None,
    parameters: Mapping[str, object] | None = None,
    reasons: StrPath | Mapping[str, Any] | None = None,
    background_rows: int | None = None,
    force: bool = False,
    allow_dirty: bool = False,
) -> Path:
    """Converts `estimator` to ONNX, compares the two on all rows, and writes the verified bundle OUT/NAME/VERSION.

    `estimator`: fitted; a scikit-learn estimator or Pipeline, XGBClassifier, LGBMClassifier, or a torch.nn.Module whose output is
    the score. `feature_set`: path of its YAML file, in the repository of the training code. `rows`: of the training; a path
    (Parquet, npz), a data frame or mapping with a column for every input, or an array (n, inputs) in the inputs' order.
    `data`: the file of the training data, or its SHA-256 as 64 hex digits; may be left out where `rows` is a path.
    `labels`: (n,), true where it was fraud; with them inputs that give the label away are refused, unless `accept` names them.
    `mlflow_run`, `parameters`: for the lineage (mlflow_runs.py).
    `reasons`: groups of inputs and codes of reasons (reasons.py): a YAML file, or the same as a mapping. `background_rows`: how
    many rows explanations compare with; None: what suits the model; 0: none, and the bundle explains nothing.
    `split`: how training and test rows were parted; `random` is refused, unless `accept` has "random-split".

    Raises InputError, BundleError (with what to do), FeatureSetError.
    """
    feature_set_path = Path(feature_set)
    commit = find_commit(feature_set_path.resolve().parent)
    refuse_dirty(commit, is_allowed=allow_dirty, option="allow_dirty=True")
    definition = FeatureSet.load(feature_set_path)
    said = ReasonsFile() if reasons is None else load_reasons(reasons, definition.input_names)
    given = _rows(rows, definition.input_names)
    converted = convert(estimator, definition.input_names)
    score = choose_score(converted.inspection.outputs, None, score_column)
    request = PackRequest(
        name=name,
        version=version,
        model_bytes=converted.model_bytes,
        feature_set_bytes=definition.yaml.encode(),
        rows=given,
        commit=commit,
        data_sha256=_data_sha256(data, rows),
        score_output=score.output,
        score_column=score.column,
        thresholds=sorted(
            (Threshold(decision=decision, score=limit) for decision, limit in (thresholds or {}).items()),
            key=lambda threshold: threshold.score,
        ),
        batch_tolerance=batch_tolerance,
        timeout_ms=timeout_ms,
        mlflow_run=mlflow_run,
        parameters={name: str(value) for name, value in (parameters or {}).items()},
        source=SourceScores(
            Source(library=converted.library, estimator=converted.estimator, tolerance=parity_tolerance),
            lambda matrix: converted.predict(matrix)[:, score.column],
        ),
        training=look_for_leaks(_inputs(given, definition.input_names), labels, split, accept),
        background_rows=background_rows,
        reasons=said,
    )
    return pack_bundle(request, Path(out), OrtRuntime(str(find_library())), is_replacing=force, inspection=converted.inspection)


# --- implementation ---


def _rows(rows: Any, input_names: Sequence[str]) -> Rows:
    if isinstance(rows, str | os.PathLike):
        return read_rows(Path(rows))
    if isinstance(rows, np.ndarray):
        if rows.ndim != 2 or rows.shape[1] != len(input_names):
            raise InputError(
                f"rows: expected an array (n, {len(input_names)}), the feature set's inputs in order, not {rows.shape}"
            )
        return Rows(columns={name: rows[:, index].astype(np.float64) for index, name in enumerate(input_names)})
    missing = [name for name in input_names if name not in rows]
    if missing:
        raise InputError(f"rows: no column {', '.join(missing[:5])}; give one for every input of the feature set")
    return Rows(columns={name: np.asarray(rows[name], np.float64) for name in input_names})


def _inputs(rows: Rows, input_names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Columns of the inputs alone: a file may hold the label, too. An npz has one tensor of all inputs."""
    if rows.columns:
        return {name: rows.columns[name] for name in input_names if name in rows.columns}
    tensors = list(rows.tensors.values())
    if len(tensors) != 1 or tensors[0].ndim != 2 or tensors[0].shape[1] != len(input_names):
        raise InputError(f"rows: expected one array (n, {len(input_names)}) in the npz file")
    return {name: tensors[0][:, index].astype(np.float64) for index, name in enumerate(input_names)}


def _data_sha256(data: StrPath | None, rows: Any) -> str:
    if isinstance(data, str) and re.fullmatch(r"[0-9a-f]{64}", data):
        return data
    source = data if data is not None else rows if isinstance(rows, str | os.PathLike) else None
    if source is None:
        raise InputError("data: the lineage would not say which data made this model; give the file, or its SHA-256")
    try:
        return sha256_of_file(Path(source))
    except OSError as error:
        raise InputError(f"data: {source}: cannot be read: {error.strerror}; give the file of the training data") from None
