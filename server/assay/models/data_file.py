"""Columns of a file of training data, CSV or Parquet, in parts: a file of any size takes the memory of one part.

CSV is read strictly: a cell is a number, true, false or empty (null). Errors name the row and the column; a cell that is no
number may be a customer's and is never shown.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from assay._core import printable
from assay.errors import InputError

COLUMNS_MAX: Final = 4_096
HEADER_BYTES_MAX: Final = 1 << 20
PART_BYTES: Final = 4 << 20  # of CSV at a time; no line may be longer
PART_ROWS: Final = 65_536  # of Parquet at a time

# Not whatever a reader takes: nan, inf and 1_0 are no numbers of a file.
_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_TRUTHS = pa.array(["true", "True", "TRUE"])
_UNTRUTHS = pa.array(["false", "False", "FALSE"])


@dataclass(frozen=True)
class ColumnPart:
    """Some rows of a column (n,), null as NaN. `misfits`: cells that are no number; they are null in `values`."""

    values: NDArray[np.float64]
    misfits: int = 0
    first_misfit: int = 0  # its place in this part, from 0


@dataclass(frozen=True)
class DataFile:
    """A file whose header was read. `types`: name of a column -> what Parquet says it holds; CSV says nothing ("")."""

    path: Path
    types: Mapping[str, str]
    is_parquet: bool

    @property
    def numeric(self) -> frozenset[str]:
        """Columns that may hold numbers."""
        return frozenset(name for name, kind in self.types.items() if kind in ("", "number"))

    def parts(self, names: Sequence[str]) -> Iterator[dict[str, ColumnPart]]:
        """The named columns, in order, a part after the other. Each of `names` is one of `numeric`. Raises InputError."""
        parts = _parquet_parts(self.path, names) if self.is_parquet else _csv_parts(self.path, names)
        try:
            yield from parts
        except (OSError, pa.ArrowException) as error:
            kind = "Parquet" if self.is_parquet else "CSV in UTF-8"
            raise InputError(f"{self.path}: not {kind} to its end ({type(error).__name__}); write it anew") from None


def open_data(path: Path) -> DataFile:
    """Reads the header of a CSV (with names of columns in its first line) or of a Parquet file. Raises InputError."""
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            fields = [(field.name, _kind(field.type)) for field in pq.read_schema(path)]
        else:
            fields = [(name, "") for name in _csv_header(path)]
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror or type(error).__name__}; give a CSV or Parquet file"
        ) from None
    except (pa.ArrowException, UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: neither Parquet nor CSV in UTF-8 with a header; give a CSV or Parquet file") from None
    if len(fields) > COLUMNS_MAX:
        raise InputError(f"{path}: {len(fields)} columns, the limit is {COLUMNS_MAX}; leave out those that no model reads")
    types = dict(fields)
    if len(types) < len(fields):
        names = [name for name, _ in fields]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: column {printable(twice.encode())} stands twice; remove one")
    return DataFile(path, types, is_parquet)


# --- implementation ---


def _kind(type_: Any) -> str:
    if pa.types.is_floating(type_) or pa.types.is_integer(type_) or pa.types.is_boolean(type_):
        return "number"
    return str(type_)[:60]


def _parquet_parts(path: Path, names: Sequence[str]) -> Iterator[dict[str, ColumnPart]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(PART_ROWS, columns=list(names)):
            columns = {name: batch.column(name).cast(pa.float64()) for name in names}
            yield {name: ColumnPart(column.to_numpy(zero_copy_only=False)) for name, column in columns.items()}


def _csv_header(path: Path) -> list[str]:
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES_MAX)
    names = next(csv.reader(io.StringIO(start.decode("utf-8-sig", "ignore"), newline=""), strict=True), [])
    if not any(names):
        raise InputError(f"{path}: its first line names no columns; give a CSV file with a header, or Parquet")
    return names


def _read_options() -> pacsv.ReadOptions:
    return pacsv.ReadOptions(use_threads=False, block_size=PART_BYTES)


def _csv_parts(path: Path, names: Sequence[str]) -> Iterator[dict[str, ColumnPart]]:
    ragged: list[Any] = []

    def keep(row: Any) -> str:
        ragged.append(row)
        return "error"

    options = pacsv.ConvertOptions(
        include_columns=list(names),
        column_types={name: pa.string() for name in names},
        strings_can_be_null=True,
        null_values=[""],
    )
    try:
        with pacsv.open_csv(
            path,
            read_options=_read_options(),
            parse_options=pacsv.ParseOptions(invalid_row_handler=keep),
            convert_options=options,
        ) as reader:
            for batch in reader:
                yield {name: _numbers(batch.column(name)) for name in names}
    except pa.ArrowInvalid:
        if not ragged:
            raise
        row = ragged[0]  # its number counts the header
        place = "" if row.number is None else f"row {row.number - 1}: "
        raise InputError(f"{path}: {place}{row.actual_columns} cells, the header has {row.expected_columns}") from None


def _numbers(cells: Any) -> ColumnPart:
    """Of a column of text."""
    texts = pc.if_else(pc.is_in(cells, _TRUTHS), "1", pc.if_else(pc.is_in(cells, _UNTRUTHS), "0", cells))
    fits = pc.match_substring_regex(texts, _NUMBER)  # null where a cell is
    numbers = pc.cast(pc.utf8_ltrim(pc.if_else(fits, texts, None), characters="+"), pa.float64())
    misfits = np.flatnonzero(pc.fill_null(pc.invert(fits), False).to_numpy(zero_copy_only=False))
    return ColumnPart(numbers.to_numpy(zero_copy_only=False), len(misfits), int(misfits[0]) if len(misfits) else 0)
