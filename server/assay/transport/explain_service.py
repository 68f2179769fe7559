"""assay.v1.ScoringService/Explain: why a transaction scores as it does. On the public listener it is a score of a request, on the
admin listener a look into the audit log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import grpc
from google.protobuf.message import DecodeError

from assay._core import LIMITS, Engine, Refusal
from assay.explain.recorded_scores import ExplainError, RecordedScores
from assay.models.quiet import become_quiet
from assay.transport.policy import Listener
from assay.transport.replies import Answer, Replies
from assay.transport.scoring_service import unary_handler
from assay.transport.status import abort, refuse_field, refuse_large
from assay.transport.worker import Worker
from assay.v1 import scoring_pb2 as pb

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context, Handler

SEARCH_S_MAX = 30.0  # waits who names no deadline, or a later one


class ExplainService:
    """`recorded`: the server's own log; None: it keeps none. A search has a thread that takes what scores leave, and there is one
    at a time."""

    def __init__(self, engine: Engine, replies: Replies, recorded: RecordedScores | None, *, answer_bytes_max: int) -> None:
        self._engine = engine
        self._recorded = recorded
        self._answer_bytes_max = answer_bytes_max
        self._score = unary_handler(engine.submit_score, engine, replies, answer_bytes_max)
        self._worker = Worker("assay-explain", begin=become_quiet)

    @property
    def held_count(self) -> int:
        """Searches that are under way: 0 or 1."""
        return self._worker.held_count

    def handlers(self, listener: Listener) -> dict[str, Handler]:
        """Full method name -> handler, as it is on that listener."""
        explain = self._explain_recorded if listener is Listener.ADMIN else self._explain_request
        return {"/assay.v1.ScoringService/Explain": grpc.unary_unary_rpc_method_handler(explain)}

    def close(self) -> None:
        """Waits for the search that nobody waits for any more, if there is one: not on the event loop."""
        self._worker.close()

    # --- implementation ---

    async def _explain_request(self, data: bytes, context: Context) -> bytes:
        request = self._read(data, "request", "what somebody was scored is told on the admin listener")
        if isinstance(request, pb.ExplainRequest) and (obstacle := self._request_obstacle(request)):
            request = obstacle
        if isinstance(request, Refusal):
            await self._refuse(request, context)
        answer: bytes = await self._score(_score_request(request).SerializeToString(), context)
        response = pb.ExplainResponse(
            response=pb.ScoreResponse.FromString(answer),
            source=pb.EXPLANATION_SOURCE_SCORED_NOW,
            players=request.players or pb.EXPLAIN_PLAYERS_GROUPS,
        )
        return await self._sent(response.SerializeToString(), context)

    async def _explain_recorded(self, data: bytes, context: Context) -> bytes:
        request = self._read(data, "transaction_id", "scores are given on the public listener")
        if isinstance(request, pb.ExplainRequest) and (obstacle := self._search_obstacle(request)):
            request = obstacle
        if isinstance(request, Refusal):
            await self._refuse(request, context)
        answer = await self._search(request, context.time_remaining())
        if isinstance(answer, Refusal):
            await self._refuse(answer, context)
        return await self._sent(answer, context)

    async def _search(self, request: pb.ExplainRequest, remaining_s: float | None) -> Answer:
        """On the thread, for as long as somebody waits for it."""
        patience = _Patience()
        searching = self._worker.start(partial(self._find, request, patience.check), request.ByteSize())
        assert searching is not None, "one item always has room"
        limit_s = SEARCH_S_MAX if remaining_s is None else min(SEARCH_S_MAX, remaining_s)
        try:
            return await asyncio.wait_for(searching, limit_s)
        except TimeoutError:
            return self._engine.refuse("DEADLINE_EXCEEDED")
        finally:
            patience.end()

    def _find(self, request: pb.ExplainRequest, go_on: Callable[[], None]) -> Answer:
        """On the thread."""
        assert self._recorded is not None
        try:
            found = self._recorded.explain(request.transaction_id, request.players, request.top_k, go_on)
        except ExplainError as error:
            return self._engine.refuse(error.reason, str(error))
        return found.SerializeToString()

    def _read(self, data: bytes, subject: str, why_elsewhere: str) -> pb.ExplainRequest | Refusal:
        """A request about `subject`."""
        try:
            request = pb.ExplainRequest.FromString(data)
        except DecodeError:
            return self._engine.refuse("MALFORMED_MESSAGE", "expected an ExplainRequest")
        found = request.WhichOneof("subject")
        if found is None:
            return refuse_field(self._engine, subject, "MISSING_FIELD", "is required")
        if found != subject:
            return self._engine.refuse("WRONG_LISTENER", f"{found}: {why_elsewhere}")
        return request

    def _request_obstacle(self, request: pb.ExplainRequest) -> Refusal | None:
        """Why there is no score; of its fields the core says that."""
        if request.request.HasField("explain"):
            return refuse_field(
                self._engine, "request.explain", "BAD_EXPLAIN", "must be unset: players and top_k stand beside it"
            )
        return self._players_obstacle(request)

    def _players_obstacle(self, request: pb.ExplainRequest) -> Refusal | None:
        if request.players in pb.ExplainPlayers.values():
            return None
        return refuse_field(self._engine, "players", "BAD_EXPLAIN", "expected EXPLAIN_PLAYERS_GROUPS or EXPLAIN_PLAYERS_INPUTS")

    def _search_obstacle(self, request: pb.ExplainRequest) -> Refusal | None:
        """Why there is no search. Never repeats a text that came."""
        if not request.transaction_id:
            return refuse_field(self._engine, "transaction_id", "MISSING_FIELD", "is required")
        if len(request.transaction_id.encode()) > LIMITS["id_bytes_max"]:
            return refuse_field(self._engine, "transaction_id", "TOO_LONG", f"expected at most {LIMITS['id_bytes_max']} bytes")
        if obstacle := self._players_obstacle(request):
            return obstacle
        if self._recorded is None:
            return self._engine.refuse("NO_AUDIT_LOG")
        if self.held_count:
            return self._engine.refuse("QUEUE_FULL", "the audit log is being searched, and there is one search at a time")
        return None

    async def _refuse(self, refusal: Refusal, context: Context) -> NoReturn:
        self._engine.count_refused_call(refusal)
        await abort(context, refusal)

    async def _sent(self, answer: bytes, context: Context) -> bytes:
        if len(answer) > self._answer_bytes_max:
            await abort(context, refuse_large(self._engine, answer, self._answer_bytes_max))
        return answer


# --- implementation ---


class _Patience:
    """Whether somebody still waits for a search. check() is for its thread."""

    def __init__(self) -> None:
        self._has_ended = False

    def end(self) -> None:
        self._has_ended = True

    def check(self) -> None:
        """Gives Python's lock to whoever wants it. Raises where nobody waits any more."""
        if self._has_ended:
            raise _GivenUpError
        time.sleep(0)


class _GivenUpError(Exception):
    """Nobody hears it."""


def _score_request(request: pb.ExplainRequest) -> pb.ScoreRequest:
    """To be explained with the answer; without a customer who waits, so that the explanation has the time of the call."""
    found = request.request
    found.priority = found.priority or pb.PRIORITY_BULK
    found.explain.CopyFrom(
        pb.ExplainOptions(when=pb.EXPLAIN_WHEN_ALWAYS, top_k=request.top_k, players=request.players, mode=pb.EXPLAIN_MODE_INLINE)
    )
    return found
