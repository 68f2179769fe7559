"""What grpcio's listener and the native one answer to odd requests, legal and illegal, written as raw frames.

Each row of the tables says it; where the two differ on purpose, with the reason. Status, reason of ErrorInfo, reset or HTTP
status are compared, not the words.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import grpc
import pytest

from assay._core import HAS_NATIVE_TRANSPORT
from assay.v1 import scoring_pb2
from tests.support.http2 import (
    DATA,
    END_STREAM,
    PADDED,
    SCORE,
    Answer,
    RawConnection,
    call_headers,
    data_frame,
    frame,
    headers_frames,
    message,
)
from tests.support.server import LocalServer, make_request

pytestmark = pytest.mark.skipif(not HAS_NATIVE_TRANSPORT, reason="this build has no native transport")

REQUEST = make_request("odd").SerializeToString()
MESSAGE = message(REQUEST)
ERRORS = {0: "NO_ERROR", 1: "PROTOCOL_ERROR", 2: "INTERNAL_ERROR", 5: "STREAM_CLOSED", 11: "ENHANCE_YOUR_CALM"}
WAITS = "waits for ever"  # not tried

MALFORMED_CALL = "INTERNAL MALFORMED_CALL"
RESET = "RESET PROTOCOL_ERROR"
DETAILS = "details: every error of ours has them"
RFC_8_1_1 = "RFC 9113, 8.1.1: a malformed request is reset with PROTOCOL_ERROR"
RFC_8_2_1 = "RFC 9113, 8.2.1: a field that may smuggle another is malformed"
ONE_MESSAGE = "a unary call has one message: the answer must not depend on which of two is meant"
NO_WAIT = "a client that has sent everything waits for an answer"
CODEC = "another codec, or none of gRPC's: read as protobuf it would be a guess"


class Row(NamedTuple):
    name: str
    frames: bytes
    both: str = ""
    grpcio: str = ""  # where they differ
    native: str = ""
    why: str = ""


def call(*bodies: bytes, headers: tuple[tuple[str, str], ...] = (), without: str = "", **changed: str) -> bytes:
    """Score as a gRPC client sends it, but for what is said: `changed` replaces fields (method: ":method"), each body is a DATA
    frame, the last one with END_STREAM; without any the headers have it."""
    names = {"method": ":method", "path": ":path", "scheme": ":scheme", "content_type": "content-type"}
    new = {names.get(name, name): value for name, value in changed.items()}
    fields = [(name, new.get(name, value)) for name, value in call_headers() if name != without]
    frames = [data_frame(body, END_STREAM if i == len(bodies) else 0) for i, body in enumerate(bodies, 1)]
    return headers_frames([*fields, *headers], 0 if bodies else END_STREAM) + b"".join(frames)


def scored(**changed: str) -> bytes:
    return call(MESSAGE, **changed)


def with_header(name: str, value: str) -> bytes:
    return call(MESSAGE, headers=((name, value),))


def compressed(encoding: str, body: bytes, flag: int) -> bytes:
    return call(message(body, flag), headers=(("grpc-encoding", encoding),))


CONTENT_TYPES = [
    Row("plain", scored(), "OK"),
    Row("+proto", scored(content_type="application/grpc+proto"), "OK"),
    Row("parameter", scored(content_type="application/grpc;charset=utf-8"), "OK"),
    Row("capitals", scored(content_type="APPLICATION/GRPC"), "OK"),
    *(
        Row(f"content type {name!r}", scored(content_type=name), grpcio="OK", native="HTTP 415", why=CODEC)
        for name in ("application/grpc+json", "application/grpcfoo", "application/grpc-web", "text/plain", "application/json", "")
    ),
    Row("no content type", call(MESSAGE, without="content-type"), grpcio="OK", native="HTTP 415", why=CODEC),
    Row("no te", call(MESSAGE, without="te"), grpcio="RESET INTERNAL_ERROR", native=MALFORMED_CALL, why="says what is wrong"),
    *(
        Row(f"te {value!r}", scored(te=value), grpcio="INTERNAL", native=RESET, why=RFC_8_1_1)
        for value in ("gzip", "trailers, deflate")
    ),
]

REQUEST_LINES = [
    *(
        Row(method, scored(method=method), grpcio=grpcio, native="HTTP 405", why="a browser or a probe can read it")
        for method, grpcio in (("GET", "RESET INTERNAL_ERROR"), ("PUT", "RESET INTERNAL_ERROR"), ("OPTIONS", "INTERNAL"))
    ),
    *(
        Row(f"path {path!r}", scored(path=path), "UNIMPLEMENTED UNKNOWN_METHOD")
        for path in ("/assay.v1.ScoringService/Nope", "/nope/Score", "/", "/" + SCORE, SCORE + "/", SCORE + "?x=1")
    ),
    *(
        Row(f"path {path!r}", scored(path=path), grpcio="UNIMPLEMENTED UNKNOWN_METHOD", native=RESET, why=RFC_8_1_1)
        for path in ("*", "Score", "")
    ),
    *(
        Row(f"no {name}", call(MESSAGE, without=name), grpcio="RESET INTERNAL_ERROR", native=RESET, why=RFC_8_1_1)
        for name in (":path", ":scheme", ":method", ":authority")
    ),
    Row("host alone", call(MESSAGE, headers=(("host", "x"),), without=":authority"), "OK"),
    Row("https on a plain port", scored(scheme="https"), "OK"),
    Row("another scheme", scored(scheme="ftp"), grpcio="INTERNAL", native="OK", why="nobody reads it"),
    Row("two paths", headers_frames([(":path", SCORE), *call_headers()]), grpcio=WAITS, native=RESET, why=RFC_8_1_1),
    Row(
        "an unknown pseudo-header", headers_frames([(":x", "1"), *call_headers()]), grpcio="INTERNAL", native=RESET, why=RFC_8_1_1
    ),
]

TIMEOUTS = [
    *(Row(f"timeout {text}", with_header("grpc-timeout", text), "OK") for text in ("1H", "1M", "60S", "60000m", "60000000u")),
    Row("timeout of 8 digits", with_header("grpc-timeout", "99999999H"), "OK"),
    *(
        Row(
            f"timeout {text}",
            with_header("grpc-timeout", text),
            grpcio="DEADLINE_EXCEEDED",
            native="DEADLINE_EXCEEDED DEADLINE_EXCEEDED",
            why=DETAILS,
        )
        for text in ("0n", "0S", "0H", "00000000m")
    ),
    *(
        Row(
            f"timeout {text!r}",
            with_header("grpc-timeout", text),
            grpcio="OK",
            native=MALFORMED_CALL,
            why="gRPC over HTTP/2: at most 8 digits and a unit",
        )
        for text in ("123456789S", "000000060S", "60 S")
    ),
    *(
        Row(f"timeout {text!r}", with_header("grpc-timeout", text), grpcio="INTERNAL", native=MALFORMED_CALL, why=DETAILS)
        for text in ("S", "", "10", "10s", "-1S", "1.5S", "+1S", "garbage")
    ),
    Row("timeout ' 60S'", with_header("grpc-timeout", " 60S"), grpcio="OK", native=RESET, why=RFC_8_2_1),
]

ENCODINGS = [
    *(
        Row(f"{name}, flag {flag}", compressed(name, body, flag), "OK")
        for name, body, flag in (
            ("gzip", gzip.compress(REQUEST), 1),
            ("deflate", zlib.compress(REQUEST), 1),
            ("gzip", REQUEST, 0),
            ("deflate", REQUEST, 0),
            ("identity", REQUEST, 0),
        )
    ),
    Row("no bytes, compressed", compressed("gzip", b"", 1), "INVALID_ARGUMENT INVALID_REQUEST"),
    Row("identity, flag 1", compressed("identity", REQUEST, 1), grpcio="INTERNAL", native=MALFORMED_CALL, why=DETAILS),
    Row("no encoding, flag 1", call(message(REQUEST, 1)), grpcio="INTERNAL", native=MALFORMED_CALL, why=DETAILS),
    Row("gzip that is none", compressed("gzip", REQUEST, 1), grpcio="INTERNAL", native=MALFORMED_CALL, why=DETAILS),
    *(
        Row(
            f"encoding {name!r}, flag {flag}",
            compressed(name, REQUEST, flag),
            grpcio="INTERNAL",
            native="UNIMPLEMENTED ENCODING_UNSUPPORTED",
            why="gRPC's compression document: UNIMPLEMENTED, and what there is (grpc-accept-encoding)",
        )
        for name in ("snappy", "")
        for flag in (0, 1)
    ),
    Row(
        "flag 2",
        call(message(REQUEST, 2)),
        grpcio="INVALID_ARGUMENT INVALID_REQUEST",
        native=MALFORMED_CALL,
        why="0 and 1 are all the flags there are",
    ),
]

BODIES = [
    Row("END_STREAM on headers", call(), grpcio=WAITS, native=MALFORMED_CALL, why=NO_WAIT),
    Row("no byte", call(b""), grpcio=WAITS, native=MALFORMED_CALL, why=NO_WAIT),
    Row("half a prefix", call(MESSAGE[:3]), grpcio=WAITS, native=MALFORMED_CALL, why=NO_WAIT),
    Row("half a message", call(MESSAGE[:20]), grpcio=WAITS, native=MALFORMED_CALL, why=NO_WAIT),
    Row("an empty message", call(message(b"")), "INVALID_ARGUMENT INVALID_REQUEST"),
    Row("two messages", call(MESSAGE + MESSAGE), grpcio="OK", native=MALFORMED_CALL, why=ONE_MESSAGE),
    Row("two messages in two frames", call(MESSAGE, MESSAGE), grpcio="OK", native=MALFORMED_CALL, why=ONE_MESSAGE),
    Row("one and a half", call(MESSAGE + MESSAGE[:9]), grpcio="OK", native=MALFORMED_CALL, why=ONE_MESSAGE),
    Row("END_STREAM on an empty DATA", call(MESSAGE, b""), "OK"),
    Row("byte by byte", call(*(MESSAGE[i : i + 1] for i in range(len(MESSAGE)))), "OK"),
    Row("in pieces of 7", call(*(MESSAGE[i : i + 7] for i in range(0, len(MESSAGE), 7))), "OK"),
    *(
        Row(
            f"{padding} bytes of padding",
            headers_frames(call_headers()) + data_frame(MESSAGE, END_STREAM, padding=padding),
            grpcio=RESET,
            native="OK",
            why="RFC 9113, 6.1: padding is legal",
        )
        for padding in (0, 255)
    ),
    Row(
        "more padding than frame",
        headers_frames(call_headers()) + frame(DATA, b"\xc8" + MESSAGE[:20], END_STREAM | PADDED, 1),
        grpcio=RESET,
        native="GOAWAY PROTOCOL_ERROR",
        why="RFC 9113, 6.1: a connection error",
    ),
    Row("content-length", with_header("content-length", str(len(MESSAGE))), "OK"),
    Row("another content-length", with_header("content-length", "3"), grpcio="OK", native=RESET, why=RFC_8_1_1),
    Row("trailers", headers_frames(call_headers()) + data_frame(MESSAGE) + headers_frames([("x-t", "1")], END_STREAM), "OK"),
    Row(
        "trailers, and more",
        headers_frames(call_headers()) + data_frame(MESSAGE) + headers_frames([("x-t", "1")]) + data_frame(b"", END_STREAM),
        grpcio="UNAVAILABLE",
        native=RESET,
        why=RFC_8_1_1,
    ),
    Row(
        "a stream of the server's",
        headers_frames(call_headers(), stream=2) + data_frame(MESSAGE, END_STREAM, 2),
        grpcio=WAITS,
        native="GOAWAY PROTOCOL_ERROR",
        why="RFC 9113, 5.1.1: a connection error",
    ),
]

METADATA = [
    Row("-bin, no padding", with_header("x-y-bin", "YWI"), "OK"),
    Row("-bin, padding", with_header("x-y-bin", "YWI="), "OK"),
    Row("-bin, nothing", with_header("x-y-bin", ""), "OK"),
    *(
        Row(f"-bin {value!r}", with_header("x-y-bin", value), grpcio="INTERNAL", native="OK", why="nobody reads it")
        for value in ("YWI,YWJj", "!!!", "A")
    ),
    Row("capitals", with_header("X-Upper", "1"), grpcio="INTERNAL", native=RESET, why=RFC_8_1_1),
    Row("a space in a name", with_header("x y", "1"), grpcio="INTERNAL", native=RESET, why=RFC_8_2_1),
    Row("a line's end", with_header("x-y", "a\nb"), grpcio="OK", native=RESET, why=RFC_8_2_1),
    Row("a NUL", with_header("x-y", "a\0b"), grpcio="OK", native=RESET, why=RFC_8_2_1),
    Row("a space behind", with_header("x-y", "a "), grpcio="OK", native=RESET, why=RFC_8_2_1),
    Row("not ASCII", with_header("x-y", "a\xe9b"), "OK"),
    Row("connection", with_header("connection", "keep-alive"), grpcio="OK", native=RESET, why=RFC_8_1_1),
    Row("cookies", call(MESSAGE, headers=(("cookie", "a=1"), ("cookie", "b=2"))), "OK"),
    Row("what servers send", call(MESSAGE, headers=(("grpc-status", "0"), ("grpc-message", "x"))), "OK"),
    Row("100 fields", call(MESSAGE, headers=tuple((f"x-{i}", "v") for i in range(100))), "OK"),
    Row(
        "1,000 fields",
        call(MESSAGE, headers=tuple((f"x-{i}", "v") for i in range(1000))),
        grpcio="OK",
        native="RESOURCE_EXHAUSTED METADATA_TOO_LARGE",
        why="RFC 9113, 6.5.2: each field counts 32 bytes more than it has; metadata_bytes_max is 16 KiB",
    ),
    Row(
        "40 KB",
        call(MESSAGE, headers=tuple((f"x-{i}", "v" * 1000) for i in range(40))),
        grpcio="OK",
        native="RESOURCE_EXHAUSTED METADATA_TOO_LARGE",
        why="metadata_bytes_max is 16 KiB, from the first call on",
    ),
]

ROWS = [*CONTENT_TYPES, *REQUEST_LINES, *TIMEOUTS, *ENCODINGS, *BODIES, *METADATA]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, LocalServer]]:
    with LocalServer(transport="grpcio") as grpcio, LocalServer(transport="native") as native:
        yield {"grpcio": grpcio, "native": native}


def ask(server: LocalServer, frames: bytes) -> Answer:
    """On a connection of its own."""
    with RawConnection(server.addresses.public) as raw:
        raw.send_bytes(frames)
        return raw.answer()


def outcome(answer: Answer) -> str:
    if answer.reset is not None and answer.grpc_status is None:
        return f"RESET {ERRORS[answer.reset]}"
    if answer.goaway is not None:
        return f"GOAWAY {ERRORS[answer.goaway]}"
    if not answer.is_ended:
        return "closed"
    if answer.headers[":status"] != "200":
        return f"HTTP {answer.headers[':status']}"
    if answer.grpc_status == 0:
        assert scoring_pb2.ScoreResponse.FromString(answer.body[5:]).transaction_id == "odd"
    name = next(code.name for code in grpc.StatusCode if code.value[0] == answer.grpc_status)
    return f"{name} {answer.reason}".strip()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_odd_request_is_answered_as_the_table_says(servers: dict[str, LocalServer], row: Row) -> None:
    assert row.both or row.why
    native, grpcio = row.both or row.native, row.both or row.grpcio
    assert outcome(ask(servers["native"], row.frames)) == native
    if grpcio != WAITS:
        assert outcome(ask(servers["grpcio"], row.frames)) == grpcio
    assert servers["native"].waiting_count() == 0


def test_whoever_chose_another_compression_is_told_what_there_is(servers: dict[str, LocalServer]) -> None:
    answer = ask(servers["native"], compressed("snappy", REQUEST, 1))
    assert answer.headers["grpc-accept-encoding"] == "identity, deflate, gzip"


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_an_answer_has_the_same_headers_on_both(servers: dict[str, LocalServer], transport: str) -> None:
    answer = ask(servers[transport], scored())
    assert answer.headers == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity, deflate, gzip",
    }
    assert answer.trailers == {"grpc-status": "0"} | ({"grpc-message": ""} if "grpc-message" in answer.trailers else {})


def test_a_connection_survives_its_bad_requests(servers: dict[str, LocalServer]) -> None:
    """Errors of one stream end that stream: the next one on the connection is answered."""
    with RawConnection(servers["native"].addresses.public) as raw:
        stream = 1
        for row in ROWS:
            if "GOAWAY" in row.native or len(row.frames) > 30_000:
                continue
            frames = b"".join(_on_stream(row.frames, stream))
            raw.send_bytes(frames)
            assert outcome(raw.answer(stream)) == (row.both or row.native), row.name
            stream += 2
        assert stream > 2 * 70


# --- implementation ---


def _on_stream(frames: bytes, stream: int) -> Iterator[bytes]:
    """The same frames on another stream."""
    at = 0
    while at < len(frames):
        size = 9 + int.from_bytes(frames[at : at + 3], "big")
        yield frames[at : at + 5] + stream.to_bytes(4, "big") + frames[at + 9 : at + size]
        at += size
