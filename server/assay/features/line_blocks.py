"""Whole lines of a file or a pipe, in blocks of bounded size, whatever stands in it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK_BYTES = 256 << 10
LINE_BYTES_MAX = 64 << 10  # the core's limit of one line


class Readable(Protocol):
    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; none at the end. None: nothing has come so far."""


@dataclass(frozen=True)
class LineBlock:
    """Some whole lines (the last of the input may lack its newline), or the head of a line that is too long."""

    data: bytes
    first_line: int  # from 1
    offset_bytes: int  # of the first byte in the input
    line_count: int
    is_too_long: bool = False  # `data` is the head of one line; the rest was skipped

    @property
    def last_line(self) -> int:
        return self.first_line + self.line_count - 1


def read_blocks(file: Readable, block_bytes: int = BLOCK_BYTES) -> Iterator[LineBlock]:
    """Reads to the end. Each read gives a block, an empty one where it brought no line to its end, so that a pipe that stands
    still keeps nobody waiting. Memory: two blocks and a line."""
    carry, line, offset = b"", 1, 0
    while (chunk := file.read(block_bytes)) != b"":
        carry += chunk or b""
        end = carry.rfind(b"\n") + 1
        block = LineBlock(carry[:end], line, offset, carry.count(b"\n", 0, end))
        yield block
        line, offset, carry = block.last_line + 1, offset + end, carry[end:]
        if len(carry) > LINE_BYTES_MAX:
            block = LineBlock(carry[:LINE_BYTES_MAX], line, offset, 1, is_too_long=True)
            yield block
            offset, carry = yield from _skip_line(file, block.last_line + 1, offset + len(carry), block_bytes)
            line += 1
    if carry:
        yield LineBlock(carry, line, offset, carry.count(b"\n") + (not carry.endswith(b"\n")))


# --- implementation ---


def _skip_line(file: Readable, line: int, offset: int, block_bytes: int) -> Generator[LineBlock, None, tuple[int, bytes]]:
    """Reads past the next newline. Returns where the line after it begins, and what was read of it."""
    while (chunk := file.read(block_bytes)) != b"":
        chunk = chunk or b""
        end = chunk.find(b"\n") + 1
        offset += end or len(chunk)
        yield LineBlock(b"", line, offset, 0)
        if end:
            return offset, chunk[end:]
    return offset, b""
