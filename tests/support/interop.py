"""gRPC's own test service (grpc.testing.TestService) behind the native transport: forwarded calls with nothing of ours in them.

    with LocalServer(transport="grpcio") as scoring, InteropServer(scoring.engine) as server:
        server.stub().EmptyCall(pb.Empty())

The messages are made from tests/support/proto when this is imported.
"""

from __future__ import annotations

import asyncio
import inspect
import shutil
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

from assay import _core
from tests.support.server import WAIT_S

PROTOS = Path(__file__).parent / "proto"
SERVICE = "grpc.testing.TestService"
METHODS = tuple(
    f"/{SERVICE}/{name}"
    for name in ("EmptyCall", "UnaryCall", "StreamingOutputCall", "StreamingInputCall", "FullDuplexCall", "UnimplementedCall")
)
UNKNOWN_SERVICE_METHOD = "/grpc.testing.UnimplementedService/UnimplementedCall"
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


def _make_messages() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "set.binpb"
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        command = ["protoc", f"-I{PROTOS}", f"-I{well_known}", f"--descriptor_set_out={out}", "grpc/testing/test.proto"]
        assert protoc.main(command) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    classes = message_factory.GetMessages(files, pool=descriptor_pool.DescriptorPool())
    return {name.rpartition(".")[2]: made for name, made in classes.items()}


pb: Any = SimpleNamespace(**_make_messages())


class Service:
    """The servicer, and what became of its calls. All of it on the loop of its server; tests look at the numbers."""

    def __init__(self) -> None:
        self.started = self.finished = 0  # calls
        self.sent_messages = self.received_messages = 0
        self.metadata: list[tuple[str, str | bytes]] = []  # of the last call
        self.may_read = threading.Event()  # streaming_input_call() waits for it before its first message
        self.may_read.set()

    @property
    def open_calls(self) -> int:
        return self.started - self.finished

    async def empty_call(self, request: Any, context: Any) -> Any:
        await self._echo(context)
        return pb.Empty()

    async def unary_call(self, request: Any, context: Any) -> Any:
        await self._echo(context)
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
            await context.send_initial_metadata(())  # else grpc.aio forgets what it was told, with one answer
        await _end_as(request.response_status, context)
        return pb.SimpleResponse(payload=_payload(request.response_size))

    async def streaming_output_call(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._echo(context)
        async for answer in self._answers(request, context):
            yield answer

    async def streaming_input_call(self, requests: AsyncIterator[Any], context: Any) -> Any:
        await self._echo(context)
        while not self.may_read.is_set():
            await asyncio.sleep(0.005)
        size = 0
        async for request in requests:
            self.received_messages += 1
            size += len(request.payload.body)
        return pb.StreamingInputCallResponse(aggregated_payload_size=size)

    async def full_duplex_call(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await self._echo(context)
        async for request in requests:
            self.received_messages += 1
            async for answer in self._answers(request, context):
                yield answer

    def handlers(self) -> grpc.GenericRpcHandler:
        def handler(kind: Any, inner: Any, request: Any, answer: Any) -> Any:
            counted = self._counted_stream if inspect.isasyncgenfunction(inner) else self._counted
            return kind(counted(inner), request.FromString, answer.SerializeToString)

        simple, collected = (pb.SimpleRequest, pb.SimpleResponse), (pb.StreamingInputCallRequest, pb.StreamingInputCallResponse)
        streamed = (pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse)
        methods = {
            "EmptyCall": handler(grpc.unary_unary_rpc_method_handler, self.empty_call, pb.Empty, pb.Empty),
            "UnaryCall": handler(grpc.unary_unary_rpc_method_handler, self.unary_call, *simple),
            "StreamingOutputCall": handler(grpc.unary_stream_rpc_method_handler, self.streaming_output_call, *streamed),
            "StreamingInputCall": handler(grpc.stream_unary_rpc_method_handler, self.streaming_input_call, *collected),
            "FullDuplexCall": handler(grpc.stream_stream_rpc_method_handler, self.full_duplex_call, *streamed),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    # --- implementation ---

    async def _echo(self, context: Any) -> None:
        self.metadata = list(context.invocation_metadata())
        metadata = dict(self.metadata)
        if INITIAL in metadata:
            await context.send_initial_metadata([(INITIAL, metadata[INITIAL])])
        if TRAILING in metadata:
            context.set_trailing_metadata([(TRAILING, metadata[TRAILING])])

    async def _answers(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if any(wanted.compressed.value for wanted in request.response_parameters):
            context.set_compression(grpc.Compression.Gzip)
        for wanted in request.response_parameters:
            await asyncio.sleep(wanted.interval_us * 1e-6)
            if not wanted.compressed.value:
                context.disable_next_message_compression()
            yield pb.StreamingOutputCallResponse(payload=_payload(wanted.size))
            self.sent_messages += 1
        await _end_as(request.response_status, context)

    def _counted(self, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> Any:
            with _Counted(self):
                return await inner(request, context)

        return call

    def _counted_stream(self, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            with _Counted(self):
                async for answer in inner(request, context):
                    yield answer

        return call


class InteropServer:
    """A native listener on loopback, and the gRPC server behind it, which may be stopped and started again. `protection`: of
    NativeTransport.protect(); `options`: of NativeTransport."""

    def __init__(self, engine: _core.Engine, protection: tuple[Any, ...] | None = None, **options: Any) -> None:
        self.service = Service()
        self._directory = Path(tempfile.mkdtemp(prefix="assay-test-"))
        self._path = self._directory / "forward.sock"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="interop-server", daemon=True)
        self._thread.start()
        self._behind: Any = None
        self._channels: list[grpc.Channel] = []
        self.start_behind()
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.target = f"127.0.0.1:{listening.getsockname()[1]}"
        methods = [*METHODS, UNKNOWN_SERVICE_METHOD]
        self.transport = _core.NativeTransport(engine, str(self._path), test_only_methods=methods, **options)
        if protection is not None:
            self.transport.protect(*protection)
        self.transport.start(listening.detach())

    def start_behind(self) -> None:
        async def start() -> Any:
            behind = grpc.aio.server()
            behind.add_generic_rpc_handlers((self.service.handlers(),))
            behind.add_insecure_port(f"unix:{self._path}")
            await behind.start()
            return behind

        self._behind = self._run(start)

    def begin_stop_behind(self, grace_s: float) -> Callable[[], None]:
        """Refuses calls from now on; the function that comes back waits for its end."""
        stopped = asyncio.run_coroutine_threadsafe(self._behind.stop(grace_s), self._loop)
        return lambda: stopped.result(WAIT_S)

    def stop_behind(self) -> None:
        self.begin_stop_behind(0)()

    def channel(self, *options: tuple[str, Any], **more: Any) -> grpc.Channel:
        """One with a connection of its own, without retries."""
        wanted = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1), *options]
        self._channels.append(grpc.insecure_channel(self.target, options=wanted, **more))
        return self._channels[-1]

    def stub(self, *options: tuple[str, Any], **more: Any) -> Any:
        return stub_of(self.channel(*options, **more))

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        self.transport.drain(WAIT_S)
        is_closed = self.transport.wait_closed(WAIT_S)
        stats = self.transport.stats()
        self.transport.stop()
        self.stop_behind()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()
        shutil.rmtree(self._directory)
        assert is_closed, f"connections are still open: {stats}"
        assert (stats.open_streams, stats.waiting_calls) == (0, 0)
        assert self.service.open_calls == 0, "calls are still open in the server behind"

    def __enter__(self) -> InteropServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- implementation ---

    def _run(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return asyncio.run_coroutine_threadsafe(make(), self._loop).result(WAIT_S)


def stub_of(channel: grpc.Channel) -> Any:
    """The methods of TestService."""

    def method(kind: Any, name: str, request: Any, answer: Any) -> Any:
        return kind(f"/{SERVICE}/{name}", request.SerializeToString, answer.FromString)

    streamed = (pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse)
    collected = (pb.StreamingInputCallRequest, pb.StreamingInputCallResponse)
    return SimpleNamespace(
        EmptyCall=method(channel.unary_unary, "EmptyCall", pb.Empty, pb.Empty),
        UnaryCall=method(channel.unary_unary, "UnaryCall", pb.SimpleRequest, pb.SimpleResponse),
        StreamingOutputCall=method(channel.unary_stream, "StreamingOutputCall", *streamed),
        StreamingInputCall=method(channel.stream_unary, "StreamingInputCall", *collected),
        FullDuplexCall=method(channel.stream_stream, "FullDuplexCall", *streamed),
        UnimplementedCall=method(channel.unary_unary, "UnimplementedCall", pb.Empty, pb.Empty),
    )


def input_of(*sizes: int) -> Iterator[Any]:
    """Messages for StreamingInputCall."""
    return iter([pb.StreamingInputCallRequest(payload=_payload(size)) for size in sizes])


def output_of(*sizes: int, interval_us: int = 0, request_size: int = 0) -> Any:
    """A request for messages of these sizes."""
    request = pb.StreamingOutputCallRequest(payload=_payload(request_size))
    for size in sizes:
        request.response_parameters.add(size=size, interval_us=interval_us)
    return request


# --- implementation ---


class _Counted:
    """A call of the service, from its start to its end."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __enter__(self) -> None:
        self._service.started += 1

    def __exit__(self, *_: object) -> None:
        self._service.finished += 1


def _payload(size: int) -> Any:
    return pb.Payload(body=bytes(size))


async def _end_as(status: Any, context: Any) -> None:
    if status.code:
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        await context.abort(code, status.message)
