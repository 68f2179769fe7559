"""The documents about one's own model do what they show: files are written, models trained, servers started, transactions scored.

As test_documents.py, and more: a ```python or ```yaml block whose first line is `# NAME.py` or `# NAME.yaml` is that file;
`$ assay serve ...` serves until the next one or the document's end, on a free port that stands in for 127.0.0.1:50051, and its
lines are compared too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.test_documents import CHECKER, FLAGS, OWN_MODELS, ROOT, WITH_TORCH
from tests.support.torch_venv import torch_venv

for extra in ("xgboost", "sklearn", "skl2onnx", "onnxmltools"):
    pytest.importorskip(extra, reason="needs: pip install scikit-learn skl2onnx onnxmltools xgboost-cpu")

BLOCK = re.compile(r"^```(console|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LISTEN = "127.0.0.1:50051"
COMMAND_SECONDS_MAX = 800


class Serving:
    """`assay serve` as a person starts it. `lines` are what it prints up to its last line."""

    def __init__(self, command: str, cwd: Path, environment: dict[str, str]) -> None:
        command += " --listen 127.0.0.1:0 --admin-socket off --set log_format=text --set metrics_listen=off"
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        self.lines = ""
        for line in self._process.stderr:
            self.lines += line
            if line.startswith("Ctrl-C"):
                break
        found = re.search(r"^  listen +(\S+)", self.lines, re.MULTILINE)
        assert found, self.lines
        self.target = found[1]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Reader:
    """A person who types what a document shows, in an empty directory."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory = directory
        self._environment = {**environment, "NO_COLOR": "1", "COLUMNS": "120"}
        self._serving: Serving | None = None

    def close(self) -> None:
        if self._serving is not None:
            self._serving.close()

    def type(self, command: str) -> str:
        """Runs a command and returns what it prints. A server goes on running."""
        command = command.replace("examples/", f"{ROOT}/examples/")
        if command.startswith("assay serve"):
            self.close()
            self._serving = Serving(command, self._directory, self._environment)
            return self._serving.lines
        if self._serving is not None:
            command = command.replace(LISTEN, self._serving.target)
        done = subprocess.run(
            command,
            shell=True,
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {command}\n{output}"
        return output


def steps(document: Path) -> Iterator[tuple[str, str]]:
    """(file name, its text) and (`$ command`, expected output), in order."""
    for kind, block in BLOCK.findall(document.read_text()):
        if kind != "console":
            name = block.partition("\n")[0].removeprefix("# ")
            assert re.fullmatch(r"\w+\.(py|yaml)", name), f"{document.name}: a {kind} block begins with `# NAME`"
            yield name, block
            continue
        for part in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            yield f"$ {command}", expected


@pytest.mark.parametrize("document", OWN_MODELS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_reader_gets_what_the_document_shows(document: Path, tmp_path: Path) -> None:
    read(document, tmp_path, environment_of(tmp_path))


@pytest.mark.torture  # trains for minutes, in an environment of 900 MB
@pytest.mark.timeout(1_500)
def test_a_reader_with_pytorch_gets_what_the_document_shows(tmp_path: Path) -> None:
    torch = torch_venv()
    write_program(
        tmp_path / "TORCH_ENVIRONMENT" / "bin" / "python",
        f'PYTHONPATH={sysconfig.get_paths()["purelib"]} exec {torch.python} "$@"',
    )
    read(WITH_TORCH, tmp_path, environment_of(tmp_path))


def environment_of(directory: Path) -> dict[str, str]:
    """Where `assay` is this checkout's, whether or not the package's scripts are installed."""
    programs = directory / "bin"
    write_program(programs / "assay", f'exec {sys.executable} -m assay "$@"')
    return dict(os.environ, PATH=f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}")


def write_program(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def read(document: Path, directory: Path, environment: dict[str, str]) -> None:
    """Does in `directory` what the document shows, and compares."""
    with ExitStack() as stack:
        reader = Reader(directory, environment)
        stack.callback(reader.close)
        for what, text in steps(document):
            if not what.startswith("$ "):
                (directory / what).write_text(text)
                continue
            output = reader.type(what.removeprefix("$ "))
            if text.strip():
                assert CHECKER.check_output(text, output, FLAGS), f"{document.name}: {what}\nexpected:\n{text}\ngot:\n{output}"
