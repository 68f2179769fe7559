"""What a call is before it is sent and after it ended: message, deadline, metadata, and what to make of its end. Pure; the two
clients only carry a Call over their kind of channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NoReturn, TypeAlias, TypedDict, TypeVar

import grpc

from assay.client.decode import decode_result, decode_score
from assay.client.encode import encode_transaction
from assay.client.errors import InvalidRequest, NoAnswer, ScoreError, ServerFailed
from assay.client.values import Decision, Refused, Score, Transaction
from assay.v1 import scoring_pb2
from assay.v1.scoring_pb2 import ScoreBatchRequest, ScoreBatchResponse, ScoreRequest, ScoreResponse

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")

# The caller's decision where there is no answer: always the same one, or made from the transaction and the error.
Fallback: TypeAlias = Decision | Callable[[Transaction, NoAnswer], Decision]

TIMEOUT_S_MAX = 60.0  # no server lets a call take longer (lane.timeout_ms_max)


class Options(TypedDict, total=False):
    """What score() and score_batch() take by keyword. All are optional."""

    model: str  # default: the server's default model
    version: str  # default: the one that serves
    priority: Literal["interactive", "bulk"]  # default: interactive for score(), bulk for score_batch()
    include_inputs: bool  # puts what the model saw into Score.inputs
    include_timings: bool  # fills Score.timings
    timeout_s: float  # default: the client's
    traceparent: str  # W3C trace context that the server's spans go on
    metadata: Sequence[tuple[str, str | bytes]]  # further metadata of the call


@dataclass(frozen=True, slots=True)
class Call(Generic[Request, Response, Result]):
    """One call. Exactly one of on_answer and on_error is asked for its result; on_error may raise."""

    request: Request
    timeout_s: float
    metadata: tuple[tuple[str, str | bytes], ...]
    on_answer: Callable[[Response], Result]
    on_error: Callable[[ScoreError], Result]


class Calls:
    """Makes the calls of one client. Immutable, and so for any thread."""

    def __init__(self, timeout_s: float, fallback: Fallback | None) -> None:
        if not (fallback is None or isinstance(fallback, Decision) or callable(fallback)):  # found now, not in an outage
            raise TypeError(f"fallback: is {type(fallback).__qualname__}; expected a Decision, or a function that makes one")
        self._timeout_s = _checked_timeout_s(timeout_s)
        self._fallback = fallback

    def score(self, transaction: Transaction, options: Options) -> Call[ScoreRequest, ScoreResponse, Score]:
        """Raises InvalidRequest where nothing can be sent."""
        asked = _Asked(**options)
        request = encode_transaction(transaction)
        request.model, request.version, request.priority = asked.model, asked.version, asked.priority_number
        request.include_features, request.include_timings = asked.include_inputs, asked.include_timings

        def on_error(error: ScoreError) -> Score:
            return self._fall_back(transaction, error)

        return Call(request, self._timeout_s_of(asked), asked.all_metadata, decode_score, on_error)

    def batch(
        self, transactions: Sequence[Transaction], options: Options
    ) -> Call[ScoreBatchRequest, ScoreBatchResponse, list[Score | Refused]]:
        """A row that cannot be sent is Refused in the result; the others are sent."""
        asked = _Asked(**options)
        rows = [_encode_row(transaction) for transaction in transactions]
        sent = [row for row in rows if isinstance(row, ScoreRequest)]
        request = ScoreBatchRequest(
            requests=sent,
            model=asked.model,
            version=asked.version,
            priority=asked.priority_number,
            include_features=asked.include_inputs,
            include_timings=asked.include_timings,
        )

        def on_answer(response: ScoreBatchResponse) -> list[Score | Refused]:
            if len(response.results) != len(sent):
                return on_error(_fault(f"the server answered {len(response.results)} rows of {len(sent)}"))
            answers = (decode_result(result, response.provenance) for result in response.results)
            return self._join(transactions, rows, answers)

        def on_error(error: ScoreError) -> list[Score | Refused]:
            if self._fallback is None or not isinstance(error, NoAnswer):
                raise error
            return self._join(transactions, rows, (Refused(row.transaction_id, error) for row in sent))

        return Call(request, self._timeout_s_of(asked), asked.all_metadata, on_answer, on_error)

    def message(self, request: ScoreRequest, timeout_s: float | None) -> Call[ScoreRequest, ScoreResponse, ScoreResponse]:
        """The contract's own message, sent as it is. No fallback: there is no Transaction to ask it about."""
        return Call(request, self.timeout_s(timeout_s), (), _itself, _raise)

    def timeout_s(self, timeout_s: float | None) -> float:
        """The deadline of a call: its own, or the client's."""
        return self._timeout_s if timeout_s is None else _checked_timeout_s(timeout_s)

    # --- implementation ---

    def _timeout_s_of(self, asked: _Asked) -> float:
        return self.timeout_s(asked.timeout_s)

    def _fall_back(self, transaction: Transaction, error: ScoreError) -> Score:
        """The caller's decision; raises the error where there is none, or where the request is what was wrong."""
        if self._fallback is None or not isinstance(error, NoAnswer):
            raise error
        decision = self._fallback if isinstance(self._fallback, Decision) else self._fallback(transaction, error)
        return Score(transaction_id=transaction.transaction_id, score=None, decision=Decision(decision), fallback_cause=error)

    def _join(
        self, transactions: Sequence[Transaction], rows: Sequence[ScoreRequest | Refused], answers: Iterator[Score | Refused]
    ) -> list[Score | Refused]:
        """Rows that were not sent and the answers of those that were, in the callers' order."""
        joined = [row if isinstance(row, Refused) else next(answers) for row in rows]
        return [self._settled(*pair) for pair in zip(transactions, joined, strict=True)]

    def _settled(self, transaction: Transaction, answer: Score | Refused) -> Score | Refused:
        """A row that got no answer though nothing is wrong with it is for the fallback, as a call would be."""
        if isinstance(answer, Refused) and isinstance(answer.error, NoAnswer) and self._fallback is not None:
            return self._fall_back(transaction, answer.error)
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Options with their defaults. An option that does not exist is a TypeError here."""

    model: str = ""
    version: str = ""
    priority: str | None = None
    include_inputs: bool = False
    include_timings: bool = False
    timeout_s: float | None = None
    traceparent: str | None = None
    metadata: Sequence[tuple[str, str | bytes]] = ()

    @property
    def priority_number(self) -> scoring_pb2.Priority:
        if self.priority is None:
            return scoring_pb2.PRIORITY_UNSPECIFIED
        if self.priority not in ("interactive", "bulk"):
            raise ValueError("priority: expected 'interactive' or 'bulk'")
        return scoring_pb2.PRIORITY_BULK if self.priority == "bulk" else scoring_pb2.PRIORITY_INTERACTIVE

    @property
    def all_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        trace = () if self.traceparent is None else (("traceparent", self.traceparent),)
        return (*trace, *self.metadata)


def _checked_timeout_s(timeout_s: float) -> float:
    if not 0 < timeout_s <= TIMEOUT_S_MAX:  # NaN is neither
        raise ValueError(f"timeout_s: expected more than 0 and at most {TIMEOUT_S_MAX:g} seconds")
    return timeout_s


def _encode_row(transaction: Transaction) -> ScoreRequest | Refused:
    try:
        return encode_transaction(transaction)
    except InvalidRequest as error:
        return Refused(transaction.transaction_id, error)


def _fault(message: str) -> ServerFailed:
    return ServerFailed(grpc.StatusCode.INTERNAL, message)


def _itself(response: ScoreResponse) -> ScoreResponse:
    return response


def _raise(error: ScoreError) -> NoReturn:
    raise error
