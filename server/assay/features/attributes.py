"""Loads attributes of entities into an attribute view, from JSON lines or Parquet. Newest wins, whatever the order of the rows.

A row has the entity's id under the entity's name, `updated_at`, and every attribute of the view (null where unknown). Types are
strict as those of events: 5 for a float64 is refused, 5.0 is right; an integer id is refused, "5" is right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from assay import _core
from assay.errors import InputError, StoreError
from assay.features.columns import stored_attributes
from assay.features.definitions import UPDATED_AT, AttributeView
from assay.features.feature_set import FeatureSet
from assay.features.flush_record import flush_record
from assay.features.ingest import IngestSummary, OnFlush, Progress, open_source, source_name
from assay.features.line_blocks import LINE_BYTES_MAX, LineBlock, read_blocks
from assay.features.rejects import Reject, Rejects, Violation
from assay.features.times import format_time_us, parse_time_us

FLUSH_ROWS_DEFAULT = 1_000_000
PARQUET_ROWS = 16_384  # converted at a time
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def ingest_attributes(
    source: Path | None,
    view_name: str,
    writer: _core.EventWriter,
    feature_set: FeatureSet,
    *,
    rejects: Rejects | None = None,
    flush_rows: int = FLUSH_ROWS_DEFAULT,
    on_flush: OnFlush | None = None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Sets the attributes of every row of `source` (None: JSON lines on standard input). Parquet is known by its first bytes.

    Raises FeatureSetError (no such view), InputError (unreadable, or columns that do not fit), StoreError (the store is full)."""
    view = feature_set.attribute_view(view_name)
    ingestion = _Ingestion(view_name, view, writer, feature_set, source_name(source), rejects or Rejects(), on_flush)
    for rows in _read_parquet(source, view) if source is not None and _is_parquet(source) else _read_json_lines(source, view):
        ingestion.take(rows)
        if ingestion.is_due(flush_rows):
            ingestion.flush()
        if progress is not None:
            progress(rows.done, rows.total)
    ingestion.flush()
    return ingestion.summary()


# --- implementation ---


@dataclass(frozen=True)
class _Row:
    entity_id: str
    time_us: int
    values: tuple[_core.Scalar | None, ...]  # in the record's order


@dataclass(frozen=True)
class _Rows:
    good: list[_Row]
    bad: list[Reject]
    done: int
    total: int  # 0: unknown


class _InvalidRowError(Exception):
    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__()
        self.violations = tuple(violations)


class _Ingestion:
    def __init__(
        self,
        view_name: str,
        view: AttributeView,
        writer: _core.EventWriter,
        feature_set: FeatureSet,
        source: str,
        rejects: Rejects,
        on_flush: OnFlush | None,
    ) -> None:
        self._view_name = view_name
        self._types = {name: str(dtype) for name, dtype in stored_attributes(view).items()}
        self._writer = writer
        self._set = feature_set
        self._source = source
        self._rejects = rejects
        self._on_flush = on_flush
        self._flushes: list[Any] = []
        self._outcomes = {"OK": 0, "EVENT_DUPLICATE": 0, "EVENT_TOO_LATE": 0}
        self._reasons = {row.number: row.reason for row in _core.CODE_TABLE}
        self._start_flush()

    def _start_flush(self) -> None:
        self._nulls = [0] * len(self._types)
        self._rows = self._rejected = 0

    def take(self, rows: _Rows) -> None:
        self._rejects.add_all(rows.bad)
        self._rejected += len(rows.bad)
        self._rows += len(rows.good)
        for row in rows.good:
            code = self._writer.write_attributes(self._view_name, row.entity_id, row.time_us, row.values)
            reason = self._reasons[code]
            if reason not in self._outcomes:
                raise StoreError(f"the store refused attributes ({reason}: {_core.CODE_TABLE[code].message})")
            self._outcomes[reason] += 1
            for index, value in enumerate(row.values):
                self._nulls[index] += value is None

    def is_due(self, flush_rows: int) -> bool:
        return self._rows + self._rejected >= flush_rows

    def flush(self) -> None:
        if self._rows + self._rejected == 0:
            return
        nulls = dict(zip(self._types, self._nulls, strict=True))
        record = flush_record(
            self._set.version, self._set.schema_hash, self._source, self._types, nulls, has_rejects=self._rejected > 0
        )
        self._flushes.append(record)
        if self._on_flush is not None:
            self._on_flush(record)
        self._start_flush()

    def summary(self) -> IngestSummary:
        recorded, duplicates, late = self._outcomes.values()
        return IngestSummary(sum(self._outcomes.values()), recorded, duplicates, late, self._rejects.count, tuple(self._flushes))


def _check(view: AttributeView, row: dict[str, Any], time_us: Callable[[Any], int]) -> _Row:
    """A row as the store takes it. Raises _InvalidRowError with all violations."""
    violations: list[Violation] = []

    def convert(name: str, converter: Callable[[Any], Any]) -> Any:
        if name not in row:
            violations.append(Violation("MISSING_FIELD", name, "missing; write null where a value is unknown"))
            return None
        try:
            return converter(row[name])
        except _MisfitError as misfit:
            violations.append(Violation(misfit.reason, name, misfit.description))
            return None

    entity_id = convert(view.entity, _entity_id)
    updated_at = convert(UPDATED_AT, lambda value: _required_time(value, time_us))
    values = tuple(
        convert(name, partial(_value, dtype=dtype, time_us=time_us)) for name, dtype in stored_attributes(view).items()
    )
    for name in row.keys() - {view.entity, UPDATED_AT, *view.attributes}:
        violations.append(Violation("UNKNOWN_FEATURE", _printable(name), "the view has no such attribute; remove it"))
    if violations:
        raise _InvalidRowError(violations)
    return _Row(entity_id, updated_at, values)


class _MisfitError(Exception):
    def __init__(self, reason: str, description: str) -> None:
        super().__init__()
        self.reason = reason
        self.description = description


def _entity_id(value: Any) -> str:
    if not isinstance(value, str):
        raise _MisfitError("WRONG_TYPE", f"expected a string, found {_kind(value)}")
    size = len(_utf8(value))
    if not 1 <= size <= _core.LIMITS["id_bytes_max"]:
        raise _MisfitError("TOO_LONG" if size else "MISSING_ENTITY", f"expected 1 to {_core.LIMITS['id_bytes_max']} bytes")
    return value


def _required_time(value: Any, time_us: Callable[[Any], int]) -> int:
    if value is None:
        raise _MisfitError("MISSING_FIELD", "expected a time, found null")
    return _time(value, time_us)


def _time(value: Any, time_us: Callable[[Any], int]) -> int:
    try:
        return time_us(value)
    except ValueError as error:
        raise _MisfitError("BAD_TIMESTAMP", str(error)) from None


def _value(value: Any, dtype: str, time_us: Callable[[Any], int]) -> _core.Scalar | None:
    if value is None:
        return None
    if dtype == "time":
        return _time(value, time_us)
    if type(value) is not _PYTHON_TYPES[dtype]:
        raise _MisfitError("WRONG_TYPE", f"expected {dtype}, found {_kind(value)}; nothing is converted")
    return _bounded(value, dtype)


_PYTHON_TYPES: dict[str, type] = {"float64": float, "int64": int, "bool": bool, "string": str}


def _bounded(value: Any, dtype: str) -> _core.Scalar:
    if dtype == "float64":
        if not math.isfinite(value):
            raise _MisfitError("NOT_FINITE", "expected a finite number; write null where a value is unknown")
        return float(value) + 0.0
    if dtype == "int64" and not INT64_MIN <= value <= INT64_MAX:
        raise _MisfitError("INTEGER_OVERFLOW", "expected an integer of 64 bits")
    if dtype == "string" and len(_utf8(value)) > _core.LIMITS["string_value_bytes_max"]:
        raise _MisfitError("TOO_LONG", f"expected at most {_core.LIMITS['string_value_bytes_max']} bytes")
    return cast(_core.Scalar, value)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _MisfitError("WRONG_TYPE", "expected text, found half of a surrogate pair") from None


def _kind(value: Any) -> str:
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


def _printable(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()[:64] if len(name) < 12 or not name.isdigit() else "(digits)"


# --- JSON lines


def _read_json_lines(source: Path | None, view: AttributeView) -> Iterator[_Rows]:
    total = source.stat().st_size if source is not None and source.exists() else 0
    with open_source(source) as file:
        for block in read_blocks(file):
            yield _json_rows(block, view, total)


def _json_rows(block: LineBlock, view: AttributeView, total: int) -> _Rows:
    good: list[_Row] = []
    bad: list[Reject] = []
    offset = block.offset_bytes
    for index, line in enumerate(block.data.split(b"\n")):
        try:
            if line.strip():
                good.append(_json_row(line, view, block.is_too_long))
        except _InvalidRowError as invalid:
            bad.append(Reject(block.first_line + index, offset, invalid.violations, line))
        offset += len(line) + 1
    return _Rows(good, bad, block.offset_bytes + len(block.data), total)


def _json_row(line: bytes, view: AttributeView, is_too_long: bool) -> _Row:
    if is_too_long or len(line) > LINE_BYTES_MAX:
        raise _InvalidRowError([Violation("TOO_LONG", "", f"the line is longer than {LINE_BYTES_MAX >> 10} KiB")])
    try:
        row = json.loads(line.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _InvalidRowError([Violation("MALFORMED_JSON", "", f"not UTF-8 at byte {error.start}")]) from None
    except json.JSONDecodeError as error:
        raise _InvalidRowError([Violation("MALFORMED_JSON", "", f"not JSON at character {error.pos}")]) from None
    except (ValueError, RecursionError):  # an integer of thousands of digits; nesting
        raise _InvalidRowError([Violation("MALFORMED_JSON", "", "a number or a nesting past every limit")]) from None
    if not isinstance(row, dict):
        raise _InvalidRowError([Violation("WRONG_TYPE", "", f"expected an object, found {_kind(row)}")])
    return _check(view, row, _json_time)


def _json_time(value: Any) -> int:
    if not isinstance(value, str):
        raise _MisfitError("WRONG_TYPE", f"expected a time such as 2018-04-01T00:00:31Z, found {_kind(value)}")
    return parse_time_us(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _InvalidRowError([Violation("DUPLICATE_KEY", _printable(twice), "the key stands twice; remove one")])
    return row


def _refuse_constant(name: str) -> Any:
    raise _InvalidRowError([Violation("NOT_FINITE", "", f"{name} is not JSON; write null where a value is unknown")])


# --- Parquet


def _is_parquet(source: Path) -> bool:
    with open_source(source) as file:
        return file.read(4) == b"PAR1"


def _read_parquet(source: Path | None, view: AttributeView) -> Iterator[_Rows]:
    try:
        with pq.ParquetFile(source) as file:
            columns = _check_columns(file.schema_arrow, view, source)
            row_number, total = 1, file.metadata.num_rows
            for batch in file.iter_batches(PARQUET_ROWS, columns=columns):
                yield _parquet_rows(batch, view, row_number, total)
                row_number += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source}: not a readable Parquet file ({type(error).__name__}); write it again") from error


def _check_columns(schema: pa.Schema, view: AttributeView, source: Path | None) -> list[str]:
    """The columns to read. Raises InputError that lists every column that does not fit."""
    expected = {view.entity: "string", UPDATED_AT: "time", **view.attributes}
    problems = [f"{name}: unknown column; remove it" for name in schema.names if name not in expected]
    for name, dtype in expected.items():
        if schema.names.count(name) != 1:
            problems.append(
                f"{name}: {'stands twice' if name in schema.names else 'missing'}; expected one column of type {dtype}"
            )
        elif not _fits(schema.field(name).type, dtype):
            problems.append(f"{name}: expected {dtype}, found {schema.field(name).type}; nothing is converted")
    if problems:
        raise InputError("\n".join(f"{source}: {problem}" for problem in problems))
    return list(expected)


def _fits(found: pa.DataType, dtype: str) -> bool:
    """The declared type, or one of the same kind that widens to it without loss."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    match dtype:
        case "float64":
            return bool(pa.types.is_float64(found) or pa.types.is_float32(found))
        case "int64":
            return bool(pa.types.is_signed_integer(found) or (pa.types.is_unsigned_integer(found) and found.bit_width < 64))
        case "bool":
            return bool(pa.types.is_boolean(found))
        case "time":
            return bool(pa.types.is_timestamp(found) and found.tz is not None)
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found))


def _parquet_rows(batch: pa.RecordBatch, view: AttributeView, first_row: int, total: int) -> _Rows:
    good: list[_Row] = []
    bad: list[Reject] = []
    columns = {name: _to_list(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    for index in range(batch.num_rows):
        row = {name: values[index] for name, values in columns.items()}
        try:
            good.append(_check(view, row, int))
        except _InvalidRowError as invalid:
            bad.append(Reject(first_row + index, -1, invalid.violations, _original(row, view)))
    return _Rows(good, bad, first_row - 1 + batch.num_rows, total)


def _to_list(column: pa.Array) -> list[Any]:
    """Python values; times as floored microseconds."""
    if not pa.types.is_timestamp(column.type):
        return column.to_pylist()  # type: ignore[no-any-return]
    multiply, divide = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}[column.type.unit]
    return [None if value is None else value * multiply // divide for value in column.cast(pa.int64()).to_pylist()]


def _original(row: dict[str, Any], view: AttributeView) -> bytes:
    """A row of Parquet as the JSON line that would have said the same (NaN, which JSON lacks, as text)."""
    times = {UPDATED_AT, *(name for name, dtype in view.attributes.items() if dtype == "time")}

    def plain(name: str, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return format_time_us(value) if name in times and isinstance(value, int) else value

    return orjson.dumps({name: plain(name, value) for name, value in row.items()})
