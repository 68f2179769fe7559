"""What a hostile client or file once could do, and can no more: lock others out, fill the log, make the server hold or send what
it was sent, read a card number back out of an error, hang or crash the reader of a file."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from assay import _core
from assay.config_loading import load_config, printable_config
from assay.errors import ConfigError, CoreError
from assay.transport import health, reflection, scoring_service
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.support.server import LocalServer, make_event, make_request, reason_of, status_of, wait_until

pytestmark = pytest.mark.usefixtures("transport")

ROOT = Path(__file__).resolve().parents[2]
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
STANDARD = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", WATCH, REFLECTION)
BURST = 3000  # gRPC drops calls at random once 1,000 wait for Python


@pytest.fixture(scope="module")
def server(transport: str) -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    code: grpc.StatusCode = caught.value.code()
    return code


# --- locking others out


def test_a_burst_is_answered_not_dropped_at_random(server: LocalServer) -> None:
    """Past 1,000 calls that wait for Python, gRPC on its own ends some as CANCELLED: no details, no retry. Ours come first."""

    async def burst() -> Counter[str]:
        message = make_request().SerializeToString()
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        channels = [grpc.aio.insecure_channel(server.addresses.public, options=options) for _ in range(4)]
        calls: list[Any] = [channel.unary_unary("/assay.v1.ScoringService/Score") for channel in channels]
        codes: Counter[str] = Counter()

        async def one(index: int) -> None:
            try:
                await calls[index % len(calls)](message, timeout=60)
                codes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1

        await asyncio.gather(*(one(index) for index in range(BURST)))
        await asyncio.gather(*(channel.close() for channel in channels))
        return codes

    assert asyncio.run(burst()) == {"OK": BURST}


def test_open_watches_cannot_use_up_the_calls(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """18,000 open watches once made every Score RESOURCE_EXHAUSTED."""
    monkeypatch.setattr(health, "WATCHES_MAX", 3)
    watch: Any = server.channel().unary_stream(WATCH)
    open_watches = [watch(b"") for _ in range(3)]
    for one in open_watches:
        next(one)
    assert code_of(watch(b"")) is grpc.StatusCode.RESOURCE_EXHAUSTED
    open_watches[0].cancel()

    def is_admitted() -> bool:
        again = watch(b"")
        try:
            next(again)
        except grpc.RpcError:
            return False
        again.cancel()
        return True

    wait_until(is_admitted, "a watch that ended makes room for another")
    for one in open_watches:
        one.cancel()


def test_open_reflection_calls_cannot_use_up_the_calls(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflection, "CALLS_MAX", 0)
    assert code_of(server.channel().stream_stream(REFLECTION)(iter(()), timeout=20)) is grpc.StatusCode.RESOURCE_EXHAUSTED


# --- filling the log, and memory


@pytest.mark.parametrize("method", STANDARD)
def test_garbage_for_a_standard_service_is_refused_without_a_traceback(
    server: LocalServer, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    call: Any = server.channel().stream_stream(method)
    with caplog.at_level(logging.DEBUG):
        assert code_of(call(iter([b"\xff"]), timeout=20)) is grpc.StatusCode.INVALID_ARGUMENT
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_no_log_keeps_a_server_that_was_freed() -> None:
    """At level debug grpc.aio logs a server that was not stopped, from within its deallocation. A handler that keeps records then
    held freed memory (pytest's is one), and whatever came next died of it."""
    program = """
import asyncio, logging
import grpc
import assay.transport.server

kept = []

class Keep(logging.Handler):
    def emit(self, record):
        kept.append(record)

async def drop_a_server():
    grpc.aio.server()

logging.basicConfig(level=logging.DEBUG, handlers=[Keep()])
asyncio.run(drop_a_server())
raise SystemExit(any("__dealloc__" in str(record.msg) for record in kept))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0


def test_a_refused_message_does_not_bring_its_long_id_back(server: LocalServer) -> None:
    request = make_request("x" * 1_000_000)
    for index in range(513):  # more entries than the core takes: refused before its id is looked at
        request.entities[f"n{index}"] = "x"
    stream: Any = server.channel().stream_stream("/assay.v1.ScoringService/ScoreStream")
    (answer,) = stream(iter([scoring_pb2.ScoreStreamRequest(request=request).SerializeToString()]), timeout=20)
    assert len(answer) < 4096
    assert scoring_pb2.ScoreStreamResponse.FromString(answer).transaction_id == ""


def test_of_a_long_message_in_flight_the_id_alone_is_kept() -> None:
    request = make_request("t1")
    request.entities["padding"] = "x" * 1_000_000
    kept = scoring_service._kept(scoring_pb2.ScoreStreamRequest(request=request).SerializeToString())
    assert len(kept) < 100
    assert scoring_service._transaction_id(kept) == "t1"


def test_a_rejected_event_does_not_bring_its_long_id_back(server: LocalServer) -> None:
    events = [make_event("x" * 129), make_event("x" * 100_000), make_event("é" * 65)]
    stub: Any = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())  # type: ignore[no-untyped-call]
    response = stub.RecordEvents(iter([feature_pb2.RecordEventsRequest(events=events)]), timeout=20)
    assert response.rejected_count == 3
    assert [rejected.transaction_id for rejected in response.rejected_events] == ["", "", ""]


# --- a card number, however it is written


@pytest.mark.parametrize("between", ["", " ", "-", ".", "/", "_", "  ", " - ", "\u00a0", "\u2011", "\t", ":"])
def test_a_card_number_in_place_of_a_name_is_masked(server: LocalServer, between: str) -> None:
    card = between.join(("4929", "4929", "4929", "4929"))
    named = [make_request(model=card), make_request(model="puppet", version=card), make_request(), make_request()]
    named[2].entities[card] = "x"
    named[3].features[card].bool_value = True
    stub: Any = scoring_pb2_grpc.ScoringServiceStub(server.channel())  # type: ignore[no-untyped-call]
    for request in named:
        with pytest.raises(grpc.RpcError) as caught:
            stub.Score(request, timeout=20)
        status = status_of(caught.value)
        assert reason_of(status) in ("UNKNOWN_MODEL", "UNKNOWN_VERSION", "INVALID_REQUEST")
        assert b"4929" not in status.SerializeToString()
        assert "<digits>" in str(caught.value)


# --- files and sockets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a {b: *a}", "aliases"),
        ("a: &a {x: 1}\nb: [*a, *a]", "aliases"),
        ("? [1, 2]\n: 3", "a key must be a name"),
        ("a: " + "[" * 20_000, "nested too deeply"),
    ],
)
def test_a_hostile_configuration_is_an_error_at_once(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "assay.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(file=file)


def test_a_configuration_with_a_nul_in_the_sockets_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="admin_socket: expected a path"):
        load_config({"admin_socket": "/tmp/a\0b"})


@pytest.mark.parametrize("url", ["hunter2", "redis:hunter2", "redis://[hunter2"])
def test_what_is_no_url_is_not_shown(url: str) -> None:
    assert "hunter2" not in str(printable_config(load_config({"store": {"url": url}}))["store.url"])


def test_a_snapshot_never_takes_the_place_of_a_pipe_or_a_device(tmp_path: Path) -> None:
    """A save over a device once replaced it, for everybody on the machine; a load from a pipe waited for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for action in (_core.EmbeddedStore().save, _core.EmbeddedStore().load):
        with pytest.raises(CoreError, match="is not a regular file"):
            action(str(pipe))
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make another user's link")
def test_a_socket_directory_that_is_another_users_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    os.lchown(link, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to another user"):
        LocalServer(admin_socket=str(link / "admin.sock"))


def test_a_fork_does_not_wait_for_threads_it_has_not() -> None:
    """Dropping an inherited Engine hung: a fork has its memory but none of the threads that its end waits for."""
    program = """
import os
from assay import _core
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from tests.support.server import FEATURE_SET

reader = _core.FeatureReader(compile_plan(FeatureSet.parse(FEATURE_SET)), _core.EmbeddedStore())
engine = _core.Engine()
engine.add_lane(model="puppet", version="1", model_sha256="0" * 64, reader=reader, runner=_core.PuppetModel())
child = os.fork()
if child == 0:
    del engine
    os._exit(0)
raise SystemExit(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0
