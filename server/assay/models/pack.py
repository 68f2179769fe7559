"""Makes a bundle from a model, a feature set and rows that the model has seen: golden rows, baseline, hashes, manifest.

The bundle is built beside its place, verified exactly as a server would, and only then renamed into it.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

import assay
from assay._core import FeaturePlan, OrtModel, OrtRuntime
from assay.errors import BundleError, InputError
from assay.features.compile import TensorMapping, compile_plan
from assay.features.difference import in_words
from assay.features.feature_set import FeatureSet
from assay.features.rows import PackedRows, input_columns, pack_rows, unpack_rows
from assay.models.arrays import load_arrays
from assay.models.background import background_rows_default, choose_background, parse_background, save_background
from assay.models.baseline import make_baseline
from assay.models.bundle import file_record
from assay.models.foreign import refuse_foreign_model
from assay.models.golden import GOLDEN_ROWS_MAX, choose_golden, save_golden, spread
from assay.models.inspect_onnx import INPUT_TYPES
from assay.models.inspection import OnnxInspection, inspect_model
from assay.models.manifest import (
    BACKGROUND_FILE,
    BASELINE_FILE,
    FEATURE_SET_FILE,
    FILE_BYTES_MAX,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    UNKNOWN_COMMIT,
    DecisionName,
    Explanation,
    FeatureSetReference,
    Lineage,
    Manifest,
    Parent,
    ScoreOutput,
    TensorInput,
    TensorTypeName,
    Threshold,
    Training,
)
from assay.models.reasons import ReasonsFile
from assay.models.refusal import BundleRefusedError
from assay.models.source_parity import SourceScores, check_source_parity
from assay.models.verify import (
    BATCH_ROWS_MAX_DEFAULT,
    check_inspection,
    check_invariance,
    find_score_output,
    make_scorer,
    make_step,
    verify_bundle,
)

# Distributions whose versions the lineage records, where they are installed.
LIBRARIES: Final = (
    "lightgbm",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxmltools",
    "scikit-learn",
    "skl2onnx",
    "torch",
    "xgboost",
    "xgboost-cpu",
)
_LIBRARY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
LIBRARIES_SAID_MAX: Final = 64
DECISIONS: Final[tuple[DecisionName, ...]] = get_args(DecisionName)


@dataclass(frozen=True)
class Commit:
    """The state of the source that trained the model."""

    commit: str
    is_dirty: bool


@dataclass(frozen=True)
class PackRequest:
    """Everything a bundle is made from."""

    name: str
    version: str
    model_bytes: bytes
    feature_set_bytes: bytes
    rows: Rows
    commit: Commit
    data_sha256: str
    score_output: str
    score_column: int = 0
    thresholds: Sequence[Threshold] = ()
    tensor_features: dict[str, list[str]] = field(default_factory=dict)  # empty: one ONNX input takes all inputs in order
    batch_tolerance: float | None = None  # None: 0 for trees, 1e-6 for the rest
    timeout_ms: int = 1_000
    mlflow_run: str | None = None
    parameters: Mapping[str, str] | None = None  # of that run
    golden_tolerance: float = 1e-6
    is_batch_dependent: bool = False  # the batch changes scores: not measured, and served in batches of one
    parent: Parent | None = None  # the bundle that the model was converted from
    source: SourceScores | None = None  # the trained model itself, where it is at hand
    training: Training | None = None  # of leaks.py
    background_rows: int | None = None  # None: background_rows_default(); 0: none, and nothing can be explained
    background_bytes: bytes | None = None  # the parent's own file, taken over as it is; nothing is chosen then
    reasons: ReasonsFile = field(default_factory=ReasonsFile)
    libraries: dict[str, str] = field(
        default_factory=dict
    )  # of the training, as somebody says; goes before what is installed here
    created: datetime | None = None  # None: now, or SOURCE_DATE_EPOCH


@dataclass(frozen=True)
class Rows:
    """Rows from training time: columns (n,) by model input, or tensors (n, elements) by ONNX input."""

    columns: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    tensors: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    feature_set: FeatureSet | None = None  # that a replay made them with; None: they do not say


def pack_bundle(
    request: PackRequest,
    out: Path,
    runtime: OrtRuntime,
    *,
    model_file: str = MODEL_FILE,
    is_replacing: bool = False,
    inspection: OnnxInspection | None = None,
) -> Path:
    """Writes OUT/NAME/VERSION and returns it. Nothing is left behind when it fails.

    `inspection`: what inspect_model() said of these bytes, if it was asked already.
    Raises BundleError (also where that version exists and `is_replacing` is false), FeatureSetError, InputError.
    """
    refuse_foreign_model(model_file, request.model_bytes)
    inspection = inspection or inspect_model(request.model_bytes, model_file)
    check_inspection(inspection, make_step(None))
    files, manifest = _make_files(request, inspection, runtime)

    place = out / manifest.name / manifest.version
    refuse_existing(place, is_replacing=is_replacing)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pack-", dir=out) as scratch:
        # Under its own name and version, because verification compares them with the directory.
        built = Path(scratch) / manifest.name / manifest.version
        built.mkdir(parents=True)
        for name, data in {**files, MANIFEST_FILE: manifest.to_yaml()}.items():
            _write(built / name, data)
        verify_bundle(built, runtime)
        put_in_place(built, place, Path(scratch))
    return place


def refuse_existing(place: Path, *, is_replacing: bool) -> None:
    """Raises BundleError where that version is there and nobody said to replace it."""
    if place.exists() and not is_replacing:
        raise BundleError(f"{place}: this version exists; a version never changes: choose another, or replace it with --force")


def put_in_place(built: Path, place: Path, scratch: Path) -> None:
    """Renames a proved bundle to NAME/VERSION. `scratch`: of the same file system, removed later with what was replaced."""
    place.parent.mkdir(exist_ok=True)
    if place.exists():
        place.rename(scratch / "replaced")
    built.rename(place)


def read_rows(path: Path) -> Rows:
    """Rows of a Parquet file (one column a model input, as `assay features replay` writes) or npz (one array an ONNX input)."""
    try:
        if path.suffix == ".npz":
            return Rows(tensors=cast("dict[str, NDArray[np.generic]]", load_arrays(path.read_bytes(), path.name)))
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{path}: cannot be read as rows ({type(error).__name__}); give Parquet from assay features replay, or npz"
        ) from error
    numeric = [
        field.name
        for field in table.schema
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)
    ]
    return Rows(columns={name: _column(table, name) for name in numeric}, feature_set=_feature_set_of(table, path))


def parse_thresholds(text: str) -> list[Threshold]:
    """`challenge=0.3,review=0.6,decline=0.9` -> thresholds in ascending order. Raises InputError."""
    thresholds = []
    for part in filter(None, text.split(",")):
        name, _, score = part.partition("=")
        if name.strip() not in DECISIONS:
            raise InputError(f"thresholds: expected one of {', '.join(DECISIONS)} before '='")
        try:
            thresholds.append(Threshold(decision=cast("DecisionName", name.strip()), score=float(score)))
        except ValueError:
            raise InputError(f"thresholds: {name.strip()}: expected a finite number after '='") from None
    return sorted(thresholds, key=lambda threshold: threshold.score)


def find_commit(directory: Path) -> Commit:
    """The git commit that `directory` is at, and whether anything differs from it. Unknown and dirty where there is no git."""
    try:
        commit = _git(directory, "rev-parse", "HEAD")
        changes = _git(directory, "status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return Commit(UNKNOWN_COMMIT, is_dirty=True)
    return Commit(commit, is_dirty=bool(changes))


def refuse_dirty(commit: Commit, *, is_allowed: bool, option: str) -> None:
    """Raises InputError where the commit does not say what made the model, and nobody allowed that by `option`."""
    if commit.is_dirty and not is_allowed:
        raise InputError(
            "the lineage would not say what made this model: no git commit, or changes that are not committed; commit them, or "
            f"pass {option} (the manifest then says so)"
        )


def refuse_unknown_library(inspection: OnnxInspection, libraries: Mapping[str, str]) -> None:
    """Raises InputError where neither the file nor anybody says what made the model, or in words that no manifest takes."""
    for name, version in libraries.items():
        if not (_LIBRARY.fullmatch(name) and _LIBRARY.fullmatch(version)):
            raise InputError(f"library {name[:64]!r}: expected NAME=VERSION of at most 64 letters, digits and ._+- each")
    if len(libraries) > LIBRARIES_SAID_MAX:
        raise InputError(f"{len(libraries)} libraries, the limit is {LIBRARIES_SAID_MAX}; name those that made the model")
    if not libraries and not all(inspection.exporter):
        raise InputError(
            "the lineage would not say which library made this model, because the file does not; "
            "say it: --library NAME=VERSION (for example --library torch=2.13.0)"
        )


def sha256_of_file(path: Path) -> str:
    """64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_rows(rows: Rows, feature_set: FeatureSet) -> None:
    """Raises InputError for rows of another feature set: they make golden rows that no server computes."""
    made_with = rows.feature_set
    if made_with is not None and made_with.schema_hash != feature_set.schema_hash:
        raise InputError(
            f"rows: they were replayed with schema hash {made_with.schema_hash}, the feature set has {feature_set.schema_hash}: "
            f"{in_words(made_with, feature_set)}. Replay the events with this feature set and train on them, or pack with the "
            "other one"
        )


def packed_rows(rows: Rows, plan: FeaturePlan) -> PackedRows:
    """Rows of either kind as packed rows. Columns become the tensors' types; a value that does not fit is an
    InputError."""
    tensors = dict(rows.tensors)
    if not tensors:
        missing = [name for name in plan.input_names if name not in rows.columns]
        if missing:
            raise InputError(
                f"rows: no numeric column for {', '.join(missing[:5])}; replay them with this feature set: assay features replay"
            )
        tensors = _tensors_of_columns(rows, plan)
    try:
        packed = pack_rows(plan, tensors)
    except ValueError as error:
        raise InputError(f"rows: {error}") from None
    if len(packed) == 0:
        raise InputError("rows: expected at least one row")
    return packed


# --- implementation ---


def _git(directory: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, text=True, check=True).stdout.strip()


def _column(table: pa.Table, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)  # nulls become NaN
    return values


def _feature_set_of(table: pa.Table, path: Path) -> FeatureSet | None:
    """What a replay wrote beside the rows."""
    yaml = (table.schema.metadata or {}).get(b"assay.feature_set_yaml", b"")
    return FeatureSet.parse(yaml.decode(errors="replace"), f"{path}, the feature set in it") if yaml else None


def _make_files(request: PackRequest, inspection: OnnxInspection, runtime: OrtRuntime) -> tuple[dict[str, bytes], Manifest]:
    try:
        feature_set = FeatureSet.parse(request.feature_set_bytes.decode("utf-8"), FEATURE_SET_FILE)
    except UnicodeDecodeError as error:
        raise InputError("feature set: not UTF-8 text; give a YAML file") from error
    check_rows(request.rows, feature_set)
    inputs = _map_inputs(request, inspection, feature_set)
    plan = compile_plan(feature_set, [TensorMapping(item.tensor, item.dtype, tuple(item.features)) for item in inputs])
    rows = packed_rows(request.rows, plan)

    model = OrtModel(runtime, request.model_bytes)
    outputs = [output.name for output in model.outputs]
    output = _score_output_index(request, outputs)
    batch_rows_max = 1 if request.is_batch_dependent else BATCH_ROWS_MAX_DEFAULT
    score = make_scorer(model, plan, output, request.score_column, batch_rows_max)
    tolerance = request.batch_tolerance
    if tolerance is None:
        tolerance = 0.0 if inspection.is_tree_ensemble else 1e-6
    # Before any score is written down: where the batch changes scores, none means anything.
    if not request.is_batch_dependent:
        check_invariance(score, plan, rows[spread(len(rows), GOLDEN_ROWS_MAX)], tolerance, batch_rows_max)
    scores = score(rows)
    if not np.isfinite(scores).all():
        raise BundleRefusedError(
            MODEL_FILE, f"{int((~np.isfinite(scores)).sum())} rows score NaN or infinite", "pack a model whose scores are finite"
        )

    thresholds = list(request.thresholds)
    source_scores = _source_scores(request, plan, rows, scores)
    golden = choose_golden(rows, scores)
    files = {
        MODEL_FILE: request.model_bytes,
        FEATURE_SET_FILE: request.feature_set_bytes,
        GOLDEN_FILE: save_golden(plan, rows[golden], scores[golden], None if source_scores is None else source_scores[golden]),
        BASELINE_FILE: make_baseline(input_columns(plan, rows), scores, thresholds).to_json(),
    }
    background = _background(request, inspection, plan, rows)
    if background:
        files[BACKGROUND_FILE] = background
    try:
        manifest = Manifest(
            format=1,
            name=request.name,
            version=request.version,
            inputs=inputs,
            outputs=outputs,
            feature_set=FeatureSetReference(
                name=feature_set.name, version=feature_set.version, schema_hash=feature_set.schema_hash
            ),
            score=ScoreOutput(output=request.score_output, column=request.score_column),
            thresholds=thresholds,
            batch_tolerance=tolerance,
            golden_tolerance=request.golden_tolerance,
            is_batch_dependent=request.is_batch_dependent or None,
            timeout_ms=request.timeout_ms,
            lineage=_lineage(request, inspection),
            source=None if request.source is None else request.source.source,
            training=request.training,
            explanation=_explanation(request, plan, background),
            files={name: file_record(files[name]) for name in FILE_BYTES_MAX if name in files},
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InputError(f"{'.'.join(map(str, first['loc'])) or 'bundle'}: {first['msg']}") from None
    find_score_output(model, manifest)
    return files, manifest


def _map_inputs(request: PackRequest, inspection: OnnxInspection, feature_set: FeatureSet) -> list[TensorInput]:
    """Which features fill which ONNX input."""
    features = request.tensor_features
    names = [tensor.name for tensor in inspection.inputs]
    if not features and len(names) == 1:
        features = {names[0]: list(feature_set.input_names)}
    if set(features) != set(names):
        raise InputError(
            f"the model has the inputs {', '.join(names)[:300]}: say what fills each with --input NAME=FEATURE,FEATURE"
        )
    return [
        TensorInput(tensor=tensor.name, dtype=cast("TensorTypeName", INPUT_TYPES[tensor.type]), features=features[tensor.name])
        for tensor in inspection.inputs
    ]


def _score_output_index(request: PackRequest, outputs: list[str]) -> int:
    if request.score_output not in outputs:
        raise InputError(f"score output: the model has {', '.join(outputs)[:300]}; choose one with --score-output")
    return outputs.index(request.score_output)


def _tensors_of_columns(rows: Rows, plan: FeaturePlan) -> dict[str, NDArray[np.generic]]:
    tensors: dict[str, NDArray[np.generic]] = {}
    names = plan.input_names
    for index, (tensor, tensor_type, _, elements) in enumerate(plan.segments):
        places = {element: names[i] for i, (owner, element) in enumerate(plan.input_elements) if owner == index}
        values = np.stack([rows.columns[places[element]] for element in range(elements)], axis=1)
        dtype = np.dtype(INPUT_TYPES[tensor_type])
        if dtype.kind != "f" and not np.isfinite(values).all():
            raise InputError(f"rows: tensor {tensor} is {dtype}, but a column of it holds nulls")
        tensors[tensor] = values.astype(dtype)
    return tensors


def _source_scores(
    request: PackRequest, plan: FeaturePlan, rows: PackedRows, scores: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """What the trained model says of every row, compared with what the bundle will say."""
    if request.source is None:
        return None
    (matrix,) = unpack_rows(plan, rows).values()  # a converted model has one input
    said = np.ascontiguousarray(request.source.score(matrix), np.float64)
    check_source_parity(request.source.source, said, scores)
    return said


def _background(request: PackRequest, inspection: OnnxInspection, plan: FeaturePlan, rows: PackedRows) -> bytes | None:
    """background.npz. None: there is to be none."""
    if request.background_bytes is not None:
        return request.background_bytes
    count = background_rows_default(inspection) if request.background_rows is None else request.background_rows
    chosen = choose_background(rows, count)
    return save_background(plan, chosen) if len(chosen) else None


def _explanation(request: PackRequest, plan: FeaturePlan, background: bytes | None) -> Explanation | None:
    if background is not None:
        count = len(parse_background(background, plan))
        return Explanation(background_rows=count, groups=request.reasons.groups, reasons=request.reasons.reasons)
    if request.reasons != ReasonsFile():
        raise InputError("reasons: without background rows nothing is explained; keep some, or leave the reasons out")
    return None


def _lineage(request: PackRequest, inspection: OnnxInspection) -> Lineage:
    libraries = {"assay": assay.__version__}
    for name in LIBRARIES:
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    exporter, version = inspection.exporter
    if exporter and version:
        libraries[exporter] = version  # what the file says goes before what happens to be installed
    libraries |= request.libraries
    return Lineage(
        git_commit=request.commit.commit,
        git_is_dirty=request.commit.is_dirty,
        data_sha256=request.data_sha256,
        created=request.created or _now(),
        libraries=libraries,
        mlflow_run=request.mlflow_run,
        parameters=dict(request.parameters) if request.parameters else None,
        parent=request.parent,
    )


def _now() -> datetime:
    """Now, in whole seconds; SOURCE_DATE_EPOCH makes a bundle reproducible to the byte."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC).replace(microsecond=0)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
