"""Looks at what a server knows: rare, for people, and made off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from assay._core import Engine, Refusal
from assay.features.served import ModelFeatures, ServedFeatures
from assay.transport.status import abort, refuse_large
from assay.transport.worker import Worker
from assay.v1 import drift_pb2, feature_pb2

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context

LOOK_S_MAX = 10.0

Answer = bytes | Refusal
Request = TypeVar("Request", bound=Message)
ModelRequest = TypeVar(
    "ModelRequest",
    feature_pb2.GetFeaturesRequest,
    feature_pb2.GetServedRowsRequest,
    feature_pb2.DescribeFeatureSetRequest,
    drift_pb2.GetDriftRequest,
)


class LookWorker:
    """One thread makes them, one after the other. `what` they are stands in a refusal: "looks at features". `wait_s_max`: how
    long a caller waits who names no deadline, or a later one."""

    def __init__(self, name: str, what: str, engine: Engine, *, answer_bytes_max: int, wait_s_max: float = LOOK_S_MAX) -> None:
        self._what = what
        self._engine = engine
        self._answer_bytes_max = answer_bytes_max
        self._wait_s_max = wait_s_max
        self._worker = Worker(name)

    @property
    def held_count(self) -> int:
        """Looks that are under way or wait."""
        return self._worker.held_count

    def close(self) -> None:
        """Waits for the look that is being made, if there is one: not on the event loop."""
        self._worker.close()

    def leave(self) -> None:
        """Ends it without waiting."""
        self._worker.leave()

    async def answer(self, kind: type[Request], make: Callable[[Request], Answer], data: bytes, context: Context) -> bytes:
        """What `make` says to a request of this kind, read and made on the thread within the caller's deadline: one that nobody
        waits for is not begun."""
        looking = self._worker.start(partial(self._read_and_make, kind, make, data), len(data))
        if looking is None:
            await abort(context, self._engine.refuse_call("QUEUE_FULL", f"{self.held_count} {self._what} are under way"))
        remaining_s = context.time_remaining()
        limit_s = self._wait_s_max if remaining_s is None else min(self._wait_s_max, remaining_s)
        try:
            answer = await asyncio.wait_for(looking, limit_s)
        except TimeoutError:
            answer = self._engine.refuse("DEADLINE_EXCEEDED")
        if isinstance(answer, Refusal):
            self._engine.count_refused_call(answer)
            await abort(context, answer)
        if len(answer) > self._answer_bytes_max:
            await abort(context, refuse_large(self._engine, answer, self._answer_bytes_max))
        return answer

    async def answer_of_model(
        self,
        served: ServedFeatures,
        kind: type[ModelRequest],
        make: Callable[[ModelRequest, ModelFeatures], Answer],
        data: bytes,
        context: Context,
    ) -> bytes:
        """The same for a request that names a model."""

        def make_of_model(request: ModelRequest) -> Answer:
            model = served.find(request.model, request.version)
            return make(request, model) if isinstance(model, ModelFeatures) else self._engine.refuse(model)

        return await self.answer(kind, make_of_model, data, context)

    # --- implementation. On the thread

    def _read_and_make(self, kind: type[Request], make: Callable[[Request], Answer], data: bytes) -> Answer:
        try:
            request = kind.FromString(data)
        except DecodeError:
            return self._engine.refuse("MALFORMED_MESSAGE", f"expected a {kind.__name__}")
        return make(request)
