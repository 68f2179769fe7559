"""A new user: the wheel in an empty virtual environment, then the README and the quickstart as they print it.

`make torture` only: it builds the wheel and downloads every locked package, and what trains the models. The same blocks run
from the checkout in test_documents.py and test_quickstart.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.test_documents import DEMO, REDIS, ROOT, run_all
from tests.integration.test_quickstart import read
from tests.support.redis_server import redis_server

STEP_S = 1800


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=STEP_S, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A virtual environment with the wheel, the locked packages and what trains; `assay`, `python` and grpcurl on the PATH."""
    base = tmp_path_factory.mktemp("new-user")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", base, ROOT, cwd=base)
    (wheel,) = base.glob("*.whl")
    run(sys.executable, "-m", "venv", base / "venv", cwd=base)
    pip = [base / "venv" / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps"]
    for lock in ("cpu", "dev"):
        run(*pip, "--require-hashes", "-r", ROOT / "server" / "assay" / "lock" / f"{lock}.txt", cwd=base)
    run(*pip, wheel, cwd=base)
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("ASSAY_")}
    return {**outside, "PATH": f"{base / 'venv' / 'bin'}:/usr/local/bin:/usr/bin:/bin", "XDG_CACHE_HOME": str(base / "cache")}


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_the_readme_as_it_prints_it(environment: dict[str, str], tmp_path: Path) -> None:
    with redis_server() as redis:
        serve = f"assay serve --listen {DEMO.replace('50051', '0')} --admin-socket off --json > ready.json 2> demo.log"
        started = subprocess.Popen(["bash", "-c", f"exec {serve}"], cwd=tmp_path, env=environment)
        try:
            demo = _listens(tmp_path / "ready.json")
            run_all(ROOT / "README.md", {DEMO: demo, REDIS: f"127.0.0.1:{redis.port}"}, tmp_path, environment)
        finally:
            started.kill()
            started.wait()
    assert shutil.which("assay", path=environment["PATH"]) != shutil.which("assay")


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_the_quickstart_with_scikit_learn_and_xgboost(environment: dict[str, str], tmp_path: Path) -> None:
    read(ROOT / "docs" / "quickstart.md", tmp_path, environment)


# --- implementation ---


def _listens(ready: Path) -> str:
    deadline = time.monotonic() + 120
    while not ready.read_text().endswith("}\n") if ready.is_file() else True:
        assert time.monotonic() < deadline, "the demo does not serve"
        time.sleep(0.1)
    return str(json.loads(ready.read_text())["listen"])
