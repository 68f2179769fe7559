"""`assay explain REQUEST.json`: a running server scores a transaction and says why. `--transaction`: of a score in its log."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import typer

from assay.audit.records import time_text
from assay.cli.admin_target import admin_target
from assay.cli.call_errors import show_error
from assay.cli.explain_players import Players, Server, players_number
from assay.cli.explain_told import Told, status_word
from assay.cli.unary_call import unary_call
from assay.explain.messages import shortened
from assay.v1.scoring_pb2 import (
    EXPLAIN_MODE_INLINE,
    EXPLAIN_PLAYERS_GROUPS,
    EXPLAIN_PLAYERS_INPUTS,
    EXPLAIN_WHEN_ALWAYS,
    EXPLANATION_SOURCE_ON_RECORD,
    PRIORITY_BULK,
    Decision,
    ExplainOptions,
    ExplainRequest,
    ExplainResponse,
)

if TYPE_CHECKING:
    from assay.v1.scoring_pb2 import ScoreRequest, ScoreResponse

_TARGET: Final = "127.0.0.1:50051"
_TIMEOUT_S: Final = 5.0
_SEARCH_S: Final = 30.0  # as long as a server searches its log

# What to do where a server gave none.
_MENDS: Final = {
    "": "the server is older than explanations, or no model scored: assay score shows the answer",
    "not_wanted": "the server took another option than it was sent: is it assay?",
    "later": "the server took another option than it was sent: is it assay?",
    "shed": "the server has more to explain than it can: ask again, or give it more explain.threads or explain.queue_rows_max",
    "late": "ask again: it had the time of the call, which --timeout, the request's timeout and the bundle's timeout_ms end",
    "withheld": "assay model check says whether the bundle explains its golden rows",
    "suspended": "ask again in some seconds; assay_explanations_total of the server's metrics says what failed",
}


def tell_server(server: Server, request: ScoreRequest, *, is_by_input: bool, top_k: int) -> Told:
    """Asks for the explanation with the score, whatever the request itself asks for. Ends the command where the server
    refuses, or none answers. Raises InputError where its answer cannot be shown."""
    from assay.client import Client, ScoreError

    request.explain.CopyFrom(
        ExplainOptions(
            when=EXPLAIN_WHEN_ALWAYS,
            top_k=top_k,
            players=EXPLAIN_PLAYERS_INPUTS if is_by_input else EXPLAIN_PLAYERS_GROUPS,
            mode=EXPLAIN_MODE_INLINE,
        )
    )
    request.include_features = True
    request.priority = PRIORITY_BULK  # no customer waits: the explanation has the time of the call, and not a few milliseconds
    target = server.target or _TARGET
    with Client(target, tls=server.tls, timeout_s=server.timeout_s or _TIMEOUT_S) as client:
        try:
            answer = client.score_message(request)
        except ScoreError as error:
            raise typer.Exit(show_error(error, target, server.as_json)) from None
    return told_of(answer, is_by_input=is_by_input, top_k=top_k)


def tell_server_record(server: Server, transaction: str, *, players: Players | None, top_k: int) -> Told:
    """Asks for the newest score of the transaction in the server's audit log. Ends the command where the server has none,
    refuses, or none answers. Raises InputError where its answer cannot be shown."""
    answer = unary_call(
        admin_target(server.target),
        server.tls,
        "assay.v1.ScoringService/Explain",
        ExplainRequest(transaction_id=transaction, players=players_number(players), top_k=top_k),
        ExplainResponse,
        as_json=server.as_json,
        timeout_s=server.timeout_s or _SEARCH_S,
    )
    told = told_of(answer.response, is_by_input=answer.players == EXPLAIN_PLAYERS_INPUTS, top_k=top_k)
    received = time_text(answer.received_time.ToMicroseconds()) if answer.HasField("received_time") else ""
    mend = "the model that is loaded does not give this score any more: assay audit replay says what it gives"
    source = "record" if answer.source == EXPLANATION_SOURCE_ON_RECORD else told.source
    return replace(told, source=source, received=received, mend=mend)


def told_of(answer: ScoreResponse, *, is_by_input: bool, top_k: int) -> Told:
    """Raises InputError where its numbers are none."""
    status = status_word(answer.explanation_status)
    has_one = status == "given" and answer.HasField("explanation")
    decision = Decision.Name(answer.decision) if answer.decision in Decision.values() else f"number {answer.decision}"
    return Told(
        source="server",
        model=answer.provenance.model,
        version=answer.provenance.version,
        score=answer.score if answer.HasField("score") else None,
        decision=decision.removeprefix("DECISION_").lower() if answer.decision else "",
        status=status,
        explanation=shortened(answer.explanation, top_k) if has_one else None,
        values=_values(answer),
        mend=_MENDS.get(status, "a newer server may say what this version does not know: upgrade assay here"),
        is_by_input=is_by_input,
        transaction_id=answer.transaction_id,
    )


# --- implementation ---


def _values(answer: ScoreResponse) -> dict[str, str]:
    found = {}
    for item in answer.inputs:
        value = getattr(item.value, item.value.WhichOneof("value") or "string_value")
        found[item.name] = f"{value:.6g}" if isinstance(value, float) else str(value)
    return found
