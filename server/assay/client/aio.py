"""The client for asyncio. The same methods as Client's, awaited; cancelling the task cancels the call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Unpack

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay.client.calls import Call, Calls, Fallback, Options, Request, Response, Result
from assay.client.channel import SCORING_SERVICE, Tls, channel_options, credentials
from assay.client.errors import decode_failure
from assay.client.values import Refused, Score, Transaction
from assay.v1 import scoring_pb2_grpc
from assay.v1.scoring_pb2 import ScoreBatchResponse, ScoreRequest, ScoreResponse


class AsyncClient:
    """Client's sibling for one event loop: the one that runs at the first call. Client says what the arguments mean and what is
    raised."""

    def __init__(
        self,
        target: str,
        *,
        tls: Tls | None = None,
        timeout_s: float = 1.0,
        fallback: Fallback | None = None,
        retries: bool = True,
    ) -> None:
        self._calls = Calls(timeout_s, fallback)
        self._target = target
        self._credentials = None if tls is None else credentials(tls)
        self._options = channel_options(tls, retries=retries)

    async def score(self, transaction: Transaction, **options: Unpack[Options]) -> Score:
        """Scores one transaction."""
        return await _carry(self._scoring.Score, self._calls.score(transaction, options))

    async def score_batch(self, transactions: Sequence[Transaction], **options: Unpack[Options]) -> list[Score | Refused]:
        """Scores many with one model, in one call, answers in the same order; a bad row is Refused and fails no other."""
        call = self._calls.batch(transactions, options)
        if not call.request.requests:
            return call.on_answer(ScoreBatchResponse())
        return await _carry(self._scoring.ScoreBatch, call)

    async def score_message(self, request: ScoreRequest, *, timeout_s: float | None = None) -> ScoreResponse:
        """Sends the contract's own message; the fallback is not asked."""
        return await _carry(self._scoring.Score, self._calls.message(request, timeout_s))

    async def is_serving(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server answers health checks with SERVING. Nobody there, or no answer in time: False."""
        request = health_pb2.HealthCheckRequest(service=SCORING_SERVICE)
        try:
            response = await self._health.Check(request, timeout=self._calls.timeout_s(timeout_s))
        except grpc.RpcError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Ends the connection. Calls in flight are cancelled."""
        if "_channel" in self.__dict__:
            await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- implementation ---

    # grpc.aio ties a channel to the loop that it is made on: it is made at the first call, and not where the client is.

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, self._options)
        return grpc.aio.secure_channel(self._target, self._credentials, self._options)

    @cached_property
    def _scoring(self) -> scoring_pb2_grpc.ScoringServiceStub:
        return scoring_pb2_grpc.ScoringServiceStub(self._channel)  # type: ignore[no-untyped-call]

    @cached_property
    def _health(self) -> health_pb2_grpc.HealthStub:
        return health_pb2_grpc.HealthStub(self._channel)


async def _carry(method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], call: Call[Request, Response, Result]) -> Result:
    try:
        response = await method(call.request, timeout=call.timeout_s, metadata=call.metadata)
    except grpc.aio.AioRpcError as error:
        failure = decode_failure(error)
    else:
        return call.on_answer(response)
    return call.on_error(failure)
