"""Where events and rows come from: a file, or a pipe that may have nothing for now."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol

from assay.errors import InputError

WAIT_MS = 200  # of one read of a pipe that has nothing


class Source(Protocol):
    is_pipe: bool  # or a socket, a terminal: what comes when it comes

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; none at the end. Of a pipe what it has; None: it had nothing for a while."""


@contextmanager
def open_source(path: Path | None) -> Iterator[Source]:
    """The file, or standard input for None. Raises InputError."""
    if path is None:
        yield _Opened(sys.stdin.buffer)
        return
    try:
        file = FileIO(path, opener=_open_at_once)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        yield _Opened(file)


def source_name(path: Path | None) -> str:
    return "stdin" if path is None else f"file:{path.name}"


# --- implementation ---


class _Opened:
    def __init__(self, file: BinaryIO | FileIO) -> None:
        self._file = file
        self._poll = select.poll()
        self.is_pipe = _is_pipe(file)
        if self.is_pipe:
            self._poll.register(file.fileno(), select.POLLIN)

    def read(self, size: int, /) -> bytes | None:
        if not self.is_pipe:
            return self._file.read(size)
        if not self._poll.poll(WAIT_MS):
            return None
        try:
            return os.read(self._file.fileno(), size)
        except BlockingIOError:  # another reader was faster
            return None


def _is_pipe(file: BinaryIO | FileIO) -> bool:
    try:
        return not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError:  # no descriptor: bytes in memory
        return False


def _open_at_once(path: str, flags: int) -> int:
    """Waits for no writer of a named pipe: read() does, where a signal is heeded."""
    return os.open(path, flags | os.O_NONBLOCK)
