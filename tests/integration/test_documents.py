"""What the documents show is what happens: every ```console block is run, in order, against a real demo server.

A line `$ command` is run by a shell in an empty directory; the lines under it are its expected output, where `...` stands for
anything (as in doctest). Lines without expected output must only succeed. ```sh blocks (make, docker, git) are not run here.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import ServeProcess

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("README.md"))]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
CHECKER = doctest.OutputChecker()
REDIS = "redis://127.0.0.1:6379"  # where documents say it is
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def commands(document: Path) -> Iterator[tuple[str, str]]:
    """(command, expected output) of every `$ ` line; a command goes on after a backslash."""
    for block in BLOCK.findall(document.read_text()):
        joined = block.replace("\\\n", " ")
        for part in re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            yield command, expected


@pytest.fixture(scope="module")
def demo() -> Iterator[ServeProcess]:
    """The demo, as `make serve` starts it."""
    with ServeProcess() as server:
        yield server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def _redis_for(request: pytest.FixtureRequest, texts: list[tuple[str, str]]) -> str:
    """Of a Redis of its own, if the document speaks of one."""
    if not any(REDIS in command for command, _ in texts):
        return REDIS
    return f"redis://127.0.0.1:{request.getfixturevalue('redis').port}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_console_blocks(document: Path, demo: ServeProcess, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    programs = tmp_path / "bin"  # python -m assay, whether or not the package's scripts are installed
    programs.mkdir()
    (programs / "assay").write_text(f'#!/bin/sh\nexec {sys.executable} -m assay "$@"\n')
    (programs / "assay").chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = dict(os.environ, PATH=path, NO_COLOR="1", COLUMNS="120")
    texts = list(commands(document))
    redis = _redis_for(request, texts)
    for command, expected in texts:
        here = command.replace("127.0.0.1:50051", demo.target).replace("examples/", f"{ROOT}/examples/").replace(REDIS, redis)
        done = subprocess.run(
            here, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{document.name}: $ {command}\n{output}"
        if expected.strip():
            expected = expected.replace(REDIS, redis)
            assert CHECKER.check_output(expected, output, FLAGS), (
                f"{document.name}: $ {command}\nexpected:\n{expected}\ngot:\n{output}"
            )
