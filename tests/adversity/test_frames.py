"""Abuse of HTTP/2 by hand-made frames, against the native transport: floods, bombs, lies, clients that hardly read or write,
connections that are held. Each time the server answers as it should or closes, a neighbour on a connection of its own goes on
being answered, memory stays bounded, and nothing is left."""

from __future__ import annotations

import gzip
import logging
import resource
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from assay._core import HAS_NATIVE_TRANSPORT
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.http2 import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    SCORE,
    SETTINGS,
    WINDOW_UPDATE,
    RawConnection,
    call_headers,
    data_frame,
    frame,
    goaway_error,
    headers_block,
    headers_frames,
    message,
)
from tests.support.server import LocalServer, ServeProcess, make_request, wait_until

pytestmark = pytest.mark.skipif(not HAS_NATIVE_TRANSPORT, reason="this build has no native transport")

PRIORITY = 2
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
SCORE_BATCH = "/assay.v1.ScoringService/ScoreBatch"
COMPRESSION_ERROR = 9
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 3, 8, 12, 13
MIB = 1 << 20
CARD = "4111111111111111"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer(transport="native") as server:
        yield server


@pytest.fixture
def neighbour(server: LocalServer) -> Iterator[Callable[[], None]]:
    """Calls as an honest client does, on a connection of its own; and at the end asks whether anything is left of the others."""
    channel = server.channel()
    stub = scoring_pb2_grpc.ScoringServiceStub(channel)

    def call() -> None:
        assert stub.Score(make_request(), timeout=20).HasField("score")

    call()
    yield call
    call()
    channel.close()
    wait_until(lambda: server.waiting_count() == 0, "no call waits")
    wait_until(lambda: server.engine.stats().slots_used == 0, "every slot comes back")
    wait_until(lambda: server.native_stats.open_connections == 0, "every connection is closed")
    stats = server.native_stats
    assert (stats.held_bytes, sum(stats.closed_connections.values())) == (0, stats.accepted_connections)


def request_bytes() -> bytes:
    return make_request().SerializeToString()


def send_until_gone(raw: RawConnection, frames: bytes, times: int) -> int:
    """Sends `frames` over and over; how many times before the server had closed, `times` if it did not."""
    for count in range(times):
        try:
            raw.send_bytes(frames)
        except OSError:
            return count
    return times


def end_of(raw: RawConnection) -> tuple[int, bytes] | None:
    """The error of the last GOAWAY, once the server has closed; None: it closed without one."""
    last = None
    try:
        for kind, payload in raw.frames():
            if kind == GOAWAY:
                last = goaway_error(payload)
    except ConnectionError:
        pass
    return last


# --- floods


@pytest.mark.parametrize(
    "flood",
    [
        frame(SETTINGS, b""),
        frame(PING, b"12345678", ACK),
        frame(PING, b"12345678"),
        frame(WINDOW_UPDATE, struct.pack(">I", 1)),
        frame(PRIORITY, struct.pack(">IB", 0, 16), 0, 1),
        frame(DATA, b"", 0, 1),
        data_frame(b"", 0, 1, padding=3),
        frame(RST_STREAM, struct.pack(">I", CANCEL), 0, 1),
    ],
    ids=["settings", "pong", "ping", "window-update", "priority", "empty-data", "padding-alone", "reset"],
)
def test_a_flood_of_frames_that_ask_nothing_ends_its_connection(
    server: LocalServer, neighbour: Callable[[], None], flood: bytes
) -> None:
    before = server.native_stats.closed_connections["flood"]
    with RawConnection(server.addresses.public) as raw:
        raw.send_bytes(headers_frames(call_headers()))
        send_until_gone(raw, flood * 500, 60)
        neighbour()
        end_of(raw)  # it is over
    wait_until(lambda: server.native_stats.closed_connections["flood"] == before + 1, "it is counted as a flood")


def test_score_calls_that_are_reset_at_once_end_their_connection(server: LocalServer, neighbour: Callable[[], None]) -> None:
    """CVE-2023-44487."""
    accepted = server.engine.stats().accepted_rows
    with RawConnection(server.addresses.public) as raw:
        body, reset = message(request_bytes()), struct.pack(">I", CANCEL)
        stream = 1
        for _ in range(60):
            frames = b""
            for _ in range(500):
                frames += headers_frames(call_headers(), stream=stream) + data_frame(body, END_STREAM, stream)
                frames += frame(RST_STREAM, reset, 0, stream)
                stream += 2
            if send_until_gone(raw, frames, 1) == 0:
                break
            neighbour()
        end_of(raw)
        assert stream < 60_000
    assert server.engine.stats().accepted_rows - accepted < 2_000  # most were gone before they were submitted


def test_forwarded_calls_that_are_reset_at_once_end_their_connection_sooner(
    server: LocalServer, neighbour: Callable[[], None]
) -> None:
    """Each takes Python 200 us; a score that is reset takes nothing like it."""
    before = server.native_stats.closed_connections["flood"]
    with RawConnection(server.addresses.public) as raw:
        stream = 1
        # What is sent after that is thrown away unseen.
        while stream < 4_000 and server.native_stats.closed_connections["flood"] == before:
            frames = b""
            for _ in range(20):
                frames += headers_frames(call_headers(HEALTH_CHECK), stream=stream)
                frames += frame(RST_STREAM, struct.pack(">I", CANCEL), 0, stream)
                stream += 2
            if send_until_gone(raw, frames, 1) == 0:
                break
            neighbour()
        end_of(raw)
        assert stream < 3_000  # calls are half as many


def test_a_flood_of_continuations_ends_its_connection(server: LocalServer, neighbour: Callable[[], None]) -> None:
    """CVE-2024-28182."""
    with RawConnection(server.addresses.public) as raw:
        raw.send_bytes(frame(HEADERS, headers_block(call_headers()), 0, 1))
        send_until_gone(raw, frame(CONTINUATION, headers_block([("x", "y" * 100)]), 0, 1) * 20, 200)
        neighbour()
        end_of(raw)


# --- headers


@pytest.mark.parametrize(
    ("block", "error"),
    [
        (b"\x3f\xe1\xff\xff\x7f" + headers_block(call_headers()), COMPRESSION_ERROR),  # a table of 256 MiB
        (b"\x3f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", COMPRESSION_ERROR),  # a number past all bounds
        (b"\xff\xff\xff\xff\x0f", COMPRESSION_ERROR),  # an entry that is not there
        (b"\x00\x7f\xff\xff\xff\xff\x0f", COMPRESSION_ERROR),  # a name of 4 GiB
    ],
    ids=["table-size", "integer", "index", "length"],
)
def test_hpack_that_lies_ends_its_connection(
    server: LocalServer, neighbour: Callable[[], None], block: bytes, error: int
) -> None:
    with RawConnection(server.addresses.public) as raw:
        raw.send(HEADERS, block, END_HEADERS | END_STREAM, 1)
        assert end_of(raw) == (error, b"") or error == COMPRESSION_ERROR
        neighbour()


@pytest.mark.parametrize("name", ["", "Upper", "new\nline", "colon:", "nul\0"])
def test_headers_that_must_not_be_are_refused(server: LocalServer, neighbour: Callable[[], None], name: str) -> None:
    with RawConnection(server.addresses.public) as raw:
        raw.send_bytes(headers_frames(call_headers(SCORE, (name, "x"))) + data_frame(message(request_bytes()), END_STREAM))
        answer = raw.answer()
        assert answer.reset is not None
        assert answer.grpc_status is None
        neighbour()


def test_metadata_over_the_limit_is_refused_with_a_reason(server: LocalServer, neighbour: Callable[[], None]) -> None:
    with RawConnection(server.addresses.public) as raw:
        raw.send_bytes(headers_frames(call_headers(SCORE, ("x-large", "x" * 20_000))))
        answer = raw.answer()
        assert (answer.grpc_status, answer.reason) == (RESOURCE_EXHAUSTED, "METADATA_TOO_LARGE")


def test_header_bombs_end_their_connection(server: LocalServer, neighbour: Callable[[], None]) -> None:
    """A field of 4,000 bytes that HPACK's table holds is one byte to send, over and over."""
    with RawConnection(server.addresses.public) as raw:
        raw.send(HEADERS, b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4000, END_HEADERS | END_STREAM, 1)
        for stream in range(3, 2_000, 2):
            try:
                raw.send(HEADERS, headers_block(call_headers()) + b"\xbe" * 200, END_HEADERS | END_STREAM, stream)
            except OSError:
                break
        neighbour()
        end_of(raw)


# --- what is not gRPC, or lies


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS on a plaintext port
        b"\0" * 64,
        PREFACE + b"\xff" * 9,  # a frame of 16 MiB
        PREFACE + frame(DATA, b"x", 0, 1),  # no SETTINGS first
        PREFACE + frame(SETTINGS, b"12345"),
        PREFACE + frame(SETTINGS, struct.pack(">HI", INITIAL_WINDOW_SIZE, 2**31)),
        PREFACE + frame(SETTINGS, b"") + frame(WINDOW_UPDATE, struct.pack(">I", 2**31 - 1)) * 2,
        PREFACE + frame(SETTINGS, b"") + frame(DATA, b"x", 0, 1),  # on a stream that nobody opened
        PREFACE + frame(SETTINGS, b"") + headers_frames(call_headers(), stream=2),  # the server's own number
        PREFACE + frame(SETTINGS, b"") + frame(CONTINUATION, b"", END_HEADERS, 1),
    ],
)
def test_what_is_no_http2_is_closed(server: LocalServer, neighbour: Callable[[], None], opening: bytes) -> None:
    host, _, port = server.addresses.public.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(opening)
        try:
            while connection.recv(65_536):
                pass
        except ConnectionError:
            pass
        neighbour()


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (message(b"x" * 100)[:50], INTERNAL, "MALFORMED_CALL"),
        (b"\0\0\0", INTERNAL, "MALFORMED_CALL"),
        (b"", INTERNAL, "MALFORMED_CALL"),
        (message(b"") * 2, INTERNAL, "MALFORMED_CALL"),
        (message(b"", flag=2), INTERNAL, "MALFORMED_CALL"),
        (message(b"x", flag=1), INTERNAL, "MALFORMED_CALL"),
        (b"\0" + struct.pack(">I", 5 * MIB), RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
        (b"\0" + struct.pack(">I", 2**32 - 1), RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
        (message(b"no message"), INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    ],
)
def test_messages_that_are_none_are_refused_with_a_reason(
    server: LocalServer, neighbour: Callable[[], None], body: bytes, status: int, reason: str
) -> None:
    with RawConnection(server.addresses.public) as raw:
        raw.send_bytes(headers_frames(call_headers()) + data_frame(body, END_STREAM))
        answer = raw.answer()
        assert (answer.grpc_status, answer.reason) == (status, reason)
        neighbour()


def test_a_writer_of_one_byte_at_a_time_is_answered(server: LocalServer, neighbour: Callable[[], None]) -> None:
    frames = headers_frames(call_headers()) + b"".join(data_frame(bytes([byte])) for byte in message(request_bytes()))
    frames += data_frame(b"", END_STREAM)
    with RawConnection(server.addresses.public) as raw:
        for at in range(len(frames)):
            raw.send_bytes(frames[at : at + 1])
        neighbour()
        assert raw.answer().grpc_status == 0


def test_gzip_bombs_are_refused_and_end_their_connection(server: LocalServer, neighbour: Callable[[], None]) -> None:
    bomb = message(gzip.compress(bytes(64 * MIB)), flag=1)
    with RawConnection(server.addresses.public) as raw:
        raw.send_bytes(headers_frames(call_headers(SCORE, ("grpc-encoding", "gzip"))))
        for start in range(0, len(bomb), 16_000):
            piece = bomb[start : start + 16_000]
            raw.send_bytes(data_frame(piece, END_STREAM if start + 16_000 >= len(bomb) else 0))
        answer = raw.answer()
        assert (answer.grpc_status, answer.reason) == (RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    small = message(gzip.compress(bytes(4 * MIB - 64)), flag=1)
    with RawConnection(server.addresses.public) as raw:
        for stream in range(1, 401, 2):
            try:
                raw.send_bytes(headers_frames(call_headers(SCORE, ("grpc-encoding", "gzip")), stream=stream))
                raw.send_bytes(data_frame(small, END_STREAM, stream))
            except OSError:
                break
        neighbour()
        error = end_of(raw)
        assert error is None or error[0] == ENHANCE_YOUR_CALM


# --- what must not come through


def test_the_socket_behind_is_its_owners_alone(server: LocalServer) -> None:
    path = server._transport._forward_path
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_card_number_in_a_path_or_a_header_is_never_told(
    server: LocalServer, neighbour: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cases = [
        (f"/assay.v1.ScoringService/{CARD}", ()),
        (SCORE, (("grpc-timeout", CARD[:9]),)),
        (SCORE, (("grpc-encoding", CARD),)),
    ]
    for path, more in cases:
        with RawConnection(server.addresses.public) as raw:
            raw.send_bytes(headers_frames(call_headers(path, *more)) + data_frame(message(request_bytes()), END_STREAM))
            answer = raw.answer()
            assert answer.grpc_status is not None
            assert CARD[:9] not in str(answer)
    server.settle()
    assert CARD not in caplog.text


def test_no_header_can_be_put_into_an_error(server: LocalServer, neighbour: Callable[[], None]) -> None:
    request = make_request()
    request.features["x\r\ngrpc-status: 0\r\n\0é%41"].int64_value = 1
    with RawConnection(server.addresses.public) as raw:
        raw.send_bytes(headers_frames(call_headers()) + data_frame(message(request.SerializeToString()), END_STREAM))
        answer = raw.answer()
        assert answer.grpc_status == INVALID_ARGUMENT
        assert all(" " <= character <= "~" for value in answer.trailers.values() for character in value)


# --- a process of its own: memory and descriptors


def rss_bytes(server: ServeProcess) -> int:
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def descriptor_count(server: ServeProcess) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@contextmanager
def serving() -> Iterator[tuple[ServeProcess, Callable[[], None]]]:
    """A server and an honest client of it, whose requests are answered, if only by what is missing in them."""
    with (
        ServeProcess("--set", "transport=native", "--drain-delay", "0") as process,
        grpc.insecure_channel(process.target) as channel,
    ):
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)

        def call() -> None:
            with pytest.raises(grpc.RpcError) as caught:
                stub.Score(scoring_pb2.ScoreRequest(), timeout=20)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

        call()
        yield process, call


def open_many(stack: ExitStack, target: str, count: int, *settings: tuple[int, int]) -> list[RawConnection]:
    return [stack.enter_context(RawConnection(target, settings)) for _ in range(count)]


def test_claimed_lengths_cost_no_memory() -> None:
    with serving() as (process, neighbour), ExitStack() as stack:
        before = rss_bytes(process)
        for raw in open_many(stack, process.target, 4):
            for stream in range(1, 2_001, 2):
                raw.send_bytes(headers_frames(call_headers(), stream=stream))
                raw.send_bytes(data_frame(b"\0" + struct.pack(">I", 4 * MIB - 1), 0, stream))
        neighbour()
        assert rss_bytes(process) - before < 64 * MIB  # of 16 GiB that were claimed


def test_messages_that_are_nearly_whole_are_held_within_bounds() -> None:
    """120 streams of almost 4 MiB each."""
    with serving() as (process, neighbour), ExitStack() as stack:
        before = rss_bytes(process)
        piece = bytes(16_000)
        for raw in open_many(stack, process.target, 8):
            try:
                for stream in range(1, 31, 2):
                    raw.send_bytes(headers_frames(call_headers(SCORE_BATCH), stream=stream))
                    raw.send_bytes(data_frame(b"\0" + struct.pack(">I", 4 * MIB - 1), 0, stream))
                    raw.send_bytes(data_frame(piece, 0, stream) * 16)  # a stream's window
            except OSError:
                continue
        neighbour()
        assert rss_bytes(process) - before < 420 * MIB


def test_clients_that_read_no_answers_are_bounded_and_closed() -> None:
    with serving() as (process, neighbour), ExitStack() as stack:
        before = rss_bytes(process)
        calls = b"".join(
            headers_frames(call_headers(), stream=stream) + data_frame(message(b""), END_STREAM, stream)
            for stream in range(1, 2_001, 2)
        )
        for raw in open_many(stack, process.target, 20, (INITIAL_WINDOW_SIZE, 0)):
            raw.send_bytes(calls)
        neighbour()
        assert rss_bytes(process) - before < 200 * MIB


def test_thousands_of_connections_are_held_and_let_go() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(2_000, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 200), hard))
    try:
        with serving() as (process, neighbour):
            resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE, (count + 200, hard))
            before, descriptors = rss_bytes(process), descriptor_count(process)
            with ExitStack() as stack:
                open_many(stack, process.target, count // 2)
                host, _, port = process.target.rpartition(":")
                for _ in range(count // 2):  # half-open: they never say a word
                    stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
                neighbour()
                wait_until(lambda: descriptor_count(process) >= descriptors + count, "all are taken in")
                assert rss_bytes(process) - before < 128 * MIB
            wait_until(lambda: descriptor_count(process) <= descriptors, "all descriptors come back")
            neighbour()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_server_asks_for_the_descriptors_that_its_connections_need() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        with serving() as (process, _):
            assert resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE)[0] == min(hard, 21_024)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_accepting_goes_on_once_descriptors_are_there_again() -> None:
    with serving() as (process, neighbour):
        _, hard = resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE)
        few = descriptor_count(process) + 20
        resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE, (few, hard))
        host, _, port = process.target.rpartition(":")
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            wait_until(lambda: descriptor_count(process) >= few, "none are left")
            neighbour()  # who is in stays in
        with RawConnection(process.target) as raw:  # waited in the kernel's queue meanwhile
            raw.send_bytes(headers_frames(call_headers()) + data_frame(message(b""), END_STREAM))
            assert raw.answer().grpc_status == INVALID_ARGUMENT
        neighbour()
