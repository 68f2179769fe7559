"""What the documents show is what happens: every ```console block is run, in order, against a real demo server.

A line `$ command` is run by a shell in an empty directory; the lines under it are its expected output, where `...` stands for
anything (as in doctest). Lines without expected output must only succeed. ```sh blocks (make, docker, git) are not run here.
127.0.0.1:50051 is the demo; another port is a free one. A server that a document starts writes its process id to a file NAME.pid.
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Set
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import ServeProcess

ROOT = Path(__file__).resolve().parents[2]
ALL_DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("README.md"))]
# These train models and start servers of their own: test_quickstart.py runs them.
OWN_MODELS = [ROOT / "docs" / "quickstart.md", ROOT / "docs" / "tutorial.md", ROOT / "examples" / "online_payments" / "README.md"]
WITH_TORCH = ROOT / "examples" / "sentinel_torch" / "README.md"  # so does it run this one, in `make torture`
DOCUMENTS = [document for document in ALL_DOCUMENTS if document not in (*OWN_MODELS, WITH_TORCH)]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEREDOC = re.compile(r"<<'(\w+)'$")
DEMO, REDIS = "127.0.0.1:50051", "127.0.0.1:6379"  # where documents say they are
TARGET = re.compile(r"127\.0\.0\.1:(?:5[0-9]{4}|6379|4317|946[0-9])\b")  # and servers that a document starts itself
CHECKER = doctest.OutputChecker()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def commands(document: Path) -> Iterator[tuple[str, str]]:
    """(command, expected output) of every `$ ` line; a command goes on after a backslash, and to the end of its <<'END'."""
    for block in BLOCK.findall(document.read_text()):
        joined = block.replace("\\\n", " ")
        for part in re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if heredoc := HEREDOC.search(command):
                body, end, expected = expected.partition(f"\n{heredoc[1]}\n")
                command += f"\n{body}{end}"
            yield command, expected


@pytest.fixture(scope="module")
def demo() -> Iterator[ServeProcess]:
    """The demo, as `make serve` starts it."""
    with ServeProcess() as server:
        yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """An empty one for each document: none sees what another ingested."""
    with redis_server() as server:
        yield server


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_console_blocks(document: Path, demo: ServeProcess, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    programs = tmp_path / "bin"  # python -m assay, whether or not the package's scripts are installed
    programs.mkdir()
    (programs / "assay").write_text(f'#!/bin/sh\nexec {sys.executable} -m assay "$@"\n')
    (programs / "assay").chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    targets = {DEMO: demo.target}
    if REDIS in document.read_text():
        targets[REDIS] = f"127.0.0.1:{request.getfixturevalue('redis').port}"
    run_all(document, targets, tmp_path, dict(os.environ, PATH=path))
    made = {f"{entry.name}/" if entry.is_dir() else entry.name for entry in tmp_path.iterdir()} - {"bin/"}
    seen = made - _ignored(made)
    assert not seen, "people walk in their checkout: what a walk makes stands in .gitignore"


def run_all(document: Path, targets: dict[str, str], tmp_path: Path, environment: dict[str, str]) -> None:
    """Runs a document's blocks in an empty directory, and ends what they left running (*.pid). `targets`: where what the document
    names really is; grows with the servers that it starts."""
    try:
        _run_all(document, targets, tmp_path, {**environment, "NO_COLOR": "1", "COLUMNS": "120"})
    finally:
        for started in tmp_path.glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(started.read_text()), signal.SIGKILL)


# --- implementation ---


def _ignored(names: Set[str]) -> set[str]:
    """Those that git would not see in the checkout; all of them where there is no git."""
    if not (ROOT / ".git").exists():
        return set(names)
    command = ["git", "check-ignore", "--no-index", *sorted(names)]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines())


def _run_all(document: Path, targets: dict[str, str], tmp_path: Path, environment: dict[str, str]) -> None:
    for command, expected in commands(document):
        for target in TARGET.findall(command):
            targets.setdefault(target, f"127.0.0.1:{free_port()}")
        here = TARGET.sub(lambda match: targets[match[0]], command).replace("examples/", f"{ROOT}/examples/")
        done = subprocess.run(
            here, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{document.name}: $ {command}\n{output}"
        if expected.strip():
            expected = TARGET.sub(lambda match: targets.get(match[0], match[0]), expected)
            assert CHECKER.check_output(expected, output, FLAGS), (
                f"{document.name}: $ {command}\nexpected:\n{expected}\ngot:\n{output}"
            )
