"""gRPC's interoperability cases through the native transport, against grpc.testing.TestService on the grpcio server behind it.

https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md; each test is named after its case.
"""

from __future__ import annotations

import gzip
import queue
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from assay._core import HAS_NATIVE_TRANSPORT, ROLES
from tests.support.certificates import TlsFolder
from tests.support.http2 import END_STREAM, SCORE, RawConnection, call_headers, data_frame, headers_frames, message
from tests.support.interop import (
    INITIAL,
    METHODS,
    TRAILING,
    UNKNOWN_SERVICE_METHOD,
    InteropServer,
    input_of,
    output_of,
    pb,
)
from tests.support.server import LocalServer, make_request, reason_of, status_of, wait_until

pytestmark = pytest.mark.skipif(not HAS_NATIVE_TRANSPORT, reason="this build has no native transport")

LARGE_REQUEST, LARGE_ANSWER = 271_828, 314_159
SIZES = (31_415, 9, 2653, 58_979)
REQUEST_SIZES = (27_182, 8, 1828, 45_904)
EMPTY_CALL, UNARY_CALL, STREAMING_OUTPUT_CALL = METHODS[0], METHODS[1], METHODS[2]


@pytest.fixture(scope="module")
def server() -> Iterator[InteropServer]:
    with LocalServer(transport="grpcio") as scoring, InteropServer(scoring.engine) as server:
        yield server


@pytest.fixture(scope="module")
def stub(server: InteropServer) -> Any:
    return server.stub()


def large_request(**fields: Any) -> Any:
    return pb.SimpleRequest(response_size=LARGE_ANSWER, payload=pb.Payload(body=bytes(LARGE_REQUEST)), **fields)


def test_empty_unary(stub: Any) -> None:
    assert stub.EmptyCall(pb.Empty(), timeout=20) == pb.Empty()


def test_large_unary(stub: Any) -> None:
    assert stub.UnaryCall(large_request(), timeout=20).payload.body == bytes(LARGE_ANSWER)


def test_client_streaming(stub: Any) -> None:
    answer = stub.StreamingInputCall(input_of(*REQUEST_SIZES), timeout=20)
    assert answer.aggregated_payload_size == sum(REQUEST_SIZES) == 74_922


def test_server_streaming(stub: Any) -> None:
    answers = list(stub.StreamingOutputCall(output_of(*SIZES), timeout=20))
    assert [answer.payload.body for answer in answers] == [bytes(size) for size in SIZES]


def test_ping_pong(stub: Any) -> None:
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = stub.FullDuplexCall(iter(outgoing.get, None), timeout=20)
    for request_size, size in zip(REQUEST_SIZES, SIZES, strict=True):
        outgoing.put(output_of(size, request_size=request_size))
        assert len(next(answers).payload.body) == size
    outgoing.put(None)
    assert list(answers) == []
    assert answers.code() is grpc.StatusCode.OK


def test_empty_stream(stub: Any) -> None:
    answers = stub.FullDuplexCall(iter(()), timeout=20)
    assert list(answers) == []
    assert answers.code() is grpc.StatusCode.OK


def test_cancel_after_begin(server: InteropServer, stub: Any) -> None:
    started = server.service.started
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    call = stub.StreamingInputCall.future(iter(outgoing.get, None), timeout=20)
    wait_until(lambda: server.service.started == started + 1, "the call is in the server behind")
    call.cancel()
    outgoing.put(None)
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    assert call.code() is grpc.StatusCode.CANCELLED
    wait_until(lambda: server.service.open_calls == 0, "the server behind hears of it")


def test_cancel_after_first_response(server: InteropServer, stub: Any) -> None:
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = stub.FullDuplexCall(iter(outgoing.get, None), timeout=20)
    outgoing.put(output_of(SIZES[0], request_size=REQUEST_SIZES[0]))
    assert len(next(answers).payload.body) == SIZES[0]
    answers.cancel()
    outgoing.put(None)
    with pytest.raises(grpc.RpcError):
        next(answers)
    assert answers.code() is grpc.StatusCode.CANCELLED
    wait_until(lambda: server.service.open_calls == 0, "the server behind hears of it")


def test_timeout_on_sleeping_server(server: InteropServer, stub: Any) -> None:
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    outgoing.put(output_of(1, interval_us=60_000_000, request_size=REQUEST_SIZES[0]))
    answers = stub.FullDuplexCall(iter(outgoing.get, None), timeout=0.2)
    with pytest.raises(grpc.RpcError):
        next(answers)
    outgoing.put(None)
    assert answers.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: server.service.open_calls == 0, "the server behind has given it up")


def test_status_code_and_message(stub: Any) -> None:
    status = pb.EchoStatus(code=2, message="test status message")
    with pytest.raises(grpc.RpcError) as caught:
        stub.UnaryCall(pb.SimpleRequest(response_status=status), timeout=20)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNKNOWN, status.message)
    request = output_of()
    request.response_status.CopyFrom(status)
    answers = stub.FullDuplexCall(iter([request]), timeout=20)
    with pytest.raises(grpc.RpcError):
        next(answers)
    assert (answers.code(), answers.details()) == (grpc.StatusCode.UNKNOWN, status.message)


def test_special_status_message(stub: Any) -> None:
    text = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
    with pytest.raises(grpc.RpcError) as caught:
        stub.UnaryCall(pb.SimpleRequest(response_status=pb.EchoStatus(code=2, message=text)), timeout=20)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNKNOWN, text)


def test_unimplemented_method(stub: Any) -> None:
    """The server behind says so: the listener lets it through."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.UnimplementedCall(pb.Empty(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("is_let_through", [True, False])
def test_unimplemented_service(server: InteropServer, is_let_through: bool) -> None:
    """Without a row in the policy table the listener answers; the same."""
    method = UNKNOWN_SERVICE_METHOD if is_let_through else "/grpc.testing.NobodysService/UnimplementedCall"
    call = server.channel().unary_unary(method)
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    if not is_let_through:
        assert reason_of(status_of(caught.value)) == "UNKNOWN_METHOD"


BINARY = b"\xab\xab\xab\0,\xff"


def test_custom_metadata(stub: Any) -> None:
    sent = [(INITIAL, "test_initial_metadata_value"), (TRAILING, BINARY)]
    _, call = stub.UnaryCall.with_call(large_request(), timeout=20, metadata=sent)
    assert dict(call.initial_metadata())[INITIAL] == sent[0][1]
    assert dict(call.trailing_metadata())[TRAILING] == BINARY
    answers = stub.FullDuplexCall(iter([output_of(LARGE_ANSWER)]), timeout=20, metadata=sent)
    assert len(list(answers)) == 1
    assert dict(answers.initial_metadata())[INITIAL] == sent[0][1]
    assert dict(answers.trailing_metadata())[TRAILING] == BINARY


def test_metadata_of_many_values_and_sizes(stub: Any) -> None:
    """Every length of binary metadata (padding or none), and names that come twice."""
    for size in range(9):
        value = BINARY[:1] * size
        _, call = stub.EmptyCall.with_call(pb.Empty(), timeout=20, metadata=[(TRAILING, value)])
        assert dict(call.trailing_metadata())[TRAILING] == value


def test_client_compressed_unary(server: InteropServer) -> None:
    stub = server.stub(compression=grpc.Compression.Gzip)
    assert stub.UnaryCall(large_request(), timeout=20).payload.body == bytes(LARGE_ANSWER)
    stub = server.stub(compression=grpc.Compression.Deflate)
    assert stub.UnaryCall(large_request(), timeout=20).payload.body == bytes(LARGE_ANSWER)


def test_client_compressed_streaming(server: InteropServer) -> None:
    answer = server.stub(compression=grpc.Compression.Gzip).StreamingInputCall(input_of(*REQUEST_SIZES), timeout=20)
    assert answer.aggregated_payload_size == sum(REQUEST_SIZES)


def raw_call(server: InteropServer, method: str, body: bytes, *headers: tuple[str, str]) -> Any:
    with RawConnection(server.target) as raw:
        raw.send_bytes(headers_frames(call_headers(method, *headers)) + data_frame(body, END_STREAM))
        return raw.answer()


def test_the_compressed_flag_goes_through(server: InteropServer) -> None:
    """Client-compressed, as bytes: a message with the flag, one without."""
    request = pb.SimpleRequest(response_size=100).SerializeToString()
    for body in (message(gzip.compress(request), 1), message(request, 0)):
        answer = raw_call(server, UNARY_CALL, body, ("grpc-encoding", "gzip"))
        assert answer.grpc_status == 0
        assert answer.body == message(pb.SimpleResponse(payload=pb.Payload(body=bytes(100))).SerializeToString())
    assert raw_call(server, UNARY_CALL, message(request, 1)).grpc_status == 13  # a flag and no encoding


def test_server_compressed_unary(server: InteropServer, stub: Any) -> None:
    request = pb.SimpleRequest(response_size=LARGE_ANSWER, response_compressed=pb.BoolValue(value=True))
    assert stub.UnaryCall(request, timeout=20).payload.body == bytes(LARGE_ANSWER)
    answer = raw_call(server, UNARY_CALL, message(request.SerializeToString()), ("grpc-accept-encoding", "gzip"))
    assert answer.headers["grpc-encoding"] == "gzip"
    assert answer.body[0] == 1
    assert len(answer.body) < LARGE_ANSWER // 10
    request.response_compressed.value = False
    answer = raw_call(server, UNARY_CALL, message(pb.SimpleRequest(response_size=9).SerializeToString()))
    assert answer.body[0] == 0


def test_server_compressed_streaming(server: InteropServer, stub: Any) -> None:
    request = output_of(*SIZES[:2])
    request.response_parameters[0].compressed.value = True
    answers = list(stub.StreamingOutputCall(request, timeout=20))
    assert [len(answer.payload.body) for answer in answers] == list(SIZES[:2])
    answer = raw_call(server, STREAMING_OUTPUT_CALL, message(request.SerializeToString()), ("grpc-accept-encoding", "gzip"))
    length = int.from_bytes(answer.body[1:5], "big")
    assert (answer.body[0], answer.body[5 + length]) == (1, 0)


def test_trailers_alone_and_a_request_that_goes_on(server: InteropServer) -> None:
    """An error before the request's end: the client hears of it, and that it need not send the rest."""
    with RawConnection(server.target) as raw:
        raw.send_bytes(headers_frames(call_headers(METHODS[5])))
        answer = raw.answer()
        assert (answer.grpc_status, answer.is_ended) == (12, True)
        raw.send_bytes(headers_frames(call_headers(EMPTY_CALL), stream=3) + data_frame(message(b""), END_STREAM, 3))
        assert raw.answer(3).grpc_status == 0


def test_request_headers_come_through_and_ours_do_not(server: InteropServer) -> None:
    """Names that begin with x-assay- are ours to say."""
    with RawConnection(server.target) as raw:
        headers = [(INITIAL, "seen"), ("x-assay-principal", "root")]
        raw.send_bytes(headers_frames(call_headers(EMPTY_CALL, *headers)) + data_frame(message(b""), END_STREAM))
        assert raw.answer().headers[INITIAL] == "seen"
    assert [key for key, _ in server.service.metadata if key.startswith("x-assay-")] == []


def test_the_server_behind_is_told_who_calls(tmp_path: Path) -> None:
    """The verified principals, all of them and no others, whatever the client says."""
    folder = TlsFolder(tmp_path)
    names = ["spiffe://bank.example/core-banking", "dns:core.bank.internal"]
    protection = (
        folder.certificate.read_bytes(),
        folder.key.read_bytes(),
        folder.client_ca.read_bytes(),
        {names[0]: ROLES["score"]},
    )
    pair = folder.clients.issue_names(uris=("spiffe://bank.example/core-banking",), dns=("CORE.bank.internal",))
    with LocalServer(transport="grpcio") as scoring, InteropServer(scoring.engine, protection) as server:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(server.target, folder.credentials(pair), options=options) as channel:
            call = channel.unary_unary(EMPTY_CALL, pb.Empty.SerializeToString, pb.Empty.FromString)
            call(pb.Empty(), metadata=[("x-assay-principal", "dns:other")], timeout=20)
        assert [value for key, value in server.service.metadata if key == "x-assay-principal"] == names


def test_h2load_scores(tmp_path: Path) -> None:
    """nghttp2's client: another HTTP/2 than gRPC's, with header compression, windows and frames of its own."""
    h2load = shutil.which("h2load")
    if h2load is None:
        pytest.skip("h2load is not installed: apt-get install nghttp2-client")
    body = tmp_path / "body"
    body.write_bytes(message(make_request().SerializeToString()))
    with LocalServer(transport="native") as server:
        url = f"http://{server.addresses.public}{SCORE}"
        command = [h2load, "-n", "5000", "-c", "10", "-m", "20", "-d", str(body), "-H", "te: trailers"]
        command += ["-H", "content-type: application/grpc", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert "5000 succeeded, 0 failed, 0 errored" in done.stdout
        assert server.engine.stats().answered_rows == 5000
