"""The core's refusals as gRPC statuses. What a refusal says was decided and encoded in the core; this only carries it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from assay._core import CODE_TABLE, Engine, Refusal

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context

AnyMessage = TypeVar("AnyMessage", bound=Message)

# gRPC status number -> the enum that grpcio wants.
STATUS_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

# Number of a code -> how long to wait before another try, in milliseconds; only those that may be tried again.
_RETRY_MS: dict[int, int] = {row.number: row.retry_ms for row in CODE_TABLE if row.retry_ms > 0}


def trailers(refusal: Refusal) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata of a refusal: google.rpc.Status and, where another try makes sense, gRPC's own pushback (gRFC A6), spread
    over half to one and a half of the wait so that clients do not come back all at once."""
    details: tuple[str, str | bytes] = ("grpc-status-details-bin", refusal.rpc_status)
    retry_ms = _RETRY_MS.get(refusal.code)
    if retry_ms is None:
        return (details,)
    return (details, ("grpc-retry-pushback-ms", str(max(1, round(retry_ms * random.uniform(0.5, 1.5))))))


async def abort(context: Context, refusal: Refusal) -> NoReturn:
    """Ends the call with the refusal."""
    await end_call(context, STATUS_CODES[refusal.grpc_code], refusal.message, trailers(refusal))


async def end_call(
    context: Context, code: grpc.StatusCode, message: str, trailing: tuple[tuple[str, str | bytes], ...] = ()
) -> NoReturn:
    """Ends the call. gRPC keeps the error that it raises to that end; the error keeps the frames that it has passed, and they the
    call and its message: a ring that only the garbage collector would open, hundreds of megabytes later."""
    try:
        await context.abort(code, message, trailing)
    except grpc.aio.AbortError as error:
        asyncio.get_running_loop().call_soon(error.with_traceback, None)  # once it has passed them
        raise


def refuse_large(engine: Engine, answer: bytes, bytes_max: int) -> Refusal:
    """gRPC would say it without details, and write a traceback into the log."""
    return engine.refuse_call("ANSWER_TOO_LARGE", f"{len(answer):,} bytes; limits.send_message_bytes_max is {bytes_max:,}")


def refuse_field(engine: Engine, field: str, reason: str, expected: str) -> Refusal:
    """INVALID_REQUEST with one violation, as the core's decoder says it of the messages that it reads."""
    refusal = engine.refuse("INVALID_REQUEST", f"{field} {expected}")
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, reason=reason, description=expected)
    status = status_pb2.Status.FromString(refusal.rpc_status)
    status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return refusal._replace(rpc_status=status.SerializeToString())


async def parse(message_type: type[AnyMessage], data: bytes, context: Context) -> AnyMessage:
    """The request of one of gRPC's standard services. Its handlers take bytes and call this: a deserialiser of gRPC's that fails
    answers UNKNOWN and logs a traceback, so that a few bytes from anybody would fill the log."""
    try:
        return message_type.FromString(data)
    except DecodeError:
        await end_call(
            context,
            grpc.StatusCode.INVALID_ARGUMENT,
            f"the bytes are not a {message_type.DESCRIPTOR.full_name}; encode it with generated code",
        )
