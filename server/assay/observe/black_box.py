"""The black box's file: where it is, who has it, and what became of the last one.

A file belongs to one process at a time (flock). One that tells of a crash is kept beside it as FILE.last, the one before as
FILE.older: a server that crashes again and again takes no more than three of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from assay import __version__
from assay._core import BUILD, close_black_box, complete_black_box, open_black_box
from assay.config import Config, runtime_dir
from assay.errors import ConfigError, CoreError, InputError
from assay.observe.crash_file import FILE_BYTES, HEADER_BYTES, MAGIC, CrashReport, End, read_crash
from assay.observe.status import Check

FILES_MAX = 16  # of servers at one port: with reuse_port, or port 0
SUFFIXES = ("", ".last", ".older")


@dataclass(frozen=True)
class BlackBox:
    """What was opened. `last`: how the process before this one ended, unless it ended well."""

    path: Path | None = None  # None: there is none
    problem: str | None = None  # why there is none, though there should be
    last: CrashReport | None = None

    def complete(self, runtime_version: str) -> None:
        """Once everything is loaded."""
        if self.path is not None:
            complete_black_box(runtime_version)

    def checks(self) -> Iterable[Check]:
        """For the status of the server."""
        if self.problem is not None:
            yield Check("black_box", f"off: {self.problem}", is_ok=False)
        else:
            yield Check("black_box", "off" if self.path is None else "on")

    def close(self) -> None:
        """This process ends as it should. Idempotent."""
        close_black_box()


def open_box(config: Config, python_version: str) -> BlackBox:
    """Starts to record. Without a file, for want of room or of a directory: goes on without one, unless the configuration names
    it, which raises ConfigError."""
    if config.black_box == "off":
        return BlackBox()
    try:
        if config.black_box == "auto":
            path, descriptor, last = _first_free(_auto_paths(config))
        else:
            path = Path(config.black_box)
            descriptor, last = _take(path)
    except (OSError, InputError) as error:
        reason = error.strerror or "no" if isinstance(error, OSError) else str(error)
        if config.black_box != "auto":
            raise ConfigError(f"black_box: {config.black_box}: {reason}; choose another path, or off") from error
        return BlackBox(problem=reason)
    try:
        open_black_box(
            descriptor, assay=__version__, build=", ".join(value for value in BUILD.values() if value), python=python_version
        )
    except CoreError as error:
        os.close(descriptor)
        return BlackBox(problem=error.message)
    return BlackBox(path, None, last)


def box_directories() -> tuple[Path, ...]:
    """Where `auto` puts them, and where to look for them."""
    state = [Path(part) for part in os.environ.get("STATE_DIRECTORY", "").split(":") if part]
    return (*state[:1], runtime_dir())


def find_crashes() -> list[tuple[Path, CrashReport]]:
    """Crashes that are kept in those directories, the newest first. What cannot be read is none."""
    found = []
    for directory in box_directories():
        for path in sorted(directory.glob("black-box-*.bin*"))[: FILES_MAX * len(SUFFIXES) * 4]:
            try:
                report = read_file(path)
            except (OSError, InputError):
                continue
            if report.end is End.CRASHED:
                found.append((path, report))
    return sorted(found, key=lambda crash: crash[1].ended_at_s, reverse=True)


def read_file(path: Path) -> CrashReport:
    """Raises OSError, InputError. Reads no more than a box has."""
    with path.open("rb") as file:
        return read_crash(file.read(FILE_BYTES + 1))


# --- implementation ---


class _InUseError(InputError):
    pass


def _auto_paths(config: Config) -> Iterator[Path]:
    directory = box_directories()[0]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise InputError(f"{directory} is not a directory of this user alone")
    port = config.listen.rpartition(":")[2]
    for number in range(FILES_MAX):
        yield directory / (f"black-box-{port}.bin" if number == 0 else f"black-box-{port}-{number}.bin")


def _first_free(paths: Iterable[Path]) -> tuple[Path, int, CrashReport | None]:
    for path in paths:
        try:
            return path, *_take(path)
        except _InUseError:
            continue
    raise InputError(f"{FILES_MAX} running servers have one at this port")


def _take(path: Path) -> tuple[int, CrashReport | None]:
    """The file, locked and with all its blocks, and how its last owner ended. Raises OSError, InputError."""
    descriptor = _open_locked(path)
    try:
        _check_ours(descriptor, path)
        last = _unhappy_end(descriptor)
        if last is not None and last.end is End.CRASHED:
            _put_aside(path)
            crashed, descriptor = descriptor, _open_locked(path)
            os.close(crashed)
        _allocate(descriptor, path)
        return _past_standard_files(descriptor), last
    except BaseException:
        os.close(descriptor)
        raise


def _past_standard_files(descriptor: int) -> int:
    """Where the process was started without stdin, stdout or stderr, whoever writes to those must not write into the box."""
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _put_aside(path: Path) -> None:
    last = Path(f"{path}.last")
    if last.exists():
        last.rename(f"{path}.older")
    path.rename(last)


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError("is not a file")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise _InUseError("another running server has it") from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # somebody renamed it meanwhile


def _check_ours(descriptor: int, path: Path) -> None:
    """Whatever else stands under the name may be somebody's only copy: a box that is damaged may go, a model may not. One that a
    process left which died at its start has blocks and no header yet."""
    head = os.pread(descriptor, HEADER_BYTES, 0)
    is_unwritten = not any(head) and os.fstat(descriptor).st_size <= FILE_BYTES
    if not is_unwritten and not head.startswith(MAGIC):
        raise InputError(
            f"{path.name} holds something else and was left as it is: expected no file, an empty one, or one that begins with "
            f"{MAGIC.decode()}"
        )


def _unhappy_end(descriptor: int) -> CrashReport | None:
    """None: the last owner ended well, or there was none that can be read of."""
    data = os.pread(descriptor, FILE_BYTES + 1, 0)
    try:
        report = read_crash(data) if data else None
    except InputError:
        return None
    return report if report is not None and report.end is not End.CLEAN else None


def _allocate(descriptor: int, path: Path) -> None:
    """Takes the blocks now. Room that an old crash takes is given up for it."""
    try:
        os.posix_fallocate(descriptor, 0, FILE_BYTES)
    except OSError as error:
        if error.errno != errno.ENOSPC or not Path(f"{path}.older").exists():
            raise
        Path(f"{path}.older").unlink()
        os.posix_fallocate(descriptor, 0, FILE_BYTES)
    os.ftruncate(descriptor, FILE_BYTES)
