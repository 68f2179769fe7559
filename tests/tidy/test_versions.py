"""What is written in several places is the same everywhere: Pythons, images, ports, lock files, licence."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.cli import doctor
from assay.config import Config
from assay.config_loading import load_config
from tests.support.dockerfile import environment, read_stages
from tests.support.locks import LOCKS, RUNTIME_LOCKS

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
STAGES = read_stages(ROOT / "Dockerfile")
DEVCONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # of its text, as apache.org has it
IMAGE = re.compile(r"python:(?P<tag>(?P<python>3\.\d+)\.\d+(?P<slim>-slim)?-(?P<debian>\w+))@sha256:[0-9a-f]{64}")


def text(path: str) -> str:
    return (ROOT / path).read_text()


def supported_pythons() -> list[str]:
    """The oldest first."""
    lines = PYPROJECT["project"]["classifiers"]
    return [found[1] for line in lines if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))]


def workflow_pythons() -> set[str]:
    """Every Python that a job names itself or takes from its matrix."""
    found: set[str] = set()
    for job in WORKFLOW["jobs"].values():
        found |= set(job["strategy"]["matrix"].get("python", []))
        found |= {step["with"]["python-version"] for step in job["steps"] if "python-version" in step.get("with", {})}
    return {version for version in found if not version.startswith("$")}


def listen_port() -> int:
    return int(Config().listen.rpartition(":")[2])


# --- Python


def test_the_oldest_python_is_the_same_everywhere() -> None:
    oldest = supported_pythons()[0]
    minor = int(oldest.partition(".")[2])
    assert PYPROJECT["project"]["requires-python"] == f">={oldest}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py3{minor}"
    assert (3, minor) == doctor.PYTHON_MIN
    assert f"sys.version_info < (3, {minor})" in text("tools/check_machine.sh")
    assert f"Python {oldest} or newer" in text("README.md")
    assert f"Python {oldest} or newer" in text("docs/install.md")


def test_every_supported_python_is_tested_and_no_other_is_used() -> None:
    assert WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"] == supported_pythons()
    assert workflow_pythons() == set(supported_pythons())
    assert f"3.{sys.version_info.minor}" in supported_pythons()


def test_both_base_images_are_one_release_pinned_by_digest() -> None:
    """The venv of one runs in the other: the same Python in the same place, the same C library."""
    bases = [stage.base for stage in STAGES.values() if stage.base not in STAGES]
    images = [IMAGE.fullmatch(base) for base in bases]
    found = [image for image in images if image]
    assert len(found) == len(bases), f"a base image without version, release or digest: {bases}"
    assert [bool(image["slim"]) for image in found] == [False, True]
    assert found[0]["tag"] == found[1]["tag"].replace("-slim", "")
    assert found[0]["python"] in supported_pythons()
    checks = WORKFLOW["jobs"]["check"]["steps"]
    assert {step["with"]["python-version"] for step in checks if "python-version" in step.get("with", {})} == {found[0]["python"]}


def test_the_developers_container_is_a_target_of_the_same_file() -> None:
    build = DEVCONTAINER["build"]
    place = ROOT / ".devcontainer"
    assert (place / build["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (place / build["context"]).resolve() == ROOT
    stage = STAGES[build["target"]]
    assert stage.base == "toolchain"
    assert any(f" {DEVCONTAINER['remoteUser']}" in command for command in stage.all("RUN"))


# --- locks


def test_images_install_from_the_locks_that_the_wheel_ships() -> None:
    default = dict(argument.split("=") for argument in STAGES["cuda-build"].all("ARG"))
    assert default == {"GPU_LOCK": "gpu"}
    copied = {
        name: next(
            source for line in STAGES[name].all("COPY") for source in line.split() if source.startswith("server/assay/lock/")
        )
        for name in ("cpu-build", "cuda-build")
    }
    assert copied == {"cpu-build": "server/assay/lock/cpu.txt", "cuda-build": "server/assay/lock/${GPU_LOCK}.txt"}
    shipped = {path.stem for pattern in ("cpu.txt", "gpu*.txt") for path in LOCKS.glob(pattern)}
    assert shipped == set(RUNTIME_LOCKS)
    assert {"lock/cpu.txt", "lock/gpu*.txt"} <= set(PYPROJECT["tool"]["setuptools"]["package-data"]["assay"])


def test_make_and_the_lock_script_know_the_same_locks() -> None:
    written = re.findall(r"-o server/assay/lock/([\w-]+)\.txt", text("tools/lock.sh"))
    assert sorted(written) == sorted([*RUNTIME_LOCKS, "dev"])
    assert "server/assay/lock/$(ORT).txt" in text("Makefile")
    assert "for lock in server/assay/lock/*.txt" in text("Makefile")  # make audit


# --- ports, variables


def test_the_port_is_the_same_everywhere() -> None:
    port = listen_port()
    variables = environment(STAGES, "cpu")
    assert variables["ASSAY_LISTEN"] == f"0.0.0.0:{port}"
    exposed = STAGES["server"].all("EXPOSE")[0].split()
    assert exposed == [str(port), variables["ASSAY_METRICS_LISTEN"].rpartition(":")[2]]
    assert f'"127.0.0.1:{port}"' in STAGES["server"].all("HEALTHCHECK")[0]
    assert [str(found) for found in DEVCONTAINER["forwardPorts"]] == exposed
    assert f"127.0.0.1:{port}" in text("README.md")


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_what_an_image_sets_is_configuration(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server refuses variables that it does not know: one misspelt here, and no container starts."""
    variables = {name: value for name, value in environment(STAGES, target).items() if name.startswith("ASSAY_")}
    assert len(variables) >= 4
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    loaded = load_config()
    assert loaded.config.listen == variables["ASSAY_LISTEN"]
    assert set(loaded.sources.values()) == {"environment"}


def test_archives_carry_the_same_time_by_make_and_in_the_image() -> None:
    times = [environment(STAGES, "toolchain")["SOURCE_DATE_EPOCH"], *re.findall(r"SOURCE_DATE_EPOCH=(\d+)", text("Makefile"))]
    assert times == ["315532800", "315532800"]


# --- what is sent to the builder


def test_the_builder_gets_what_the_sdist_holds() -> None:
    lines = text(".dockerignore").splitlines()
    assert lines[1] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    manifest = text("MANIFEST.in")
    trees = set(re.findall(r"^graft (\S+)$", manifest, re.MULTILINE))
    files = set(re.findall(r"^include (.+)$", manifest, re.MULTILINE)[0].split())
    of_itself = {"setup.py", "pyproject.toml", "MANIFEST.in", PYPROJECT["project"]["readme"]}
    assert let_in == trees | files | of_itself | set(PYPROJECT["project"]["license-files"])
    assert [name for name in let_in if not (ROOT / name).exists()] == []


# --- licence


def test_the_licence_is_apache_2_0_to_the_letter() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    assert 'org.opencontainers.image.licenses="Apache-2.0"' in STAGES["server"].all("LABEL")[0]
    assert "The assay authors" in text("NOTICE")
    assert PYPROJECT["project"]["authors"] == [{"name": "The assay authors"}]
