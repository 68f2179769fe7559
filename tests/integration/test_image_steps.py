"""The steps of the Dockerfile, run on this machine in empty folders: Docker may be absent, but its commands are only commands.

They download every locked package and compile the core twice.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from assay import __version__
from assay.cli.doctor import BUILD_PACKAGES
from tests.support.dockerfile import Stage, environment, read_stages
from tests.support.locks import read_lock

ROOT = Path(__file__).resolve().parents[2]
STAGES = read_stages(ROOT / "Dockerfile")
STEP_S = 900


def run(command: str, env: dict[str, str], cwd: Path) -> str:
    """stdout of a shell command; on failure the test fails with what it said."""
    done = subprocess.run(command, shell=True, cwd=cwd, env=env, capture_output=True, text=True, timeout=STEP_S, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def copy_context(target: Path) -> None:
    """COPY . : what .dockerignore lets in."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    out = shutil.ignore_patterns(*(line.removeprefix("**/") for line in lines if line.startswith("**/")))
    for name in (line[1:] for line in lines if line.startswith("!")):
        target.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=out)
        else:
            shutil.copy(ROOT / name, target / name)


def carry_out(stage: Stage, root: Path) -> dict[str, str]:
    """Every COPY and RUN of a stage, with `root` before the absolute paths. Returns the environment that it ran in."""
    programs = root / "usr" / "local" / "bin"
    programs.mkdir(parents=True)
    for name, module in (("python", ""), ("pip", "-m pip")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (programs / name).chmod(0o755)
    outside = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH"} and not name.startswith("ASSAY_")}
    env = {**outside, **environment(STAGES, stage.name), "PATH": f"{programs}:{os.environ['PATH']}"}
    for keyword, arguments in stage.instructions:
        if keyword == "COPY":
            source, target = arguments.split()
            there = root / target.strip("/")
            if source == ".":
                copy_context(there)
            else:
                there.mkdir(parents=True)
                shutil.copy(ROOT / source, there)
        elif keyword == "RUN":
            run(re.sub(r"(?<= )/(?=\w)", f"{root}/", arguments), env, root)
    return env


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_the_cpu_image_s_steps_give_the_locked_packages_and_a_server_that_is_well(tmp_path: Path) -> None:
    env = carry_out(STAGES["cpu-build"], tmp_path)
    python = tmp_path / "opt" / "assay" / "bin" / "python"

    code = "from importlib.metadata import distributions as d; print('\\n'.join(f'{x.name}=={x.version}' for x in d()))"
    listed = [line.split("==") for line in run(f'{python} -c "{code}"', env, tmp_path).split()]
    found = {str(canonicalize_name(name)): version for name, version in listed}
    here = f"3.{sys.version_info.minor}"
    locked = {str(pin.name): pin.version for pin in read_lock("cpu") if pin.is_for_linux(here) and pin.name not in BUILD_PACKAGES}
    assert found == {**locked, "assay": __version__}

    assay = python.parent / "assay"
    assert __version__ in run(f"{assay} --version", env, tmp_path)
    findings = json.loads(run(f"{assay} doctor --json", env, tmp_path))
    assert {finding["name"]: finding["found"] for finding in findings if finding["status"] == "failed"} == {}

    # The same sources in another folder, compiled anew: the same bytes.
    (first,) = (tmp_path / "dist").iterdir()
    other = tmp_path / "elsewhere"
    copy_context(other / "src")
    tools = tmp_path / "tools"
    run(f"python -m venv --without-pip {tools}", env, other)
    run(f"pip --python {tools} install --no-deps --require-hashes -r {tmp_path}/lock/cpu.txt", env, other)
    run(f"pip --python {tools} wheel --no-deps --no-build-isolation --wheel-dir {other}/dist {other}/src", env, other)
    (second,) = (other / "dist").iterdir()
    assert second.name == first.name
    assert second.read_bytes() == first.read_bytes(), "the wheel depends on more than its sources"
