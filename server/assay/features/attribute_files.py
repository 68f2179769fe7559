"""Rows of attributes from JSON lines or Parquet, a bounded number at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay import _core
from assay.errors import InputError
from assay.features.attribute_row import AttributeRow, InvalidRowError, MisfitError, check_row, kind_of, printable
from assay.features.definitions import UPDATED_AT, AttributeView
from assay.features.line_blocks import LINE_BYTES_MAX, LineBlock, read_blocks
from assay.features.rejects import LinePlace, Reject, Violation
from assay.features.sources import open_source
from assay.features.times import format_time_us, parse_time_us

READ_ROWS = 131_072  # of Parquet at a time. Texts are read as dictionaries, each batch with all of its row group's: few batches
CONVERTED_BYTES_MAX = 64 << 20  # as Python values at a time
CONVERTED_ROWS_MAX = 16_384
TEXT_BYTES_MAX = _core.LIMITS["string_value_bytes_max"]
_VALUE_BYTES = 4 * TEXT_BYTES_MAX + 128  # of the largest, as a Python value


@dataclass(frozen=True)
class AttributeRows:
    """Some rows of a file, and how far the file has been read."""

    good: list[AttributeRow]
    bad: list[Reject[LinePlace]]
    last_line: int  # or row, from 1
    done: int
    total: int  # 0: unknown


def read_rows(source: Path | None, view: AttributeView) -> Iterator[AttributeRows]:
    """Rows of a file, or of JSON lines from a pipe (None: standard input). Parquet is known by its first bytes, and a pipe's are
    read once. Raises InputError."""
    is_parquet = source is not None and source.is_file() and _is_parquet(source)
    return _read_parquet(source, view) if is_parquet else _read_json_lines(source, view)


# --- implementation ---

# --- JSON lines


def _read_json_lines(source: Path | None, view: AttributeView) -> Iterator[AttributeRows]:
    total = source.stat().st_size if source is not None and source.exists() else 0
    with open_source(source) as file:
        for block in read_blocks(file):
            yield _json_rows(block, view, total)


def _json_rows(block: LineBlock, view: AttributeView, total: int) -> AttributeRows:
    good: list[AttributeRow] = []
    bad: list[Reject[LinePlace]] = []
    offset = block.offset_bytes
    for index, line in enumerate(block.data.split(b"\n")):
        try:
            if line.strip():
                good.append(_json_row(line, view, block.is_too_long))
        except InvalidRowError as invalid:
            bad.append(Reject(LinePlace(block.first_line + index, offset), invalid.violations, line))
        offset += len(line) + 1
    return AttributeRows(good, bad, block.last_line, block.offset_bytes + len(block.data), total)


def _json_row(line: bytes, view: AttributeView, is_too_long: bool) -> AttributeRow:
    if is_too_long or len(line) > LINE_BYTES_MAX:
        raise InvalidRowError([Violation("TOO_LONG", "", f"the line is longer than {LINE_BYTES_MAX >> 10} KiB")])
    try:
        row = json.loads(line.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidRowError([Violation("MALFORMED_JSON", "", f"not UTF-8 at byte {error.start}")]) from None
    except json.JSONDecodeError as error:
        raise InvalidRowError([Violation("MALFORMED_JSON", "", f"not JSON at character {error.pos}")]) from None
    except (ValueError, RecursionError):  # an integer of thousands of digits; nesting
        raise InvalidRowError([Violation("MALFORMED_JSON", "", "a number or a nesting past every limit")]) from None
    if not isinstance(row, dict):
        raise InvalidRowError([Violation("WRONG_TYPE", "", f"expected an object, found {kind_of(row)}")])
    return check_row(view, row, _json_time)


def _json_time(value: Any) -> int:
    if not isinstance(value, str):
        raise MisfitError("WRONG_TYPE", f"expected a time such as 2018-04-01T00:00:31Z, found {kind_of(value)}")
    return parse_time_us(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRowError([Violation("DUPLICATE_KEY", printable(twice), "the key stands twice; remove one")])
    return row


def _refuse_constant(name: str) -> Any:
    raise InvalidRowError([Violation("NOT_FINITE", "", f"{name} is not JSON; write null where a value is unknown")])


# --- Parquet


def _is_parquet(source: Path) -> bool:
    with open_source(source) as file:
        return file.read(4) == b"PAR1"


def _read_parquet(source: Path | None, view: AttributeView) -> Iterator[AttributeRows]:
    try:
        columns = _check_columns(pq.read_schema(source), view, source)
        row_number = 1
        # A text that stands in many rows is held once: in the file it may take no room at all.
        with pq.ParquetFile(source, read_dictionary=columns) as file:
            for read in file.iter_batches(READ_ROWS, columns=columns):
                for batch in _small_batches(read):
                    yield _parquet_rows(batch, view, row_number, file.metadata.num_rows)
                    row_number += batch.num_rows
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
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
            problems.append(f"{name}: expected {_misfit(schema.field(name).type, dtype)}")
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


def _misfit(found: pa.DataType, dtype: str) -> str:
    if dtype == "time" and pa.types.is_timestamp(found):
        return f"time with a zone, found {found} without one; write UTC times as such (timestamp[us, tz=UTC])"
    return f"{dtype}, found {found}; nothing is converted"


def _small_batches(read: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Its rows in batches that are small as Python values, whatever is in them."""
    cut = pa.RecordBatch.from_arrays([_cut(column) for column in read.columns], read.schema.names)
    rows = min(CONVERTED_ROWS_MAX, CONVERTED_BYTES_MAX // (_VALUE_BYTES * cut.num_columns))
    for start in range(0, cut.num_rows, rows):
        yield cut.slice(start, rows)


def _cut(column: pa.Array) -> pa.Array:
    """The same with the heads alone of texts that are too long: so are their heads."""
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, _cut(column.dictionary))
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    longest = pc.max(pc.binary_length(column)).as_py() or 0
    return column if longest <= TEXT_BYTES_MAX else pc.utf8_slice_codeunits(column, 0, TEXT_BYTES_MAX + 1)


def _parquet_rows(batch: pa.RecordBatch, view: AttributeView, first_row: int, total: int) -> AttributeRows:
    good: list[AttributeRow] = []
    bad: list[Reject[LinePlace]] = []
    columns = {name: _to_list(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    for index in range(batch.num_rows):
        row = {name: values[index] for name, values in columns.items()}
        try:
            good.append(check_row(view, row, int))
        except InvalidRowError as invalid:
            bad.append(Reject(LinePlace(first_row + index, -1), invalid.violations, _original(row, view)))
    last_row = first_row - 1 + batch.num_rows
    return AttributeRows(good, bad, last_row, last_row, total)


def _to_list(column: pa.Array) -> list[Any]:
    """Python values; times as floored microseconds."""
    if pa.types.is_dictionary(column.type):
        return _to_list(column.dictionary_decode())
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
