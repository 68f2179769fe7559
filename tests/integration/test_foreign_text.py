"""What a server sends is shown as text: it moves no cursor, hides nothing and is no markup of ours."""

from __future__ import annotations

import os
import subprocess
import sys

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from assay.v1 import scoring_pb2
from tests.support.clients import Failure, ScriptedServer

EVIL = "a\x1b[2Jb[red]c"  # a terminal would be cleared; rich would take [red] for a colour
SHOWN = "a\\x1b[2Jb[red]c"


def run(server: ScriptedServer) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay", "score", "--target", server.target, "--id", "t1"]
    environment = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1"}
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
    assert done.stdout.count(SHOWN) == 12
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
