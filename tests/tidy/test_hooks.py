"""The hooks of .pre-commit-config.yaml run: all pass on files as they are, and each refuses what its tool is there to refuse.

They run in a small repository with some of this checkout's files, where `.venv` is the environment that runs this test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HOOKS: list[dict[str, Any]] = [
    hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]
]
BIN = Path(sys.executable).parent

# Enough for every hook but mypy to have something to do. (`make lint` runs that one on everything; cold it takes half a minute.)
FILES = (".clang-format", ".pre-commit-config.yaml", "pyproject.toml", "Dockerfile", ".github", "proto", "tools", "ext/core/base")

# What each refuses.
MISTAKES = {
    "ruff-check": ("tools/untidy.py", '"""Imports what it does not use."""\n\nimport os\n'),
    "ruff-format": ("tools/untidy.py", '"""A string in the wrong quotes."""\n\nQUOTED = \'single\'\n'),
    "clang-format": ("ext/core/base/untidy.h", "#pragma once\nint   spaced( );\n"),
    "buf": ("proto/assay/v1/untidy.proto", 'syntax = "proto3";\npackage assay.v1;\nmessage not_camel_case {}\n'),
    "hadolint": ("Dockerfile", "FROM python:latest\nRUN cd /tmp\n"),
    "zizmor": (
        ".github/workflows/untidy.yml",
        "on: pull_request_target\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: echo ${{ github.head_ref }}\n",
    ),
}


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hooks")
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "as it is")
    (folder / ".venv").symlink_to(BIN.parent)
    return folder


def run_hooks(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As `git commit` does it in a shell that has not activated .venv."""
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != BIN)
    environment = {"PATH": path, "HOME": str(repository), "PRE_COMMIT_HOME": f"{repository}/.git/cache", "SKIP": "mypy"}
    command = [str(BIN / "pre-commit"), "run", "--color=never", *arguments]
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_every_hook_is_a_tool_of_the_locked_environment() -> None:
    assert len({hook["id"] for hook in HOOKS}) == len(HOOKS)
    assert {hook["id"] for hook in HOOKS} == {*MISTAKES, "mypy"}
    for hook in HOOKS:
        assert hook["language"] == "system"
        program = hook["entry"].split()[0]
        assert program.startswith(".venv/bin/")
        assert (BIN / Path(program).name).is_file()


def test_clang_format_s_files_are_those_of_make_lint() -> None:
    (pattern,) = [hook["files"] for hook in HOOKS if hook["id"] == "clang-format"]
    there = [str(path.relative_to(ROOT)) for tree in ("ext", "tests") for path in (ROOT / tree).rglob("*.*")]
    command = ["make", "-s", "--eval", "print: ; @echo $(CXX_FILES)", "print"]
    linted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert {name for name in there if re.search(pattern, name)} == set(linted)


def test_they_pass_on_the_tree_as_it_is(repository: Path) -> None:
    done = run_hooks(repository, "--all-files")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Passed") == len(MISTAKES)


@pytest.mark.parametrize("hook", MISTAKES)
def test_each_refuses_its_mistake(hook: str, repository: Path) -> None:
    name, content = MISTAKES[hook]
    path = repository / name
    path.write_text(content)
    git(repository, "add", name)
    try:
        done = run_hooks(repository, hook)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Failed" in done.stdout
    finally:
        git(repository, "reset", "-q", "--hard")
