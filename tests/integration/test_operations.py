"""How the server is and how much it says: asked and changed over the admin listener, by the command, by SIGUSR1."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from assay.observe.status import Check
from assay.transport.worker import HELD_ITEMS_MAX
from assay.v1 import operations_pb2, operations_pb2_grpc, scoring_pb2_grpc
from tests.support.otlp_sink import OtlpSink
from tests.support.server import LocalServer, ServeProcess, make_request, metadata_of, reason_of, status_of, wait_until

SAMPLED = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

pytestmark = pytest.mark.usefixtures("level")


@pytest.fixture
def level() -> Iterator[None]:
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


def operations(server: LocalServer) -> Any:
    return operations_pb2_grpc.OperationsServiceStub(server.admin_channel())


def score(server: LocalServer, count: int = 1, **more: Any) -> None:
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    for _ in range(count):
        stub.Score(make_request(), timeout=10, **more)


# --- GetStatus


def test_status_has_the_numbers_of_what_was_scored() -> None:
    with LocalServer() as server:
        score(server, 5)
        found = operations(server).GetStatus(operations_pb2.GetStatusRequest(), timeout=10)
        assert found.state == operations_pb2.SERVER_STATE_SERVING
        assert found.is_healthy
        assert found.pid == os.getpid()
        (model,) = found.models
        assert (model.model, model.version, model.scores) == ("puppet", "1", 5)
        assert 0 < model.p50.ToNanoseconds() <= model.p99.ToNanoseconds()
        assert found.rows_per_second > 0
        assert found.slots == server.config.engine.slots
        assert found.logging.request_log_ratio == 0.0


def test_a_check_that_says_no_is_a_degraded_server() -> None:
    with LocalServer() as server:
        server.telemetry.board.add(lambda: [Check("store", "away", is_ok=False)])
        found = operations(server).GetStatus(operations_pb2.GetStatusRequest(), timeout=10)
        assert (found.state, found.is_healthy) == (operations_pb2.SERVER_STATE_SERVING, False)
        assert [(check.name, check.value, check.is_ok) for check in found.checks] == [("store", "away", False)]


def test_while_it_drains_it_says_so() -> None:
    with LocalServer() as server:
        drained = server.start_drain(delay_s=0.5)
        found = operations(server).GetStatus(operations_pb2.GetStatusRequest(), timeout=10)
        assert (found.state, found.is_healthy) == (operations_pb2.SERVER_STATE_DRAINING, False)
        drained()


def test_looks_past_the_limit_are_refused() -> None:
    """They wait for one thread, which a check may hold; drain and certificates do not wait for them."""
    goes_on, is_asked = threading.Event(), threading.Event()

    def slow() -> list[Check]:
        is_asked.set()
        goes_on.wait(20)
        return []

    with LocalServer() as server:
        server.telemetry.board.add(slow)
        stub, request = operations(server), operations_pb2.GetStatusRequest()
        try:
            asked = [stub.GetStatus.future(request, timeout=20) for _ in range(HELD_ITEMS_MAX)]
            assert is_asked.wait(20)
            wait_until(lambda: server.held_count() == HELD_ITEMS_MAX, "all of them wait")
            with pytest.raises(grpc.RpcError) as refused:
                stub.GetStatus(request, timeout=20)
            assert reason_of(status_of(refused.value)) == "QUEUE_FULL"
        finally:
            goes_on.set()
        assert {call.result().pid for call in asked} == {os.getpid()}


# --- SetLogging


@pytest.mark.parametrize(
    "fields",
    [
        {"level": "loud\x1b[2J"},
        {"request_log_ratio": 1.1},
        {"request_log_ratio": float("nan")},
        {"trace_sample_ratio": 0.5},  # tracing is off
        {"level": "debug", "revert_after": {"seconds": 0}},
        {"level": "debug", "revert_after": {"seconds": 86_401}},
        {"level": "debug", "revert_after": {"seconds": -1}},
    ],
)
def test_what_cannot_be_changes_nothing(server: LocalServer, fields: dict[str, Any]) -> None:
    before = server.telemetry.log_control.now
    with pytest.raises(grpc.RpcError) as caught:
        operations(server).SetLogging(operations_pb2.SetLoggingRequest(**fields), timeout=10)
    status = status_of(caught.value)
    assert (status.code, reason_of(status)) == (3, "INVALID_REQUEST")
    assert "loud" not in status.message
    assert server.telemetry.log_control.now == before


def test_bytes_that_are_no_message(server: LocalServer) -> None:
    call = server.admin_channel().unary_unary("/assay.v1.OperationsService/SetLogging")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff", timeout=10)
    assert reason_of(status_of(caught.value)) == "MALFORMED_MESSAGE"
    assert metadata_of(status_of(caught.value)) is not None


def test_the_level_changes_and_comes_back(server: LocalServer) -> None:
    logging.getLogger().setLevel(logging.INFO)
    with LocalServer() as server:
        request = operations_pb2.SetLoggingRequest(level="debug")
        request.revert_after.FromMilliseconds(50)
        answer = operations(server).SetLogging(request, timeout=10)
        assert (answer.before.level, answer.now.level, answer.now.HasField("revert_time")) == ("info", "debug", True)
        wait_until(lambda: server.telemetry.log_control.now.level == "info", "the change ends by itself")


def test_sampling_changes_under_load(tmp_path: Path) -> None:
    """Calls go on; with ratio 1 each is traced, with 0 none is. The core's counters and the collector agree."""
    sink = OtlpSink()
    try:
        with LocalServer(tracing={"endpoint": sink.endpoint, "sample_ratio": 0.0, "slow_ms": 0}) as server:
            stop = threading.Event()

            def load() -> None:
                while not stop.is_set():
                    score(server)

            threads = [threading.Thread(target=load) for _ in range(2)]
            for thread in threads:
                thread.start()
            stub = operations(server)
            stub.SetLogging(operations_pb2.SetLoggingRequest(trace_sample_ratio=1.0), timeout=10)
            wait_until(lambda: len(sink.servers()) > 20, "calls are traced")
            for ratio in (0.0, 1.0, 0.5, 0.0):
                answer = stub.SetLogging(operations_pb2.SetLoggingRequest(trace_sample_ratio=ratio), timeout=10)
                assert answer.now.trace_sample_ratio == ratio
            stop.set()
            for thread in threads:
                thread.join()
            server.telemetry.close()  # flushes
            before = len(sink.servers())
            score(server, 20)
            assert server.engine.drain_records() == []
            assert len(sink.servers()) == before
    finally:
        sink.close()


# --- lines of requests


def request_lines(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.name == "assay.request"]


def test_a_line_of_a_call_says_how_it_went(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), LocalServer(log_requests=1.0) as server:
        score(server)
    (line,) = request_lines(caplog)
    fields = line.assay_fields
    assert (fields["method"], fields["model"], fields["version"]) == ("assay.v1.ScoringService/Score", "puppet", "1")
    assert (fields["code"], fields["rows"], fields["batch_rows"], fields["priority"]) == ("OK", 1, 1, "interactive")
    assert fields["decision"] in ("approve", "decline")
    stages = sum(fields[f"{name}_ms"] for name in ("decode", "look_up", "queue", "assemble", "infer", "respond"))
    assert stages <= fields["total_ms"] * 1.01 + 0.001
    assert not {"transaction_id", "entities", "features"} & fields.keys()
    assert "t1" not in str(fields)


def test_a_refused_call_has_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), LocalServer(log_requests=1.0) as server, pytest.raises(grpc.RpcError):
        scoring_pb2_grpc.ScoringServiceStub(server.channel()).Score(make_request(model="none"), timeout=10)
    (line,) = request_lines(caplog)
    assert (line.assay_fields["code"], line.assay_fields["reason"]) == ("NOT_FOUND", "UNKNOWN_MODEL")
    assert "none" not in str(line.assay_fields)


def test_a_flood_writes_few_lines_and_says_how_many_it_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Traced calls are drained in numbers; of each second's no more than the limit get a line."""
    sink = OtlpSink()
    try:
        tracing = {"endpoint": sink.endpoint, "sample_ratio": 0.0, "slow_ms": 0}
        with caplog.at_level(logging.INFO), LocalServer(tracing=tracing, log_request_lines_per_s_max=2) as server:
            score(server, 30, metadata=[SAMPLED])
            server.telemetry.close()
            drains = len({round(line.created, 1) for line in request_lines(caplog)})
            assert len(request_lines(caplog)) <= 2 * drains
            score(server)  # closes well without telemetry
    finally:
        sink.close()


# --- the command, and signals


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False)


@pytest.fixture(scope="module")
def process() -> Iterator[ServeProcess]:
    with ServeProcess("--drain-delay", "0", "--set", "log_requests=0") as server:
        yield server


def lines(process: ServeProcess, message: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, process.stderr().splitlines()) if line["message"] == message]


def test_the_command_says_how_the_server_is(process: ServeProcess) -> None:
    found = run("status", process.admin_target)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("SERVING")
    for word in ("Python 3.", "ONNX Runtime 1.", "card_fraud 1", "store: embedded", "black_box: on", "level info"):
        assert word in found.stdout
    document = json.loads(run("status", process.admin_target, "--json").stdout)
    assert (document["state"], document["is_healthy"], document["pid"]) == ("SERVING", True, process.process.pid)
    assert len(document["models"][0]["sha256"]) == 64


def test_the_command_finds_the_only_server(process: ServeProcess, tmp_path: Path) -> None:
    (tmp_path / "assay").mkdir()
    assert run("status", XDG_RUNTIME_DIR=str(tmp_path)).returncode == 3
    (tmp_path / "assay" / "admin-1.sock").symlink_to(process.ready["admin_socket"])
    assert run("status", XDG_RUNTIME_DIR=str(tmp_path)).returncode == 0
    (tmp_path / "assay" / "admin-2.sock").symlink_to(process.ready["admin_socket"])
    found = run("status", XDG_RUNTIME_DIR=str(tmp_path))
    assert (found.returncode, "admin-2.sock" in found.stderr) == (2, True)


def test_nobody_there_is_3(tmp_path: Path) -> None:
    assert run("status", f"unix:{tmp_path / 'none.sock'}").returncode == 3


def test_sigusr1_asks_for_the_line(process: ServeProcess) -> None:
    before = len(lines(process, "status"))
    process.signal(signal.SIGUSR1)
    wait_until(lambda: len(lines(process, "status")) > before, "the status line")
    line = lines(process, "status")[-1]
    assert (line["status"], line["models"], line["store"]) == ("serving", "card_fraud 1", "embedded")
    assert {"python", "onnxruntime", "rows_per_s", "queued_rows", "slots_used", "black_box"} <= line.keys()


def test_the_command_changes_the_log(process: ServeProcess) -> None:
    found = run("log-level", "warning", "--requests", "0.5", "--for", "5m", "--target", process.admin_target)
    assert found.returncode == 0, found.stderr
    assert "was  level info, traces 0, requests 0" in found.stdout
    assert "now  level warning, traces 0, requests 0.5, until 2" in found.stdout
    assert lines(process, "logging changed")[-1]["log_level"] == "warning"
    back = run("log-level", "info", "--requests", "0", "--target", process.admin_target, "--json")
    assert json.loads(back.stdout)["now"] == {
        "level": "info",
        "trace_sample_ratio": 0.0,
        "request_log_ratio": 0.0,
        "revert_time": None,
    }
    assert run("log-level", "--traces", "0.5", "--target", process.admin_target).returncode == 1  # tracing is off
    for wrong in (["loud"], ["debug", "--for", "soon"], []):
        assert run("log-level", *wrong, "--target", process.admin_target).returncode == 2


def test_without_json_the_log_goes_to_stdout(tmp_path: Path) -> None:
    """stdout for programs; stderr stays for people."""
    command = [sys.executable, "-m", "assay", "serve", "--listen", "127.0.0.1:0", "--admin-socket", "off"]
    command += ["--set", "metrics_listen=off", "--set", "black_box=off", "--drain-delay", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        rest, said = process.communicate(timeout=60)
    assert first["message"] == "serving"
    assert [json.loads(line)["message"] for line in rest.splitlines()] == ["draining", "drained"]
    assert (process.returncode, said) == (0, "")
