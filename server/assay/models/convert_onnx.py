"""Converts one ONNX model: `python -m assay.models.convert_onnx JOB.json`. A process of its own, because it needs ONNX Runtime's
Python API, which is a second copy of the runtime beside the server's (conversion.py asks it).

The job names files and what to do with them (Job). The result is written to `out`; stdout gets a line `done total` for each step
of a calibration, and stderr's last line says what was wrong, with exit code 1.

int8-static    QDQ. The ranges of activations are measured once, on the calibration rows, and are then constants: no row of a
               batch can move another one's score. Weights: one scale for each output channel, 7 bits of the 8. x86 without VNNI
               adds two products in 16 bits and saturates with 8 (255 * 127 * 2 > 32767 >= 255 * 64 * 2), so that a model would
               score differently from one processor to the next.
int8-dynamic   the range of activations is taken over each batch as it comes.
fp16           weights and activations in half precision; inputs and outputs stay float32.
score-map      nothing of the above: appends a score output that is sigmoid(slope * logit(score) + offset).

The layer that gives the score stays as it is (int8-*): it has few weights, and with them in 8 bits a model would know 256 scores.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

CALIBRATION_BATCH_ROWS: Final = 64
SCORE_MAP_OUTPUT: Final = "mapped_score"
# Probabilities are kept this far from 0 and 1 before their logit is taken: float32 knows none that are nearer to 1.
PROBABILITY_MARGIN: Final = 2.0**-23

_WEIGHTED: Final = ("MatMul", "Gemm", "Conv")
# Activations that disappear into the quantised layer before them.
_ABSORBED: Final = ("Relu", "Clip")


class ConversionError(Exception):
    """The model cannot be converted; the text says why."""


@dataclass(frozen=True)
class Job:
    """What to do. Paths are absolute. `rows`: npz without pickles, one array (n, ...) for each ONNX input."""

    kind: str  # one of the four above
    model: str
    out: str
    rows: str = ""
    calibration: str = "minmax"  # minmax, percentile or entropy: how a range follows from what was seen
    kept_nodes: tuple[str, ...] = ()  # names of nodes that stay FP32
    score_output: str = ""
    score_column: int = 0
    slope: float = 1.0
    offset: float = 0.0


def main(path: str) -> int:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    logging.disable(logging.WARNING)  # ONNX Runtime's advice to preprocess, which is done
    job = Job(**json.loads(Path(path).read_text()))
    try:
        {"int8-static": _to_static, "int8-dynamic": _to_dynamic, "fp16": _to_half, "score-map": _map_score}[job.kind](job)
    except ConversionError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


# --- implementation ---


def _to_static(job: Job) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    prepared, kept = _prepare(job)
    quantize_static(
        prepared,
        job.out,
        _CalibrationRows(job.rows),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*_WEIGHTED, *_ABSORBED],
        nodes_to_exclude=kept,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=methods[job.calibration],
        extra_options={"MatMulConstBOnly": True},  # products of two activations (attention) have no weights to make smaller
    )
    _finish(job)


def _to_dynamic(job: Job) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared, kept = _prepare(job)
    quantize_dynamic(
        prepared,
        job.out,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_exclude=kept,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    _finish(job)


def _to_half(job: Job) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(job.model), keep_io_types=True), job.out)
    _finish(job)


class _CalibrationRows:
    """Batches of the rows, as quantize_static() takes them. Tells stdout how far it is."""

    def __init__(self, path: str) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self._arrays = {name: arrays[name] for name in arrays.files}
        self._row_count = len(next(iter(self._arrays.values())))
        self._batches = self._read()

    def _read(self) -> Iterator[dict[str, Any]]:
        for first in range(0, self._row_count, CALIBRATION_BATCH_ROWS):
            sys.stdout.write(f"{first} {self._row_count}\n")
            sys.stdout.flush()
            # The last batch is filled up with the first rows: histograms want batches of one shape.
            places = range(first, first + CALIBRATION_BATCH_ROWS)
            yield {name: np.take(values, places, axis=0, mode="wrap") for name, values in self._arrays.items()}

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _prepare(job: Job) -> tuple[str, list[str]]:
    """A model with constants folded and MatMul + Add made one Gemm, which ONNX Runtime has an INT8 kernel for, and a name on
    every node; the names of those that stay FP32."""
    import onnx
    from onnxruntime.quantization import quant_pre_process

    prepared = f"{job.out}.prepared"
    quant_pre_process(job.model, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    taken = {node.name for node in model.graph.node}
    unknown = [name for name in job.kept_nodes if name not in _names_before(taken)]
    if unknown:
        layers = ", ".join(sorted(_names_before({node.name for node in _weighted_nodes(model.graph)}))[:20])
        raise ConversionError(f"--keep {unknown[0]}: the model has no such node; its layers are: {layers}")
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"unnamed_{index}"
    last = _score_layers(model.graph, job.score_output)
    weighted = {node.name for node in _weighted_nodes(model.graph)}
    kept = [node.name for node in model.graph.node if node.name in last or _original(node.name) in job.kept_nodes]
    if not weighted - set(kept):
        what = "its only layer gives the score" if weighted else "it has no layers with weights (MatMul, Gemm, Conv)"
        raise ConversionError(f"{what}: there is nothing to quantise")
    onnx.save(model, prepared)
    return prepared, kept


def _original(name: str) -> str:
    """The name that a node had before ONNX Runtime fused it with another."""
    return name.split("/MatMulAddFusion")[0]


def _names_before(names: set[str]) -> set[str]:
    return {_original(name) for name in names}


def _weighted_nodes(graph: Any) -> list[Any]:
    constants = {tensor.name for tensor in graph.initializer}
    return [node for node in graph.node if node.op_type in _WEIGHTED and node.input[1] in constants]


def _score_layers(graph: Any, output: str) -> set[str]:
    """Names of the layers that the score comes from without another layer between."""
    producers = {name: node for node in graph.node for name in node.output}
    weighted = {node.name for node in _weighted_nodes(graph)}
    found: set[str] = set()
    seen: set[str] = set()
    stack = [output]
    while stack:
        node = producers.get(stack.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.name in weighted:
            found.add(node.name)
        else:
            stack.extend(node.input)
    return found


def _map_score(job: Job) -> None:
    """Appends the nodes. The score is clipped first, so that its logit is finite. All of it is monotone: no two rows change
    order."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(job.model)
    element = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}[job.score_output]
    kind = np.float64 if element == TensorProto.DOUBLE else np.float32

    def constant(name: str, value: Any, dtype: Any = kind) -> str:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), f"score_map_{name}"))
        return f"score_map_{name}"

    names = ("flat", "column", "clipped", "rest", "odds", "logit", "scaled", "moved")
    flat, column, clipped, rest, odds, logit, scaled, moved = (f"score_map/{name}" for name in names)
    shape, place = constant("shape", [0, -1], np.int64), constant("place", [job.score_column], np.int64)
    low, high = constant("low", PROBABILITY_MARGIN), constant("high", 1 - PROBABILITY_MARGIN)
    nodes = [
        ("Reshape", [job.score_output, shape], flat),
        ("Gather", [flat, place], column),
        ("Clip", [column, low, high], clipped),
        ("Sub", [constant("one", 1.0), clipped], rest),
        ("Div", [clipped, rest], odds),
        ("Log", [odds], logit),
        ("Mul", [logit, constant("slope", job.slope)], scaled),
        ("Add", [scaled, constant("offset", job.offset)], moved),
        ("Sigmoid", [moved], SCORE_MAP_OUTPUT),
    ]
    for operator, inputs, result in nodes:
        node = helper.make_node(operator, inputs, [result], name=f"{result}/node")
        if operator == "Gather":
            node.attribute.append(helper.make_attribute("axis", 1))
        model.graph.node.append(node)
    batch = next(v for v in model.graph.output if v.name == job.score_output).type.tensor_type.shape.dim[0].dim_param or "batch"
    model.graph.output.append(helper.make_tensor_value_info(SCORE_MAP_OUTPUT, element, (batch, 1)))
    onnx.save(model, job.out)


def _finish(job: Job) -> None:
    """Mends what ONNX Runtime's tools leave: nodes in no order, imports of its own domains, shapes that may no longer hold."""
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    sorted_model = ONNXModel(onnx.load(job.out))
    sorted_model.topological_sort()
    model = sorted_model.model
    used = {node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used or not opset.domain]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    del model.graph.value_info[:]
    onnx.save(model, job.out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
