"""Virtual environments of their own for what the development environment does not have (PyTorch, MLflow, tritonclient).

They are built on demand, once, and kept in the user's cache: ~/.cache/assay/test-venvs/NAME-HASH. A process in one sees the
development environment's packages first, so that assay and what it was locked with are the same there; or, for what wants other
versions than ours, none of them. Where pip cannot find the packages the test is skipped, and says which.
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

    def __init__(self, name: str, requirements: tuple[str, ...], hint: str = "", *, sees_ours: bool = True) -> None:
        """Builds it if it is not there. Skips the test where pip says no. `sees_ours`: assay and the development environment's
        packages come first there."""
        self._sees_ours = sees_ours
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
        return self._run(str(self.python), *map(str, arguments), cwd=cwd, timeout_s=timeout_s)

    # --- implementation ---

    def _run(self, *command: str, timeout_s: float, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        variables = environment(self._sees_ours)
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables, timeout=timeout_s, check=False)

    def _build(self, requirements: tuple[str, ...], hint: str) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.directory)], check=True)
        # pip is the development environment's. Seen through PYTHONPATH, what is there already is not installed again.
        pip = [str(self.python), "-m", "pip"] if self._sees_ours else [sys.executable, "-m", "pip", "--python", str(self.python)]
        options = ("install", "-q", "--no-input", "--retries", "0")
        try:
            done = self._run(*pip, *options, *requirements, timeout_s=INSTALL_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            pytest.skip(f"pip did not install {', '.join(requirements)} within {INSTALL_SECONDS_MAX} s")
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["nothing"]
            pytest.skip(f"pip cannot install {', '.join(requirements)}: {said[-1][:200]}. {hint}")
        (self.directory / "ready").touch()


def _lock() -> str:
    return (ROOT / "server" / "assay" / "lock" / "dev.txt").read_text()


def environment(sees_ours: bool = True) -> dict[str, str]:
    """What a process of such an environment is started with. `sees_ours`: assay and the packages of this environment."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables["PYTHONDONTWRITEBYTECODE"] = "1"
    if sees_ours:
        paths = [str(ROOT / "server"), str(ROOT), sysconfig.get_paths()["purelib"]]
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables
