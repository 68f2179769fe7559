"""A plain ONNX model: one file, no bundle. It is served through the Open Inference Protocol: tensors in, tensors out.

Nothing of it runs in this process before a child process has parsed it, as a bundle's model. There are no golden rows to prove it
on, so it runs on the CPU, and whether the batch changes its outputs is measured on random rows. If it does, the model is run one
row at a time, and the log says so.
"""

from __future__ import annotations

import hashlib
import logging
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from assay._core import LIMITS, TENSOR_TYPES, FeaturePlan, OrtModel, OrtRuntime, TensorInfo
from assay.errors import CoreError
from assay.features.rows import PackedRows, pack_rows
from assay.models.device import Device, DeviceWish, Placement, make_session
from assay.models.foreign import refuse_foreign_model
from assay.models.inspection import OnnxInspection, inspect_model
from assay.models.invariance import buckets_up_to, make_probes
from assay.models.manifest import FILE_BYTES_MAX, MODEL_FILE
from assay.models.refusal import BundleRefusedError
from assay.models.repository import is_name
from assay.models.verify import check_inspection, make_step
from assay.observe.logs import log_event

log = logging.getLogger("assay")

VERSION: Final = "1"
TOLERANCE: Final = 1e-6  # by which a neighbour may move an output, relative to its size where that is above 1
TIMEOUT_NS: Final = 1_000_000_000
_ELEMENT_BYTES = {number: np.dtype(name).itemsize for name, number in TENSOR_TYPES.items()}
_ROWS = 96
_SEED = 20_180_401


@dataclass(frozen=True)
class PlainFile:
    """What a child process made of the file."""

    name: str
    path: Path
    data: bytes
    model_sha256: str
    inspection: OnnxInspection
    plan: FeaturePlan


@dataclass(frozen=True)
class PlainModel:
    """A model that was looked at and measured, ready to become a lane."""

    name: str
    version: str
    path: Path
    model_sha256: str
    plan: FeaturePlan
    placement: Placement
    model: OrtModel
    row_run_ns: int
    has_fixed_work: bool
    batch_change_max: float  # the largest change of an output by its batch

    @property
    def is_batched(self) -> bool:
        """False: run one row at a time."""
        return self.batch_change_max <= TOLERANCE

    @property
    def timeout_ns_default(self) -> int:
        return TIMEOUT_NS

    def batch_rows_max(self, wanted: int) -> int:
        """Most rows of a batch, where the server would take `wanted`: 1 where the batch changes the outputs."""
        return wanted if self.is_batched else 1

    @property
    def feature_set_text(self) -> str:
        return ""


def is_plain(path: Path) -> bool:
    """Whether a configured model is a file of ONNX and no bundle: PATH.onnx or NAME=PATH.onnx."""
    return path.suffix.lower() == ".onnx"


def name_and_path(path: Path) -> tuple[str, Path]:
    """The name that it is served under, and its file. Raises BundleRefusedError where the file's name is no model's."""
    name, separator, rest = str(path).partition("=")
    is_named = bool(separator) and "/" not in name and not path.exists()  # a file may have a = in its name
    file = Path(rest) if is_named else path
    name = name if is_named else file.stem
    if not is_name(name):
        mend = f"name it: model={file}; a name is 1 to 64 characters of a-z 0-9 . _ - and starts with a letter or digit"
        raise BundleRefusedError(str(file), f"{name!r} cannot be a model's name", mend)
    return name, file


def verify_plain(path: Path, runtime: OrtRuntime, *, wish: DeviceWish, batch_rows_max: int) -> PlainModel:
    """Reads, inspects and measures the model. Blocks for a second or more. Raises BundleRefusedError."""
    name, file = name_and_path(path)
    if wish.kind == "cuda":
        mend = "set device: auto or cpu, or pack it into a bundle with golden rows (assay model pack)"
        raise BundleRefusedError(str(file), "a model without golden rows cannot prove itself on a CUDA device", mend)
    plain = read_plain(path)
    plan = plain.plan
    try:
        model = make_session(runtime, plain.data, Device())
        rows = _random_rows(plan)
        change = _batch_change(model, plan, rows, batch_rows_max)
        row_run_ns = round(statistics.median(model.time_rows(plan, rows, served_outputs(model)[0][0])))
    except CoreError as error:
        raise BundleRefusedError(str(file), error.message, "it could not be run on random rows: pack it as a bundle") from error
    found = PlainModel(
        name=name,
        version=VERSION,
        path=file,
        model_sha256=plain.model_sha256,
        plan=plan,
        placement=Placement(),
        model=model,
        row_run_ns=row_run_ns,
        has_fixed_work=plain.inspection.has_fixed_work,
        batch_change_max=change,
    )
    _say(found)
    return found


def read_plain(path: Path) -> PlainFile:
    """Reads and inspects it; nothing runs. Raises BundleRefusedError."""
    name, file = name_and_path(path)
    data = _read(file)
    inspection = inspect_model(data, str(file))
    check_inspection(inspection, make_step(None))
    try:
        plan = FeaturePlan.of_tensors([(one.name, one.type, math.prod(one.dims)) for one in inspection.inputs])
    except CoreError as error:
        raise BundleRefusedError(str(file), error.message, "pack it as a bundle, or split its inputs") from error
    return PlainFile(name, file, data, hashlib.sha256(data).hexdigest(), inspection, plan)


def served_outputs(model: OrtModel) -> list[tuple[int, TensorInfo]]:
    """The outputs that ModelInfer gives, with their index: tensors with a batch axis whose rows have a declared size, as many as
    there is room for (limits of tensors, rank and bytes of a row: ext/core/wire/infer_schema.cc)."""
    served: list[tuple[int, TensorInfo]] = []
    used_bytes = 0
    for index, output in enumerate(model.outputs):
        size = _ELEMENT_BYTES.get(output.onnx_type, 0) * math.prod(output.dims)
        has_size = output.has_batch_axis and all(dim > 0 for dim in output.dims) and size > 0
        has_room = used_bytes + size <= LIMITS["tensor_row_bytes_max"] and len(served) < LIMITS["tensors_max"]
        if has_size and has_room and len(output.dims) < LIMITS["tensor_rank_max"]:
            served.append((index, output))
            used_bytes += -(-size // 8) * 8
    return served


# --- implementation ---


def _read(file: Path) -> bytes:
    bytes_max = FILE_BYTES_MAX[MODEL_FILE]
    try:
        if not file.is_file():  # a pipe would be waited for
            raise BundleRefusedError(str(file), "there is no such file", "check the path")
        with file.open("rb") as opened:
            data = opened.read(bytes_max + 1)
    except OSError as error:
        raise BundleRefusedError(str(file), f"cannot be read ({error.strerror})", "check its permissions") from error
    if len(data) > bytes_max:
        raise BundleRefusedError(str(file), f"is larger than {bytes_max} bytes", "see docs/bundles.md, Limits")
    refuse_foreign_model(file.name, data)
    return data


def _random_rows(plan: FeaturePlan) -> PackedRows:
    """Floats around 0, truths, and whole numbers that are good indices of the smallest table: 0 and 1."""
    random = np.random.default_rng(_SEED)
    names = {number: name for name, number in TENSOR_TYPES.items()}
    tensors = {}
    for name, tensor_type, _, elements in plan.segments:
        dtype = np.dtype(names[tensor_type])
        shape = (_ROWS, elements)
        tensors[name] = (
            random.normal(size=shape).astype(dtype) if dtype.kind == "f" else random.integers(0, 2, shape).astype(dtype)
        )
    return pack_rows(plan, tensors)


def _batch_change(model: OrtModel, plan: FeaturePlan, rows: PackedRows, batch_rows_max: int) -> float:
    """How much a row's outputs change with its batch, at most: in all buckets, at random places, among wild rows."""
    random = np.random.default_rng(_SEED)
    probes, wild = make_probes(plan, rows, random)
    outputs = served_outputs(model)
    if not outputs:
        mend = "export it with fixed output axes behind the batch, as tensors of numbers or truths"
        raise BundleRefusedError("outputs", "none declares how large its rows are", mend)
    worst = 0.0
    for index, _ in outputs:
        alone = np.concatenate([model.run_rows(plan, probes[i : i + 1], index) for i in range(len(probes))])
        for batch_rows in (3, *buckets_up_to(batch_rows_max)):
            own_count = max(1, batch_rows // 2)
            own = np.take(random.permutation(len(probes)), range(own_count), mode="wrap")
            strangers = wild[random.integers(0, len(wild), batch_rows - own_count)]
            order = random.permutation(batch_rows)
            given = np.empty((batch_rows, alone.shape[1]))
            batch = np.ascontiguousarray(np.concatenate([probes[own], strangers])[order])
            got = model.run_rows(plan, batch, index)
            if got.shape != given.shape:
                return math.inf  # the batch is not its first axis
            given[order] = got
            worst = max(worst, _difference(given[:own_count], alone[own]))
    return worst


def _difference(values: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Relative where a value is above 1. What is not finite must be the same."""
    same = (values == expected) | (np.isnan(values) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(values - expected) / np.maximum(1.0, np.abs(expected)))
    return float(np.nan_to_num(difference, nan=math.inf, posinf=math.inf).max(initial=0.0))


def _say(model: PlainModel) -> None:
    if model.is_batched:
        return
    log_event(
        log,
        logging.WARNING,
        "its outputs depend on the batch: every row is run alone",
        model=model.name,
        change_max=model.batch_change_max,
        allowed=TOLERANCE,
    )
