"""examples/node_client, run by Node.js: the contract, the service config and the errors as another language sees them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TERMINAL_ID, DEMO_TIME
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.clients import Failure, ScriptedServer
from tests.support.server import ServeProcess

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "node_client"
FILES = ("package.json", "package-lock.json", "client.mjs", "score.mjs")
OFFLINE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ERR_SOCKET_TIMEOUT|E50\d|EHOSTUNREACH|ENETUNREACH")
UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE)

Score = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory) -> Score:
    """Runs score.mjs of a copy that `npm ci` has installed; gives back the exit code and the JSON it printed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js or npm is not installed: apt-get install nodejs npm")
    directory = tmp_path_factory.mktemp("node_client")
    for name in FILES:
        shutil.copy(EXAMPLE / name, directory)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode != 0 and OFFLINE.search(done.stderr):
        pytest.skip("npm ci found no registry")
    assert done.returncode == 0, done.stderr

    def score(target: str, *arguments: str) -> tuple[int, Any]:
        command = ["node", "score.mjs", "--target", target, "--package", str(ROOT / "server" / "assay"), *arguments]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in (0, 1), done.stderr
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    return score


def test_versions_are_exact_and_locked() -> None:
    """And the lock names no registry: whoever installs takes their own."""
    package = json.loads((EXAMPLE / "package.json").read_text())
    lock = json.loads((EXAMPLE / "package-lock.json").read_text())["packages"]
    assert lock[""]["dependencies"] == package["dependencies"]
    for name, version in package["dependencies"].items():
        assert lock[f"node_modules/{name}"]["version"] == version
    assert all("resolved" not in entry and (path == "" or entry["integrity"]) for path, entry in lock.items())


@pytest.mark.usefixtures("transport")
def test_the_demo_answers_node_as_it_answers_python(score: Score) -> None:
    request = scoring_pb2.ScoreRequest(
        transaction_id="node-1", entities={"customer_id": DEMO_CUSTOMER_ID, "terminal_id": DEMO_TERMINAL_ID}
    )
    request.event_time.FromDatetime(DEMO_TIME)
    request.features["amount_minor"].int64_value = 5716
    with ServeProcess() as server:
        with grpc.insecure_channel(server.target) as channel:
            expected = scoring_pb2_grpc.ScoringServiceStub(channel).Score(request, timeout=10)
        code, answer = score(server.target, "--timeout-ms", "10000")
        assert code == 0
        assert (answer["transaction_id"], answer["score"], answer["decision"]) == ("node-1", expected.score, "APPROVE")
        assert answer["provenance"]["schema_hash"] == expected.provenance.schema_hash
        assert answer["isFallback"] is False
        code, answer = score(server.target, "--timeout-ms", "10000", "--amount", "57.16", "--fallback", "REVIEW")
        assert code == 1  # the caller's bug is not for the fallback
        error = answer["error"]
        assert (error["code"], error["reason"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
        (violation,) = error["violations"]
        assert (violation["field"], violation["reason"]) == ('features["amount_minor"]', "WRONG_TYPE")


def test_node_tries_again_by_the_service_config(score: Score) -> None:
    with ScriptedServer([UNAVAILABLE, UNAVAILABLE, None]) as server:
        code, answer = score(server.target, "--timeout-ms", "10000")
        assert (code, answer["score"]) == (0, 0.25)
        assert len(server.attempts) == 3
        assert 0 < server.attempts[0].remaining_s <= 10


def test_an_absent_score_is_null(score: Score) -> None:
    with ScriptedServer([scoring_pb2.ScoreResponse(decision=scoring_pb2.DECISION_REVIEW)]) as server:
        _, answer = score(server.target, "--timeout-ms", "10000")
        assert (answer["score"], answer["decision"], answer["isFallback"]) == (None, "REVIEW", False)


def test_without_an_answer_the_fallback_decides(score: Score) -> None:
    code, answer = score("127.0.0.1:1", "--fallback", "REVIEW")
    assert (code, answer["decision"], answer["score"]) == (0, "REVIEW", None)
    assert (answer["isFallback"], answer["cause"]) == (True, "UNAVAILABLE")
    code, answer = score("127.0.0.1:1")
    assert (code, answer["error"]["code"]) == (1, "UNAVAILABLE")
    code, answer = score("127.0.0.1:1", "--timeout-ms", "0", "--fallback", "DECLINE")
    assert (code, answer["decision"], answer["cause"]) == (0, "DECLINE", "DEADLINE_EXCEEDED")


def test_mutual_tls(score: Score, tmp_path: Path) -> None:
    authority = trustme.CA()
    server_certificate, own = authority.issue_cert("scoring.test"), authority.issue_cert("client.test")
    pair = (server_certificate.private_key_pem.bytes(), server_certificate.cert_chain_pems[0].bytes())
    files = {"ca": authority.cert_pem, "certificate": own.cert_chain_pems[0], "key": own.private_key_pem}
    options = ["--tls-server-name", "scoring.test", "--timeout-ms", "10000"]
    for name, pem in files.items():
        pem.write_to_path(tmp_path / name)
        options += [f"--tls-{name}", str(tmp_path / name)]
    with ScriptedServer(tls=grpc.ssl_server_credentials([pair], authority.cert_pem.bytes(), True)) as server:
        code, answer = score(server.target, *options)
        assert (code, answer["score"]) == (0, 0.25)
        assert score(server.target)[0] == 1
        assert len(server.attempts) == 1
    with ScriptedServer() as plaintext:
        assert score(plaintext.target, *options[:2])[0] == 1
        assert plaintext.attempts == []
