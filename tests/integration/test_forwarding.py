"""Calls that the native transport forwards: flow control, both ends' endings, a gRPC server behind that goes and comes."""

from __future__ import annotations

import itertools
import os
import queue
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from assay._core import HAS_NATIVE_TRANSPORT
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.http2 import (
    END_STREAM,
    GOAWAY,
    INITIAL_WINDOW_SIZE,
    PING,
    RST_STREAM,
    WINDOW_UPDATE,
    RawConnection,
    call_headers,
    data_frame,
    headers_frames,
    message,
)
from tests.support.interop import METHODS, InteropServer, output_of, pb
from tests.support.server import LocalServer, make_request, reason_of, status_of, wait_until

pytestmark = pytest.mark.skipif(not HAS_NATIVE_TRANSPORT, reason="this build has no native transport")

EMPTY_CALL, STREAMING_OUTPUT_CALL, FULL_DUPLEX_CALL = METHODS[0], METHODS[2], METHODS[4]
LAST_STREAM_MAX = 2**31 - 1


@pytest.fixture
def scoring() -> Iterator[LocalServer]:
    with LocalServer(transport="grpcio") as scoring:
        yield scoring


@pytest.fixture
def server(scoring: LocalServer) -> Iterator[InteropServer]:
    with InteropServer(scoring.engine) as server:
        yield server


def scores_of(server: InteropServer) -> Any:
    return scoring_pb2_grpc.ScoringServiceStub(server.channel())


def at_rest(count: Callable[[], int], server: InteropServer) -> int:
    """`count` once it no longer grows while a neighbour makes 50 forwarded calls and 50 others."""
    neighbour, scores, before = server.stub(), scores_of(server), -1
    while (now := count()) != before:
        before = now
        for _ in range(50):
            neighbour.EmptyCall(pb.Empty(), timeout=20)
            scores.Score(make_request(), timeout=20)
    return before


def raw_request(path: str, request: Any, stream: int = 1, *, is_ended: bool = True) -> bytes:
    body = message(request.SerializeToString())
    return headers_frames(call_headers(path), stream=stream) + data_frame(body, END_STREAM if is_ended else 0, stream)


def is_failed_forwarding(error: grpc.RpcError) -> bool:
    status: Any = error
    if status.code() is not grpc.StatusCode.UNAVAILABLE or "grpc-status-details-bin" not in dict(status.trailing_metadata()):
        return False
    return reason_of(status_of(error)) == "FORWARDING_FAILED"


# --- flow control


def test_a_score_stream_whose_client_does_not_read_is_read_from_no_further(scoring: LocalServer, server: InteropServer) -> None:
    count, limit = 300, 64  # stream_messages_max
    requests = (scoring_pb2.ScoreStreamRequest(request=make_request(f"s{i}")) for i in range(count))
    body = b"".join(message(request.SerializeToString()) for request in requests)
    path = "/assay.v1.ScoringService/ScoreStream"
    with RawConnection(server.target, [(INITIAL_WINDOW_SIZE, 0)]) as raw:
        pieces = [data_frame(body[i : i + 16_000]) for i in range(0, len(body), 16_000)]
        raw.send_bytes(headers_frames(call_headers(path)) + b"".join(pieces) + data_frame(b"", END_STREAM))
        wait_until(lambda: scoring.engine.stats().answered_rows == limit, "as many as may be unread are scored")
        neighbour = scores_of(server)
        for i in range(200):
            neighbour.Score(make_request(), timeout=20)
            assert scoring.engine.stats().answered_rows == limit + i + 1
        raw.send(WINDOW_UPDATE, struct.pack(">I", 1 << 24), stream=1)
        raw.send(WINDOW_UPDATE, struct.pack(">I", 1 << 24))
        answer = raw.answer()
    assert answer.grpc_status == 0
    assert sum(1 for _ in messages_of(answer.body)) == count


def messages_of(body: bytes) -> Iterator[bytes]:
    while body:
        size = 5 + int.from_bytes(body[1:5], "big")
        yield body[5:size]
        body = body[size:]


def test_a_client_that_does_not_read_stops_the_servicer_and_nobody_else(server: InteropServer) -> None:
    size, count = 16_000, 1000
    with RawConnection(server.target, [(INITIAL_WINDOW_SIZE, size)]) as raw:
        raw.send_bytes(raw_request(STREAMING_OUTPUT_CALL, output_of(*[size] * count)))
        sent = at_rest(lambda: server.service.sent_messages, server)
        assert 0 < sent < 100  # windows of 64 KiB and gRPC's own buffers
        # Another call of the same connection has windows of its own.
        raw.send_bytes(raw_request(EMPTY_CALL, pb.Empty(), 3))
        assert raw.answer(3).grpc_status == 0
    wait_until(lambda: server.service.open_calls == 0, "the servicer hears that the client is gone")
    assert server.service.sent_messages < 110


def test_a_servicer_that_does_not_read_stops_the_client(server: InteropServer) -> None:
    server.service.may_read.clear()
    size, count, produced = 16_000, 2000, 0

    def requests() -> Iterator[Any]:
        nonlocal produced
        for _ in range(count):
            produced += 1
            yield pb.StreamingInputCallRequest(payload=pb.Payload(body=bytes(size)))

    call = server.stub().StreamingInputCall.future(requests(), timeout=60)
    wait_until(lambda: produced > 0, "the call has begun")
    assert at_rest(lambda: produced, server) < count // 2  # a window of 256 KiB, and gRPC's own, which grows to some MiB
    server.service.may_read.set()
    assert call.result().aggregated_payload_size == size * count


def test_credit_of_answers_comes_back(server: InteropServer) -> None:
    """What came together with a call's end still counts in the window of all calls of a connection, which is 16 MiB: once it
    leaked there, and one of these waited for ever."""
    stub = server.stub()
    for _ in range(400):
        assert len(stub.UnaryCall(pb.SimpleRequest(response_size=60_000), timeout=20).payload.body) == 60_000


def test_credit_of_cancelled_answers_comes_back(server: InteropServer) -> None:
    with RawConnection(server.target, [(INITIAL_WINDOW_SIZE, 0)]) as raw:
        for stream in range(1, 801, 2):
            raw.send_bytes(raw_request(STREAMING_OUTPUT_CALL, output_of(*[16_000] * 5), stream))
            wait_until(lambda: server.service.started == (stream + 1) // 2, "the call is in the server behind")  # noqa: B023
            raw.send(RST_STREAM, struct.pack(">I", 8), stream=stream)
        wait_until(lambda: server.service.open_calls == 0, "all have ended")
        raw.send_bytes(raw_request(STREAMING_OUTPUT_CALL, output_of(*[16_000] * 5), 801))
        raw.send(WINDOW_UPDATE, struct.pack(">I", 1 << 20), stream=801)
        raw.send(WINDOW_UPDATE, struct.pack(">I", 1 << 20))
        assert len(raw.answer(801).body) > 80_000


# --- ends


def test_an_answer_that_ends_first_tells_the_client_to_stop(server: InteropServer) -> None:
    request = output_of(9)
    request.response_status.code = 9
    with RawConnection(server.target) as raw:
        raw.send_bytes(raw_request(FULL_DUPLEX_CALL, request, is_ended=False))
        answer = raw.answer()
        assert (len(list(messages_of(answer.body))), answer.grpc_status) == (1, 9)
        assert raw.answer().reset == 0  # NO_ERROR: the rest is not wanted
    wait_until(lambda: server.service.open_calls == 0, "the servicer has ended")


def test_a_client_that_has_sent_everything_is_answered_on(server: InteropServer) -> None:
    answers = server.stub().StreamingOutputCall(output_of(*[1000] * 200, interval_us=100), timeout=60)
    assert len(list(answers)) == 200


def test_a_connection_that_breaks_ends_its_calls_behind(server: InteropServer) -> None:
    with RawConnection(server.target) as raw:
        for stream in (1, 3, 5):
            raw.send_bytes(raw_request(FULL_DUPLEX_CALL, output_of(9), stream, is_ended=False))
        wait_until(lambda: server.service.sent_messages == 3, "three calls are under way")
    wait_until(lambda: server.service.open_calls == 0 and server.transport.stats().open_connections == 0, "all is over")


def test_forwarded_calls_of_a_connection_are_limited(scoring: LocalServer) -> None:
    with InteropServer(scoring.engine, forwarded_streams_max=3) as server:
        channel_stub = server.stub()
        outgoing: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(3)]
        calls = [channel_stub.FullDuplexCall(iter(one.get, None), timeout=60) for one in outgoing]
        for one, call in zip(outgoing, calls, strict=True):
            one.put(output_of(9))
            next(call)
        with pytest.raises(grpc.RpcError) as caught:
            channel_stub.EmptyCall(pb.Empty(), timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(status_of(caught.value)) == "STREAM_LIMIT"
        assert server.stub().EmptyCall(pb.Empty(), timeout=20) == pb.Empty()  # another connection
        for one in outgoing:
            one.put(None)
        assert [list(call) for call in calls] == [[], [], []]
        assert channel_stub.EmptyCall(pb.Empty(), timeout=20) == pb.Empty()


def test_unread_answers_count_among_them(scoring: LocalServer) -> None:
    """Else a client that reads nothing could have the listener hold the answer of one call after the other."""
    with (
        InteropServer(scoring.engine, forwarded_streams_max=3) as server,
        RawConnection(server.target, [(INITIAL_WINDOW_SIZE, 0)]) as raw,
    ):
        for stream in (1, 3, 5):
            raw.send_bytes(raw_request(STREAMING_OUTPUT_CALL, output_of(9), stream))
        wait_until(lambda: server.service.finished == 3, "the servicer is done with them")
        raw.send_bytes(raw_request(EMPTY_CALL, pb.Empty(), 7))
        answer = raw.answer(7)
        assert (answer.grpc_status, answer.reason) == (8, "STREAM_LIMIT")


# --- the server behind


def test_the_server_behind_dies_under_load_and_comes_back(server: InteropServer) -> None:
    channel = server.channel()
    scores = scoring_pb2_grpc.ScoringServiceStub(channel)
    empty = channel.unary_unary(EMPTY_CALL)
    watching = server.stub().FullDuplexCall(iter(_asks_and_waits()), timeout=60)
    next(watching)
    errors: list[grpc.RpcError] = []
    end = threading.Event()

    def call_over_and_over() -> None:
        while not end.is_set():
            try:
                empty(b"", timeout=20)
            except grpc.RpcError as error:
                errors.append(error)

    threads = [threading.Thread(target=call_over_and_over) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        server.stop_behind()
        wait_until(lambda: len(errors) >= 10, "forwarded calls fail")
        for i in range(100):
            assert scores.Score(make_request(f"t{i}"), timeout=20).transaction_id == f"t{i}"
        server.start_behind()
        # Calls that were refused before are not retried; new ones are answered.
        wait_until(lambda: _is_answered(empty), "forwarded calls are answered again")
        known = len(errors)
        for _ in range(100):
            empty(b"", timeout=20)
        assert len(errors) <= known + len(threads)
    finally:
        end.set()
        for thread in threads:
            thread.join()
    # Calls that the stopping server ended itself say so in gRPC's own words.
    assert {error.code() for error in errors} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert sum(is_failed_forwarding(error) for error in errors) >= 10
    with pytest.raises(grpc.RpcError):
        next(watching)


def _is_not_forwarded(call: Any) -> bool:
    """A server that is just stopping may also cancel what it has taken already; or never answer it, as grpc.aio does with a call
    that comes in that moment (its own clients' too)."""
    try:
        call(pb.Empty(), timeout=1)
    except grpc.RpcError as error:
        return is_failed_forwarding(error)
    return False


def _is_answered(call: Any) -> bool:
    try:
        call(b"", timeout=20)
    except grpc.RpcError:
        return False
    return True


def _asks_and_waits() -> Iterator[Any]:
    """One request, then none for as long as the call lasts."""
    yield output_of(9)
    threading.Event().wait(30)


def test_a_server_behind_that_is_asked_to_stop_ends_its_calls_while_another_takes_the_next(server: InteropServer) -> None:
    """GOAWAY from behind is no error of the client's: once every further call of the connection was refused with STREAM_LIMIT."""
    stub = server.stub()
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = stub.FullDuplexCall(iter(outgoing.get, None), timeout=60)
    outgoing.put(output_of(9))
    next(answers)
    stopped = server.begin_stop_behind(20)
    wait_until(lambda: _is_not_forwarded(stub.EmptyCall), "nobody behind takes calls")
    server.start_behind()
    assert stub.EmptyCall(pb.Empty(), timeout=20) == pb.Empty()
    outgoing.put(output_of(7))
    assert len(next(answers).payload.body) == 7  # on the old one
    outgoing.put(None)
    assert list(answers) == []
    stopped()


# --- drain


def test_a_drain_says_goodbye_in_two_steps(scoring: LocalServer, server: InteropServer) -> None:
    """First GOAWAY without an end, and a PING behind it: what the client has sent until it answers that is still taken. (Once the
    PING came first, and its answer said nothing of the GOAWAY.)"""
    request = make_request().SerializeToString()
    scoring.puppet.hold()
    with RawConnection(server.target) as raw:
        raw.send_bytes(headers_frames(call_headers()) + data_frame(message(request), END_STREAM))
        wait_until(lambda: server.transport.stats().waiting_calls == 1, "a call is in flight")
        server.transport.drain(20)
        assert struct.unpack(">II", raw.wait_for(GOAWAY)[:8]) == (LAST_STREAM_MAX, 0)
        ping = raw.wait_for(PING)
        raw.send_bytes(headers_frames(call_headers(EMPTY_CALL), stream=3) + data_frame(message(b""), END_STREAM, 3))
        raw.send(PING, ping, 1)
        answer = raw.answer(3)
        assert answer.grpc_status == 0
        scoring.puppet.release()
        answer = raw.answer(1)
        assert answer.grpc_status == 0
        assert list(raw.frames()) == []  # the server has closed
    assert server.transport.wait_closed(20)


def test_new_connections_are_refused_while_draining(server: InteropServer) -> None:
    """Not left to wait in the kernel's queue: a client must see at once that it should go elsewhere."""
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = server.stub().FullDuplexCall(iter(outgoing.get, None), timeout=60)
    outgoing.put(output_of(9))
    next(answers)
    server.transport.drain(20)
    wait_until(lambda: _is_refused(server.target), "new connections are refused")
    outgoing.put(output_of(9))
    next(answers)
    outgoing.put(None)
    assert list(answers) == []


def _is_refused(target: str) -> bool:
    try:
        RawConnection(target).close()
    except ConnectionRefusedError:
        return True
    except ConnectionError:
        return False
    return False


def test_forwarded_streams_end_by_the_grace(server: InteropServer) -> None:
    answers = server.stub().FullDuplexCall(iter(_asks_and_waits()), timeout=60)
    next(answers)
    server.transport.drain(0.2)
    with pytest.raises(grpc.RpcError):
        next(answers)
    assert answers.code() is grpc.StatusCode.UNAVAILABLE
    wait_until(lambda: server.service.open_calls == 0, "the servicer hears of it")
    assert server.transport.wait_closed(20)


def test_connections_that_grow_old_under_load_lose_no_call(scoring: LocalServer) -> None:
    """Every call that was taken is answered. No call is tried again here, so what the client had not sent yet when it was asked
    to go fails, in its own words."""
    with InteropServer(scoring.engine, age_s_max=0.1, age_grace_s=20) as server:
        end, failures = threading.Event(), []
        scored, forwarded = itertools.count(), itertools.count()

        def call_over_and_over() -> None:
            channel = server.channel()
            score, empty = scoring_pb2_grpc.ScoringServiceStub(channel).Score, channel.unary_unary(EMPTY_CALL)
            while not end.is_set():
                for call, request, answered in ((score, make_request(), scored), (empty, b"", forwarded)):
                    try:
                        call(request, timeout=20)
                        next(answered)
                    except grpc.RpcError as error:
                        failures.append(str(error))

        threads = [threading.Thread(target=call_over_and_over) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.transport.stats().accepted_connections >= 40, "forty connections")
        end.set()
        for thread in threads:
            thread.join()
        assert [failure for failure in failures if "GOAWAY received" not in failure] == []
        assert next(scored) == scoring.engine.stats().accepted_rows > 0
        assert next(forwarded) == server.service.started > 0


# --- what is left behind


@pytest.mark.parametrize(
    ("connection_count", "call_count"), [(300, 3000), pytest.param(10_000, 100_000, marks=pytest.mark.torture)]
)
def test_connections_leave_nothing_behind(
    scoring: LocalServer, server: InteropServer, connection_count: int, call_count: int
) -> None:
    """Connections with calls of every kind: answered, forwarded, reset, cut off in the middle, refused."""
    request = make_request().SerializeToString()
    calls_each = call_count // connection_count
    with RawConnection(server.target) as raw:  # whatever is made once is made
        raw.send_bytes(raw_request(EMPTY_CALL, pb.Empty()))
        raw.answer()
    wait_until(lambda: server.transport.stats().open_connections == 0, "it is gone")
    before = _descriptor_count()
    for i in range(connection_count):
        with RawConnection(server.target) as raw:
            for stream in range(1, 2 * calls_each, 2):
                raw.send_bytes(
                    (
                        headers_frames(call_headers(), stream=stream) + data_frame(message(request), END_STREAM, stream),
                        raw_request(EMPTY_CALL, pb.Empty(), stream),
                        headers_frames(call_headers(), stream=stream) + data_frame(message(request)[:9], 0, stream),
                        raw_request(FULL_DUPLEX_CALL, output_of(9), stream, is_ended=False),
                        headers_frames(call_headers("/nobody/Knows"), stream=stream),
                    )[i % 5]
                )
            if i % 5 in (0, 1, 4) and i % 2:  # the others leave without waiting
                raw.answer(2 * calls_each - 1)
    wait_until(lambda: server.transport.stats().open_connections == 0, "no connection is left")
    wait_until(lambda: server.service.open_calls == 0, "no call is left behind")
    wait_until(lambda: server.transport.stats().waiting_calls == 0, "no call waits")
    wait_until(lambda: scoring.engine.stats().slots_used == 0, "no slot is left")
    wait_until(lambda: _descriptor_count() <= before + 2, "no descriptor is left")  # a neighbour's in this process
    stub = server.stub()
    assert stub.EmptyCall(pb.Empty(), timeout=20) == pb.Empty()


def _descriptor_count() -> int:
    return len(os.listdir("/proc/self/fd"))
