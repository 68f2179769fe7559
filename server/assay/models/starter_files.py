"""What `assay init` writes beside a bundle: the feature set with hints for its owner, and a request that the model answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import yaml

from assay.models.sample_csv import Cell, printable_name
from assay.models.starter_inputs import InputElement, feature_name

SAMPLE_REQUEST_FILE: Final = "sample_request.json"

Columns = Mapping[str, Sequence[Cell]]  # by feature; None is null

_HEAD: Final = """\
# What the model {model} sees of a transaction. Written by `assay init` from {source}; it is yours to change.
# docs/features.md describes the language, `assay config schema --feature-set` prints a JSON Schema for editors.
# A packed version never changes. After a change here, pack the next one (the inputs must stay those of the training):
#   {pack_command}
name: {name}
version: "1"

# Whom a transaction is about. A request carries an id of each; what is remembered of past events is kept by them.
entities: [{entity}]

# What a request carries; in the comments, what the sample holds. Another type is an error, never a conversion. Worth changing:
# minimum and maximum (what lies outside is refused), required: false with a default, a description.
request_features:
"""
_VIEWS: Final = """
# What the customer did before. A model that was trained on such values gets them from the store, not from the request:
# views:
#   customer:
#     entity: {entity}
#     current: include
#     aggregates:
#       customer_tx_count_1h: {{op: count, window: 1h}}

# What the model gets, in its order. when_null: error (the default), nan (for models that learnt from it), {{default: NUMBER}}.
inputs:
"""


def feature_set_yaml(
    model: str,
    elements: Sequence[InputElement],
    columns: Columns,
    *,
    source: str,
    is_generated: bool,
    pack_command: str,
) -> str:
    """The text of feature_set.yaml: request features by input name.

    `source`: what it was made from, in words. `is_generated`: the columns are random numbers, whose ranges say nothing.
    """
    entity = entity_name(elements)
    lines = [_request_feature(element, columns[element.feature], is_generated) for element in elements]
    inputs = [_model_input(element, columns[element.feature]) for element in elements]
    head = _HEAD.format(
        model=model,
        source=one_line(source),
        pack_command=one_line(pack_command),
        name=feature_name(model),
        entity=entity,
    )
    return head + "\n".join(lines) + "\n" + _VIEWS.format(entity=entity) + "\n".join(inputs) + "\n"


def score_request(model: str, elements: Sequence[InputElement], columns: Columns, moment: datetime) -> dict[str, Any]:
    """A ScoreRequest, as JSON, of the first row. What is null there is not sent."""
    features = {
        element.feature: _feature_value(columns[element.feature], element)
        for element in elements
        if columns[element.feature][0] is not None
    }
    return {
        "transactionId": "sample-1",
        "eventTime": moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "entities": {entity_name(elements): "sample"},
        "features": features,
        "model": model,
    }


def entity_name(elements: Sequence[InputElement]) -> str:
    """`customer_id`, or with a number where a feature is called so."""
    taken = {element.feature for element in elements}
    candidates = ("customer_id", *(f"customer_id_{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in candidates if name not in taken)


def one_line(text: str) -> str:
    """Text that stays inside its line, whatever names a model or a file has."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


# --- implementation ---


def _request_feature(element: InputElement, cells: Sequence[Cell], is_generated: bool) -> str:
    keys = f"dtype: {_request_dtype(element, cells)}"
    if _has_nulls(cells):
        keys += ", required: false"
    comment = ", ".join(_describe(element, cells, is_generated))
    return f"  {_word(element.feature)}: {{{keys}}}" + (f" # {comment}" if comment else "")


def _model_input(element: InputElement, cells: Sequence[Cell]) -> str:
    keys = [f"name: {_word(element.feature)}"]
    if element.dtype != "float32":
        keys.append(f"dtype: {element.dtype}")
    if _has_nulls(cells):
        keys.append("when_null: nan")
    return f"  - {_word(element.feature)}" if len(keys) == 1 else f"  - {{{', '.join(keys)}}}"


def _request_dtype(element: InputElement, cells: Sequence[Cell]) -> str:
    if element.dtype == "bool" or _is_truth(cells):
        return "bool"
    return "float64" if element.dtype.startswith("float") else "int64"


def _feature_value(cells: Sequence[Cell], element: InputElement) -> dict[str, Any]:
    value = cells[0]
    match _request_dtype(element, cells):
        case "bool":
            return {"boolValue": value}
        case "int64":
            return {"int64Value": str(value)}
    return {"doubleValue": value}


def _describe(element: InputElement, cells: Sequence[Cell], is_generated: bool) -> list[str]:
    """For the comment: the column's own name where it is another, the range, how many are empty."""
    known = [cell for cell in cells if cell is not None]
    parts = [] if element.column == element.feature else [printable_name(element.column)]
    if is_generated:
        return parts
    parts.append(f"{sum(known) / len(known):.0%} true" if _is_truth(cells) else f"{min(known):.6g} to {max(known):.6g}")
    if len(known) < len(cells):
        parts.append(f"empty in {len(cells) - len(known)} of {len(cells)} rows")
    return parts


def _has_nulls(cells: Sequence[Cell]) -> bool:
    return any(cell is None for cell in cells)


def _is_truth(cells: Sequence[Cell]) -> bool:
    return isinstance(next(cell for cell in cells if cell is not None), bool)


def _word(name: str) -> str:
    """A name as YAML text: `on` and `null` would be read as something else."""
    return name if yaml.safe_load(name) == name else f'"{name}"'
