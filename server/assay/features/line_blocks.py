"""Whole lines of a file or a pipe, in blocks of bounded size, whatever stands in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK_BYTES = 256 << 10
LINE_BYTES_MAX = 64 << 10  # the core's limit of one line

_Read = Callable[[int], bytes]


@dataclass(frozen=True)
class LineBlock:
    """Some whole lines (the last of the input may lack its newline), or the head of a line that is too long."""

    data: bytes
    first_line: int  # from 1
    offset_bytes: int  # of the first byte in the input
    line_count: int
    is_too_long: bool = False  # `data` is the head of one line; the rest was skipped


def read_blocks(file: BinaryIO, block_bytes: int = BLOCK_BYTES) -> Iterator[LineBlock]:
    """Reads to the end. A pipe gives what it has, so that a slow stream is not held back. Memory: two blocks and a line."""
    read = getattr(file, "read1", file.read)
    carry, line, offset = b"", 1, 0
    while chunk := read(block_bytes):
        carry += chunk
        end = carry.rfind(b"\n") + 1
        if end:
            block = LineBlock(carry[:end], line, offset, carry.count(b"\n", 0, end))
            yield block
            line, offset, carry = line + block.line_count, offset + end, carry[end:]
        if len(carry) > LINE_BYTES_MAX:
            yield LineBlock(carry[:LINE_BYTES_MAX], line, offset, 1, is_too_long=True)
            skipped, carry = _skip_line(read, len(carry), block_bytes)
            line, offset = line + 1, offset + skipped
    if carry:
        yield LineBlock(carry, line, offset, carry.count(b"\n") + (not carry.endswith(b"\n")))


# --- implementation ---


def _skip_line(read: _Read, skipped: int, block_bytes: int) -> tuple[int, bytes]:
    """Reads past the next newline. Returns bytes skipped in all, and what was read beyond."""
    while chunk := read(block_bytes):
        end = chunk.find(b"\n") + 1
        if end:
            return skipped + end, chunk[end:]
        skipped += len(chunk)
    return skipped, b""
