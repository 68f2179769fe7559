"""Names of functions for addresses of a crash, from the ELF files that were loaded, if they are still there and unchanged.

The paths come from a crash file, which may be anybody's: files are only read, with limits, and one that is no ELF has no names.
"""

from __future__ import annotations

import os
import stat
import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from assay.observe.crash_file import Frame

TABLE_BYTES_MAX = 64 << 20
SECTIONS_MAX = 4096
SYMBOLS_MAX = 1 << 18  # of one file; the first ones. Three times as many as the largest library that is loaded has
NAME_BYTES_MAX = 200
FILES_KEPT_MAX = 8  # with their names: tens of megabytes for the worst of files


def symbol_of(frame: Frame) -> str | None:
    """The function and how far into it, as the file has it now: `_ZN5assay...+0x1c`. None: it has no name for the place."""
    if frame.module is None:
        return None
    names = _names_of(frame.module)
    return names.find(frame.offset) if names is not None else None


# --- implementation ---

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB, _DYNSYM, _LOAD, _FUNCTION = 2, 11, 1, 2


@dataclass(frozen=True)
class _Names:
    """Functions of one file, by address; `segments`: (offset in the file, bytes, address)."""

    segments: tuple[tuple[int, int, int], ...]
    starts: tuple[int, ...]
    functions: tuple[tuple[int, int, str], ...]  # start, bytes, name

    def find(self, offset: int) -> str | None:
        for start, size, address in self.segments:
            if start <= offset < start + size:
                return self._at(offset - start + address)
        return None

    def _at(self, address: int) -> str | None:
        index = bisect_right(self.starts, address) - 1
        if index < 0:
            return None
        start, size, name = self.functions[index]
        return f"{name}+{address - start:#x}" if address < start + size else None


@lru_cache(FILES_KEPT_MAX)
def _names_of(path: str) -> _Names | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return _read(file) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except (OSError, ValueError, struct.error):
        return None


def _read(file: BinaryIO) -> _Names | None:
    ident, _, _, _, _, segments_at, sections_at, _, _, segment_bytes, segments, section_bytes, sections, _ = _HEADER.unpack(
        file.read(_HEADER.size)
    )
    if not ident.startswith(b"\x7fELF\x02\x01") or section_bytes != _SECTION.size or segment_bytes != _SEGMENT.size:
        return None
    table = list(_SECTION.iter_unpack(_part(file, sections_at, min(sections, SECTIONS_MAX) * _SECTION.size)))
    loaded = _SEGMENT.iter_unpack(_part(file, segments_at, min(segments, SECTIONS_MAX) * _SEGMENT.size))
    kinds = {section[1]: section for section in table if section[1] in (_SYMTAB, _DYNSYM)}
    symbols = kinds.get(_SYMTAB) or kinds.get(_DYNSYM)
    if symbols is None or symbols[6] >= len(table):
        return None
    texts = _part(file, table[symbols[6]][4], table[symbols[6]][5])
    first_symbols = _part(file, symbols[4], min(symbols[5], SYMBOLS_MAX * _SYMBOL.size))
    functions = sorted(
        (value, size, _text(texts, name))
        for name, info, _, _, value, size in _SYMBOL.iter_unpack(first_symbols)
        if info & 0xF == _FUNCTION and value
    )
    places = tuple((offset, size, address) for kind, _, offset, address, _, size, _, _ in loaded if kind == _LOAD)
    return _Names(places, tuple(start for start, _, _ in functions), tuple(functions))


def _part(file: BinaryIO, at: int, size: int) -> bytes:
    if size > TABLE_BYTES_MAX:
        raise ValueError("a table that is too large")
    file.seek(at)
    return file.read(size)


def _text(texts: bytes, at: int) -> str:
    """Cut before it is looked at: a table without an end of a name may have 64 MiB, and millions of names in it."""
    return texts[at : at + NAME_BYTES_MAX].partition(b"\0")[0].decode(errors="replace")
