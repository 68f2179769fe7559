"""The contract is Buf-clean."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_buf_lint() -> None:
    if shutil.which("buf", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("buf is not installed (pip install buf-bin)")
    done = subprocess.run([sys.executable, "tools/buf_lint.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
