"""The native transport's own keys, each met over real sockets."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay._core import HAS_NATIVE_TRANSPORT
from assay.errors import ConfigError
from assay.observe.metrics import listener_families
from assay.transport import native
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.http2 import SETTINGS, RawConnection, call_headers, data_frame, headers_frames, message
from tests.support.server import LocalServer, ServeProcess, held, make_request, reason_of, status_of, wait_until

native_only = pytest.mark.skipif(not HAS_NATIVE_TRANSPORT, reason="this build has no native transport")

SERVING = health_pb2.HealthCheckResponse.SERVING
HEALTH = health_pb2.HealthCheckRequest()


def native_server(native_transport: dict[str, int], **config: Any) -> LocalServer:
    return LocalServer(transport="native", native_transport=native_transport, **config)


def stub_of(channel: grpc.Channel) -> Any:
    return scoring_pb2_grpc.ScoringServiceStub(channel)


def health_of(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def io_threads() -> list[Path]:
    """Those of this process, as /proc has them. They have their name once they run, and stay a moment after their end."""

    def name_of(task: Path) -> str:
        try:
            return (task / "comm").read_text().strip()
        except OSError:  # it has just ended
            return ""

    return [task for task in Path("/proc/self/task").iterdir() if name_of(task) == "assay-io"]


def waits_of(task: Path) -> int:
    """How often a thread has waited for something to do."""
    (line,) = (line for line in (task / "status").read_text().splitlines() if line.startswith("voluntary_ctxt_switches"))
    return int(line.split()[1])


@native_only
def test_connections_are_spread_over_two_threads_that_answer_and_drain() -> None:
    with native_server({"io_threads": 2}) as server:
        wait_until(lambda: len(io_threads()) == 2, "both threads run")
        threads = io_threads()
        channels = [server.channel() for _ in range(4)]
        for channel in channels:
            grpc.channel_ready_future(channel).result(20)
        before = [waits_of(thread) for thread in threads]
        for channel in channels:
            stub = stub_of(channel)
            for i in range(10):
                assert stub.Score(make_request(f"t{i}"), timeout=20).transaction_id == f"t{i}"
        # Who has no connection sleeps all the while.
        assert all(waits_of(thread) > count for thread, count in zip(threads, before, strict=True))
        for channel in channels:
            stub = stub_of(channel)
            batch = scoring_pb2.ScoreBatchRequest(requests=[make_request(f"b{i}") for i in range(20)])
            assert len(stub.ScoreBatch(batch, timeout=20).results) == 20
            messages = (scoring_pb2.ScoreStreamRequest(request=make_request(f"s{i}")) for i in range(20))
            answers = list(stub.ScoreStream(messages, timeout=20))
            assert {answer.response.transaction_id for answer in answers} == {f"s{i}" for i in range(20)}
            assert health_of(channel).Check(HEALTH, timeout=20).status == SERVING
        assert server.native_stats.open_connections == 4
        with held(server):
            calls = [stub_of(channel).Score.future(make_request(f"d{i}"), timeout=20) for i, channel in enumerate(channels)]
            wait_until(lambda: server.waiting_count() == 4, "all four are in the server")
            wait_for_drain = server.start_drain()
        assert [call.result().transaction_id for call in calls] == ["d0", "d1", "d2", "d3"]
        wait_for_drain()
        wait_until(lambda: not io_threads(), "both threads have ended")
        stats = server.native_stats
        assert (stats.closed_connections["left"], stats.closed_connections["grace"], stats.held_bytes) == (4, 0, 0)


@native_only
def test_a_connection_past_the_limit_waits_until_another_closes() -> None:
    def rests() -> float:
        families = {family.name: family for family in listener_families(server.native_stats)}
        return float(families["assay_accept_rests"].samples[0].value)

    with native_server({"connections_max": 2}) as server, RawConnection(server.addresses.public) as second:
        stub = stub_of(server.channel())
        assert stub.Score(make_request(), timeout=20).HasField("score")
        second.wait_for(SETTINGS)
        assert server.native_stats.open_connections == 2
        before = rests()  # the limit is reached, and nobody waits
        with RawConnection(server.addresses.public) as third:  # with the kernel, which takes it for us
            wait_until(lambda: rests() >= before + 3, "the server has looked three times")
            assert (server.native_stats.open_connections, server.native_stats.accepted_connections) == (2, 2)
            assert stub.Score(make_request(), timeout=20).HasField("score")
            second.close()
            third.wait_for(SETTINGS)
            third.send_call(1, make_request().SerializeToString(), is_reset=False)
            assert third.answer().grpc_status == 0
            assert server.native_stats.accepted_connections == 3


@native_only
def test_forwarded_calls_past_the_limit_are_refused() -> None:
    with native_server({"forwarded_streams_max": 2}) as server:
        channel = server.channel()
        watches = [health_of(channel).Watch(HEALTH, timeout=60) for _ in range(2)]
        assert [next(watch).status for watch in watches] == [SERVING, SERVING]
        with pytest.raises(grpc.RpcError) as caught:
            health_of(channel).Check(HEALTH, timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(status_of(caught.value)) == "STREAM_LIMIT"
        assert stub_of(channel).Score(make_request(), timeout=20).HasField("score")
        assert health_of(server.channel()).Check(HEALTH, timeout=20).status == SERVING
        watches[0].cancel()
        wait_until(lambda: server.native_stats.open_forwarded_calls == 1, "one watch has ended")
        assert health_of(channel).Check(HEALTH, timeout=20).status == SERVING


@native_only
def test_messages_under_way_past_the_limit_are_refused() -> None:
    limits = {"receive_message_bytes_max": 1 << 19, "send_message_bytes_max": 1 << 19}
    body = message(bytes(1 << 19))[:48_000]  # its end never comes
    pieces = b"".join(data_frame(body[i : i + 16_000]) for i in range(0, len(body), 16_000))
    with native_server({"held_bytes_max": 1 << 20, "io_threads": 1}, limits=limits) as server, ExitStack() as clients:
        for _ in range(30):
            held_before = server.native_stats.held_bytes
            client = clients.enter_context(RawConnection(server.addresses.public))
            client.send_bytes(headers_frames(call_headers("/assay.v1.ScoringService/ScoreBatch")) + pieces)
            wait_until(
                lambda: server.native_stats.held_bytes >= held_before + len(body) or server.engine.stats().refused_calls > 0,  # noqa: B023
                "the message is held, or refused",
            )
            if server.engine.stats().refused_calls:
                break
        answer = client.answer()
        assert (answer.grpc_status, answer.reason) == (8, "MESSAGE_TOO_LARGE")
        assert 1 << 19 < server.native_stats.held_bytes <= 1 << 20


@pytest.mark.parametrize(
    ("transport", "why"), [("auto", "this build has no native transport (assay doctor)"), ("grpcio", "transport is grpcio")]
)
def test_keys_that_grpcio_has_no_use_for_are_named(
    transport: str, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "HAS_NATIVE_TRANSPORT", False)
    with LocalServer(transport=transport, native_transport={"io_threads": 2, "connections_max": 5}):
        said = [record.getMessage() for record in caplog.records if "native_transport" in record.getMessage()]
        assert len(said) == 1
        assert "connections_max, io_threads without effect" in said[0]
        assert why in said[0]
    caplog.clear()
    with LocalServer(transport=transport):
        assert "native_transport" not in caplog.text


@native_only
def test_a_runtime_directory_without_room_for_a_socket_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / ("x" * 107)
    directory.mkdir()
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: str(directory))
    with pytest.raises(
        ConfigError, match=r"transport: .*/forward-.* at most 107 bytes\); set XDG_RUNTIME_DIR, or transport to grpcio"
    ):
        LocalServer(transport="auto", admin_socket="off")


@native_only
def test_two_servers_of_one_port_number_have_sockets_of_their_own(tmp_path: Path) -> None:
    shared = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with ServeProcess("--set", "transport=native", environment=shared) as first:
        port = first.target.rpartition(":")[2]
        with ServeProcess("--set", "transport=native", "--listen", f"127.0.0.2:{port}", environment=shared) as second:
            assert len(list((tmp_path / "assay").glob(f"forward-{port}-*.sock"))) == 2
            for server in (first, second):
                with grpc.insecure_channel(server.target) as channel:
                    assert health_of(channel).Check(HEALTH, timeout=20).status == SERVING
