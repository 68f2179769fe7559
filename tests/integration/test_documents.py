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

from tests.support.server import ServeProcess

ROOT = Path(__file__).resolve().parents[2]
ALL_DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("README.md"))]
# These train models and start servers of their own: test_quickstart.py runs them.
OWN_MODELS = [ROOT / "docs" / "quickstart.md", ROOT / "examples" / "online_payments" / "README.md"]
DOCUMENTS = [document for document in ALL_DOCUMENTS if document not in OWN_MODELS]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
CHECKER = doctest.OutputChecker()
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_console_blocks(document: Path, demo: ServeProcess, tmp_path: Path) -> None:
    programs = tmp_path / "bin"  # python -m assay, whether or not the package's scripts are installed
    programs.mkdir()
    (programs / "assay").write_text(f'#!/bin/sh\nexec {sys.executable} -m assay "$@"\n')
    (programs / "assay").chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = dict(os.environ, PATH=path, NO_COLOR="1", COLUMNS="120")
    for command, expected in commands(document):
        here = command.replace("127.0.0.1:50051", demo.target).replace("examples/", f"{ROOT}/examples/")
        done = subprocess.run(
            here, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{document.name}: $ {command}\n{output}"
        if expected.strip():
            assert CHECKER.check_output(expected, output, FLAGS), (
                f"{document.name}: $ {command}\nexpected:\n{expected}\ngot:\n{output}"
            )
