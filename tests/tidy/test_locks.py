"""The lock files pin all of what pyproject.toml asks for, in versions that it allows, and each flavour nothing of another's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.locks import LINUX, LOCKS, RUNTIME_LOCKS, read_lock

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PYTHONS = [item.rpartition(" ")[2] for item in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", item)]
EVERY_LOCK = sorted(path.stem for path in LOCKS.glob("*.txt"))

# Versions under which something is known to break, and what. pyproject.toml may ask for more, never for less.
FLOORS = {
    "grpcio": "1.82.3",  # older ones inflate a gzip bomb whole
    "grpcio-health-checking": "1.82.3",
    "grpcio-reflection": "1.82.3",
    "protobuf": "7",  # what these are generated for
    "redis": "8",
    "pydantic": "2",
    "onnx": "1.21",  # older ones follow hard links out of a model's directory
}

# What `pip install` takes for a lock: the dependencies, an extra, groups. The CPU lock's ONNX Runtime is its own (tools/lock.sh).
ASKED = {
    "cpu": [item for item in PROJECT["dependencies"] if not item.startswith("onnxruntime")] + ["onnxruntime>=1.24"],
    "gpu": PROJECT["dependencies"] + PROJECT["optional-dependencies"]["gpu"],
    "gpu-cu12": PROJECT["dependencies"] + PROJECT["optional-dependencies"]["gpu-cu12"],
    "dev": PROJECT["optional-dependencies"]["train"]
    + PROJECT["optional-dependencies"]["mlflow"]
    + PYPROJECT["dependency-groups"]["dev"],
}


def installed(lock: str, python: str) -> dict[str, str]:
    """Package -> version that Linux on x86-64 takes from a lock."""
    pins = [pin for pin in read_lock(lock) if pin.is_for_linux(python)]
    versions = {pin.name: pin.version for pin in pins}
    assert len(versions) == len(pins), f"{lock}: a package in two versions on Python {python}"
    return {str(name): version for name, version in versions.items()}


def test_every_lock_is_known_here() -> None:
    assert sorted(ASKED) == EVERY_LOCK
    assert {*RUNTIME_LOCKS, "dev"} == set(ASKED)


@pytest.mark.parametrize("lock", EVERY_LOCK)
def test_every_package_is_pinned_with_hashes(lock: str) -> None:
    pins = read_lock(lock)
    assert len(pins) > 30
    for pin in pins:
        assert pin.version
        assert pin.hashes, f"{pin.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", found) for found in pin.hashes), f"{pin.name}: {pin.hashes}"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", EVERY_LOCK)
def test_a_lock_holds_what_pyproject_asks_for(lock: str, python: str) -> None:
    found = installed(lock, python)
    for line in [*ASKED[lock], *PYPROJECT["dependency-groups"]["build"]]:
        asked = Requirement(line)
        if asked.marker and not asked.marker.evaluate({**LINUX, "python_version": python}):
            continue
        name = str(canonicalize_name(asked.name))
        assert name in found, f"{lock}.txt has no {name}: run make lock"
        assert asked.specifier.contains(found[name], prereleases=True), f"{lock}.txt has {name} {found[name]}, asked for {asked}"


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_floors_that_were_checked_hold(name: str, floor: str) -> None:
    (asked,) = [found for found in map(Requirement, PROJECT["dependencies"]) if found.name == name]
    (lowest,) = [specifier.version for specifier in asked.specifier if specifier.operator == ">="]
    assert Version(lowest) >= Version(floor), f"pyproject.toml allows {name} {lowest}"
    for lock in RUNTIME_LOCKS:
        assert Version(installed(lock, PYTHONS[0])[name]) >= Version(floor), f"{lock}.txt"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_flavours_differ_in_onnx_runtime_and_its_libraries_only(python: str) -> None:
    common = [
        {name: version for name, version in installed(lock, python).items() if not re.match("onnxruntime|nvidia-", name)}
        for lock in RUNTIME_LOCKS
    ]
    assert common[0] == common[1] == common[2]
    dev = installed("dev", python)
    both = common[0].keys() & dev.keys()
    assert "grpcio" in both
    assert {name: common[0][name] for name in both} == {name: dev[name] for name in both}


def test_the_cpu_lock_installs_nothing_for_gpus() -> None:
    for python in PYTHONS:
        found = installed("cpu", python)
        assert "onnxruntime" in found
        assert [name for name in found if re.search("nvidia|gpu|cuda", name)] == []


@pytest.mark.parametrize(("lock", "suffix", "other"), [("gpu", "-cu13", "-cu12"), ("gpu-cu12", "-cu12", "-cu13")])
def test_a_gpu_lock_brings_the_libraries_of_one_cuda(lock: str, suffix: str, other: str) -> None:
    found = installed(lock, PYTHONS[0])
    assert "onnxruntime" not in found, "two wheels of ONNX Runtime write the same folder"
    assert f"nvidia-cudnn{suffix}" in found
    assert [name for name in found if name.endswith(other)] == []
    (runtime,) = [version for name, version in found.items() if name.startswith("nvidia-cuda-runtime")]
    assert runtime.partition(".")[0] == suffix[-2:]
    # Up to 1.26 for CUDA 12; 1.27's extras do not resolve; from 1.28 on for CUDA 13.
    is_cuda_13 = Version(found["onnxruntime-gpu"]) >= Version("1.28")
    assert is_cuda_13 == (lock == "gpu")


def test_what_builds_the_core_is_asked_for_alike() -> None:
    """pip's isolated build, `make` and the image use the same compiler of Cython."""
    assert PYPROJECT["build-system"]["requires"] == PYPROJECT["dependency-groups"]["build"]


def test_the_locks_are_made_for_the_oldest_python() -> None:
    script = (ROOT / "tools" / "lock.sh").read_text()
    assert f"--python-version {PYTHONS[0]} " in script
    assert "--generate-hashes" in script
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
