"""grpc.health.v1.Health with Check, Watch and List (the packaged servicer answers List with UNIMPLEMENTED).

Names: "" for the server, and every service. On the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2

from assay.transport.status import end_call, parse

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context, Handler

SERVER = ""  # the name of the server as a whole
WATCHES_MAX = 512  # open Watch calls of one listener: they last, and must not use up gRPC's limit on all calls


class HealthService:
    """Every name starts as NOT_SERVING."""

    def __init__(self, services: Iterable[str]) -> None:
        self._statuses: dict[str, int] = dict.fromkeys((SERVER, *services), health_pb2.HealthCheckResponse.NOT_SERVING)
        self._changed = asyncio.Event()  # replaced at every change
        self._is_closed = False
        self._watch_count = 0

    def handlers(self) -> dict[str, Handler]:
        """Full method name -> handler. Requests stay bytes: see parse()."""
        serializer = health_pb2.HealthCheckResponse.SerializeToString
        return {
            "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(self._check, response_serializer=serializer),
            "/grpc.health.v1.Health/Watch": grpc.unary_stream_rpc_method_handler(self._watch, response_serializer=serializer),
            "/grpc.health.v1.Health/List": grpc.unary_unary_rpc_method_handler(
                self._list, response_serializer=health_pb2.HealthListResponse.SerializeToString
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

    async def _check(self, data: bytes, context: Context) -> health_pb2.HealthCheckResponse:
        request = await parse(health_pb2.HealthCheckRequest, data, context)
        status = self._statuses.get(request.service)
        if status is None:
            await end_call(context, grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=status)

    async def _list(self, data: bytes, context: Context) -> health_pb2.HealthListResponse:
        await parse(health_pb2.HealthListRequest, data, context)
        statuses = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def _watch(self, data: bytes, context: Context) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        request = await parse(health_pb2.HealthCheckRequest, data, context)
        if self._watch_count >= WATCHES_MAX:
            await end_call(
                context, grpc.StatusCode.RESOURCE_EXHAUSTED, f"{WATCHES_MAX} Watch calls are open, which is the limit; call Check"
            )
        self._watch_count += 1
        try:
            async for response in self._changes_of(request.service):
                yield response
        finally:
            self._watch_count -= 1

    async def _changes_of(self, service: str) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status now, and whenever it is another one. Ends with close()."""
        sent: int | None = None
        while True:
            changed = self._changed
            status = self._statuses.get(service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != sent:
                sent = status
                yield health_pb2.HealthCheckResponse(status=status)
                continue  # much may have changed while the client took it
            if self._is_closed:
                return
            await changed.wait()
