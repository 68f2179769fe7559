"""Triton's public clients for tests, each in an environment of its own: they want an older protobuf than ours.

tritonclient, and perf_analyzer, a program that its wheel of 2.41.1 holds. That one also wants libb64 (apt-get install
libb64-0d) and NVIDIA's CUDA runtime, which is a wheel.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.own_venv import OwnVenv

CLIENT = ("tritonclient[grpc]==2.73.0",)
PERF_ANALYZER = ("tritonclient==2.41.1", "nvidia-cuda-runtime-cu12==12.9.79")
LINUX_HINT = "There are wheels of it for Linux on x86-64"


def triton_venv() -> OwnVenv:
    """tritonclient for gRPC, blocking and aio. Skips where pip has none."""
    return OwnVenv("triton", CLIENT, sees_ours=False)


def perf_analyzer(*arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Runs it. Skips where it cannot be had, or a library that it wants."""
    venv = OwnVenv("perf-analyzer", PERF_ANALYZER, LINUX_HINT, sees_ours=False)
    program = venv.directory / "bin" / "perf_analyzer"
    if not program.exists():
        pytest.skip(f"this platform's wheel of tritonclient has no perf_analyzer. {LINUX_HINT}")
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(_library_folders(venv))}
    found = subprocess.run(["ldd", str(program)], capture_output=True, text=True, env=environment, check=True)
    missing = [line.split()[0] for line in found.stdout.splitlines() if "not found" in line]
    if missing:
        pytest.skip(f"perf_analyzer wants {', '.join(missing)}: sudo apt-get install -y libb64-0d, or name it in LD_LIBRARY_PATH")
    program.chmod(0o755)
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, env=environment, timeout=timeout_s, check=False
    )


def _library_folders(venv: OwnVenv) -> list[str]:
    wheels: list[Path] = sorted(venv.directory.glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib"))
    given = os.environ.get("LD_LIBRARY_PATH")
    return [*([given] if given else []), *map(str, wheels)]
