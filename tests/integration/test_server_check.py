"""assay doctor --server: one health check, three outcomes. tests/integration/test_client_tls.py has it over TLS."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import typer
from grpc_health.v1 import health_pb2_grpc

from assay.cli import doctor
from assay.cli.output import EXIT_UNHEALTHY
from assay.cli.server_check import check_server
from tests.support.server import WAIT_S, LocalServer, held, wait_until


def test_a_serving_server() -> None:
    with LocalServer() as server:
        for target in (server.addresses.public, f"unix:{server.addresses.admin}"):
            finding = check_server(target, None)
            assert (finding.name, finding.status, finding.mend) == ("server", "ok", "")


def test_a_busy_server_serves() -> None:
    with LocalServer() as server, held(server):
        assert check_server(server.addresses.public, None).status == "ok"


def test_a_draining_server_does_not_serve() -> None:
    with LocalServer() as server:
        drained = server.start_drain(delay_s=3.0)
        wait_until(lambda: check_server(server.addresses.public, None).status == "failed", "health says so")
        assert "NOT_SERVING" in check_server(server.addresses.public, None).found
        drained()
        assert "UNAVAILABLE" in check_server(server.addresses.public, None).found


@pytest.mark.parametrize("target", ["127.0.0.1:1", "unix:/no/such/socket", "no.such.host.invalid:50051"])
def test_nobody_there(target: str) -> None:
    finding = check_server(target, None)
    assert finding.status == "failed"
    assert target in finding.found
    assert finding.mend


def test_the_mend_fits_a_server_that_answers_something_else() -> None:
    class Health(health_pb2_grpc.HealthServicer):
        code = grpc.StatusCode.UNIMPLEMENTED

        def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
            if self.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                released.wait(WAIT_S)
            context.abort(self.code, "by script")

    released, health = threading.Event(), Health()
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    for health.code, mend in (
        (grpc.StatusCode.UNIMPLEMENTED, "no health service: is it assay?"),
        (grpc.StatusCode.UNAUTHENTICATED, "docs/errors.md, UNAUTHENTICATED"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "is it frozen, or overloaded?"),
    ):
        assert mend in check_server(target, None).mend
    released.set()
    server.stop(0).wait()


def test_the_command_looks_at_nothing_else(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A container's health check runs it every few seconds: the demo bundle is not verified each time."""
    monkeypatch.setattr(doctor, "examine", None)
    with LocalServer() as server:
        doctor.doctor(server=server.addresses.public, as_json=True)
        (finding,) = json.loads(capfdbinary.readouterr().out)
        assert (finding["name"], finding["status"]) == ("server", "ok")
    with pytest.raises(typer.Exit) as caught:
        doctor.doctor(server=server.addresses.public)
    assert caught.value.exit_code == EXIT_UNHEALTHY
