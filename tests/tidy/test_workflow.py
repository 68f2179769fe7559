"""Continuous integration runs the verbs of the Makefile, with few rights and with actions that nobody can change under it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EXAMPLE = ROOT / "examples" / "ci" / "model-pipeline.yml"  # for other repositories: test_model_pipeline.py has its commands
TRUSTED_OWNERS = {"actions"}


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["jobs"]
    assert found
    return found


def verbs() -> set[str]:
    """What `make` can be asked for."""
    (line,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return set(line.split())


@pytest.mark.parametrize("path", [*WORKFLOWS, EXAMPLE], ids=lambda path: path.name)
def test_zizmor_finds_nothing(path: Path) -> None:
    zizmor = Path(sys.executable).parent / "zizmor"
    command = [zizmor, "--offline", "--persona", "pedantic", "--quiet", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*WORKFLOWS, EXAMPLE], ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_say_which_version_that_is(path: Path) -> None:
    lines = [line.strip() for line in path.read_text().splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        found = re.fullmatch(r"- uses: ([\w-]+)/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
        assert found, line
        assert found[1] in TRUSTED_OWNERS
    versions = {tuple(line.split("@")) for line in lines}
    assert len(versions) == len({action for action, _ in versions}), "one action in two versions"


@pytest.mark.parametrize("path", [*WORKFLOWS, EXAMPLE], ids=lambda path: path.name)
def test_jobs_may_read_the_sources_and_nothing_else(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    assert "pull_request_target" not in workflow[True]  # YAML 1.1 reads `on` as true
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        assert job["timeout-minutes"] <= 60


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_steps_are_make_and_verbs_that_exist(path: Path) -> None:
    for name, job in jobs(path).items():
        matrix = job["strategy"]["matrix"]
        for step in job["steps"]:
            if "run" not in step:
                continue
            found = re.fullmatch(r'make ("\$(?P<variable>[A-Z]+)"|(?P<verb>\w+))( "\w+=\$[A-Z]+")?', step["run"])
            assert found, f"{name}: {step['run']}"
            wanted = set(matrix[found["variable"].lower()]) if found["variable"] else {found["verb"]}
            assert wanted <= verbs(), f"{name}: {wanted - verbs()}"


def test_the_gate_of_the_repository_is_a_part_of_it() -> None:
    """.ci/run does what the workflow does, on one machine: lint, native and pytest."""
    script = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"make (\w+)$", script, re.MULTILINE) == ["lint", "test"]
    assert re.search(r"^test: native pytest$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    matrix = jobs(ROOT / ".github" / "workflows" / "ci.yml")["check"]["strategy"]["matrix"]
    assert {"lint", "native"} <= set(matrix["verb"])


def test_every_verb_is_explained_and_none_is_missing() -> None:
    makefile = (ROOT / "Makefile").read_text()
    explained = set(re.findall(r"@echo 'make (\w+) ", makefile))
    assert explained == verbs() - {"help"}
    assert all(re.search(rf"^{verb}:", makefile, re.MULTILINE) for verb in verbs())
