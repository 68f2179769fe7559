"""assay.client against the real transport: answers, refusals, what the fallback decides and what it never does."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from assay.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    Decision,
    InvalidRequest,
    NoAnswer,
    NotFound,
    PermissionDenied,
    Refused,
    ResourceExhausted,
    Score,
    ScoreError,
    ServerFailed,
    Transaction,
    Unavailable,
)
from assay.client.channel import service_config
from assay.config import LimitsConfig
from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TERMINAL_ID, DEMO_TIME
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2_grpc
from tests.support.clients import CLIENTS, Failure, ScriptedServer, make_transaction
from tests.support.server import LocalServer, ServeProcess, held, make_event, make_request, wait_until

pytestmark = pytest.mark.usefixtures("transport")

Make = Callable[..., Any]
WRONG = {"amount_minor": 57.16, "colour": "red"}


@pytest.fixture(params=CLIENTS)
def make(request: pytest.FixtureRequest) -> Make:
    return CLIENTS[request.param]


@pytest.fixture(scope="module")
def server(transport: str) -> Iterator[LocalServer]:
    with LocalServer(lane={"timeout_ns_default": 30_000_000_000}) as server:
        yield server


def queue_row(server: LocalServer, name: str) -> grpc.Future:
    return scoring_pb2_grpc.ScoringServiceStub(server.channel()).Score.future(make_request(name), timeout=60)


# --- answers


def test_a_score_has_everything_that_the_answer_has(server: LocalServer, make: Make) -> None:
    expected = scoring_pb2_grpc.ScoringServiceStub(server.channel()).Score(make_request(), timeout=10)
    with make(server.addresses.public, timeout_s=10) as client:
        score = client.score(make_transaction())
    assert (score.transaction_id, score.score, score.decision) == ("t1", expected.score, Decision.APPROVE)
    made_by = expected.provenance
    assert (score.model, score.version, score.model_sha256) == (made_by.model, made_by.version, made_by.model_sha256)
    assert (score.feature_set, score.feature_set_version) == (made_by.feature_set, made_by.feature_set_version)
    assert score.schema_hash == made_by.schema_hash
    assert (score.missing, score.imputed) == ({"ratio"}, {"ratio"})
    assert (score.inputs, score.timings, score.is_fallback) == (None, None, False)


def test_inputs_and_timings_come_when_asked_for(server: LocalServer, make: Make) -> None:
    with make(server.addresses.public, timeout_s=10) as client:
        score = client.score(make_transaction(ratio=0.25), include_inputs=True, include_timings=True)
        (row,) = client.score_batch([make_transaction(ratio=0.25)], include_inputs=True, include_timings=True)
    for answer in (score, row):
        assert answer.inputs["ratio"] == 0.25
        assert set(answer.inputs) == {"amount", "ratio", "tx_count_1d", "amount_sum_1d"}
        assert answer.timings.batch_rows == 1
        assert answer.timings.total_s >= answer.timings.decode_s > 0


def test_the_age_of_a_view(make: Make) -> None:
    with LocalServer() as server, make(server.addresses.public, timeout_s=10) as client:
        assert client.score(make_transaction()).view_ages == {"customer": None}
        events = feature_pb2.RecordEventsRequest(events=[make_event("e1", seconds_before=90)])
        feature_pb2_grpc.FeatureServiceStub(server.admin_channel()).RecordEvents(iter([events]), timeout=10)
        assert client.score(make_transaction()).view_ages == {"customer": timedelta(seconds=90)}


def test_model_version_and_priority_are_sent(server: LocalServer, make: Make) -> None:
    with make(server.addresses.public, timeout_s=10) as client:
        assert client.score(make_transaction(), model="puppet", version="1", priority="bulk").version == "1"
        for options, reason in (({"model": "other"}, "UNKNOWN_MODEL"), ({"version": "9"}, "UNKNOWN_VERSION")):
            with pytest.raises(NotFound) as caught:
                client.score(make_transaction(), **options)
            assert caught.value.reason == reason
            with pytest.raises(NotFound):
                client.score_batch([make_transaction()], **options)
        with pytest.raises(ValueError, match="interactive"):
            client.score(make_transaction(), priority="urgent")
        with pytest.raises(TypeError, match="modle"):
            client.score(make_transaction(), modle="puppet")


def test_the_contracts_own_messages_can_be_sent(server: LocalServer, make: Make) -> None:
    with make(server.addresses.public, timeout_s=10, fallback=Decision.REVIEW) as client:
        assert client.score_message(make_request("m1")).transaction_id == "m1"
        with held(server), pytest.raises(DeadlineExceeded):  # the fallback is not asked
            client.score_message(make_request(), timeout_s=0.1)


# --- refusals


def test_every_violation_is_there(server: LocalServer, make: Make) -> None:
    with make(server.addresses.public, timeout_s=10) as client, pytest.raises(InvalidRequest) as caught:
        client.score(make_transaction(**WRONG))
    error = caught.value
    assert (error.status, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert {(item.field, item.reason) for item in error.violations} == {
        ('features["amount_minor"]', "WRONG_TYPE"),
        ('features["colour"]', "UNKNOWN_FEATURE"),
    }
    assert all(item.description for item in error.violations)
    assert "57.16" not in str(error)


def test_a_batch_answers_row_by_row_in_order(server: LocalServer, make: Make) -> None:
    """A row that the server refuses, and one that cannot even be sent, fail alone."""
    rows = [
        make_transaction("good-1"),
        make_transaction("nan", ratio=float("nan")),
        make_transaction("wrong", **WRONG),
        make_transaction("good-2", ratio=0.25),
    ]
    with make(server.addresses.public, timeout_s=10, fallback=Decision.DECLINE) as client:
        first, nan, wrong, last = client.score_batch(rows)
        assert [answer.transaction_id for answer in (first, nan, wrong, last)] == [row.transaction_id for row in rows]
        assert first == client.score(rows[0])
        assert last == client.score(rows[3])
        assert first.score != last.score
        for row, reasons in ((nan, {"NOT_FINITE"}), (wrong, {"WRONG_TYPE", "UNKNOWN_FEATURE"})):
            assert isinstance(row, Refused)
            assert isinstance(row.error, InvalidRequest)
            assert {item.reason for item in row.error.violations} == reasons


def test_a_batch_with_nothing_to_send_calls_nobody(make: Make) -> None:
    with make("127.0.0.1:1", timeout_s=10) as client:
        assert client.score_batch([]) == []
        (refused,) = client.score_batch([make_transaction("nan", ratio=float("nan"))])
        assert isinstance(refused, Refused)


def test_too_many_rows_refuse_the_whole_batch(server: LocalServer, make: Make) -> None:
    rows = [make_transaction(f"t{i}") for i in range(server.config.engine.batch_call_rows_max + 1)]
    with make(server.addresses.public, timeout_s=30, fallback=Decision.REVIEW) as client:
        with pytest.raises(InvalidRequest) as caught:
            client.score_batch(rows)
        assert caught.value.reason == "TOO_MANY_ROWS"
        assert all(isinstance(answer, Score) for answer in client.score_batch(rows[:-1]))


def test_what_cannot_be_sent_is_refused_here(make: Make) -> None:
    """Nobody listens there: the refusal is local. It is one exception with everything that is wrong."""
    naive = replace(make_transaction(ratio=float("inf")), event_time=DEMO_TIME.replace(tzinfo=None))
    with make("127.0.0.1:1", fallback=Decision.REVIEW) as client, pytest.raises(InvalidRequest) as caught:
        client.score(naive)
    assert [item.field for item in caught.value.violations] == ["event_time", 'features["ratio"]']


# --- no answer


def no_answers(make: Make, target: str, timeout_s: float = 10) -> tuple[NoAnswer, Score]:
    """The error without a fallback, and what a fallback makes of it."""
    with make(target, timeout_s=timeout_s) as client, pytest.raises(NoAnswer) as caught:
        client.score(make_transaction())
    with make(target, timeout_s=timeout_s, fallback=Decision.CHALLENGE) as client:
        score = client.score(make_transaction())
        assert score == replace(score, transaction_id="t1", score=None, decision=Decision.CHALLENGE)
        assert score.is_fallback
        assert (score.model, score.schema_hash) == ("", "")
        (row,) = client.score_batch([make_transaction()])
        assert (row.decision, row.is_fallback) == (Decision.CHALLENGE, True)
    assert type(score.fallback_cause) is type(caught.value)
    return caught.value, score


def test_nobody_there(make: Make) -> None:
    error, score = no_answers(make, "127.0.0.1:1")
    assert isinstance(error, Unavailable)
    assert isinstance(error, ConnectionError)
    assert error.reason == ""
    assert "refused" in str(score.fallback_cause)


def test_a_killed_server(make: Make) -> None:
    with ServeProcess() as server, make(server.target, timeout_s=10, fallback=Decision.REVIEW) as client:
        entities = {"customer_id": DEMO_CUSTOMER_ID, "terminal_id": DEMO_TERMINAL_ID}
        transaction = Transaction("t1", DEMO_TIME, entities, {"amount_minor": 5716})
        assert not client.score(transaction).is_fallback
        server.process.kill()
        server.wait()
        score = client.score(transaction)
        assert score.is_fallback
        assert isinstance(score.fallback_cause, Unavailable)


def test_a_frozen_server(make: Make) -> None:
    """It takes connections and says nothing: only the deadline ends the call."""
    with ServeProcess() as server, make(server.target, timeout_s=10, fallback=Decision.REVIEW) as client:
        assert client.is_serving()
        server.signal(signal.SIGSTOP)
        stat = Path(f"/proc/{server.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it is frozen")
        score = client.score(make_transaction(), timeout_s=0.2)
        assert isinstance(score.fallback_cause, DeadlineExceeded)
        assert not client.is_serving(timeout_s=0.2)
        server.signal(signal.SIGCONT)
        assert client.is_serving()


def test_the_deadline(make: Make) -> None:
    with LocalServer() as server, held(server):
        error, _ = no_answers(make, server.addresses.public, timeout_s=0.2)
    assert isinstance(error, DeadlineExceeded)
    assert isinstance(error, TimeoutError)


def test_the_deadline_of_one_call(make: Make) -> None:
    with LocalServer() as server, make(server.addresses.public, timeout_s=60) as client:  # noqa: SIM117 (too long a line)
        with held(server), pytest.raises(DeadlineExceeded):
            client.score(make_transaction(), timeout_s=0.1)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 61])
def test_there_is_always_a_deadline(server: LocalServer, make: Make, timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        Client(server.addresses.public, timeout_s=timeout_s)
    with pytest.raises(ValueError, match="timeout_s"):
        AsyncClient(server.addresses.public, timeout_s=timeout_s)
    with make(server.addresses.public) as client, pytest.raises(ValueError, match="timeout_s"):
        client.score(make_transaction(), timeout_s=timeout_s)


def test_a_full_queue(make: Make) -> None:
    with LocalServer(lane={"queue_rows_max": 1, "batch_rows_max": 1, "timeout_ns_default": 30_000_000_000}) as server:
        with held(server):
            running = queue_row(server, "runs")
            wait_until(lambda: server.waiting_count() == 1 and server.engine.stats().queued_rows == 0, "one is running")
            queued = queue_row(server, "waits")
            wait_until(lambda: server.engine.stats().queued_rows == 1, "the queue is full")
            error, _ = no_answers(make, server.addresses.public)
            assert isinstance(error, Unavailable)
            assert error.reason == "QUEUE_FULL"
            assert error.retry_delay == timedelta(milliseconds=20)
            assert "try again in 0.02 s" in str(error)
        assert all(call.result().HasField("score") for call in (running, queued))


def test_a_failed_run(make: Make) -> None:
    with LocalServer() as server:
        server.puppet.fail_next(1000)
        error, _ = no_answers(make, server.addresses.public)
        server.puppet.fail_next(0)
    assert isinstance(error, ServerFailed)
    assert error.reason == "MODEL_RUN_FAILED"


def test_a_limit_of_the_server(make: Make) -> None:
    limits = LimitsConfig(receive_message_bytes_max=1024)
    with LocalServer(limits=limits) as server, make(server.addresses.public, timeout_s=10, fallback=Decision.REVIEW) as client:
        score = client.score(make_transaction(channel="x" * 2000))
    assert isinstance(score.fallback_cause, ResourceExhausted)


def test_a_drained_server_and_a_lame_duck(make: Make) -> None:
    """While it drains a server says NOT_SERVING and still answers: no call is lost. After that there is nobody."""
    with LocalServer() as server, make(server.addresses.public, timeout_s=10, fallback=Decision.REVIEW) as client:
        assert client.is_serving()
        assert not client.score(make_transaction()).is_fallback
        drained = server.start_drain(delay_s=3.0)
        wait_until(lambda: not client.is_serving(), "the drain begins")
        assert not client.score(make_transaction()).is_fallback
        drained()
        score = client.score(make_transaction())
        assert isinstance(score.fallback_cause, Unavailable)
        assert not client.is_serving()


def test_why_the_service_config_checks_no_health() -> None:
    """With healthCheckConfig, a client with one connection refuses its own calls while the server drains and still answers."""
    checked = json.dumps({**json.loads(service_config()), "healthCheckConfig": {"serviceName": "assay.v1.ScoringService"}})
    with LocalServer() as server, Client(server.addresses.public, timeout_s=10) as client:
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel(("grpc.service_config", checked)))
        stub.Score(make_request(), timeout=10)
        drained = server.start_drain(delay_s=3.0)

        def is_refused() -> bool:
            return stub.Score.future(make_request(), timeout=10).code() is grpc.StatusCode.UNAVAILABLE

        wait_until(is_refused, "the checked channel heard of the drain")
        assert client.score(make_transaction()).score is not None
        drained()


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_the_fallback_decides_where_there_is_no_answer_and_never_for_callers_bugs(make: Make, code: grpc.StatusCode) -> None:
    raises: dict[str, type[ScoreError]] = {
        "INVALID_ARGUMENT": InvalidRequest,
        "NOT_FOUND": NotFound,
        "PERMISSION_DENIED": PermissionDenied,
        "UNAUTHENTICATED": PermissionDenied,
        "FAILED_PRECONDITION": ScoreError,
        "ALREADY_EXISTS": ScoreError,
        "OUT_OF_RANGE": ScoreError,
        "UNIMPLEMENTED": ScoreError,
    }
    with ScriptedServer([Failure(code)]) as server, make(server.target, timeout_s=10, fallback=Decision.APPROVE) as client:
        if code.name in raises:
            with pytest.raises(ScoreError) as caught:
                client.score(make_transaction())
            assert (type(caught.value), caught.value.status) == (raises[code.name], code)
        else:
            score = client.score(make_transaction())
            assert (score.is_fallback, score.decision, score.score) == (True, Decision.APPROVE, None)
            assert score.fallback_cause.status is code


def test_a_fallback_may_look_at_the_transaction_and_the_error(make: Make) -> None:
    seen = []

    def by_amount(transaction: Transaction, error: NoAnswer) -> Decision:
        seen.append((transaction.transaction_id, type(error)))
        amount = transaction.features["amount_minor"]
        assert isinstance(amount, int)
        return Decision.APPROVE if amount < 1000 else Decision.REVIEW

    with make("127.0.0.1:1", timeout_s=10, fallback=by_amount) as client:
        rows = [make_transaction("small", amount_minor=999), make_transaction("large", amount_minor=1000)]
        assert [row.decision for row in client.score_batch(rows)] == [Decision.APPROVE, Decision.REVIEW]
        assert client.score(rows[0]).decision is Decision.APPROVE
    assert seen == [("small", Unavailable), ("large", Unavailable), ("small", Unavailable)]


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_a_wrong_fallback_is_found_before_it_is_needed(client: Any) -> None:
    with pytest.raises(TypeError, match="fallback"):
        client("127.0.0.1:1", fallback="REVIEW")


def test_a_fallback_that_decides_nothing_is_an_error(make: Make) -> None:
    with make("127.0.0.1:1", timeout_s=10, fallback=lambda *_: None) as client, pytest.raises(ValueError, match="Decision"):
        client.score(make_transaction())


def test_a_row_without_an_answer_is_for_the_fallback_and_a_wrong_one_is_not(make: Make) -> None:
    with LocalServer() as server, make(server.addresses.public, timeout_s=10, fallback=Decision.REVIEW) as client:
        rows = [make_transaction("fails"), make_transaction("wrong", **WRONG)]
        server.puppet.fail_next(1000)
        failed, wrong = client.score_batch(rows)
        server.puppet.fail_next(0)
        assert isinstance(failed.fallback_cause, ServerFailed)
        assert failed.decision is Decision.REVIEW
        assert isinstance(wrong, Refused)
    with LocalServer() as server, make(server.addresses.public, timeout_s=10) as client:
        server.puppet.fail_next(1000)
        (failed,) = client.score_batch(rows[:1])
        server.puppet.fail_next(0)
        assert isinstance(failed, Refused)
        assert isinstance(failed.error, ServerFailed)


# --- threads and tasks


def test_threads_share_a_client(server: LocalServer) -> None:
    """Every thread gets its own answers."""
    with Client(server.addresses.public, timeout_s=30) as client:
        expected = {i: client.score(make_transaction(ratio=i / 64)).score for i in range(64)}
        start = threading.Barrier(8)

        def score_some(thread: int) -> list[tuple[str, float | None]]:
            start.wait()
            answers = [client.score(make_transaction(f"{thread}-{i}", ratio=i / 64)) for i in range(64)]
            return [(answer.transaction_id, answer.score) for answer in answers]

        with ThreadPoolExecutor(8) as pool:
            for thread, found in enumerate(pool.map(score_some, range(8))):
                assert found == [(f"{thread}-{i}", expected[i]) for i in range(64)]


async def test_tasks_share_a_client(server: LocalServer) -> None:
    async with AsyncClient(server.addresses.public, timeout_s=30) as client:
        answers = await asyncio.gather(*(client.score(make_transaction(f"t{i}")) for i in range(200)))
        assert [answer.transaction_id for answer in answers] == [f"t{i}" for i in range(200)]


async def test_cancelling_a_task_cancels_its_call_and_asks_no_fallback(server: LocalServer) -> None:
    asked = []

    def fallback(_: Transaction, error: NoAnswer) -> Decision:
        asked.append(error)
        return Decision.REVIEW

    async with AsyncClient(server.addresses.public, timeout_s=30, fallback=fallback) as client:
        server.puppet.hold()
        try:
            task = asyncio.create_task(client.score(make_transaction()))
            while server.waiting_count() == 0:
                await asyncio.sleep(0.002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while server.waiting_count():  # the server heard of it
                await asyncio.sleep(0.002)
        finally:
            server.puppet.release()
        assert asked == []
        assert (await client.score(make_transaction())).score is not None


def test_closing_ends_calls_in_flight(server: LocalServer) -> None:
    with held(server), ThreadPoolExecutor(1) as pool:
        client = Client(server.addresses.public, timeout_s=30, fallback=Decision.REVIEW)
        call = pool.submit(client.score, make_transaction())
        wait_until(lambda: server.waiting_count() == 1, "the call is in flight")
        client.close()
        assert call.result(10).is_fallback
