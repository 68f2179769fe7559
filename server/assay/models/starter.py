"""`assay init`: from an ONNX model to a bundle that serves, with a feature set, a sample request and the rows beside it.

    OUT/NAME/VERSION/             the bundle (pack.py)
    OUT/NAME/feature_set.yaml     for the owner to change; the bundle has a copy of its own
    OUT/NAME/reasons.yaml         what makes a score high, in words; for the owner to change. With a sample only
    OUT/NAME/sample_request.json  a ScoreRequest that the model answers
    OUT/NAME/rows.parquet         the rows of the sample as the model takes them, for packing the next version

Nothing that is there is overwritten, and a model that is refused leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from assay._core import OrtModel, OrtRuntime
from assay.errors import BundleError, InputError
from assay.features.compile import TensorMapping, compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.rows import pack_rows
from assay.models.inspection import OnnxInspection, read_model
from assay.models.manifest import FEATURE_SET_FILE, Threshold
from assay.models.names import NAME_PATTERN
from assay.models.pack import Commit, PackRequest, Rows, find_commit, pack_bundle
from assay.models.reasons import ReasonsFile, load_reasons
from assay.models.sample_csv import Cell, SampleFile, parse_column, printable_name
from assay.models.score_output import ScorePlace, choose_score
from assay.models.starter_files import SAMPLE_REQUEST_FILE, Columns, feature_set_yaml, one_line, score_request
from assay.models.starter_inputs import InputElement, map_inputs
from assay.models.starter_reasons import REASONS_FILE, reasons_yaml, starter_reasons
from assay.models.verify import BATCH_ROWS_MAX_DEFAULT, make_scorer

ROWS_FILE: Final = "rows.parquet"
BESIDE_FILES: Final = (FEATURE_SET_FILE, REASONS_FILE, SAMPLE_REQUEST_FILE, ROWS_FILE)
THRESHOLDS_DEFAULT: Final = (Threshold(decision="review", score=0.5), Threshold(decision="decline", score=0.9))

# Rows for a model without a sample: they prove that it runs, and say nothing of real transactions.
GENERATED_ROWS: Final = 1_000
GENERATED_LOW, GENERATED_HIGH = 0, 100

ROUNDING: Final = 1e-5  # a forest's sum of float32 votes may come to 1.0000001


@dataclass(frozen=True)
class StarterRequest:
    """What the user gave. None: not said."""

    name: str
    version: str
    model_path: Path
    out: Path
    sample: SampleFile | None = None
    label: str | None = None
    score_output: str | None = None
    score_column: int | None = None
    thresholds: Sequence[Threshold] | None = None


@dataclass(frozen=True)
class Started:
    """What was made."""

    directory: Path  # OUT/NAME
    bundle: Path  # OUT/NAME/VERSION
    elements: tuple[InputElement, ...]
    score: ScorePlace
    thresholds: tuple[Threshold, ...]
    scores: NDArray[np.float64]  # of the rows, in their order
    pack_command: str  # makes the next version
    has_reasons: bool  # its scores can be explained, and there is a file for the words

    @property
    def request_path(self) -> Path:
        return self.directory / SAMPLE_REQUEST_FILE

    @property
    def reasons_path(self) -> Path:
        return self.directory / REASONS_FILE


def start_model(request: StarterRequest, runtime: OrtRuntime) -> Started:
    """Writes everything. Blocks for seconds. Raises InputError, BundleError, FeatureSetError."""
    _check_place(request)
    model_bytes, inspection = _read_model(request.model_path)
    _check_model(request.model_path, inspection)

    elements = map_inputs(inspection.inputs, request.sample, request.label)
    score = choose_score(inspection.outputs, request.score_output, request.score_column)
    columns = _generated(elements) if request.sample is None else _of_sample(request.sample, elements)
    command = _pack_command(request, elements, score)
    text = feature_set_yaml(
        request.name,
        elements,
        columns,
        source=_source(request),
        is_generated=request.sample is None,
        pack_command=command,
    ).encode()
    tensors = _tensors(elements, columns)
    scores = _score(model_bytes, text, elements, tensors, score, runtime)
    _check_scores(scores, columns, score, request.thresholds)

    thresholds = tuple(THRESHOLDS_DEFAULT if request.thresholds is None else request.thresholds)
    inputs = [element.feature for element in elements]
    # Compared with random numbers, a score would be explained by nonsense.
    reasons = None if request.sample is None else starter_reasons(inputs)
    pack = PackRequest(
        name=request.name,
        version=request.version,
        model_bytes=model_bytes,
        feature_set_bytes=text,
        rows=Rows(tensors=tensors),
        # The commit beside the model; that it made this bundle nobody has checked.
        commit=Commit(find_commit(request.model_path.resolve().parent).commit, is_dirty=True),
        data_sha256=_data_sha256(request.sample, tensors),
        score_output=score.output,
        score_column=score.column,
        thresholds=thresholds,
        tensor_features=_features_by_tensor(elements),
        background_rows=None if reasons else 0,
        reasons=load_reasons(reasons, inputs) if reasons else ReasonsFile(),
    )
    bundle = pack_bundle(pack, request.out, runtime, model_file=str(request.model_path), inspection=inspection)
    sample_request = score_request(request.name, elements, columns, datetime.now(UTC))
    _write_beside(
        request.out / request.name,
        {
            FEATURE_SET_FILE: text,
            **({REASONS_FILE: reasons_yaml(request.name, reasons).encode()} if reasons else {}),
            SAMPLE_REQUEST_FILE: orjson.dumps(sample_request, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
            ROWS_FILE: _parquet(elements, tensors),
        },
    )
    return Started(request.out / request.name, bundle, elements, score, thresholds, scores, command, reasons is not None)


# --- implementation ---


def _check_place(request: StarterRequest) -> None:
    """Before any path is made of them: names; before any work: that nothing would be overwritten."""
    for what, text in (("NAME", request.name), ("--version", request.version)):
        if not re.fullmatch(NAME_PATTERN, text) or text in BESIDE_FILES:
            raise InputError(f"{what}: expected 1 to 64 characters a-z, 0-9, '.', '_', '-', a letter or digit first, and no path")
    directory = request.out / request.name
    if os.path.lexists(directory / request.version):
        raise BundleError(
            f"{directory / request.version}: this version exists, and a version never changes; choose another NAME, or pack the "
            f"next version with its feature set: assay model pack --feature-set {directory / FEATURE_SET_FILE} (docs/bundles.md)"
        )
    there = [str(directory / name) for name in BESIDE_FILES if os.path.lexists(directory / name)]
    if there:
        raise BundleError(
            f"{there[0]}: exists and may hold your changes; choose another NAME, or pack the next version with its feature set: "
            f"assay model pack --feature-set {directory / FEATURE_SET_FILE} (docs/bundles.md)"
        )


def _read_model(path: Path) -> tuple[bytes, OnnxInspection]:
    try:
        return read_model(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; give an ONNX model") from None


def _check_model(path: Path, inspection: OnnxInspection) -> None:
    """All that is wrong at once, each with its mend: an export takes a while."""
    if inspection.problems:
        lines = [f"  {problem.reason}: {problem.mend}" for problem in inspection.problems]
        raise BundleError("\n".join([f"{path}: cannot be served as it is", *lines]))


def _of_sample(sample: SampleFile, elements: Sequence[InputElement]) -> Columns:
    return {element.feature: parse_column(sample, element.column, element.dtype) for element in elements}


def _generated(elements: Sequence[InputElement]) -> Columns:
    """GENERATED_ROWS random rows, always the same."""
    random = np.random.default_rng(0)
    columns: dict[str, Sequence[Cell]] = {}
    for element in elements:
        values: NDArray[Any]
        if element.dtype == "bool":
            values = random.integers(0, 2, GENERATED_ROWS).astype(np.bool_)
        elif element.dtype.startswith("float"):
            values = random.uniform(GENERATED_LOW, GENERATED_HIGH, GENERATED_ROWS).round(2)
        else:
            values = random.integers(GENERATED_LOW, GENERATED_HIGH, GENERATED_ROWS)
        columns[element.feature] = values.tolist()
    return columns


def _features_by_tensor(elements: Sequence[InputElement]) -> dict[str, list[str]]:
    features: dict[str, list[str]] = {}
    for element in elements:
        features.setdefault(element.tensor, []).append(element.feature)
    return features


def _tensors(elements: Sequence[InputElement], columns: Columns) -> dict[str, NDArray[np.generic]]:
    """The rows as the model takes them: (n, elements) by ONNX input; null is NaN."""
    dtypes = {element.tensor: np.dtype(element.dtype) for element in elements}
    tensors: dict[str, NDArray[np.generic]] = {}
    for tensor, features in _features_by_tensor(elements).items():
        dtype = dtypes[tensor]
        values = [[np.nan if cell is None else cell for cell in columns[feature]] for feature in features]
        tensors[tensor] = np.stack([np.array(column, dtype) for column in values], axis=1)
    return tensors


def _score(
    model_bytes: bytes,
    feature_set: bytes,
    elements: Sequence[InputElement],
    tensors: dict[str, NDArray[np.generic]],
    score: ScorePlace,
    runtime: OrtRuntime,
) -> NDArray[np.float64]:
    """What the model says of the rows."""
    dtypes = {element.tensor: element.dtype for element in elements}
    mappings = [TensorMapping(name, dtypes[name], tuple(features)) for name, features in _features_by_tensor(elements).items()]
    plan = compile_plan(FeatureSet.parse(feature_set.decode(), FEATURE_SET_FILE), mappings)
    model = OrtModel(runtime, model_bytes)
    output = [tensor.name for tensor in model.outputs].index(score.output)
    scorer = make_scorer(model, plan, output, score.column)
    rows = pack_rows(plan, tensors)
    steps = range(0, len(rows), BATCH_ROWS_MAX_DEFAULT)
    return np.concatenate([scorer(rows[first : first + BATCH_ROWS_MAX_DEFAULT]) for first in steps])


def _check_scores(
    scores: NDArray[np.float64], columns: Columns, score: ScorePlace, thresholds: Sequence[Threshold] | None
) -> None:
    """Refuses what the default thresholds would make nonsense of."""
    finite = np.isfinite(scores)
    with_nulls = [name for name, cells in columns.items() if any(cell is None for cell in cells)]
    if not finite.all() and with_nulls:
        raise InputError(
            f"{int((~finite).sum())} rows with empty cells ({', '.join(with_nulls[:5])}) score NaN: the model knows no missing "
            "values. Impute them inside the model (scikit-learn: SimpleImputer in the pipeline), or give rows without empty cells"
        )
    is_probability = ((scores >= -ROUNDING) & (scores <= 1 + ROUNDING)).all()
    if thresholds is None and finite.all() and not is_probability:
        raise InputError(
            f"output {printable_name(score.output)}[{score.column}] is no probability: scores of the rows go from "
            f"{scores.min():.4g} to {scores.max():.4g}. Export probabilities, choose another --score-output, or say what these "
            "mean with --thresholds review=SCORE,decline=SCORE"
        )


def _source(request: StarterRequest) -> str:
    return f"{request.model_path.name} and " + (request.sample.path.name if request.sample else "no sample (random rows)")


def _data_sha256(sample: SampleFile | None, tensors: dict[str, NDArray[np.generic]]) -> str:
    if sample is not None:
        return sample.sha256
    return hashlib.sha256(b"".join(values.tobytes() for values in tensors.values())).hexdigest()


def _pack_command(request: StarterRequest, elements: Sequence[InputElement], score: ScorePlace) -> str:
    """Ready to paste: packs the next version with the changed feature set."""
    directory = request.out / request.name
    thresholds = THRESHOLDS_DEFAULT if request.thresholds is None else request.thresholds
    by_tensor = _features_by_tensor(elements)
    words = ["assay", "model", "pack", "--name", request.name, "--version", _next_version(request.version)]
    words += ["--model", str(request.model_path), "--feature-set", str(directory / FEATURE_SET_FILE)]
    words += ["--rows", str(directory / ROWS_FILE), "--score-output", score.output, "--score-column", str(score.column)]
    words += ["--thresholds", ",".join(f"{threshold.decision}={threshold.score!r}" for threshold in thresholds)]
    if len(by_tensor) > 1:
        words += [word for tensor, names in by_tensor.items() for word in ("--input", f"{tensor}={','.join(names)}")]
    words += ["--background-rows", "0"] if request.sample is None else ["--reasons", str(directory / REASONS_FILE)]
    return one_line(shlex.join([*words, "--out", str(request.out), "--allow-dirty"]))


def _next_version(version: str) -> str:
    return str(int(version) + 1) if version.isascii() and version.isdigit() else f"{version}-2"


def _parquet(elements: Sequence[InputElement], tensors: dict[str, NDArray[np.generic]]) -> bytes:
    """One column a model input, as `assay model pack --rows` reads them."""
    columns: dict[str, pa.Array] = {}
    for tensor, features in _features_by_tensor(elements).items():
        columns |= {name: pa.array(tensors[tensor][:, index]) for index, name in enumerate(features)}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _write_beside(directory: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        with (directory / name).open("xb") as file:
            file.write(data)
