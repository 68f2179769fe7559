"""CUDA's and cuDNN's libraries: where they lie, and opening them before ONNX Runtime asks for them.

They come as wheels (the extras gpu and gpu-cu12) in folders that the dynamic loader does not search. A library that is open is
found by its name, wherever it lies: so each is opened by its path, lowest dependencies first. Nothing is imported to find them.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from assay.models.cuda_build import CudaBuild

_LDCONFIG_SECONDS_MAX = 10


@dataclass(frozen=True)
class FoundLibrary:
    """Every place of one library, in the order in which it would be taken: the first is the one that is used."""

    name: str
    paths: tuple[Path, ...]
    is_shadowed: bool  # LD_LIBRARY_PATH has another one than the wheels


def open_libraries(build: CudaBuild) -> list[str]:
    """Opens the wheels' libraries and returns what could not be opened and why. A library that no wheel brings is left to the
    dynamic loader. Idempotent; open libraries stay open."""
    problems = []
    for name in build.libraries:
        for path in wheel_paths(name)[:1]:
            try:
                ctypes.CDLL(str(path))
            except OSError as error:
                problems.append(str(error))
    return problems


def find_libraries(build: CudaBuild) -> list[FoundLibrary]:
    """Where each library of the build lies: in the wheels, on LD_LIBRARY_PATH, in the loader's cache."""
    cached = _loader_cache()
    found = []
    for name in build.libraries:
        wheels = wheel_paths(name)
        searched = [path for folder in _search_path() if (path := folder / name).is_file()]
        places = [*wheels, *searched, *cached.get(name, [])]
        is_shadowed = bool(wheels) and any(path.resolve() != wheels[0].resolve() for path in searched)
        found.append(FoundLibrary(name, tuple(_distinct(places)), is_shadowed))
    return found


def wheel_paths(name: str) -> list[Path]:
    """A library's places in the nvidia wheels: nvidia/cu13/lib since CUDA 13, before that nvidia/cublas/lib and so on."""
    return [path for folder in _wheel_folders() for path in sorted(folder.glob(f"*/lib/{name}"))]


# --- implementation ---


def _wheel_folders() -> list[Path]:
    """Where the package `nvidia` lies, once for each place that has a part of it. Finding it imports nothing."""
    try:
        spec = find_spec("nvidia")
    except ValueError:
        return []
    return [Path(location) for location in (spec.submodule_search_locations if spec else None) or ()]


def _search_path() -> list[Path]:
    return [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]


def _loader_cache() -> dict[str, list[Path]]:
    """Library name -> its places in the loader's cache (ldconfig -p)."""
    try:
        done = subprocess.run(
            ["/sbin/ldconfig", "-p"], capture_output=True, text=True, timeout=_LDCONFIG_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    places: dict[str, list[Path]] = {}
    for name, path in re.findall(r"^\s*(\S+) \(libc6,(?:x86-64|AArch64)[^)]*\) => (\S+)$", done.stdout, re.MULTILINE):
        places.setdefault(name, []).append(Path(path))
    return places


def _distinct(paths: list[Path]) -> list[Path]:
    """Each file once, under the first of its names."""
    return list({path.resolve(): path for path in reversed(paths)}.values())[::-1]
