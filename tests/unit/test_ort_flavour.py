"""Which wheel of ONNX Runtime `make` installs on which machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from assay.models.cuda_build import CUDA_12, CUDA_13

ROOT = Path(__file__).resolve().parents[2]


def flavour(folder: Path, nvidia_smi: str | None) -> str:
    if nvidia_smi is not None:
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{nvidia_smi}\n")
        program.chmod(0o755)
    (folder / "sed").symlink_to(shutil.which("sed") or "/bin/sed")
    environment = dict(os.environ, PATH=str(folder))  # this machine's own nvidia-smi is not asked
    command = [str(ROOT / "tools" / "ort_flavour.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("driver", "wheel"),
    [
        (f"{CUDA_13.driver_min}.65.06", CUDA_13.extra),
        ("600.1", CUDA_13.extra),
        (f"{CUDA_13.driver_min - 1}.99", CUDA_12.extra),
        (f"{CUDA_12.driver_min}.60.13", CUDA_12.extra),
        (f"{CUDA_12.driver_min - 1}.99", "cpu"),
        ("470.256.02", "cpu"),
    ],
)
def test_the_newest_wheel_that_the_driver_runs(tmp_path: Path, driver: str, wheel: str) -> None:
    assert flavour(tmp_path, f"echo {driver}; echo {driver}") == wheel
    assert (ROOT / "server" / "assay" / "lock" / f"{wheel}.txt").is_file()


@pytest.mark.parametrize(
    "nvidia_smi",
    [
        None,
        "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver. 580.65'; exit 9",
        "echo 'No devices were found'; exit 6",
        "exit 1",
    ],
)
def test_without_a_driver_that_answers_the_cpus(tmp_path: Path, nvidia_smi: str | None) -> None:
    assert flavour(tmp_path, nvidia_smi) == "cpu"


@pytest.mark.parametrize(("ort", "is_known"), [("cpu", True), ("gpu", True), ("gpu-cu12", True), ("cuda", False)])
def test_make_knows_the_three(ort: str, is_known: bool) -> None:
    done = subprocess.run(["make", "-s", "help", f"ORT={ort}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == is_known
    assert is_known or "ORT is cpu, gpu or gpu-cu12, not cuda" in done.stderr
