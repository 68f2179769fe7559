"""Every ```python block of the documents runs as it stands against a real demo server; a ```text block after it is its output."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_documents import DOCUMENTS
from tests.support.server import ServeProcess

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n?```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
SNIPPETS = [(path, match) for path in DOCUMENTS for match in BLOCK.finditer(path.read_text())]


@pytest.fixture(scope="module")
def demo() -> Iterator[ServeProcess]:
    with ServeProcess() as server:
        yield server


@pytest.mark.parametrize(("document", "match"), SNIPPETS, ids=lambda value: value.name if isinstance(value, Path) else "")
def test_a_snippet(document: Path, match: re.Match[str], demo: ServeProcess, tmp_path: Path) -> None:
    program = match[1].replace("127.0.0.1:50051", demo.target)
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 0, f"{document.name}:\n{program}\n{done.stderr}"
    assert done.stderr == ""
    if match[2] is not None:
        assert done.stdout == match[2]


def test_the_client_page_has_snippets_with_output() -> None:
    """Or the test above would find nothing to run and pass."""
    assert sum(path.name == "clients.md" and match[2] is not None for path, match in SNIPPETS) >= 4
