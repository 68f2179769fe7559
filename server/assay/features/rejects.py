"""What was refused, why, and the original bytes, one JSON object a line: nothing is lost, and a mended copy can be sent again."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import orjson

from assay.errors import InputError

EXAMPLES_MAX = 10  # kept for people, without values


@dataclass(frozen=True)
class Violation:
    reason: str
    field: str
    description: str


class Place(Protocol):
    """Where a reject stood in its input."""

    def describe(self) -> str:
        """For people."""

    def document(self) -> dict[str, Any]:
        """For programs: fields of the reject's JSON."""


@dataclass(frozen=True)
class LinePlace:
    """In a file or a pipe."""

    line: int  # or row, from 1
    offset_bytes: int  # of the line in the input; -1 for a row of Parquet

    def describe(self) -> str:
        return f"line {self.line}"

    def document(self) -> dict[str, Any]:
        return {"line": self.line, "source_offset_bytes": self.offset_bytes}


PlaceType = TypeVar("PlaceType", bound=Place, covariant=True)


@dataclass(frozen=True)
class Reject(Generic[PlaceType]):
    """What was refused. `original` holds values: it goes to the file of rejects or to the dead letters, never to a log."""

    place: PlaceType
    violations: tuple[Violation, ...]
    original: bytes = field(repr=False)

    @property
    def reason(self) -> str:
        return self.violations[0].reason if self.violations else "INVALID_REQUEST"

    def describe(self) -> str:
        """For people: where and why, no values."""
        what = "; ".join(f"{v.field or 'line'}: {v.description} ({v.reason})" for v in self.violations[:3])
        return f"{self.place.describe()}: {what}"

    def violation_documents(self) -> list[dict[str, str]]:
        return [{"reason": v.reason, "field": v.field, "description": v.description} for v in self.violations]


class Rejects:
    """Counts rejects, keeps the first few for people, and writes all of them to a file if one is named, behind what is there:
    rejects of an earlier run are lost to nobody's mistake. Raises InputError where the file cannot be this process's alone."""

    def __init__(self, path: Path | None = None) -> None:
        self.count = 0
        self.examples: list[Reject[Place]] = []
        self._file = None if path is None else _open(path)

    def add_all(self, rejects: Sequence[Reject[Place]]) -> None:
        """Raises OSError; then none of them was added."""
        if self._file is not None:
            _write_all(self._file, b"".join(encode(reject) for reject in rejects))
        self.count += len(rejects)
        self.examples += rejects[: max(0, EXAMPLES_MAX - len(self.examples))]

    def sync(self) -> None:
        """Comes back once what was added is on disk. Raises OSError."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def _open(path: Path) -> FileIO:
    """The file, behind what is there. Raises InputError."""
    try:
        # Originals are transactions: for the owner's eyes.
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb", buffering=0)
    except OSError as error:
        raise _unwritable(path, error.strerror) from None
    try:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            # What a write takes back that failed must be its own, so nobody else writes here.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _ends_within_a_line(path):
                _write_all(file, b"\n")
    except OSError as error:
        file.close()
        is_taken = isinstance(error, BlockingIOError)
        what = "another process writes its own there; give each a file of its own" if is_taken else error.strerror
        raise _unwritable(path, what) from None
    return file


def _unwritable(path: Path, what: str | None) -> InputError:
    return InputError(f"{path}: rejects cannot be written there: {what}")


def _write_all(file: FileIO, data: bytes) -> None:
    """All, or (where the file can be cut) nothing: a disk that fills leaves no half line before what comes next."""
    size = os.fstat(file.fileno()).st_size
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        with contextlib.suppress(OSError):  # of a pipe
            file.truncate(size)
            file.seek(size)
        raise


def _ends_within_a_line(path: Path) -> bool:
    """A process that died while it wrote may have left half a line, which must not swallow the next one."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def encode(reject: Reject[Place]) -> bytes:
    """One JSON line. The original is text where it is UTF-8, else base64."""
    try:
        original = {"original": reject.original.decode()}
    except UnicodeDecodeError:
        original = {"original_base64": base64.b64encode(reject.original).decode()}
    document = {
        "reason": reject.reason,
        "violations": reject.violation_documents(),
        **reject.place.document(),
        **original,
    }
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
