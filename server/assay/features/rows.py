"""Rows of a model between two shapes: packed as the core keeps them, and one array per ONNX input.

A packed row is `plan.row_bytes` bytes with one 8-aligned segment a tensor (FeaturePlan.segments).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from assay._core import TENSOR_TYPES, FeaturePlan

# ONNX element type number -> NumPy dtype.
_DTYPES: Final = {number: np.dtype(name) for name, number in TENSOR_TYPES.items()}

PackedRows = NDArray[np.uint8]
TensorArrays = dict[str, NDArray[Any]]


def pack_rows(plan: FeaturePlan, tensors: TensorArrays) -> PackedRows:
    """Tensors (n, elements) by name -> packed rows (n, row_bytes). ValueError: a dtype or shape is not the plan's."""
    names = [name for name, _, _, _ in plan.segments]
    if set(tensors) != set(names):
        raise ValueError(f"expected the tensors {', '.join(names)}")
    row_count = len(tensors[names[0]])
    rows = np.zeros((row_count, plan.row_bytes), np.uint8)
    for name, tensor_type, offset, elements in plan.segments:
        values = tensors[name]
        if values.dtype != _DTYPES[tensor_type] or values.shape != (row_count, elements):
            wanted = f"{_DTYPES[tensor_type]} ({row_count}, {elements})"
            raise ValueError(f"tensor {name}: expected {wanted}, got {values.dtype} {values.shape}")
        packed = np.ascontiguousarray(values).view(np.uint8).reshape(row_count, elements * values.itemsize)
        rows[:, offset : offset + packed.shape[1]] = packed
    return rows


def unpack_rows(plan: FeaturePlan, rows: PackedRows) -> TensorArrays:
    """The inverse of pack_rows: new arrays (n, elements) by tensor name."""
    tensors: TensorArrays = {}
    for name, tensor_type, offset, elements in plan.segments:
        dtype = _DTYPES[tensor_type]
        segment = rows[:, offset : offset + elements * dtype.itemsize]
        tensors[name] = np.ascontiguousarray(segment).view(dtype).reshape(len(rows), elements)
    return tensors


def input_columns(plan: FeaturePlan, rows: PackedRows) -> dict[str, NDArray[Any]]:
    """Each model input of packed rows as a view of shape (n,), by name, in the feature set's order."""
    columns: dict[str, NDArray[Any]] = {}
    for name, (tensor, element) in zip(plan.input_names, plan.input_elements, strict=True):
        _, tensor_type, offset, _ = plan.segments[tensor]
        dtype = _DTYPES[tensor_type]
        columns[name] = np.ndarray((len(rows),), dtype, rows, offset + element * dtype.itemsize, (plan.row_bytes,))
    return columns
