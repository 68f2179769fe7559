"""The clients under test, both behind one face, and a server that answers by a script."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from assay.client import AsyncClient, Client, Transaction, Value
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.server import EVENT_TIME

T = TypeVar("T")


class AwaitedClient:
    """AsyncClient with Client's blocking methods, on a loop of its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._client = AsyncClient(*arguments, **options)
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Coroutine[Any, Any, Any]] = getattr(self._client, name)
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def __enter__(self) -> AwaitedClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# Kind -> how to make it. Tests that take `make` run with both.
CLIENTS: dict[str, Callable[..., Any]] = {"threads": Client, "asyncio": AwaitedClient}


def make_transaction(transaction_id: str = "t1", **features: Value) -> Transaction:
    """One that LocalServer's feature set takes."""
    return Transaction(transaction_id, EVENT_TIME, {"customer_id": "c1"}, {"amount_minor": 5716, **features})


@dataclass(frozen=True)
class Failure:
    """A scripted answer: this status, with these trailers."""

    code: grpc.StatusCode
    trailers: Sequence[tuple[str, str | bytes]] = ()


@dataclass
class Attempt:
    """What the server saw of one attempt at a call."""

    metadata: dict[str, str | bytes]
    remaining_s: float


@dataclass
class ScriptedServer:
    """A grpcio server whose Score answers as `script` says, attempt by attempt; then as its last line. None: OK, with the id of
    the request. Not assay's transport: for what that one does not do on demand."""

    script: Sequence[Failure | scoring_pb2.ScoreResponse | None] = (None,)
    tls: grpc.ServerCredentials | None = None
    attempts: list[Attempt] = field(default_factory=list)

    def __enter__(self) -> ScriptedServer:
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(self._servicer(), self._server)
        self.health = health.HealthServicer()
        self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        address = "127.0.0.1:0"
        port = self._server.add_insecure_port(address) if self.tls is None else self._server.add_secure_port(address, self.tls)
        self.target = f"127.0.0.1:{port}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def _servicer(self) -> Any:
        server = self

        class Servicer(scoring_pb2_grpc.ScoringServiceServicer):
            def Score(self, request: Any, context: Any) -> scoring_pb2.ScoreResponse:  # noqa: N802 (gRPC's name)
                return server._answer(request, context)

        return Servicer()

    def _answer(self, request: scoring_pb2.ScoreRequest, context: Any) -> scoring_pb2.ScoreResponse:
        with self._lock:
            line = self.script[min(len(self.attempts), len(self.script) - 1)]
            self.attempts.append(Attempt(dict(context.invocation_metadata()), context.time_remaining()))
        if isinstance(line, scoring_pb2.ScoreResponse):
            return line
        if line is not None:
            context.set_trailing_metadata(tuple(line.trailers))
            context.abort(line.code, "by script")
        return scoring_pb2.ScoreResponse(transaction_id=request.transaction_id, score=0.25, decision=scoring_pb2.DECISION_APPROVE)
