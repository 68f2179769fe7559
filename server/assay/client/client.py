"""The client for threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay.client.calls import Call, Calls, Fallback, Options, Request, Response, Result
from assay.client.channel import SCORING_SERVICE, Tls, channel_options, open_channel
from assay.client.errors import decode_failure
from assay.client.values import Refused, Score, Transaction
from assay.v1 import scoring_pb2_grpc
from assay.v1.scoring_pb2 import ScoreBatchResponse, ScoreRequest, ScoreResponse


class Client:
    """One connection (or one to each address of the target), shared by any number of threads. Make one per process, after a
    fork, and keep it: connecting costs more than a score.

    target: HOST:PORT, dns:///HOST:PORT or unix:PATH. timeout_s: deadline of a call, retries included. fallback: the decision
    where there is no answer; without one, NoAnswer is raised. retries: whether UNAVAILABLE is tried again (service_config.json).
    Raises ConfigError where a file of `tls` cannot be read."""

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
        self._channel = open_channel(target, tls, channel_options(tls, retries=retries))
        self._scoring = scoring_pb2_grpc.ScoringServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def score(self, transaction: Transaction, **options: Unpack[Options]) -> Score:
        """Scores one transaction. Raises ScoreError, NoAnswer only without a fallback."""
        return _carry(self._scoring.Score, self._calls.score(transaction, options))

    def score_batch(self, transactions: Sequence[Transaction], **options: Unpack[Options]) -> list[Score | Refused]:
        """Scores many with one model, in one call, answers in the same order; a bad row is Refused and fails no other. Raises
        ScoreError where the call as a whole is refused, as for too many rows."""
        call = self._calls.batch(transactions, options)
        if not call.request.requests:  # nothing to send: an empty list, or no row that can be sent
            return call.on_answer(ScoreBatchResponse())
        return _carry(self._scoring.ScoreBatch, call)

    def score_message(self, request: ScoreRequest, *, timeout_s: float | None = None) -> ScoreResponse:
        """Sends the contract's own message. Raises ScoreError; the fallback is not asked."""
        return _carry(self._scoring.Score, self._calls.message(request, timeout_s))

    def is_serving(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server answers health checks with SERVING. Nobody there, or no answer in time: False."""
        request = health_pb2.HealthCheckRequest(service=SCORING_SERVICE)
        try:
            response = self._health.Check(request, timeout=self._calls.timeout_s(timeout_s))
        except grpc.RpcError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    def close(self) -> None:
        """Ends the connection. Calls in flight on other threads end without an answer."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- implementation ---


def _carry(method: grpc.UnaryUnaryMultiCallable[Request, Response], call: Call[Request, Response, Result]) -> Result:
    try:
        response = method(call.request, timeout=call.timeout_s, metadata=call.metadata)
    except grpc.RpcError as error:
        failure = decode_failure(cast(grpc.Call, error))
    else:
        return call.on_answer(response)
    return call.on_error(failure)  # outside of `except`: gRPC's own error would only repeat it
