"""Segments of an audit log on disk, block by block (docs/audit-format.md). Read while they are written, without a lock.

A segment may be 1 GiB, so it is read through a window: some of its bytes behind a header that says where they stand in the log.
Such a window is a segment as well, and the core, which believes nothing, checks it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple

from assay import _core
from assay.audit.place import SEGMENT_SUFFIX, writer_directories
from assay.errors import CoreError, InputError

HEADER_BYTES: Final = 128
BLOCK_HEADER_BYTES: Final = 32
BLOCK_TRAILER_BYTES: Final = 36
PAYLOAD_BYTES_MAX: Final = 256 << 10
BLOCK_BYTES_MAX: Final = (BLOCK_HEADER_BYTES + PAYLOAD_BYTES_MAX + BLOCK_TRAILER_BYTES + 7) // 8 * 8
WINDOW_BYTES: Final = 1 << 20  # several blocks of the largest kind
NO_CHAIN: Final = bytes(32)
SEQUENCE_MAX: Final = (1 << 64) - 1
DAMAGE: Final = frozenset({errno.EIO, errno.ELOOP, errno.EISDIR, errno.ENXIO})  # a sector that is lost; what is no file
SEQUENCE_DIGITS: Final = 20  # of a file's name


@dataclass(frozen=True)
class LogDirectory:
    """One writer's log: a directory of segments, or one segment that somebody has put aside."""

    path: Path
    only: Path | None = None

    @property
    def name(self) -> str:
        return self.path.name

    def segments(self) -> list[SegmentFile]:
        """In order. They may be gone when they are opened. What is called like one and no file of its own, as a link, is none.
        Raises OSError."""
        with os.scandir(self.path) as entries:
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        if self.only:
            names = [self.only.name]
        found = [SegmentFile(self.path / name, first) for name in names if (first := first_sequence_of(name))]
        return sorted(found, key=lambda segment: segment.first_sequence)


@dataclass(frozen=True)
class SegmentFile:
    path: Path
    first_sequence: int  # by its name


class SegmentHeader(NamedTuple):
    first_sequence: int
    made_us: int  # wall clock
    log_id: bytes
    key_id: bytes
    chain: bytes  # after the segment before


def first_sequence_of(name: str) -> int:
    """0: not the name of a segment."""
    digits = name.removesuffix(SEGMENT_SUFFIX)
    is_name = len(digits) == SEQUENCE_DIGITS and digits != name and digits.isascii() and digits.isdigit()
    return int(digits) if is_name and int(digits) < 1 << 64 else 0


def json_integer(value: int) -> int | str:
    """Not negative; as text where 64 bits do not hold it. No log counts so far, but a forged block may begin at the very end."""
    return value if value <= SEQUENCE_MAX else str(value)


def log_directories(path: Path) -> list[LogDirectory]:
    """The logs of a spool directory; or of one writer's directory, or one segment. Raises InputError."""
    if path.is_file():
        if not first_sequence_of(path.name):
            raise InputError(f"{path}: not a segment: those are called by {SEQUENCE_DIGITS} digits and {SEGMENT_SUFFIX}")
        path = path.resolve()
        return [LogDirectory(path.parent, path)]
    if not path.is_dir():
        raise InputError(f"{path}: there is no audit log; name its directory with --spool (audit.spool of the server)")
    found = [LogDirectory(writer) for writer in writer_directories(path)]
    if not found and any(map(first_sequence_of, os.listdir(path))):
        return [LogDirectory(path)]
    return found


def spool_of(path: Path) -> Path:
    """The directory that holds the key of the logs at `path`."""
    if path.is_file():
        path = path.parent
    return path if (path / "key").exists() or not path.name.startswith("writer-") else path.parent


class SegmentBlocks:
    """The blocks of one segment, from anywhere between two of them on. The file stays readable when it is removed meanwhile."""

    def __init__(self, file: SegmentFile) -> None:
        """Raises OSError; CoreError (SEGMENT_MAGIC, SEGMENT_VERSION, SEGMENT_CHECKSUM): it does not begin as a segment."""
        self.file = file
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # of a pipe, which comes meanwhile, nothing is read
        self._handle: IO[bytes] = os.fdopen(os.open(file.path, flags), "rb", buffering=0)
        try:
            begin = _core.AuditSegment(self._pread(0, HEADER_BYTES))
        except BaseException:
            self._handle.close()
            raise
        self.header = SegmentHeader(begin.first_sequence, begin.made_us, begin.log_id, begin.key_id, begin.chain)
        self.offset = HEADER_BYTES  # of the next block
        self.next_sequence = self.header.first_sequence
        self.chain = self.header.chain  # after the last block
        self.why = "OK"  # after next_block() gave None: that the segment ends here, or the reason why the block is not read
        self._begin = self._pread(0, HEADER_BYTES)
        self._window: _core.AuditSegment | None = None
        self._window_offset = 0  # in the segment, of the window's first block
        self._window_end = 0

    def next_block(self, *, checks_chain: bool = True) -> _core.AuditBlock | None:
        """None: see `why`. Asked again, it looks again: the block may have been under way. Raises OSError where the disk may give
        another time what it does not give now."""
        try:
            return self._next_block(checks_chain)
        except OSError as error:
            if error.errno not in DAMAGE:
                raise
            self.why = f"they cannot be read: {error.strerror}"
            self._window = None
            return None

    def _next_block(self, checks_chain: bool) -> _core.AuditBlock | None:
        if self._window is None:
            self._open_window()
        while True:
            assert self._window is not None
            block = self._window.next_block(checks_chain=checks_chain)
            if block is not None:
                found = block._replace(offset=self.offset)
                self.offset = self._window_offset + self._window.offset - HEADER_BYTES
                self.next_sequence, self.chain = self._window.next_sequence, block.chain
                return found
            if not self._is_cut():
                self.why = self._window.why
                self._window = None
                return None
            self._open_window()

    def resume(self, offset: int, next_sequence: int, chain: bytes) -> None:
        """The next block is the one at `offset`."""
        self.offset, self.next_sequence, self.chain = offset, next_sequence, chain
        self._window = None

    def end_of_zeros(self) -> int:
        """Where, from `offset` on, the last byte that is not zero ends."""
        end = self.offset
        with _damage_ends():
            for at, data in self._chunks(self.offset):
                if kept := len(data.rstrip(b"\0")):
                    end = at + kept
        return end

    def find_sound(self, start: int, sequence_min: int, sequence_end: int | None) -> _core.AuditBlockPlace | None:
        """The first block from `start`, a multiple of 8, on that is whole and of these sequences. None: there is none, or what
        stands before it cannot be read."""
        with _damage_ends():
            for at, data in self._chunks(start, overlap=BLOCK_BYTES_MAX):
                found = _core.find_audit_block(data, WINDOW_BYTES, sequence_min, sequence_end or SEQUENCE_MAX)
                if found is not None:
                    return found._replace(offset=at + found.offset, end_offset=at + found.end_offset)
        return None

    def contains(self, needle: bytes) -> bool:
        """Whether these bytes may stand in the file: also where it cannot be read. Much quicker than to read its records."""
        try:
            return any(needle in data for _, data in self._chunks(0, overlap=len(needle)))
        except OSError:
            return True

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._handle.fileno()).st_size

    def close(self) -> None:
        self._handle.close()

    def __enter__(self) -> SegmentBlocks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- implementation ---

    def _open_window(self) -> None:
        data = self._pread(self.offset, WINDOW_BYTES)
        self._window = _core.AuditSegment(self._header_at(self.next_sequence, self.chain) + data)
        self._window_offset, self._window_end = self.offset, self.offset + len(data)

    def _is_cut(self) -> bool:
        """Whether the window may end within the block that it does not give. (At its very end it says that the segment ends.)"""
        assert self._window is not None
        is_readable = self._window.why in ("OK", "SEGMENT_CHECKSUM")
        is_full = self._window_end - self._window_offset == WINDOW_BYTES
        has_moved = self.offset > self._window_offset
        return is_readable and is_full and has_moved and self._window_end - self.offset < BLOCK_BYTES_MAX

    def _header_at(self, sequence: int, chain: bytes) -> bytes:
        """This segment's header, were it to begin so."""
        header = self._begin[:16] + struct.pack("<Q", sequence) + self._begin[24:64] + chain + self._begin[96:124]
        return header + struct.pack("<I", _core.crc32c(header))

    def _chunks(self, start: int, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
        while data := self._pread(start, WINDOW_BYTES + overlap):
            yield start, data
            start += WINDOW_BYTES

    def _pread(self, offset: int, count: int) -> bytes:
        parts = []
        while count > 0 and (part := os.pread(self._handle.fileno(), count, offset)):
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return b"".join(parts)


def open_segment(file: SegmentFile) -> SegmentBlocks | str | None:
    """None: it was removed meanwhile. Words: why it can never be read. Raises OSError where it may be another time: too many open
    files are no reason to give a segment up."""
    try:
        return SegmentBlocks(file)
    except FileNotFoundError:
        return None
    except CoreError as error:
        return f"the segment does not begin as one ({error.reason})"
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
        return f"the segment cannot be read ({error.strerror})"


@contextlib.contextmanager
def _damage_ends() -> Iterator[None]:
    """What stands behind a place that the disk has lost is not looked for."""
    try:
        yield
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
