"""Where an audit log is kept.

DIRECTORY/key                32 secret bytes, of digests and tokens: made at the first start, mode 0600
DIRECTORY/writer-0/          one server's log; a second server that shares the directory takes writer-1, and so on
    00000000000000000001.audit ...   segments (docs/audit-format.md)
    spare                            the next segment, allocated already
    lock                             held while a server writes
    shipped                          up to where the sink has everything: sequence, log, chain (write_shipped())
DIRECTORY/shipper.lock       held by the one process that brings records to the sink
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple

from assay.errors import ConfigError
from assay.private_file import exposure, weakness_of

KEY_FILE: Final = "key"
KEY_BYTES: Final = 32
SHIPPED_FILE: Final = "shipped"
SHIPPER_LOCK: Final = "shipper.lock"
WRITERS_MAX: Final = 64
SEGMENT_SUFFIX: Final = ".audit"


def default_directory() -> Path:
    """XDG_STATE_HOME/assay/audit, else ~/.local/state/assay/audit."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "assay" / "audit"


@dataclass
class ClaimedWriter:
    """A writer's directory that no other process writes to until release()."""

    path: Path
    key: bytes
    _lock: IO[bytes]

    def release(self) -> None:
        self._lock.close()


def claim_writer(directory: Path) -> ClaimedWriter:
    """The first writer's directory that is free; makes what is not there. Raises ConfigError."""
    try:
        _make_directory(directory)
        if weakness := weakness_of(directory):
            raise ConfigError(f"audit.spool: {directory} {weakness}; it must be a directory of your own (mode 0700)")
        key = _own_key(directory / KEY_FILE)
        for number in range(WRITERS_MAX):
            path = directory / f"writer-{number}"
            _make_directory(path)
            if path.is_symlink() or (weakness := weakness_of(path)):
                raise ConfigError(f"audit.spool: {path} {weakness or 'is a link'}; put aside what stands there")
            if (lock := try_lock(path / "lock")) is not None:
                return ClaimedWriter(path, key, lock)
    except OSError as error:
        raise ConfigError(
            f"audit.spool: {directory} cannot be used ({error.strerror or error}); name a directory that this user may write to, "
            f"or audit.level off"
        ) from error
    raise ConfigError(f"audit.spool: {WRITERS_MAX} servers write to {directory} already; give this one a directory of its own")


def read_key(directory: Path) -> bytes:
    """The key of the logs in this directory. Raises ConfigError."""
    path = directory / KEY_FILE
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the audit key cannot be read ({error.strerror or error})") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path}: expected {KEY_BYTES} bytes, found {len(key)}; put the key back that wrote the log")
    return key


def writer_directories(directory: Path) -> list[Path]:
    """Of every server that has written here, in order of their numbers."""
    found = [
        path
        for path in directory.glob("writer-*")
        if path.is_dir() and not path.is_symlink() and path.name.removeprefix("writer-").isdigit()
    ]
    return sorted(found, key=lambda path: int(path.name.removeprefix("writer-")))


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
        return Shipped(int(words[0]), *map(bytes.fromhex, words[1:3])) if words[0].isdigit() else Shipped()
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


def sync_directory(path: Path) -> None:
    """Names in it are on the disk when this comes back. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def try_lock(path: Path) -> IO[bytes] | None:
    """A lock that is held until the file is closed, or the process ends; None: another one has it. Raises OSError."""
    lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


# --- implementation ---


def _make_directory(path: Path) -> None:
    """For its owner alone, its name on the disk. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in missing:
        sync_directory(folder.parent)


def _own_key(path: Path) -> bytes:
    if not path.exists():
        _make_key(path)
    if path.stat().st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"audit key: {path} belongs to another user, who knows it")
    if problem := exposure(path):
        raise ConfigError(f"audit key: {problem}")
    return read_key(path.parent)


def _make_key(path: Path) -> None:
    if any(True for writer in writer_directories(path.parent) for _ in writer.glob(f"*{SEGMENT_SUFFIX}")):
        raise ConfigError(f"audit key: {path} is gone, and the log there was written with it: put the key back, or the log aside")
    # Whole or not at all, and never over another's: link() fails where one has appeared meanwhile.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, secrets.token_bytes(KEY_BYTES))
        os.fsync(handle)
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.close(handle)
        os.unlink(draft)
    sync_directory(path.parent)


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
