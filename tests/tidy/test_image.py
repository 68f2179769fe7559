"""The Dockerfile: no engine is needed to see that a server runs as nobody, starts without a shell and writes nowhere but /tmp."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.cli.main import app
from tests.support.dockerfile import environment, lineage, read_stages

ROOT = Path(__file__).resolve().parents[2]
STAGES = read_stages(ROOT / "Dockerfile")
SERVERS = ("cpu", "cuda")


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    command = [hadolint, "--disable-ignore-pragma", "--failure-threshold", "style", ROOT / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_default_target_is_the_cpu_s() -> None:
    assert list(STAGES)[-1] == "cpu"


@pytest.mark.parametrize("name", [*SERVERS, "dev"])
def test_nobody_runs_as_root(name: str) -> None:
    users = [user for stage in lineage(STAGES, name) for user in stage.all("USER")]
    user, _, group = users[0].partition(":")
    # By number: Kubernetes cannot tell whether a name is root (runAsNonRoot).
    assert int(user) > 0
    assert int(group) > 0


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_packages_on_the_slim_image_and_nothing_else(name: str) -> None:
    stages = lineage(STAGES, name)
    assert "-slim-" in stages[-1].base
    assert [command for stage in stages for command in stage.all("RUN")] == []
    assert [line for stage in stages for line in stage.all("COPY")] == [f"--from={name}-build /opt/assay /opt/assay"]


@pytest.mark.parametrize("name", SERVERS)
def test_packages_come_from_hashes_and_build_tools_stay_behind(name: str) -> None:
    commands = [part.strip() for line in STAGES[f"{name}-build"].all("RUN") for part in line.split("&&")]
    installs = [command for command in commands if re.search(r"^pip .* install ", command)]
    assert len(installs) == 2
    assert all("--require-hashes" in command or "--no-index" in command for command in installs)
    assert all("--no-deps" in command for command in installs)
    assert commands[0] == "python -m venv --without-pip /opt/assay"
    assert commands[-1] == "pip --python /opt/assay uninstall --yes cython setuptools"
    assert not any("apt-get" in command or "curl" in command for command in commands)


def test_no_shell_stands_between_the_engine_and_the_server() -> None:
    """A shell as process 1 would swallow SIGTERM, and the drain with it."""
    server = STAGES["server"]
    assert json.loads(server.all("ENTRYPOINT")[0]) == ["assay"]
    assert json.loads(server.all("CMD")[0]) == ["serve"]
    assert server.all("STOPSIGNAL") == ["SIGTERM"]
    check = server.all("HEALTHCHECK")[0].partition(" CMD ")[2]
    assert isinstance(json.loads(check), list)


def test_the_health_check_is_a_command_that_exists() -> None:
    words = json.loads(STAGES["server"].all("HEALTHCHECK")[0].partition(" CMD ")[2])
    assert words[:2] == ["assay", "doctor"]
    shown = CliRunner().invoke(app, ["doctor", "--help"], env={"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    assert all(word in shown.output for word in words if word.startswith("--"))


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_writes_to_tmp_only(name: str) -> None:
    variables = environment(STAGES, name)
    assert variables["ASSAY_CACHE_DIR"].startswith("/tmp/")
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert STAGES["server"].all("WORKDIR") == ["/tmp"]


def test_a_gpu_is_asked_for_computing_only() -> None:
    variables = environment(STAGES, "cuda")
    assert variables["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert "NVIDIA_VISIBLE_DEVICES" not in environment(STAGES, "cpu")
