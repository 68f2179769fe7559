"""assay.v1.OperationsService: how the server is, and how much it says. Answers on the admin listener."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from assay._core import Engine, Refusal, printable
from assay.observe.log_control import REVERT_S_MAX
from assay.observe.logs import LEVELS
from assay.transport.look_worker import LookWorker
from assay.transport.operations_messages import logging_message, status_message
from assay.transport.principals import principals_of
from assay.transport.status import abort
from assay.v1 import operations_pb2

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from assay.observe.telemetry import Telemetry
    from assay.transport.grpc_types import Context, Handler


class OperationsService:
    """Rare calls of people and their scripts; each is a few milliseconds of Python, a look not on the event loop."""

    def __init__(self, telemetry: Telemetry, engine: Engine, *, answer_bytes_max: int) -> None:
        self._telemetry = telemetry
        self._engine = engine
        self._looks = LookWorker("assay-status", "looks at the status", engine, answer_bytes_max=answer_bytes_max)

    @property
    def held_count(self) -> int:
        """Looks that are under way or wait."""
        return self._looks.held_count

    def handlers(self) -> dict[str, Handler]:
        """Full method name -> handler."""
        return {
            "/assay.v1.OperationsService/GetStatus": grpc.unary_unary_rpc_method_handler(self._get_status),
            "/assay.v1.OperationsService/SetLogging": grpc.unary_unary_rpc_method_handler(
                self._set_logging, response_serializer=operations_pb2.SetLoggingResponse.SerializeToString
            ),
        }

    def close(self) -> None:
        """Waits for the look that is being made, if there is one: not on the event loop."""
        self._looks.close()

    # --- implementation ---

    async def _get_status(self, data: bytes, context: Context) -> bytes:
        return await self._looks.answer(operations_pb2.GetStatusRequest, self._look, data, context)

    def _look(self, _: operations_pb2.GetStatusRequest) -> bytes:
        """On the thread."""
        status = self._telemetry.board.status()
        return status_message(status, self._telemetry.log_control.now).SerializeToString()

    async def _set_logging(self, data: bytes, context: Context) -> operations_pb2.SetLoggingResponse:
        request = self._read(data)
        if isinstance(request, Refusal):
            self._engine.count_refused_call(request)
            await abort(context, request)
        auth: Mapping[str, Any] = context.auth_context() or {}
        principals = principals_of(auth)
        before, now = self._telemetry.log_control.change(
            level=next((level for level in LEVELS if level == request.level), None),
            trace_sample_ratio=request.trace_sample_ratio if request.HasField("trace_sample_ratio") else None,
            request_log_ratio=request.request_log_ratio if request.HasField("request_log_ratio") else None,
            revert_after_s=_seconds(request.revert_after) if request.HasField("revert_after") else None,
            asked_by=printable(principals[0].encode(errors="replace")) if principals else None,
        )
        self._telemetry.wake()
        return operations_pb2.SetLoggingResponse(before=logging_message(before), now=logging_message(now))

    def _read(self, data: bytes) -> operations_pb2.SetLoggingRequest | Refusal:
        try:
            request = operations_pb2.SetLoggingRequest.FromString(data)
        except DecodeError:
            return self._engine.refuse("MALFORMED_MESSAGE", "expected a SetLoggingRequest")
        if obstacle := self._obstacle(request):
            return self._engine.refuse("INVALID_REQUEST", obstacle)
        return request

    def _obstacle(self, request: operations_pb2.SetLoggingRequest) -> str | None:
        """What cannot be of it. Never repeats a text that came."""
        if request.level and request.level not in LEVELS:
            return f"level: expected one of {', '.join(LEVELS)}"
        for name in ("trace_sample_ratio", "request_log_ratio"):
            if request.HasField(name) and not 0.0 <= getattr(request, name) <= 1.0:
                return f"{name}: expected 0 to 1"
        if request.HasField("trace_sample_ratio") and not self._telemetry.log_control.is_tracing:
            return "trace_sample_ratio: tracing is off; start the server with tracing.endpoint"
        if request.HasField("revert_after") and not 0.0 < _seconds(request.revert_after) <= REVERT_S_MAX:
            return f"revert_after: expected more than 0 and at most {REVERT_S_MAX:g} s"
        return None


# --- implementation ---


def _seconds(length: Duration) -> float:
    return float(length.seconds + length.nanos * 1e-9)
