"""Rows as a model was given them: a sample, and the file that it is kept in (JSON lines: what it is of, then the rows)."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from assay.errors import InputError

FILE_FORMAT = 1
FILE_BYTES_MAX = 1 << 30


class SampledRow(NamedTuple):
    """A row of inputs, of one transaction."""

    transaction_id: str
    event_time_us: int
    values: tuple[float | int | bool, ...]  # one an input, in order
    missing: frozenset[str]  # inputs whose source was null
    is_degraded: bool  # a record was out of reach, not to be trusted, or older than it may be


@dataclass(frozen=True)
class RowSample:
    """Rows that one model version was given."""

    model: str
    version: str
    feature_set: str
    feature_set_version: str
    schema_hash: str
    input_names: tuple[str, ...]
    rows: tuple[SampledRow, ...]


def write_sample(sample: RowSample, path: Path) -> None:
    """Replaces the file whole, readable by its owner alone. Raises InputError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(_line(_head(sample)))
            for row in sample.rows:
                file.write(_line({**row._asdict(), "missing": sorted(row.missing)}))
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or type(error).__name__}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_sample(path: Path) -> RowSample:
    """What write_sample() wrote. Raises InputError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError(f"{path}: larger than {FILE_BYTES_MAX >> 20} MiB: no sample of ours is")
        head, *lines = path.read_bytes().splitlines() or [b""]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or type(error).__name__}") from error
    try:
        names = _read_head(orjson.loads(head))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected the file that assay features served-rows writes, format {FILE_FORMAT}") from error
    rows = []
    for number, line in enumerate(lines, 2):
        try:
            rows.append(_read_row(orjson.loads(line), names["input_names"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: expected a row of {len(names['input_names'])} values") from error
    return RowSample(**names, rows=tuple(rows))


# --- implementation ---


def _head(sample: RowSample) -> dict[str, Any]:
    return {
        "format": FILE_FORMAT,
        "model": sample.model,
        "version": sample.version,
        "feature_set": sample.feature_set,
        "feature_set_version": sample.feature_set_version,
        "schema_hash": sample.schema_hash,
        "input_names": sample.input_names,
    }


def _read_head(document: dict[str, Any]) -> dict[str, Any]:
    if document.pop("format") != FILE_FORMAT:
        raise ValueError("another format")
    names = tuple(map(str, document.pop("input_names")))
    fields = {key: str(document[key]) for key in ("model", "version", "feature_set", "feature_set_version", "schema_hash")}
    return {**fields, "input_names": names}


def _read_row(document: dict[str, Any], names: tuple[str, ...]) -> SampledRow:
    values = tuple(math.nan if value is None else value for value in document["values"])  # JSON has no NaN
    missing = frozenset(document["missing"])
    if len(values) != len(names) or not missing <= set(names) or not all(isinstance(v, (int, float)) for v in values):
        raise ValueError("not a value for each input")
    return SampledRow(
        str(document["transaction_id"]), int(document["event_time_us"]), values, missing, bool(document["is_degraded"])
    )


def _line(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
