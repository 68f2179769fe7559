"""Maps what a model takes to request features: one feature for every element of every ONNX input, in the model's order.

A model with one input takes the sample's columns in their order (f0, f1, ... without a sample). With several inputs names decide:
an input of one element is the column of its name, a wide one NAME_0, NAME_1, ...
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from assay._core import LIMITS
from assay.errors import InputError
from assay.features.definitions import RESERVED_NAMES
from assay.features.problems import did_you_mean
from assay.models.inspect_onnx import INPUT_TYPES
from assay.models.inspection import OnnxTensor
from assay.models.sample_csv import SampleFile, printable_name

NAME_LENGTH_MAX: Final = 64
_LISTED_MAX: Final = 8


@dataclass(frozen=True)
class InputElement:
    """One number that the model takes."""

    tensor: str  # ONNX input
    dtype: str  # of the tensor: float32, float64, int32, int64 or bool
    column: str  # what the sample's header (or the model) calls it
    feature: str  # its name in the feature set


def map_inputs(
    inputs: Sequence[OnnxTensor], sample: SampleFile | None = None, label: str | None = None
) -> tuple[InputElement, ...]:
    """The elements of all inputs in order. `label`: a column of the sample to leave out.

    REQUIRES: an inspection without problems. Raises InputError: the sample's columns are not what the model takes, or a name
    cannot be a feature's.
    """
    count = sum(math.prod(tensor.dims) for tensor in inputs)
    if count > LIMITS["request_features_max"]:
        raise InputError(
            f"the model takes {count} values a row, and a request carries at most {LIMITS['request_features_max']}: select "
            "features, or let the feature set make some of them (docs/features.md)"
        )
    columns = None if sample is None else _columns(sample, label)
    if sample is not None and columns is not None and len(inputs) == 1:
        _check_count(sample, columns, inputs[0])
        elements = _elements(inputs[0], columns)
    elif len(inputs) == 1 and count > 1:
        elements = _elements(inputs[0], [f"f{index}" for index in range(count)])
    else:
        elements = [element for tensor in inputs for element in _elements(tensor, _names_by_input(tensor))]
    _check_unique(elements)
    if sample is not None and columns is not None and len(inputs) > 1:
        elements = _with_columns(sample, columns, elements)
    return tuple(elements)


def feature_name(text: str) -> str:
    """`Hour Of Day` -> hour_of_day. Raises InputError where no name of a feature can be made of it."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    name = f"f{name}" if name[:1].isdigit() else name
    shown = printable_name(text)
    if not name:
        raise InputError(f"{shown}: a feature's name needs a letter a-z or a digit; rename it")
    if len(name) > NAME_LENGTH_MAX:
        raise InputError(f"{shown}: a feature's name has at most {NAME_LENGTH_MAX} characters; rename it")
    if name in RESERVED_NAMES:
        hint = "if it is the sample's label, leave it out with --label" if name == "is_fraud" else "rename it"
        raise InputError(f"{shown}: {name} is reserved; {hint}")
    return name


# --- implementation ---


def _columns(sample: SampleFile, label: str | None) -> list[str]:
    if label is not None and label not in sample.header:
        hint = did_you_mean(label, sample.header)
        raise InputError(f"--label: {sample.path} has no column {printable_name(label)}{hint}")
    return [name for name in sample.header if name != label]


def _elements(tensor: OnnxTensor, names: Sequence[str]) -> list[InputElement]:
    return [InputElement(tensor.name, INPUT_TYPES[tensor.type], name, feature_name(name)) for name in names]


def _names_by_input(tensor: OnnxTensor) -> list[str]:
    count = math.prod(tensor.dims)
    return [tensor.name] if count == 1 else [f"{tensor.name}_{index}" for index in range(count)]


def _check_count(sample: SampleFile, columns: list[str], tensor: OnnxTensor) -> None:
    count = math.prod(tensor.dims)
    if len(columns) != count:
        raise InputError(
            f"{sample.path}: {len(columns)} columns ({_listed(columns)}), but the model's input {printable_name(tensor.name)} "
            f"takes {count} values: keep exactly its columns, in the order of the training; leave the label out with --label NAME"
        )


def _with_columns(sample: SampleFile, columns: list[str], elements: list[InputElement]) -> list[InputElement]:
    """The elements with the sample's spelling of their names. Exporters change it: `Hour Of Day` is Hour_Of_Day in the model."""
    by_feature = {feature_name(column): column for column in columns}
    expected = {element.feature: element for element in elements}
    missing = [element.column for name, element in expected.items() if name not in by_feature]
    extra = [column for name, column in by_feature.items() if name not in expected]
    problems = []
    if missing:
        problems.append(f"no column for the model's input {_listed(missing)}")
    if extra:
        problems.append(f"{_listed(extra)} is no input of the model: leave it out (a label: --label NAME)")
    if problems or len(by_feature) != len(columns):
        raise InputError(f"{sample.path}: " + ("; ".join(problems) or "two columns are one feature; rename one"))
    return [replace(element, column=by_feature[element.feature]) for element in elements]


def _check_unique(elements: list[InputElement]) -> None:
    first: dict[str, InputElement] = {}
    for element in elements:
        other = first.setdefault(element.feature, element)
        if other is not element:
            names = f"{printable_name(other.column)} and {printable_name(element.column)}"
            raise InputError(f"{names} would both be the feature {element.feature}; rename one")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable_name(name) for name in names[:_LISTED_MAX])
    return shown if len(names) <= _LISTED_MAX else f"{shown} and {len(names) - _LISTED_MAX} more"
