"""The embedded store: `embedded:` is memory of this process; `embedded:PATH` the same with a snapshot file."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Literal

from assay import _core
from assay.errors import CoreError, StoreError
from assay.features.records import Records
from assay.features.store_writer import ALL_VIEWS, LocalWriter, StoreWriter, WriterOptions

BYTES_MAX_DEFAULT = 1 << 30

Progress = Callable[[int, int], None]


class LocalStore:
    """A store in this process and where it is kept. Whoever opens it to write holds a lock until close(), so that two processes
    cannot overwrite each other's snapshot."""

    def __init__(self, core: _core.EmbeddedStore, url: str, path: Path | None, lock: IO[bytes] | None) -> None:
        self.core = core
        self.url = url
        self.path = path
        self._lock = lock

    is_away = False

    def writer(self, plan: _core.FeaturePlan, options: WriterOptions = ALL_VIEWS) -> StoreWriter:
        return LocalWriter(plan, self.core, options)

    def records_of(self, plan: _core.FeaturePlan, entities: Mapping[str, str]) -> Records:
        return Records(self.core)  # which checks them as they are read

    def describe(self) -> str:
        stats = self.core.stats()
        return f"{stats.record_count:,} records, {stats.bytes >> 20} of {stats.bytes_max >> 20} MiB"

    def save(self, progress: Progress | None = None) -> bool:
        """Writes the snapshot atomically. False: a store in memory has none. Raises StoreError; the old snapshot stays then."""
        if self.path is None:
            return False
        if self._lock is None:
            raise StoreError(f"{self.url}: opened for reading; it cannot be saved")
        try:
            self.core.save(str(self.path), progress)
        except CoreError as error:
            raise StoreError(
                f"{self.url}: the snapshot could not be written ({error.reason}: {error.message}); the last one is unchanged"
            ) from error
        return True

    def close(self) -> None:
        """Gives the lock back. Saves nothing. Idempotent."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> LocalStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_local_store(
    url: str,
    bytes_max: int = BYTES_MAX_DEFAULT,
    *,
    mode: Literal["write", "read"] = "write",
    progress: Progress | None = None,
) -> LocalStore:
    """Opens an embedded store, loading its snapshot if there is one. `mode` read takes no lock and cannot save.

    Raises StoreError: snapshot damaged or unreadable (the file is left as it is), in use by another process."""
    path = snapshot_path(url)
    core = _core.EmbeddedStore(bytes_max)
    if path is None:
        return LocalStore(core, url, None, None)
    if not path.parent.is_dir():
        raise StoreError(f"{url}: the directory {path.parent} does not exist; make it first")
    if path.is_dir():
        raise StoreError(f"{url}: this is a directory; name a file, for example embedded:{path / 'store.snapshot'}")
    lock = _lock(path, url) if mode == "write" else None
    try:
        if path.exists():
            _load(core, path, url, progress)
        elif mode == "read":
            raise StoreError(f"{url}: there is no such snapshot; make one with `assay ingest --store {url} --events FILE`")
    except BaseException:
        if lock is not None:
            lock.close()
        raise
    return LocalStore(core, url, path, lock)


def snapshot_path(url: str) -> Path | None:
    """Path of the snapshot of an embedded: URL, None for a store in memory."""
    rest = url.removeprefix("embedded:")
    return Path(rest).expanduser() if rest else None


def lock_path(path: Path) -> Path:
    """The file that a writer of this snapshot locks."""
    return path.with_name(path.name + ".lock")


# --- implementation ---


def _lock(path: Path, url: str) -> IO[bytes]:
    file = lock_path(path)
    try:
        lock = file.open("ab")
    except OSError as error:
        raise StoreError(f"{url}: {file} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise StoreError(f"{url}: {file} cannot be locked: {error.strerror}") from None
        raise StoreError(
            f"{url}: in use by another process. Stop it first, or send the events to that server (FeatureService.RecordEvents)"
        ) from None
    return lock


def _load(core: _core.EmbeddedStore, path: Path, url: str, progress: Progress | None) -> None:
    if not os.access(path, os.R_OK):
        raise StoreError(f"{url}: the snapshot cannot be read; check its permissions")
    try:
        core.load(str(path), progress)
    except CoreError as error:
        if error.reason in ("STORE_FULL", "IO"):
            raise StoreError(
                f"{url}: the snapshot could not be loaded ({error.reason}: {error.message}); it is unchanged"
            ) from error
        raise StoreError(
            f"{url}: the snapshot is damaged or not a snapshot ({error.reason}: {error.message}). Nothing was changed. "
            f"Put back a good copy; or move {path} away, start with an empty store and ingest the events again"
        ) from error
