"""Up to where the sink has a writer's log: in the file `shipped` of its directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final, NamedTuple

from assay.audit.place import SEGMENT_SUFFIX, sync_directory
from assay.audit.segments import SEQUENCE_MAX

SHIPPED_FILE: Final = "shipped"


class Shipped(NamedTuple):
    """How far a sink has come with one writer's log."""

    sequence: int = 0  # everything up to here is in the sink
    log_id: bytes = b""
    chain: bytes = b""  # after that record's block: tells whether it is still the same log that stands there


def read_shipped(writer: Path) -> int:
    """Up to where the sink has everything; 0: nothing yet, no number stands there, or that of a log that was here before."""
    shipped = read_shipped_place(writer)
    return shipped.sequence if shipped.log_id in (b"", _present_log_id(writer)) else 0


def read_shipped_place(writer: Path) -> Shipped:
    """What write_shipped() has written; nothing where none stands there."""
    try:
        words = (writer / SHIPPED_FILE).read_text("ascii").split()
        sequence = int(words[0]) if words[0].isdigit() else 0
        return Shipped(sequence, *map(bytes.fromhex, words[1:3])) if 0 < sequence <= SEQUENCE_MAX else Shipped()
    except (OSError, ValueError, IndexError):
        return Shipped()


def write_shipped(writer: Path, shipped: Shipped) -> None:
    """Whole or not at all, and on the disk when this comes back. Raises OSError."""
    # Always of one length: on a full disk, which only makes room once this is written, it goes over the old one in place.
    line = f"{shipped.sequence:020d} {shipped.log_id.hex()} {shipped.chain.hex()}\n".encode()
    draft, target = writer / f"{SHIPPED_FILE}.new", writer / SHIPPED_FILE
    try:
        _write_synced(draft, line, os.O_CREAT | os.O_TRUNC)
        draft.replace(target)
        sync_directory(writer)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not target.exists():
            raise
        draft.unlink(missing_ok=True)
        _write_synced(target, line, 0)


# --- implementation ---


def _write_synced(path: Path, data: bytes, flags: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    try:
        if os.write(handle, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(handle)
    finally:
        os.close(handle)


def _present_log_id(writer: Path) -> bytes:
    """Of the newest segment (docs/audit-format.md)."""
    newest = max((path for path in writer.glob(f"*{SEGMENT_SUFFIX}") if path.stem.isdigit()), default=None)
    if newest is None:
        return b""
    try:
        with newest.open("rb") as file:
            return file.read(_LOG_ID.stop)[_LOG_ID]
    except OSError:
        return b""


_LOG_ID: Final = slice(32, 48)
