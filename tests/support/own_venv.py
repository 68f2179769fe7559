"""Virtual environments of their own for what the development environment does not have (PyTorch, MLflow).

They are built on demand, once, and kept in the user's cache: ~/.cache/assay/test-venvs/NAME-HASH. A process in one sees the
development environment's packages first, so that assay and what it was locked with are the same there. Where pip cannot find the
packages the test is skipped, and says which.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL_SECONDS_MAX = 280


class OwnVenv:
    """One environment, ready. run() starts its Python."""

    def __init__(self, name: str, requirements: tuple[str, ...], hint: str = "") -> None:
        """Builds it if it is not there. Skips the test where pip says no."""
        digest = hashlib.sha256("\n".join((*requirements, sys.version, _lock())).encode()).hexdigest()[:16]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay" / "test-venvs"
        cache.mkdir(parents=True, exist_ok=True)
        self.directory = cache / f"{name}-{digest}"
        self.python = self.directory / "bin" / "python"
        with (cache / f"{name}-{digest}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another pytest may be building it
            if not (self.directory / "ready").exists():
                self._build(requirements, hint)

    def run(self, *arguments: str | Path, cwd: Path | None = None, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
        """Its Python with these arguments; output is text. Never raises for the exit status."""
        command = [str(self.python), *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=_environment(), timeout=timeout_s, check=False
        )

    # --- implementation ---

    def _build(self, requirements: tuple[str, ...], hint: str) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.directory)], check=True)
        # pip is the development environment's, seen through PYTHONPATH; what that has already is not installed again.
        try:
            done = self.run(
                "-m", "pip", "install", "-q", "--no-input", "--retries", "0", *requirements, timeout_s=INSTALL_SECONDS_MAX
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"pip did not install {', '.join(requirements)} within {INSTALL_SECONDS_MAX} s")
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["nothing"]
            pytest.skip(f"pip cannot install {', '.join(requirements)}: {said[-1][:200]}. {hint}")
        (self.directory / "ready").touch()


def _lock() -> str:
    return (ROOT / "server" / "assay" / "lock" / "dev.txt").read_text()


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "server"), str(ROOT), sysconfig.get_paths()["purelib"]]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
