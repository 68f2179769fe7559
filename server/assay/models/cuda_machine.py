"""NVIDIA's driver and cards, as the machine shows them. Looks only: nothing here starts CUDA in this process."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from assay.models.cuda_build import Capability

DRIVER_FILE = Path("/proc/driver/nvidia/version")
DRIVER_LIBRARY: Final = "libcuda.so.1"
_SMI_SECONDS_MAX = 20  # without its persistence daemon the driver takes seconds to wake a card
_SMI_FIELDS = "index,name,driver_version,compute_cap,memory.total"


@dataclass(frozen=True)
class Card:
    index: int
    name: str
    capability: Capability | None
    memory: str  # as nvidia-smi prints it


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver. `version` is None where it has a library but says no version (a container, WSL)."""

    version: str | None
    has_library: bool  # libcuda.so.1 can be opened: what CUDA programs call

    @property
    def branch(self) -> int | None:
        """580 of 580.65.06."""
        return int(self.version.partition(".")[0]) if self.version else None


def find_driver() -> Driver | None:
    """None: this machine has no NVIDIA driver."""
    has_library = _has_driver_library()
    try:
        found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", DRIVER_FILE.read_text())
    except OSError:
        found = None
    return Driver(found[1] if found else None, has_library) if has_library or found else None


def driver_cuda_version() -> int | None:
    """Which CUDA the driver's library can serve: 13000 is CUDA 13.0. Of the library and not of the kernel's module, so that
    NVIDIA's packages for forward compatibility count. None where nobody can tell. Starts nothing."""
    version = ctypes.c_int()
    try:
        is_told = ctypes.CDLL(DRIVER_LIBRARY).cuDriverGetVersion(ctypes.byref(version)) == 0
    except (OSError, AttributeError):
        return None
    return version.value if is_told and version.value > 0 else None


def list_cards() -> tuple[tuple[Card, ...], str | None]:
    """The cards and the driver's version as nvidia-smi gives them; nothing where there is no nvidia-smi or it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), None
    command = [program, f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return (), None
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines()] if done.returncode == 0 else []
    rows = [row for row in rows if len(row) == 5 and row[0].isdigit()]
    cards = tuple(Card(int(index), name, _capability(capability), memory) for index, name, _, capability, memory in rows)
    return cards, rows[0][2] if rows else None


# --- implementation ---


def _has_driver_library() -> bool:
    try:
        ctypes.CDLL(DRIVER_LIBRARY)
    except OSError:
        return False
    return True


def _capability(text: str) -> Capability | None:
    found = re.fullmatch(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None
