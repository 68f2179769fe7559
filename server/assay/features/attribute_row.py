"""One row of attributes: strict types, and every violation of it at once.

A row has the entity's id under the entity's name, `updated_at`, and every attribute of the view (null where unknown). Types are
strict as those of events: 5 for a float64 is refused, 5.0 is right; an integer id is refused, "5" is right.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from assay import _core
from assay.features.columns import stored_attributes
from assay.features.definitions import UPDATED_AT, AttributeView
from assay.features.rejects import Violation
from assay.features.times import AHEAD_US_MAX

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

TimeParser = Callable[[Any], int]  # a value of the file to microseconds; raises ValueError or MisfitError


@dataclass(frozen=True)
class AttributeRow:
    entity_id: str
    time_us: int
    values: tuple[_core.Scalar | None, ...]  # in the record's order


class InvalidRowError(Exception):
    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__()
        self.violations = tuple(violations)


class MisfitError(Exception):
    """One value that cannot be used."""

    def __init__(self, reason: str, description: str) -> None:
        super().__init__()
        self.reason = reason
        self.description = description


def check_row(view: AttributeView, row: dict[str, Any], time_us: TimeParser) -> AttributeRow:
    """A row as the store takes it. Raises InvalidRowError with all violations."""
    violations: list[Violation] = []

    def convert(name: str, converter: Callable[[Any], Any]) -> Any:
        if name not in row:
            violations.append(Violation("MISSING_FIELD", name, "missing; write null where a value is unknown"))
            return None
        try:
            return converter(row[name])
        except MisfitError as misfit:
            violations.append(Violation(misfit.reason, name, misfit.description))
            return None

    entity_id = convert(view.entity, _entity_id)
    updated_at = convert(UPDATED_AT, lambda value: _required_time(value, time_us))
    values = tuple(
        convert(name, partial(_value, dtype=dtype, time_us=time_us)) for name, dtype in stored_attributes(view).items()
    )
    for name in row.keys() - {view.entity, UPDATED_AT, *view.attributes}:
        violations.append(Violation("UNKNOWN_FEATURE", printable(name), "the view has no such attribute; remove it"))
    if violations:
        raise InvalidRowError(violations)
    return AttributeRow(entity_id, updated_at, values)


def _entity_id(value: Any) -> str:
    if not isinstance(value, str):
        raise MisfitError("WRONG_TYPE", f"expected a string, found {kind_of(value)}")
    size = len(_utf8(value))
    if not 1 <= size <= _core.LIMITS["id_bytes_max"]:
        raise MisfitError("TOO_LONG" if size else "MISSING_ENTITY", f"expected 1 to {_core.LIMITS['id_bytes_max']} bytes")
    return value


def _required_time(value: Any, time_us: TimeParser) -> int:
    if value is None:
        raise MisfitError("MISSING_FIELD", "expected a time, found null")
    moment_us = _time(value, time_us)
    if moment_us > time.time_ns() // 1000 + AHEAD_US_MAX:
        raise MisfitError("EVENT_IN_FUTURE", _AHEAD)
    return moment_us


_AHEAD = f"expected at most {AHEAD_US_MAX // 1_000_000} s ahead of this machine's clock; check its unit, its zone and both clocks"


def _time(value: Any, time_us: TimeParser) -> int:
    try:
        return time_us(value)
    except ValueError as error:
        raise MisfitError("BAD_TIMESTAMP", str(error)) from None


def _value(value: Any, dtype: str, time_us: TimeParser) -> _core.Scalar | None:
    if value is None:
        return None
    if dtype == "time":
        return _time(value, time_us)
    if type(value) is not _PYTHON_TYPES[dtype]:
        raise MisfitError("WRONG_TYPE", f"expected {dtype}, found {kind_of(value)}; nothing is converted")
    return _bounded(value, dtype)


_PYTHON_TYPES: dict[str, type] = {"float64": float, "int64": int, "bool": bool, "string": str}


def _bounded(value: Any, dtype: str) -> _core.Scalar:
    if dtype == "float64":
        if not math.isfinite(value):
            raise MisfitError("NOT_FINITE", "expected a finite number; write null where a value is unknown")
        return float(value) + 0.0
    if dtype == "int64" and not INT64_MIN <= value <= INT64_MAX:
        raise MisfitError("INTEGER_OVERFLOW", "expected an integer of 64 bits")
    if dtype == "string" and len(_utf8(value)) > _core.LIMITS["string_value_bytes_max"]:
        raise MisfitError("TOO_LONG", f"expected at most {_core.LIMITS['string_value_bytes_max']} bytes")
    return cast(_core.Scalar, value)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MisfitError("WRONG_TYPE", "expected text, found half of a surrogate pair") from None


def kind_of(value: Any) -> str:
    kinds = {
        type(None): "null",
        bool: "a bool",
        int: "an integer",
        float: "a float",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), f"a {type(value).__name__}")


def printable(name: str) -> str:
    """A name from the file, safe to show, by the core's own rule: a card number typed as a name is masked."""
    return _core.printable(name.encode("utf-8", "backslashreplace"))
