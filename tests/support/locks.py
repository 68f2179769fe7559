"""The lock files as data: what each pins, for which machines, with which hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

LOCKS = Path(__file__).resolve().parents[2] / "server" / "assay" / "lock"
RUNTIME_LOCKS = ("cpu", "gpu", "gpu-cu12")
LINUX = {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux", "platform_machine": "x86_64"}


@dataclass(frozen=True)
class Pin:
    """One package in one version, on the machines that its marker names."""

    name: NormalizedName
    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def version(self) -> str:
        """The version; a pin that is not NAME==VERSION fails here."""
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "==", f"{self.requirement} is not pinned"
        assert "*" not in specifier.version, f"{self.requirement} is not pinned"
        return specifier.version

    def is_for_linux(self, python: str) -> bool:
        """Whether Linux on x86-64 with this Python (`3.11`) takes it."""
        versions = {"python_version": python, "python_full_version": f"{python}.20", "implementation_name": "cpython"}
        environment = {**LINUX, **versions, "platform_python_implementation": "CPython"}
        return self.requirement.marker is None or self.requirement.marker.evaluate(environment)


def read_lock(name: str) -> list[Pin]:
    """The pins of lock/NAME.txt, in order."""
    text = re.sub(r"^ *#.*\n", "", (LOCKS / f"{name}.txt").read_text(), flags=re.MULTILINE)
    pins = []
    for line in text.replace("\\\n", "").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        parsed = Requirement(requirement)
        pins.append(Pin(canonicalize_name(parsed.name), parsed, tuple(hashes)))
    return pins
