"""What a server sends is shown as text: it moves no cursor, begins no line, hides nothing and is no markup of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from typer.testing import CliRunner

from assay.cli.main import app
from assay.v1 import operations_pb2, operations_pb2_grpc, scoring_pb2
from tests.support.clients import Failure, ScriptedServer

EVIL = "a\x1b[2Jb[red]c\r\nFORGED"  # a terminal would be cleared; rich would take [red] for a colour
SHOWN = "a\\x1b[2Jb[red]c\\r\\nFORGED"


def run(server: ScriptedServer) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay", "score", "--target", server.target, "--id", "t1"]
    environment = {**os.environ, "COLUMNS": "600", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def test_of_an_answer() -> None:
    answer = scoring_pb2.ScoreResponse(transaction_id=EVIL, score=0.25, missing_features=[EVIL], decision=99)  # type: ignore[arg-type]
    answer.provenance.model = answer.provenance.version = answer.provenance.model_sha256 = EVIL
    answer.provenance.feature_set = answer.provenance.feature_set_version = answer.provenance.schema_hash = EVIL
    answer.degradations.add(kind=98, subject=EVIL, detail=EVIL)  # type: ignore[arg-type]
    answer.view_ages.add(view=EVIL)
    answer.inputs.add(name=EVIL).value.string_value = EVIL
    with ScriptedServer([answer]) as server:
        done = run(server)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.count(SHOWN.removesuffix("RGED")) == 12  # hashes are cut
    assert not forged(done.stdout)
    assert "number 99" in done.stdout
    assert "number 98" in done.stdout


def test_of_an_error() -> None:
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=EVIL)
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field=EVIL, reason=EVIL, description=EVIL)
    for detail in (error_details_pb2.ErrorInfo(reason=EVIL, domain=EVIL), bad):
        status.details.add().Pack(detail)
    trailers = [("grpc-status-details-bin", status.SerializeToString())]
    with ScriptedServer([Failure(grpc.StatusCode.INVALID_ARGUMENT, trailers)]) as server:
        done = run(server)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert done.stderr.count(SHOWN) >= 5
    assert not forged(done.stderr)


def test_of_a_status() -> None:
    found = operations_pb2.GetStatusResponse(assay_version=EVIL, python_version=EVIL, onnxruntime_version=EVIL, cuda_build=EVIL)
    found.models.add(model=EVIL, version=EVIL, device=EVIL)
    found.checks.add(name=EVIL, value=EVIL)
    found.logging.level = EVIL
    with answering(found) as target:
        done = CliRunner().invoke(app, ["status", target])
    assert done.exit_code == 3  # it does not say that it serves
    assert "\x1b" not in done.stdout
    assert done.stdout.count("c\\r\\nFORGED") == 10
    assert not forged(done.stdout)


def forged(text: str) -> list[str]:
    """Lines that begin where somebody else wants it."""
    return [line for line in text.splitlines() if line.startswith("FORGED")]


@contextmanager
def answering(found: operations_pb2.GetStatusResponse) -> Iterator[str]:
    """The target of an admin listener that says so."""
    servicer = operations_pb2_grpc.OperationsServiceServicer()
    servicer.GetStatus = lambda _request, _context: found
    server = grpc.server(ThreadPoolExecutor(1))
    operations_pb2_grpc.add_OperationsServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
