"""A sample of rows as a person exports it: CSV with a header. Read strictly: a cell is a number, true, false or empty (null).

Errors name the row and the column and say what was there; the value itself, which may be a customer's, is never shown.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from assay._core import printable
from assay.errors import InputError

ROWS_MAX: Final = 10_000  # read; the rest of the file is left
BYTES_MAX: Final = 64 << 20
COLUMNS_MAX: Final = 512

Cell = float | int | bool | None

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
# Not whatever float() takes: nan, inf and 1_0 are no numbers of a file.
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TRUTHS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_MISSING_WORDS: Final = ("", "nan", "null", "none", "na", "n/a", "nat", "-", "?")


@dataclass(frozen=True)
class SampleFile:
    """The text of a sample: names of columns, each once, and the cells of at most ROWS_MAX rows."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_cut: bool  # the file has more rows
    sha256: str  # of the whole file

    def column(self, name: str) -> tuple[str, ...]:
        """The cells under one name of the header."""
        index = self.header.index(name)
        return tuple(row[index] for row in self.rows)


def read_sample(path: Path) -> SampleFile:
    """Reads a CSV file with a header and at least one row. Raises InputError."""
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; give a CSV file with a header") from None
    if len(data) > BYTES_MAX:
        raise InputError(f"{path}: larger than {BYTES_MAX >> 20} MiB; give fewer rows: head -n {ROWS_MAX + 1}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}; export it as CSV in UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = _check_header(path, next(reader, []))
        rows = tuple(_check_width(path, number, row, header) for number, row in enumerate(islice(reader, ROWS_MAX), 1))
        is_cut = next(reader, None) is not None
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not CSV ({error}); quote text that holds commas or quotes") from None
    if not rows:
        raise InputError(f"{path}: a header without rows; give some rows that the model was trained on")
    return SampleFile(path, header, rows, is_cut, hashlib.sha256(data).hexdigest())


def parse_column(sample: SampleFile, name: str, dtype: str) -> tuple[Cell, ...]:
    """The cells of a column as values that fit a tensor of `dtype` (float32, float64, int32, int64, bool); None: empty.

    A column of true and false only holds truth values, whatever the tensor. Raises InputError at the first misfit.
    """
    texts = sample.column(name)
    if not any(texts):
        raise InputError(f"{sample.path}: column {printable_name(name)}: every cell is empty; give rows with values")
    is_truth = dtype == "bool" or all(text in _TRUTHS for text in texts if text)
    parse = _parse_truth if is_truth else _parse_float if dtype.startswith("float") else _parse_integer
    lowest, highest = (False, True) if is_truth else _limits(dtype)
    cells: list[Cell] = []
    for number, text in enumerate(texts, 1):
        value = parse(text) if text else None
        if text and value is None:
            raise _misfit(sample, number, name, "true or false" if is_truth else _WANTED[dtype], text)
        if value is None and not dtype.startswith("float"):
            raise InputError(
                f"{_place(sample, number, name)}: the cell is empty, but the model's input is {dtype}, which has no NaN; fill it"
            )
        if value is not None and not lowest <= value <= highest:
            raise InputError(f"{_place(sample, number, name)}: past {dtype}, the type of the model's input")
        cells.append(value)
    return tuple(cells)


def printable_name(name: str) -> str:
    """A name from a file or a model, safe to show."""
    return printable(name.encode("utf-8", "backslashreplace"))


# --- implementation ---

_WANTED: Final = {"float32": "a number", "float64": "a number", "int32": "an integer", "int64": "an integer"}


def _check_header(path: Path, names: list[str]) -> tuple[str, ...]:
    if not names:
        raise InputError(f"{path}: empty; give a CSV file with a header")
    if len(names) > COLUMNS_MAX:
        raise InputError(f"{path}: {len(names)} columns, the limit is {COLUMNS_MAX}")
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise InputError(f"{path}: column {number} has no name; name it, or leave it out (pandas: to_csv(index=False))")
        if name in names[: number - 1]:
            raise InputError(f"{path}: column {printable_name(name)} stands twice; remove one")
    is_counted = names == [str(number) for number in range(len(names))]  # what pandas calls the columns of an array
    if not is_counted and all(_NUMBER.fullmatch(name) for name in names):
        raise InputError(f"{path}: the first line holds numbers; it must name the columns (pandas: to_csv(header=True))")
    return tuple(names)


def _check_width(path: Path, number: int, row: list[str], header: tuple[str, ...]) -> tuple[str, ...]:
    if len(row) != len(header):
        raise InputError(f"{path}: row {number}: {len(row)} cells, the header has {len(header)}")
    return tuple(row)


def _limits(dtype: str) -> tuple[float, float] | tuple[int, int]:
    """Smallest and largest value of a numeric type."""
    if dtype.startswith("float"):
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _parse_float(text: str) -> float | None:
    value = float(text) if _NUMBER.fullmatch(text) else None
    return None if value is None else value + 0.0  # -0.0 becomes 0.0, as in requests


def _parse_integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _parse_truth(text: str) -> bool | None:
    return _TRUTHS.get(text)


def _misfit(sample: SampleFile, number: int, name: str, wanted: str, text: str) -> InputError:
    if text.strip().lower() in _MISSING_WORDS:
        hint = "a word for a missing value; leave the cell empty (pandas: to_csv(na_rep=''))"
    elif _NUMBER.fullmatch(text):
        hint = (
            "a number that is none; nothing is converted"
            if wanted == "true or false"
            else "a number with a fraction, or too long"
        )
    elif text in _TRUTHS:
        hint = "true or false among numbers; write 1 and 0, or true and false in every row"
    else:
        hint = f"text ({len(text)} characters); map words to numbers before the model, or leave the column out (a label: --label)"
    return InputError(f"{_place(sample, number, name)}: expected {wanted}, found {hint}")


def _place(sample: SampleFile, number: int, name: str) -> str:
    return f"{sample.path}: row {number}, column {printable_name(name)}"
