"""Files that are looked at while the server runs, and used only after they were proved.

What was proved last stays in use while the files on disk are missing, half-written or wrong: a bad file never takes the server
down; it is said once and counted. Contents are compared, not times: that sees a symbolic link that was swapped (Kubernetes), a
rename and a write in place alike, and no clock's granularity hides a change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from assay.errors import ConfigError

FILE_BYTES_MAX = 1 << 20  # some five hundred certificates
RETRY_S = 5.0  # what was refused for its time (a certificate that is not valid yet) may be good later

log = logging.getLogger("assay")

Proved = TypeVar("Proved")


class ProvedFiles(Generic[Proved]):
    """The files at `paths`, all together one thing called `name`. `prove` gets their contents in that order, and returns what is
    to be used or raises ConfigError. It may read the paths itself: contents are compared once more after it.

    Thread-safe. One thread at a time reads and proves, the others wait for it."""

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        prove: Callable[[tuple[bytes, ...]], Proved],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Proves the files as they are now. Raises ConfigError."""
        self.reload_count = 0
        self.rejection_count = 0
        self._name = name
        self._paths = tuple(paths)
        self._prove = prove
        self._clock = clock
        self._lock = threading.Lock()
        self._used = self._read()
        self._proved = prove(self._used)
        self._rejected: object = None  # contents, or why they could not be read
        self._retry_at_s = 0.0

    @property
    def value(self) -> Proved:
        """What was proved last."""
        return self._proved

    def refresh(self) -> Proved:
        """Looks at the files. Returns what to use: the new, if they have changed and are good, else the old. Never raises."""
        with self._lock:
            try:
                found = self._read()
            except ConfigError as error:
                self._reject(str(error), error)
                return self._proved
            if found == self._used:
                self._rejected = None
            elif found != self._rejected or self._clock() >= self._retry_at_s:
                self._try(found)
            return self._proved

    # --- implementation ---

    def _try(self, found: tuple[bytes, ...]) -> None:
        try:
            proved = self._prove(found)
            if self._read() != found:
                return  # somebody is writing: the next look will see
        except Exception as error:  # whatever a file can bring about: what is in use is good
            self._retry_at_s = self._clock() + RETRY_S
            self._reject(found, error)
            return
        self._used, self._proved, self._rejected = found, proved, None
        self.reload_count += 1
        log.info("%s reloaded", self._name)

    def _reject(self, what: object, error: Exception) -> None:
        if what == self._rejected:
            return  # said already
        self._rejected = what
        self.rejection_count += 1
        reason = error if isinstance(error, ConfigError) else type(error).__name__
        log.error("%s not reloaded, the previous stays in use: %s", self._name, reason)

    def _read(self) -> tuple[bytes, ...]:
        return tuple(_read_file(path) for path in self._paths)


def _read_file(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would never end
            raise ConfigError(f"{path}: is not there, or not a file")
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: has more than {FILE_BYTES_MAX} bytes")
    return data
