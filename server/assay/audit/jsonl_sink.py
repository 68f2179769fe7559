"""Files of JSON lines, one for each hour (UTC) in which records were written: DIRECTORY/2026-03-01T12.jsonl.

A record is safe here once its file is synced and so is the directory that names it, and the file still has that name. A line
that a killed shipper left unfinished is cut off before the next one is written; what could not be written or synced is cut off
at once, and comes again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Final

from assay.audit.place import sync_directory, try_lock
from assay.audit.sinks import ShippedRecord, SinkAwayError

LOCK_FILE: Final = ".lock"
NO_DATE_FILE: Final = "no-date.jsonl"
MOVED_MAX: Final = 3  # files in a row that may be taken away under a batch until the sink is called away
_EPOCH: Final = datetime(1970, 1, 1)  # without a zone: all hours are UTC
_HOUR_US: Final = 3_600_000_000
_MENDED_BYTES: Final = 64 << 10  # looked through at a time for the end of the last whole line


class JsonlSink:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock: IO[bytes] | None = None
        self._name = ""  # of the open file
        self._file: int = -1

    def deliver(self, records: Sequence[ShippedRecord]) -> None:
        try:
            self._claim()
            start = 0
            while start < len(records):
                name, end = _file_name(records[start]), start
                while end < len(records) and _file_name(records[end]) == name:
                    end += 1
                self._append(name, b"".join(record.json + b"\n" for record in records[start:end]))
                start = end
        except OSError as error:
            self._close_file()
            raise SinkAwayError(f"{self._directory} cannot be written ({error.strerror or error})") from None

    def close(self) -> None:
        self._close_file()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # --- implementation ---

    def _claim(self) -> None:
        """One process writes here, for it cuts off what is not finished."""
        if self._lock is None:
            _make_directory(self._directory)
            self._lock = try_lock(self._directory / LOCK_FILE)
            if self._lock is None:
                raise SinkAwayError(f"{self._directory} is written to by another shipper; give this one a directory of its own")

    def _append(self, name: str, lines: bytes) -> None:
        for _ in range(MOVED_MAX):
            if name != self._name or not self._has_its_name():
                self._open(name)
            self._write(lines)
            # Whoever copies files away and unlinks them leaves what came after the copy nowhere: it is written anew.
            if self._has_its_name():
                return
        raise SinkAwayError(f"{self._directory / name} was moved away while it was written, {MOVED_MAX} times")

    def _write(self, lines: bytes) -> None:
        size = os.fstat(self._file).st_size
        try:
            left = memoryview(lines)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError:
            # A file whose fsync failed says that it is synced the next time: what it may have lost is written again.
            os.ftruncate(self._file, size)
            raise

    def _has_its_name(self) -> bool:
        """Whether the open file is the one that stands in the directory."""
        try:
            found = os.stat(self._directory / self._name, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._file))

    def _open(self, name: str) -> None:
        self._close_file()
        path = self._directory / name
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        end = _end_of_whole_lines(self._file)
        if end < os.fstat(self._file).st_size:
            os.ftruncate(self._file, end)
        sync_directory(self._directory)  # of an old file too: who made it may have been killed before
        self._name = name

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._name = -1, ""


# --- implementation ---


def _file_name(record: ShippedRecord) -> str:
    try:
        hour = _EPOCH + timedelta(hours=record.written_us // _HOUR_US)
    except OverflowError:  # of a time that no calendar has
        return NO_DATE_FILE
    return f"{hour.isoformat(timespec='hours')}.jsonl"


def _make_directory(directory: Path) -> None:
    """With what it stands in, their names on the disk: those too that a shipper made which was killed before it had synced."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    real = directory.resolve()
    for above in real.parents:
        # No shipper has made anything in a directory that it may not write to, nor beyond what was mounted.
        if not os.access(above, os.R_OK | os.W_OK) or above.stat().st_dev != real.stat().st_dev:
            break
        sync_directory(above)


def _end_of_whole_lines(file: int) -> int:
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - _MENDED_BYTES)
        data = os.pread(file, end - start, start)
        if (found := data.rfind(b"\n")) >= 0:
            return start + found + 1
        end = start
    return 0
