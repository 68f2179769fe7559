"""Segments of an audit log on disk, block by block (docs/audit-format.md). Read while they are written, without a lock.

A segment may be 1 GiB, so it is read through a window: some of its bytes behind a header that says where they stand in the log.
Such a window is a segment as well, and the core, which believes nothing, checks it.
"""

from __future__ import annotations

import contextlib
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
BLOCK_HEADER: Final = struct.Struct("<4sIQII q")
BLOCK_MAGIC: Final = b"ABLK"
BLOCK_TRAILER_BYTES: Final = 36
PAYLOAD_BYTES_MAX: Final = 256 << 10
BLOCK_BYTES_MAX: Final = (BLOCK_HEADER.size + PAYLOAD_BYTES_MAX + BLOCK_TRAILER_BYTES + 7) // 8 * 8
WINDOW_BYTES: Final = 1 << 20  # several blocks of the largest kind
NO_CHAIN: Final = bytes(32)
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
        """In order. They may be gone when they are opened. Raises OSError."""
        names = [self.only.name] if self.only else os.listdir(self.path)
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


def log_directories(path: Path) -> list[LogDirectory]:
    """The logs of a spool directory; or of one writer's directory, or one segment. Raises InputError."""
    if path.is_file():
        if not first_sequence_of(path.name):
            raise InputError(f"{path}: not a segment: those are called by {SEQUENCE_DIGITS} digits and {SEGMENT_SUFFIX}")
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
        self._handle: IO[bytes] = file.path.open("rb", buffering=0)
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
        """None: see `why`. Asked again, it looks again: the block may have been under way."""
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
        for at, data in self._chunks(self.offset):
            if kept := len(data.rstrip(b"\0")):
                end = at + kept
        return end

    def find_sound(self, start: int, sequence_min: int, sequence_end: int | None) -> tuple[int, int] | None:
        """(offset, first sequence) of the first block from `start` on that is whole and of these sequences."""
        for at, data in self._chunks(start, overlap=len(BLOCK_MAGIC) - 1):
            place = data.find(BLOCK_MAGIC)
            while 0 <= place < WINDOW_BYTES:
                offset = at + place
                sequence = self._sound_sequence(offset) if offset % 8 == 0 else None
                if sequence is not None and sequence_min <= sequence < (sequence_end or 1 << 64):
                    return offset, sequence
                place = data.find(BLOCK_MAGIC, place + 1)
        return None

    def contains(self, needle: bytes) -> bool:
        """Whether these bytes stand anywhere in the file. Much quicker than to read its records."""
        return any(needle in data for _, data in self._chunks(0, overlap=len(needle)))

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

    def _sound_sequence(self, offset: int) -> int | None:
        data = self._pread(offset, BLOCK_BYTES_MAX)
        if len(data) < BLOCK_HEADER.size:
            return None
        sequence: int = BLOCK_HEADER.unpack_from(data)[2]
        window = _core.AuditSegment(self._header_at(sequence, NO_CHAIN) + data)
        return sequence if window.next_block(checks_chain=False) is not None else None

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


def open_segment(file: SegmentFile) -> SegmentBlocks | CoreError | None:
    """None: it was removed meanwhile. An error: it does not begin as a segment. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        try:
            return SegmentBlocks(file)
        except CoreError as error:
            return error
    return None
