"""Rows of a model as the arrays of a bundle's npz file: one array (n, elements) per ONNX input, named tensor_0, tensor_1 ... in
the manifest's order.
"""

from __future__ import annotations

from assay._core import FeaturePlan
from assay.features.rows import PackedRows, pack_rows, unpack_rows
from assay.models.arrays import Array
from assay.models.refusal import BundleRefusedError


def arrays_of_rows(plan: FeaturePlan, rows: PackedRows) -> dict[str, Array]:
    """For save_arrays()."""
    tensors = unpack_rows(plan, rows)
    return {key: tensors[name] for key, name in _names(plan).items()}


def rows_of_arrays(plan: FeaturePlan, arrays: dict[str, Array], file: str, what: str, rows_max: int) -> PackedRows:
    """The inverse: packed rows (n, row_bytes), 1 <= n <= rows_max. Raises BundleRefusedError, in which the rows are `what`."""
    mend = f"pack the model again: the {what} rows do not belong to this feature set"
    names = _names(plan)
    if set(arrays) != set(names):
        raise BundleRefusedError(file, f"expected the arrays {', '.join(names)} of the {what} rows, found others", mend)
    # Before anything of their size is made: an array without columns has any number of rows for no bytes.
    if not all(values.ndim == 2 and 1 <= len(values) <= rows_max for values in arrays.values()):
        raise BundleRefusedError(file, f"expected 1 to {rows_max} {what} rows in each array", mend)
    try:
        return pack_rows(plan, {names[key]: values for key, values in arrays.items()})
    except ValueError as error:
        raise BundleRefusedError(file, str(error), mend) from None


# --- implementation ---


def _names(plan: FeaturePlan) -> dict[str, str]:
    """Array -> ONNX input."""
    return {f"tensor_{index}": name for index, (name, _, _, _) in enumerate(plan.segments)}
