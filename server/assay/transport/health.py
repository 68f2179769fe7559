"""grpc.health.v1.Health with Check, Watch and List (the packaged servicer answers List with UNIMPLEMENTED).

Names: "" for the server, and every service. On the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context, Handler

SERVER = ""  # the name of the server as a whole


class HealthService:
    """Every name starts as NOT_SERVING."""

    def __init__(self, services: Iterable[str]) -> None:
        self._statuses: dict[str, int] = dict.fromkeys((SERVER, *services), health_pb2.HealthCheckResponse.NOT_SERVING)
        self._changed = asyncio.Event()  # replaced at every change
        self._is_closed = False

    def handlers(self) -> dict[str, Handler]:
        """Full method name -> handler."""
        check = {
            "request_deserializer": health_pb2.HealthCheckRequest.FromString,
            "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
        }
        return {
            "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(self._check, **check),
            "/grpc.health.v1.Health/Watch": grpc.unary_stream_rpc_method_handler(self._watch, **check),
            "/grpc.health.v1.Health/List": grpc.unary_unary_rpc_method_handler(
                self._list,
                request_deserializer=health_pb2.HealthListRequest.FromString,
                response_serializer=health_pb2.HealthListResponse.SerializeToString,
            ),
        }

    def set_serving(self, is_serving: bool) -> None:
        """Sets all names and tells all watchers."""
        status = health_pb2.HealthCheckResponse.SERVING if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
        self._statuses = dict.fromkeys(self._statuses, status)
        self._tell()

    def close(self) -> None:
        """Ends all watches after their last status, so that they do not hold up the drain."""
        self._is_closed = True
        self._tell()

    # --- implementation ---

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=status)

    async def _list(self, request: health_pb2.HealthListRequest, context: Context) -> health_pb2.HealthListResponse:
        del request, context
        statuses = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def _watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        del context
        sent: int | None = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != sent:
                sent = status
                yield health_pb2.HealthCheckResponse(status=status)
                continue  # much may have changed while the client took it
            if self._is_closed:
                return
            await changed.wait()
