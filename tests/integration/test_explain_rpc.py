"""Explain, as users call it: of a request, of a score on record, of a recorded row; what it refuses; that it holds up nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from assay.audit.searching import find_transaction
from assay.audit.segments import log_directories
from assay.explain.recorded_scores import ExplainError
from assay.v1 import scoring_pb2 as pb
from assay.v1 import scoring_pb2_grpc
from tests.support.server import (
    WAIT_S,
    LocalServer,
    ServeProcess,
    make_request,
    reason_of,
    retry_s_of,
    status_of,
    violations_of,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("transport")

CARD = "4111111111111111"  # a test number of the card networks


def payment(transaction_id: str, **fields: Any) -> pb.ScoreRequest:
    request = pb.ScoreRequest(transaction_id=transaction_id, entities={"customer_id": "596", "terminal_id": "3156"}, **fields)
    request.event_time.FromJsonString("2018-05-09T23:30:00Z")
    request.features["amount_minor"].int64_value = 90_000
    return request


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[grpc.StatusCode, str, str]:
    """Status, reason and message."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **{"timeout": 20, **options})
    error: Any = caught.value
    return error.code(), reason_of(status_of(error)), error.details()


# --- of a real server with a log


@pytest.fixture(scope="module")
def spool(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "spool"


@pytest.fixture(scope="module")
def server(spool: Path) -> Iterator[ServeProcess]:
    with ServeProcess("--drain-delay", "0", "--set", "explain.inline_ms_max=1000", "--set", f"audit.spool={spool}") as server:
        yield server


@pytest.fixture(scope="module")
def public(server: ServeProcess) -> Iterator[Any]:
    with grpc.insecure_channel(server.target) as channel:
        yield scoring_pb2_grpc.ScoringServiceStub(channel)


@pytest.fixture(scope="module")
def admin(server: ServeProcess) -> Iterator[Any]:
    with grpc.insecure_channel(server.admin_target) as channel:
        yield scoring_pb2_grpc.ScoringServiceStub(channel)


def recorded(admin: Any, transaction_id: str, **fields: Any) -> pb.ExplainResponse:
    answer: pb.ExplainResponse = admin.Explain(pb.ExplainRequest(transaction_id=transaction_id, **fields), timeout=20)
    return answer


def test_a_request_is_scored_as_ever_and_explained(public: Any) -> None:
    request = payment("now", include_features=True)
    plain = public.Score(request, timeout=20)
    asked = payment("now", explain=pb.ExplainOptions(top_k=3), include_features=True, priority=pb.PRIORITY_BULK)
    explained = public.Score(asked, timeout=20)
    found = public.Explain(pb.ExplainRequest(request=request, top_k=3), timeout=20)
    assert found.response.score == plain.score
    assert found.response == explained
    assert found.response.explanation_status == pb.EXPLANATION_STATUS_GIVEN
    assert len(found.response.explanation.contributions) == 3
    assert (found.source, found.players) == (pb.EXPLANATION_SOURCE_SCORED_NOW, pb.EXPLAIN_PLAYERS_GROUPS)
    assert not found.HasField("received_time")
    by_input = public.Explain(pb.ExplainRequest(request=payment("now"), players="EXPLAIN_PLAYERS_INPUTS"), timeout=20)
    assert by_input.players == pb.EXPLAIN_PLAYERS_INPUTS
    assert "customer_amount_avg_30d" in [one.player for one in by_input.response.explanation.contributions]
    assert not by_input.response.inputs  # the request decides


@pytest.mark.parametrize("named", [pb.PRIORITY_UNSPECIFIED, pb.PRIORITY_INTERACTIVE])
def test_it_is_on_record_like_any_score_and_nobody_waits_unless_it_says_so(
    public: Any, spool: Path, named: pb.Priority.ValueType
) -> None:
    public.Explain(pb.ExplainRequest(request=payment(f"priority {named}", priority=named)), timeout=20)
    (entry,) = find_transaction(log_directories(spool), f"priority {named}", lambda _: None)
    assert entry.record.score.HasField("explanation")
    assert entry.record.score.priority == (named or pb.PRIORITY_BULK)


def violations(call: Callable[..., Any], request: pb.ExplainRequest) -> dict[str, str]:
    """Field -> reason, of a request that is not valid."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    status = status_of(caught.value)
    assert (caught.value.code(), reason_of(status)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    return violations_of(status)


def test_its_own_explain_is_refused(public: Any) -> None:
    asked = pb.ExplainRequest(request=payment("t", explain=pb.ExplainOptions()))
    assert violations(public.Explain, asked) == {"request.explain": "BAD_EXPLAIN"}


def test_errors_are_those_of_score_with_the_same_details(public: Any) -> None:
    wrong = payment("t", model="none")
    odd = payment("t")
    odd.features["amount_minor"].double_value = 1.5
    late = payment("t")
    late.timeout.FromNanoseconds(1)
    for request in (wrong, odd, late):
        statuses = []
        for call, message in ((public.Score, request), (public.Explain, pb.ExplainRequest(request=request))):
            with pytest.raises(grpc.RpcError) as caught:
                call(message, timeout=20)
            statuses.append(status_of(caught.value))
        assert statuses[0] == statuses[1]


def test_what_was_explained_with_its_score_is_told_from_the_record(public: Any, admin: Any) -> None:
    began_s = time.time()
    given = public.Score(payment("inline", include_features=True, explain=pb.ExplainOptions()), timeout=20)
    found = recorded(admin, "inline")
    assert (found.source, found.players) == (pb.EXPLANATION_SOURCE_ON_RECORD, pb.EXPLAIN_PLAYERS_GROUPS)
    told, was = found.response, given
    for field in ("transaction_id", "score", "decision", "provenance", "inputs", "missing_features", "imputed_features"):
        assert getattr(told, field) == getattr(was, field), field
    assert told.explanation.reasons == was.explanation.reasons  # with their texts: the model is loaded
    assert [(one.player, one.contribution) for one in told.explanation.contributions] == [
        (one.player, one.contribution) for one in was.explanation.contributions
    ]
    assert began_s <= found.received_time.ToNanoseconds() / 1e9 <= time.time()
    two = recorded(admin, "inline", top_k=2).response.explanation
    assert list(two.contributions) == list(told.explanation.contributions[:2])
    assert two.rest_contribution == pytest.approx(sum(one.contribution for one in told.explanation.contributions[2:]))


def test_what_came_later_is_told_too(public: Any, admin: Any, spool: Path) -> None:
    options = pb.ExplainOptions(mode="EXPLAIN_MODE_LATER", players="EXPLAIN_PLAYERS_INPUTS")
    assert public.Score(payment("later", explain=options), timeout=20).explanation_status == pb.EXPLANATION_STATUS_LATER
    wait_until(lambda: len(find_transaction(log_directories(spool), "later", lambda _: None)) == 2, "it is on record")
    found = recorded(admin, "later")
    assert (found.source, found.players) == (pb.EXPLANATION_SOURCE_ON_RECORD, pb.EXPLAIN_PLAYERS_INPUTS)
    assert found.response.explanation_status == pb.EXPLANATION_STATUS_GIVEN


def test_a_row_that_nobody_explained_is_explained_now_by_its_model(public: Any, admin: Any) -> None:
    explained = public.Score(payment("row", explain=pb.ExplainOptions()), timeout=20).explanation
    public.Score(payment("plain"), timeout=20)
    found = recorded(admin, "plain")
    assert (found.source, found.players) == (pb.EXPLANATION_SOURCE_RECORDED_ROW, pb.EXPLAIN_PLAYERS_GROUPS)
    assert found.response.explanation == explained  # of the same row, to the bit
    # By other players than those on record.
    other = recorded(admin, "row", players="EXPLAIN_PLAYERS_INPUTS")
    assert (other.source, other.players) == (pb.EXPLANATION_SOURCE_RECORDED_ROW, pb.EXPLAIN_PLAYERS_INPUTS)
    assert recorded(admin, "row", players="EXPLAIN_PLAYERS_GROUPS").source == pb.EXPLANATION_SOURCE_ON_RECORD


def test_of_several_scores_it_is_the_newest_that_was_explained(public: Any, admin: Any) -> None:
    public.Score(payment("twice", explain=pb.ExplainOptions()), timeout=20)
    public.Score(payment("twice"), timeout=20)
    assert recorded(admin, "twice").source == pb.EXPLANATION_SOURCE_ON_RECORD


def test_a_card_number_is_found_and_told_as_its_token(server: ServeProcess, public: Any, admin: Any) -> None:
    public.Score(payment(f"of {CARD}", explain=pb.ExplainOptions()), timeout=20)
    found = recorded(admin, f"of {CARD}")
    assert found.response.transaction_id.startswith("of card-")
    assert recorded(admin, found.response.transaction_id).response == found.response
    code, reason, said = refusal(admin.Explain, pb.ExplainRequest(transaction_id=f"none {CARD}"))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "SCORE_UNKNOWN")
    assert "older records make way" in said
    assert CARD not in said + server.stderr()


def test_what_was_scored_is_told_on_the_admin_listener_and_scores_are_given_on_the_public_one(public: Any, admin: Any) -> None:
    for stub, request, named in (
        (public, pb.ExplainRequest(transaction_id="inline"), "transaction_id: "),
        (admin, pb.ExplainRequest(request=payment("t")), "request: "),
    ):
        code, reason, said = refusal(stub.Explain, request)
        assert (code, reason) == (grpc.StatusCode.UNIMPLEMENTED, "WRONG_LISTENER")
        assert named in said


def test_what_is_no_question_is_refused(public: Any, admin: Any) -> None:
    assert violations(public.Explain, pb.ExplainRequest(top_k=1)) == {"request": "MISSING_FIELD"}
    assert violations(admin.Explain, pb.ExplainRequest(top_k=1)) == {"transaction_id": "MISSING_FIELD"}
    assert violations(admin.Explain, pb.ExplainRequest(transaction_id="")) == {"transaction_id": "MISSING_FIELD"}
    assert violations(admin.Explain, pb.ExplainRequest(transaction_id="x" * 129)) == {"transaction_id": "TOO_LONG"}
    odd: Any = 9
    assert violations(admin.Explain, pb.ExplainRequest(transaction_id="t", players=odd)) == {"players": "BAD_EXPLAIN"}
    asked = pb.ExplainRequest(request=payment("t"), players=odd)
    assert violations(public.Explain, asked) == {"players": "BAD_EXPLAIN"}


def test_bytes_that_are_no_message_are_refused(server: ServeProcess) -> None:
    for target in (server.target, server.admin_target):
        with grpc.insecure_channel(target) as channel:
            raw = channel.unary_unary("/assay.v1.ScoringService/Explain")
            assert refusal(raw, b"\xff\xff")[1] == "MALFORMED_MESSAGE"


# --- searches that hang


class HeldLog:
    """A search that lasts until it is released, or nobody waits for it."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.is_released = threading.Event()
        self.has_given_up = threading.Event()

    def explain(self, transaction_id: str, players: int, top_k: int, go_on: Callable[[], None]) -> pb.ExplainResponse:
        self.begun.release()
        while not self.is_released.is_set():
            try:
                go_on()
            except Exception:
                self.has_given_up.set()
                raise
        raise ExplainError("SCORE_UNKNOWN")


@pytest.fixture
def held_log() -> Iterator[HeldLog]:
    log = HeldLog()
    yield log
    log.is_released.set()


def test_there_is_one_search_at_a_time_and_scores_do_not_wait_for_it(held_log: HeldLog) -> None:
    with LocalServer(recorded=held_log) as server:
        admin = scoring_pb2_grpc.ScoringServiceStub(server.admin_channel())
        asked = pb.ExplainRequest(transaction_id="t")
        first = admin.Explain.future(asked, timeout=20)
        assert held_log.begun.acquire(timeout=WAIT_S)
        with pytest.raises(grpc.RpcError) as caught:
            admin.Explain(asked, timeout=20)
        status = status_of(caught.value)
        assert (caught.value.code(), reason_of(status)) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
        assert retry_s_of(status) > 0
        assert server.held_count() == 1
        assert scoring_pb2_grpc.ScoringServiceStub(server.channel()).Score(make_request(), timeout=20).HasField("score")
        held_log.is_released.set()
        assert first.code() is grpc.StatusCode.NOT_FOUND
        wait_until(lambda: server.held_count() == 0, "the search has ended")
        assert refusal(admin.Explain, asked)[1] == "SCORE_UNKNOWN"  # there is room again


@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_a_search_that_nobody_waits_for_ends(held_log: HeldLog, how: str) -> None:
    with LocalServer(recorded=held_log) as server:
        admin = scoring_pb2_grpc.ScoringServiceStub(server.admin_channel())
        call = admin.Explain.future(pb.ExplainRequest(transaction_id="t"), timeout=0.5 if how == "deadline" else 20)
        assert held_log.begun.acquire(timeout=WAIT_S)
        if how == "cancel":
            call.cancel()
        else:
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert held_log.has_given_up.wait(WAIT_S)
        wait_until(lambda: server.held_count() == 0, "the search has ended")


def test_a_caller_without_a_deadline_waits_no_longer_than_a_search_may_last(
    held_log: HeldLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.transport.explain_service.SEARCH_S_MAX", 0.1)
    with LocalServer(recorded=held_log) as server:
        admin = scoring_pb2_grpc.ScoringServiceStub(server.admin_channel())
        assert refusal(admin.Explain, pb.ExplainRequest(transaction_id="t"), timeout=None)[1] == "DEADLINE_EXCEEDED"
        assert held_log.has_given_up.wait(WAIT_S)


def test_a_server_without_a_log_says_so() -> None:
    with LocalServer() as server:
        admin = scoring_pb2_grpc.ScoringServiceStub(server.admin_channel())
        found = refusal(admin.Explain, pb.ExplainRequest(transaction_id="t"))
        assert found[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "NO_AUDIT_LOG")


def test_a_server_that_keeps_digests_says_why_there_is_nothing(tmp_path: Path) -> None:
    options = ("--set", f"audit.spool={tmp_path / 'spool'}", "--set", "audit.inputs=digest", "--drain-delay", "0")
    with ServeProcess(*options) as server:
        with grpc.insecure_channel(server.target) as channel:
            scoring_pb2_grpc.ScoringServiceStub(channel).Score(payment("t"), timeout=20)
        with grpc.insecure_channel(server.admin_target) as channel:
            code, reason, said = refusal(
                scoring_pb2_grpc.ScoringServiceStub(channel).Explain, pb.ExplainRequest(transaction_id="t")
            )
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_EXPLANATION")
    assert "only a digest of its inputs was kept (audit.inputs)" in said
