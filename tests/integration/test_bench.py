"""`assay bench`, as a user calls it: messages from events, short loads on a real server, wrong targets and files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from assay import _core
from assay.cli.bench import app
from assay.cli.bench_messages import write_messages
from assay.v1 import scoring_pb2
from tests.support.certificates import TlsFolder
from tests.support.server import LocalServer, held, make_request, wait_until

pytestmark = pytest.mark.skipif(not _core.HAS_NATIVE_TRANSPORT, reason="this build has no load generator")

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "card_fraud" / "feature_set.yaml"
SHORT = ("--duration", "0.3", "--warmup", "0.1", "--connections", "2", "--streams", "4", "--json")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def bench(target: str | None, messages: Path, *arguments: str | Path) -> Result:
    assert target is not None
    return run("run", target, "--messages", messages, *SHORT, *arguments)


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def step(result: Result) -> dict[str, Any]:
    (found,) = document(result)["steps"]
    assert isinstance(found, dict)
    return found


def messages_of(path: Path) -> list[bytes]:
    data = path.read_bytes()
    assert data[:8] == b"assaymsg"
    version, count = struct.unpack_from(">II", data, 8)
    assert version == 1
    found, at = [], 16
    while at < len(data):
        flag, size = struct.unpack_from(">BI", data, at)
        assert flag == 0
        found.append(data[at + 5 : at + 5 + size])
        at += 5 + size
    assert len(found) == count
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Distinct requests that LocalServer's feature set takes."""
    path = tmp_path_factory.mktemp("bench") / "messages.bin"
    requests = [make_request(f"t{index}", f"c{index % 50}").SerializeToString() for index in range(500)]
    write_messages(path, iter(requests), len(requests))
    return path


# --- run


def test_a_closed_loop_is_answered(server: LocalServer, messages: Path) -> None:
    before = server.engine.stats().answered_rows
    found = step(bench(server.addresses.public, messages))
    assert found["arrivals"] == "closed"
    assert set(found["outcomes"]) == {"OK"}
    assert found["outcomes"]["OK"] == found["offered"] > 0
    assert found["in_flight_max"] == 8
    assert found["lost"] == 0
    latency = found["latency_us"]
    assert list(latency) == ["p50", "p90", "p99", "p99.9", "p99.99"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p99.99"] <= found["max_us"]
    assert server.engine.stats().answered_rows - before >= found["offered"]


def test_an_open_loop_offers_what_it_was_told(server: LocalServer, messages: Path) -> None:
    found = step(bench(server.addresses.public, messages, "--rate", "200", "--arrivals", "constant"))
    assert (found["arrivals"], found["offered"]) == ("constant", 60)
    assert found["outcomes"] == {"OK": 60}
    assert found["generator_lag_us"]["p99"] >= 0
    assert found["percentiles"][0][0] == 0


def test_steps_give_plots_and_results(server: LocalServer, messages: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = bench(server.addresses.public, messages, "--steps", "100,200", "--out", out, "--server-pid", str(os.getpid()))
    assert result.exit_code == 0, result.output
    assert json.loads((out / "results.json").read_bytes()) == json.loads(result.stdout)
    steps = json.loads(result.stdout)["steps"]
    assert [found["rate_offered"] for found in steps] == [100.0, 200.0]
    assert all(found["server_cpu_s_per_1000"] >= 0 for found in steps)
    for name in ("latency_by_rate.png", "percentiles.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_the_table_says_what_people_ask(server: LocalServer, messages: Path) -> None:
    arguments = [argument for argument in SHORT if argument != "--json"]
    result = run("run", str(server.addresses.public), "--messages", messages, *arguments, "--rate", "100")
    assert result.exit_code == 0, result.output
    head, row, outcomes = result.stdout.splitlines()
    assert head.split() == ["offered/s", "answered/s", "p50", "p90", "p99", "p99.9", "p99.99", "max", "lost"]
    assert row.split()[0] == "100"
    assert outcomes.startswith("OK ")


def test_a_server_that_stalls_is_charged_for_it(server: LocalServer, messages: Path) -> None:
    """The model hangs for a while. What should have been sent meanwhile counts from when it should have been."""
    before = server.engine.stats().answered_rows

    def stall() -> None:
        deadline = time.monotonic() + 10
        while server.engine.stats().answered_rows < before + 20 and time.monotonic() < deadline:
            time.sleep(0.002)
        with held(server):
            time.sleep(0.2)

    thread = threading.Thread(target=stall)
    thread.start()
    arguments = ("--rate", "200", "--arrivals", "constant", "--streams", "1", "--duration", "1")
    found = step(bench(server.addresses.public, messages, *arguments))
    thread.join()
    # Of 200 calls 40 were meant to be sent within the stall: a quarter of them waited 150 ms or more.
    assert found["outcomes"] == {"OK": 200}
    assert found["latency_us"]["p90"] > 80_000
    assert found["max_us"] > 180_000


def test_calls_that_fail_are_counted_and_quoted(server: LocalServer, messages: Path) -> None:
    result = bench(server.addresses.public, messages, "--method", "assay.v1.ScoringService/Nothing")
    assert result.exit_code == 1
    found = json.loads(result.stdout)["steps"][0]
    assert set(found["outcomes"]) == {"UNIMPLEMENTED"}
    assert "no such method" in found["messages"]["UNIMPLEMENTED"]
    assert found["latency_us"]["p50"] is None


def test_a_deadline_is_the_servers_to_keep(server: LocalServer, messages: Path) -> None:
    with held(server):
        result = bench(server.addresses.public, messages, "--timeout", "0.05")
    assert result.exit_code == 1
    found = json.loads(result.stdout)["steps"][0]
    assert set(found["outcomes"]) <= {"DEADLINE_EXCEEDED", "timed out"}
    assert found["lost"] == found["offered"] > 0


def test_ctrl_c_ends_a_run_with_what_it_has(server: LocalServer, messages: Path) -> None:
    command = [sys.executable, "-m", "assay", "bench", "run", str(server.addresses.public), "--messages", str(messages)]
    before = server.engine.stats().answered_rows
    process = subprocess.Popen(
        [*command, "--duration", "600", "--warmup", "0", "--rate", "200", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell has what it runs in the background ignore Ctrl-C, and who is ignored so does so to the end.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_until(lambda: server.engine.stats().answered_rows > before + 20, "the run has begun")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, stderr
    found = json.loads(stdout)["steps"][0]
    assert found["is_stopped"]
    assert 0 < found["duration_s"] < 60
    assert found["outcomes"]["OK"] >= 20
    assert b"stopped early" in stderr


def test_messages_that_repeat_are_said_to(server: LocalServer, tmp_path: Path) -> None:
    path = tmp_path / "one.bin"
    write_messages(path, iter([make_request().SerializeToString()]), 1)
    result = bench(server.addresses.public, path, "--rate", "100")
    assert "repeated rows are quicker" in " ".join(result.stderr.split())


def test_tls_and_a_client_certificate(messages: Path, tmp_path: Path) -> None:
    folder = TlsFolder(tmp_path)
    ca, certificate, key = (tmp_path / name for name in ("ca.pem", "client.pem", "client.key"))
    ca.write_bytes(folder.authority.certificate)
    pair = folder.clients.issue("core.bank.internal")
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    with LocalServer(**folder.config()) as server:
        target = server.addresses.public
        found = step(bench(target, messages, "--tls-ca", ca, "--tls-certificate", certificate, "--tls-key", key))
        assert set(found["outcomes"]) == {"OK"}
        for arguments, said in (
            ((), "before HTTP/2 began"),
            (("--tls-ca", folder.client_ca), "TLS"),
            (("--tls-certificate", certificate), "--tls-ca is missing"),
            (("--tls-ca", ca, "--tls-certificate", certificate), "go together"),
            (("--tls-ca", tmp_path / "none.pem"), "No such file"),
            (("--tls-ca", messages), "authorities"),
        ):
            result = bench(target, messages, *arguments)
            assert result.exit_code == 2, arguments
            assert said in result.stderr


# --- wrong usage


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_target_that_is_not_there_is_an_error_that_helps(messages: Path) -> None:
    target = f"127.0.0.1:{free_port()}"
    result = bench(target, messages)
    assert result.exit_code == 2
    assert f"{target}: Connection refused" in result.stderr
    assert "assay serve" in result.stderr
    for wrong in ("localhost", "127.0.0.1:port", "unix:"):
        result = bench(wrong, messages)
        assert result.exit_code == 2
        assert "expected HOST:PORT or unix:PATH" in result.stderr


def test_a_port_of_something_else_is_an_error_that_helps(messages: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):  # the first one is gone at once
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 16):
                        pass

        thread = threading.Thread(target=answer)
        thread.start()
        result = bench(f"127.0.0.1:{listener.getsockname()[1]}", messages, "--connections", "1")
        thread.join()
    assert result.exit_code == 2
    assert "HTTP/2" in result.stderr
    assert "is that the port for gRPC" in result.stderr


def test_wrong_files_and_options_are_errors_that_help(server: LocalServer, messages: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.bin"
    damaged.write_bytes(messages.read_bytes()[:-1])
    text = tmp_path / "text.bin"
    text.write_text("no messages here")
    target = server.addresses.public
    for path, said in (
        (tmp_path / "none.bin", "No such file"),
        (text, "assay bench prepare makes one"),
        (damaged, "make it anew: assay bench prepare"),
    ):
        result = bench(target, path)
        assert result.exit_code == 2
        assert said in result.stderr
    for arguments, said in (
        (("--rate", "0"), "rate: expected"),
        (("--rate", "1", "--steps", "1,2"), "give one of them"),
        (("--steps", "1,x"), "--steps: expected rates"),
        (("--method", "Score"), "expected package.Service/Method"),
        (("--threads", "3"), "connections: expected as many as threads"),
        (("--metadata", "novalue"), "expected NAME=VALUE"),
        (("--metadata", "Upper=1"), "lower case"),
        (("--server-pid", str(2**22 + 1)), "no such process"),
    ):
        result = bench(target, messages, *arguments)
        assert result.exit_code == 2, arguments
        assert said in result.stderr


# --- prepare


def event(number: int, amount: Any = 1_000) -> str:
    return json.dumps(
        {
            "transaction_id": f"e{number}",
            "event_time": f"2018-04-{1 + number % 28:02}T12:00:00.000001Z",
            "entities": {"customer_id": "596", "terminal_id": "3156"},
            "features": {"amount_minor": amount},
            "is_fraud": False,
        }
    )


def test_events_become_the_requests_that_score_them(tmp_path: Path) -> None:
    events, out = tmp_path / "events.jsonl", tmp_path / "messages.bin"
    events.write_text("\n".join([event(1, 5716), event(2), event(2), "", event(3)]))
    made = document(run("prepare", events, "--feature-set", DEMO, "--out", out, "--model", "m", "--json"))
    assert made == {"out": str(out), "messages": 3, "bytes": out.stat().st_size}
    requests = [scoring_pb2.ScoreRequest.FromString(message) for message in messages_of(out)]
    assert [request.transaction_id for request in requests] == ["e1", "e2", "e3"]
    first = requests[0]
    assert first.model == "m"
    assert first.event_time.ToJsonString() == "2018-04-02T12:00:00.000001Z"
    assert dict(first.entities) == {"customer_id": "596", "terminal_id": "3156"}
    assert first.features["amount_minor"].int64_value == 5716
    assert out.stat().st_mode & 0o077 == 0
    assert list(tmp_path.glob("*.partial")) == []


def test_more_than_there_are_events_have_ids_of_their_own(tmp_path: Path) -> None:
    events, out = tmp_path / "events.jsonl", tmp_path / "messages.bin"
    events.write_text("\n".join(event(number) for number in range(3)))
    run("prepare", events, "--feature-set", DEMO, "--out", out, "--count", "100")
    ids = [scoring_pb2.ScoreRequest.FromString(message).transaction_id for message in messages_of(out)]
    assert len(set(ids)) == 100
    run("prepare", events, "--feature-set", DEMO, "--out", out, "--count", "2")
    assert len(messages_of(out)) == 2


def test_the_demos_own_payments_are_there_without_a_file(tmp_path: Path) -> None:
    out = tmp_path / "messages.bin"
    assert document(run("prepare", "--out", out, "--count", "1000", "--json"))["messages"] == 1000
    requests = [scoring_pb2.ScoreRequest.FromString(message) for message in messages_of(out)]
    assert len({request.transaction_id for request in requests}) == 1000
    assert len({request.entities["customer_id"] for request in requests}) > 500


def test_events_that_are_none_are_named(tmp_path: Path) -> None:
    events, out = tmp_path / "events.jsonl", tmp_path / "messages.bin"
    events.write_text("\n".join([event(1), event(2, "4111111111111111")]))
    for path, said in (
        (events, "line 2 is no event"),
        (tmp_path / "none.jsonl", "No such file"),
        (Path(os.devnull), "no events"),
    ):
        result = run("prepare", path, "--feature-set", DEMO, "--out", out)
        assert result.exit_code == 2
        assert said in result.stderr
        assert "4111111111111111" not in result.stderr
        assert not out.exists()
    result = run("prepare", "--feature-set", DEMO, "--out", out)
    assert result.exit_code == 2
    assert "demo's feature set" in result.stderr
