"""A directory of bundles, NAME/VERSION/, what became of each, and which of them were chosen to answer.

    FOUND -> LOADING -> READY -> UNLOADING -> UNLOADED
               '-----> FAILED                    both may be loaded again

A version is there once its manifest is: who copies a bundle in writes manifest.yaml last. What was chosen (champion, challenger,
canary, shadow) is kept in routes.json in the same directory, so that a server that starts, here or elsewhere, comes back with it.
"""

from __future__ import annotations

import enum
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assay.errors import ConfigError
from assay.models.manifest import MANIFEST_FILE
from assay.models.names import NAME_PATTERN
from assay.models.route import Route

ROUTES_FILE: Final = "routes.json"
ROUTES_BYTES_MAX: Final = 1 << 20
LOCK_S_MAX: Final = 2.0
VERSIONS_MAX: Final = 4096  # in a directory; more are not looked at


class VersionState(enum.Enum):
    """Where one version stands. Whether it answers is for the routes to say."""

    FOUND = "found"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"
    UNLOADED = "unloaded"


_MOVES: Final = {
    VersionState.FOUND: {VersionState.LOADING},
    VersionState.LOADING: {VersionState.READY, VersionState.FAILED},
    VersionState.READY: {VersionState.UNLOADING},
    VersionState.UNLOADING: {VersionState.UNLOADED},
    VersionState.FAILED: {VersionState.LOADING},
    VersionState.UNLOADED: {VersionState.LOADING},
}


class Version:
    """One version of a model, as far as this server has come with it."""

    def __init__(self, name: str, version: str, state: VersionState = VersionState.FOUND) -> None:
        self.name = name
        self.version = version
        self.state = state
        self.reason = ""  # of FAILED: which file, why, and what to do

    def move(self, state: VersionState, reason: str = "") -> None:
        """The only way that a state changes."""
        assert state in _MOVES[self.state], f"{self.state.value} -> {state.value}"
        self.state = state
        self.reason = reason


class _RoutesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1] = 1
    models: Annotated[dict[Annotated[str, Field(pattern=NAME_PATTERN)], Route], Field(max_length=VERSIONS_MAX)] = {}


@dataclass(frozen=True)
class Repository:
    """The directory. Reads and writes it, and remembers nothing. Thread-safe."""

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise ConfigError(f"rollout.repository: {self.root} is not a directory; make it, with NAME/VERSION/ in it")

    def path_of(self, name: str, version: str) -> Path | None:
        """Of a complete bundle; None: there is none. Names that are no names, and links, lead nowhere."""
        if not (is_name(name) and is_name(version)):
            return None
        model, path = self.root / name, self.root / name / version
        is_bundle = not model.is_symlink() and not path.is_symlink() and (path / MANIFEST_FILE).is_file()
        return path if is_bundle else None

    def scan(self) -> list[tuple[str, str]]:
        """(name, version) of every complete bundle, by name, older versions first; at most VERSIONS_MAX. Raises OSError."""
        found = []
        for name in _names_in(self.root):
            versions = sorted(_names_in(self.root / name), key=version_key)
            found += [(name, version) for version in versions if self.path_of(name, version) is not None]
        return found[:VERSIONS_MAX]

    def routes(self) -> dict[str, Route]:
        """What was chosen. Raises ConfigError where the file is damaged: to guess would be to serve what nobody chose."""
        path = self.root / ROUTES_FILE
        try:
            with path.open("rb") as file:
                data = file.read(ROUTES_BYTES_MAX + 1)
            if len(data) > ROUTES_BYTES_MAX:
                raise ConfigError(f"{path}: larger than {ROUTES_BYTES_MAX} bytes; {_MEND}")
            return dict(_RoutesFile.model_validate_json(data).models)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; {_MEND}") from error
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigError(f"{path}: {where or 'the file'}: {first['msg']}; {_MEND}") from error

    def keep_route(self, name: str, route: Route) -> None:
        """Replaces what is kept of this model, in one step: who reads sees all of it. Other models stay as they are. Raises
        OSError."""
        with self._locked():
            kept = self.routes()
            if kept.get(name) == route:
                return
            routes = {**kept, name: route}
            text = _RoutesFile(models=dict(sorted(routes.items()))).model_dump_json(indent=2) + "\n"
            handle, temporary = tempfile.mkstemp(prefix=f".{ROUTES_FILE}-", dir=self.root)
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(temporary, 0o644)
                os.replace(temporary, self.root / ROUTES_FILE)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            _sync_directory(self.root)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Servers may share the directory, and each writes its choice. Raises OSError where another keeps it locked."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(handle)
            yield
        finally:
            os.close(handle)


def version_key(version: str) -> list[tuple[int, int, str]]:
    """Orders versions as people count: 10 after 9, 1.10 after 1.9; a longer one after what it begins with."""
    parts = re.findall(r"[0-9]+|[^0-9]+", version)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def is_name(text: str) -> bool:
    """Whether it can be the name of a model or a version: no path can."""
    return re.fullmatch(NAME_PATTERN, text) is not None and not text.endswith("\n")


# --- implementation ---

_MEND = "mend it, or remove it: the newest version of each model then answers"


def _names_in(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if is_name(entry.name) and entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # it went, or is not for us: then there is nothing to find
        return []


def _lock(handle: int) -> None:
    """Whoever may read the directory can lock it: so not for ever."""
    deadline_s = time.monotonic() + LOCK_S_MAX
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline_s:
                raise OSError(error.errno, f"another process has kept the repository locked for {LOCK_S_MAX:g} s") from error
            time.sleep(0.01)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
