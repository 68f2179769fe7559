"""assay.v1.ScoringService over grpc.aio. Requests and answers are bytes: the core decodes and encodes, Python only carries."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from assay._core import LIMITS, Accepted, CompletionQueue, Engine, Refusal
from assay.transport.replies import Answer, Replies, rpc_deadline_ns
from assay.transport.status import abort, refuse_large
from assay.v1 import scoring_pb2

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context, Handler

_KEPT_BYTES_MAX = 16 << 10  # of a stream's message in flight

Submit = Callable[[bytes, int, CompletionQueue, int, str | None], bytes | Accepted | Refusal]


class ScoringService:
    """The three methods. `answer_bytes_max`: of one message; `stream_messages_max`: in flight per ScoreStream; `streams_max`:
    open ScoreStream calls; `stream_age_s_max`: how long one may be open, 0: for ever."""

    def __init__(
        self,
        engine: Engine,
        replies: Replies,
        *,
        answer_bytes_max: int,
        stream_messages_max: int,
        streams_max: int,
        stream_age_s_max: float,
    ) -> None:
        self._engine = engine
        self._replies = replies
        self._answer_bytes_max = answer_bytes_max
        self._stream_messages_max = stream_messages_max
        self._streams_max = streams_max
        self._stream_age_s_max = stream_age_s_max
        self._streams: set[_ScoreStream] = set()
        self._is_draining = False

    def handlers(self) -> dict[str, Handler]:
        """Full method name -> handler, without (de)serialisers: bytes in, bytes out."""
        return {
            "/assay.v1.ScoringService/Score": grpc.unary_unary_rpc_method_handler(
                unary_handler(self._engine.submit_score, self._engine, self._replies, self._answer_bytes_max)
            ),
            "/assay.v1.ScoringService/ScoreBatch": grpc.unary_unary_rpc_method_handler(
                unary_handler(self._engine.submit_batch, self._engine, self._replies, self._answer_bytes_max)
            ),
            "/assay.v1.ScoringService/ScoreStream": grpc.stream_stream_rpc_method_handler(self._score_stream),
        }

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def drain(self) -> None:
        """Open streams stop reading, answer what they have read, and end with DRAINING; new ones are refused."""
        self._is_draining = True
        for stream in self._streams:
            stream.drain()

    async def _score_stream(self, _: Any, context: Context) -> None:
        if self._is_draining:
            await abort(context, self._engine.refuse_call("DRAINING"))
        if len(self._streams) >= self._streams_max:
            await abort(context, self._engine.refuse_call("STREAM_LIMIT", f"{self._streams_max} streams are open"))
        stream = _ScoreStream(self._engine, self._replies, context, self._stream_messages_max, self._answer_bytes_max)
        self._streams.add(stream)
        end = asyncio.get_running_loop().call_later(self._stream_age_s_max, stream.drain) if self._stream_age_s_max else None
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)
            if end is not None:
                end.cancel()
        if stream.is_draining:
            await abort(context, self._engine.refuse("DRAINING" if self._is_draining else "STREAM_TOO_OLD"))


# --- implementation ---


def traceparent_of(context: Context) -> str | None:
    """The call's W3C trace context, as it came; None: it brought none. (Of several, gRPC keeps one.)"""
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent" and isinstance(value, str):
            return value
    return None


def unary_handler(submit: Submit, engine: Engine, replies: Replies, answer_bytes_max: int) -> Callable[[bytes, Context], Any]:
    """A handler of Score, ScoreBatch or ModelInfer. A closure, because every attribute look-up here is paid by every call."""
    is_tracing = engine.is_tracing
    next_token = replies.next_token
    queue = replies.queue
    expect = replies.expect
    create_future = asyncio.get_running_loop().create_future

    async def handle(request: bytes, context: Context) -> bytes:
        deadline_ns = rpc_deadline_ns(context.time_remaining())
        token = next_token()
        accepted = submit(request, deadline_ns, queue, token, traceparent_of(context) if is_tracing else None)
        if isinstance(accepted, bytes):  # scored on the way
            if len(accepted) > answer_bytes_max:
                await abort(context, refuse_large(engine, accepted, answer_bytes_max))
            return accepted
        if isinstance(accepted, Refusal):
            await abort(context, accepted)
        reply = create_future()
        expect(token, accepted, deadline_ns, reply)
        try:
            answer: Answer = await reply
        except asyncio.CancelledError:
            replies.forget(token, accepted)
            raise
        if isinstance(answer, Refusal):
            await abort(context, answer)
        if len(answer) > answer_bytes_max:
            await abort(context, refuse_large(engine, answer, answer_bytes_max))
        return answer

    return handle


class _StreamReply:
    """One message of a stream that waits for its answer."""

    __slots__ = ("_stream", "accepted", "message", "token")

    def __init__(self, stream: _ScoreStream, token: int, accepted: Accepted, message: bytes) -> None:
        self._stream = stream
        self.token = token
        self.accepted = accepted
        self.message = message  # kept for the transaction_id, should the deadline pass

    def done(self) -> bool:
        return False

    def set_result(self, answer: Answer, /) -> None:
        self._stream.answered(self, answer)


class _ScoreStream:
    """One ScoreStream call. A message is in flight from its reading until its answer is written, so that a client that reads no
    answers is read from no further."""

    def __init__(self, engine: Engine, replies: Replies, context: Context, messages_max: int, answer_bytes_max: int) -> None:
        self.is_draining = False
        self._engine = engine
        self._replies = replies
        self._context = context
        self._messages_max = messages_max
        self._answer_bytes_max = answer_bytes_max
        self._deadline_ns = rpc_deadline_ns(context.time_remaining())
        self._traceparent = traceparent_of(context) if engine.is_tracing else None
        self._in_flight = 0
        self._is_reading = True
        self._waiting: dict[int, _StreamReply] = {}
        self._ready: deque[bytes] = deque()
        self._reader: asyncio.Task[None] | None = None
        self._room = asyncio.Event()  # there may be room to read another message
        self._work = asyncio.Event()  # there may be an answer to write, or the end has come

    async def run(self) -> None:
        """Reads and answers until the client has half-closed and everything is answered, or until drain()."""
        self._reader = asyncio.create_task(self._read_messages())
        writer = asyncio.create_task(self._write_answers())
        try:
            # The writer ends first only if it failed: the client has gone.
            await asyncio.wait((self._reader, writer), return_when=asyncio.FIRST_COMPLETED)
            self._is_reading = False
            self._work.set()
            await writer
            if not self._reader.cancelled():
                self._reader.result()
        finally:
            self._reader.cancel()
            writer.cancel()
            for reply in self._waiting.values():
                self._replies.forget(reply.token, reply.accepted)

    def drain(self) -> None:
        self.is_draining = True
        if self._reader is not None:
            self._reader.cancel()

    def answered(self, reply: _StreamReply, answer: Answer) -> None:
        """An answer has come, or the message's deadline."""
        del self._waiting[reply.token]
        self._put(reply.message, answer)

    # --- implementation ---

    async def _read_messages(self) -> None:
        read = self._context.read
        while True:
            while self._in_flight >= self._messages_max:
                self._room.clear()
                await self._room.wait()
            message = await read()
            if message is grpc.aio.EOF:
                return
            self._in_flight += 1
            self._submit(message)

    def _submit(self, message: bytes) -> None:
        token = self._replies.next_token()
        accepted = self._engine.submit_stream(message, self._deadline_ns, self._replies.queue, token, self._traceparent)
        if not isinstance(accepted, Accepted):  # refused, or scored on the way
            self._put(message, accepted)
            return
        reply = _StreamReply(self, token, accepted, _kept(message))
        self._waiting[token] = reply
        # The stream's own deadline ends the stream; a message's or the default's ends the message.
        self._replies.expect(token, accepted, self._deadline_ns, reply)

    def _put(self, message: bytes, answer: Answer) -> None:
        if isinstance(answer, bytes) and len(answer) > self._answer_bytes_max:
            answer = refuse_large(self._engine, answer, self._answer_bytes_max)
        self._ready.append(answer if isinstance(answer, bytes) else _refused(message, answer))
        self._work.set()

    async def _write_answers(self) -> None:
        write = self._context.write
        while True:
            while self._ready:
                await write(self._ready.popleft())
                self._in_flight -= 1
                self._room.set()
            if not self._is_reading and self._in_flight == 0:
                return
            self._work.clear()
            await self._work.wait()


def _refused(message: bytes, refusal: Refusal) -> bytes:
    """The ScoreStreamResponse of a message that has no score. Off the hot path, so google.protobuf may do it."""
    response = scoring_pb2.ScoreStreamResponse(status=status_pb2.Status.FromString(refusal.rpc_status))
    response.transaction_id = _transaction_id(message)
    return response.SerializeToString()


def _transaction_id(message: bytes) -> str:
    """The id in a ScoreStreamRequest; empty where it cannot be read or is too long to be one: what a client sends must not come
    back to it 64 times while it reads nothing."""
    try:
        found: str = scoring_pb2.ScoreStreamRequest.FromString(message).request.transaction_id
    except DecodeError:
        return ""
    return found if len(found.encode()) <= LIMITS["id_bytes_max"] else ""


def _kept(message: bytes) -> bytes:
    """What is kept of a message in flight: all of a usual one, of a long one the id alone, so that memory stays bounded."""
    if len(message) <= _KEPT_BYTES_MAX:
        return message
    request = scoring_pb2.ScoreRequest(transaction_id=_transaction_id(message))
    return scoring_pb2.ScoreStreamRequest(request=request).SerializeToString()
