"""Where an audit log is kept.

DIRECTORY/key                32 secret bytes, of digests and tokens: made at the first start, mode 0600
DIRECTORY/writer-0/          one server's log; a second server that shares the directory takes writer-1, and so on
    00000000000000000001.audit ...   segments (docs/audit-format.md)
    spare                            the next segment, allocated already
    lock                             held while a server writes
    shipped                          up to where the sink has everything (shipped.py)
DIRECTORY/shipper.lock       held by the one process that brings records to the sink
"""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from assay.errors import ConfigError
from assay.private_file import exposure, weakness_of

KEY_FILE: Final = "key"
KEY_BYTES: Final = 32
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
