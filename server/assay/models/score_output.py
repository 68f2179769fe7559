"""Which output of a model is the probability of fraud, where nobody has said so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from assay.errors import InputError
from assay.models.inspection import OnnxTensor
from assay.models.sample_csv import printable_name

STRING_TYPE: Final = 8
_FLOAT_TYPES: Final = (1, 11)  # ONNX: float32, float64
_FREE: Final = -1


@dataclass(frozen=True)
class ScorePlace:
    """Element `column` of a row of the ONNX output `output`."""

    output: str
    column: int


def choose_score(outputs: Sequence[OnnxTensor], output: str | None = None, column: int | None = None) -> ScorePlace:
    """The only float output, or the only one that is called a probability; of two columns the second (class 1 of 0 and 1).

    `output` and `column` are the user's own choice. Raises InputError where a guess would be needed, and says what to give.
    """
    chosen = _choose_output(outputs, output)
    shown = printable_name(chosen.name)
    columns = math.prod(chosen.dims) if _FREE not in chosen.dims else None
    if column is not None:
        if columns is not None and column >= columns:
            raise InputError(f"--score-column: output {shown} has {columns} column(s), counted from 0")
        return ScorePlace(chosen.name, column)
    if columns == 1:
        return ScorePlace(chosen.name, 0)
    if columns != 2:
        found = "an unknown number of" if columns is None else str(columns)
        raise InputError(
            f"output {shown} has {found} columns: say which is the probability of fraud with --score-column, counted from 0"
        )
    if any(tensor.type == STRING_TYPE for tensor in outputs):
        raise InputError(
            f"the model's classes are words, and which column of {shown} is fraud cannot be seen: say it with "
            "--score-column 0 or 1 (scikit-learn sorts classes by the alphabet: model.classes_)"
        )
    return ScorePlace(chosen.name, 1)


# --- implementation ---


def _choose_output(outputs: Sequence[OnnxTensor], wanted: str | None) -> OnnxTensor:
    floats = [tensor for tensor in outputs if tensor.type in _FLOAT_TYPES]
    names = ", ".join(printable_name(tensor.name) for tensor in floats[:8])
    if not floats:
        raise InputError(
            "the model has no output of float32 or float64, and so no score: export one that gives probabilities "
            "(scikit-learn: a classifier with predict_proba)"
        )
    if wanted is not None:
        for tensor in floats:
            if tensor.name == wanted:
                return tensor
        raise InputError(f"--score-output: the model has no such float output; expected one of: {names}")
    likely = [tensor for tensor in floats if "prob" in tensor.name.lower()]
    for candidates in (floats, likely):
        if len(candidates) == 1:
            return candidates[0]
    raise InputError(f"the model has several outputs that may be the score: choose one with --score-output: {names}")
