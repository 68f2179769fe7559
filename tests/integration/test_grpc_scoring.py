"""Scoring over a real gRPC connection: Score, ScoreBatch, ScoreStream."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from assay import _core
from assay.v1 import feature_pb2, scoring_pb2, scoring_pb2_grpc
from tests.support.server import (
    EVENT_TIME,
    INLINE,
    LocalServer,
    held,
    make_event,
    make_request,
    reason_of,
    status_of,
    violations_of,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("transport")


@pytest.fixture(scope="module", params=[{}, INLINE], ids=["runners", "inline"])
def server(request: pytest.FixtureRequest, transport: str) -> Iterator[LocalServer]:
    """The same answers whoever runs the rows, and however busy the machine is."""
    with LocalServer(lane={**request.param, "timeout_ns_default": 60_000_000_000}) as server:
        yield server
        assert (server.engine.stats().inline_rows > 0) == (request.param is INLINE)


@pytest.fixture
def stub(server: LocalServer) -> scoring_pb2_grpc.ScoringServiceStub:
    return scoring_pb2_grpc.ScoringServiceStub(server.channel())


def expected_score(server: LocalServer, request: scoring_pb2.ScoreRequest) -> float:
    """The puppet's score of the row that the core's own reader makes of the request."""
    features: dict[str, Any] = {name: getattr(value, value.WhichOneof("value")) for name, value in request.features.items()}
    time_us = request.event_time.ToNanoseconds() // 1000
    read = server.reader.read(request.transaction_id, time_us, dict(request.entities), features)
    assert isinstance(read, _core.ReadRow)
    return _core.PuppetModel.score_of(read.row)


def test_score_answers_with_score_decision_and_provenance(server: LocalServer, stub: Any) -> None:
    request = make_request()
    answer = stub.Score(request, timeout=10)
    assert answer.transaction_id == "t1"
    assert answer.score == expected_score(server, request)
    assert answer.decision == (scoring_pb2.DECISION_DECLINE if answer.score >= 0.5 else scoring_pb2.DECISION_APPROVE)
    made_by = answer.provenance
    assert (made_by.model, made_by.version, made_by.model_sha256) == ("puppet", "1", "0" * 64)
    assert (made_by.feature_set, made_by.feature_set_version, made_by.schema_hash) == ("tiny", "1", server.plan.schema_hash)
    assert not answer.inputs
    assert not answer.HasField("timings")


def test_inputs_and_timings_come_when_asked_for(stub: Any) -> None:
    answer = stub.Score(make_request(include_features=True, include_timings=True), timeout=10)
    values = {item.name: item.value.double_value for item in answer.inputs}
    assert list(values) == ["amount", "ratio", "tx_count_1d", "amount_sum_1d"]
    # The current transaction is in the window: one transaction of 57.16.
    assert values["tx_count_1d"] == 1
    assert values["amount"] == values["amount_sum_1d"] == pytest.approx(57.16, rel=1e-6)
    assert values["ratio"] == 0.5
    assert answer.timings.batch_rows >= 1
    assert answer.timings.total_duration.ToNanoseconds() > 0
    stages = [answer.timings.decode_duration, answer.timings.lookup_duration, answer.timings.queue_duration]
    stages += [answer.timings.assemble_duration, answer.timings.infer_duration]
    stages += [answer.timings.commit_duration, answer.timings.respond_duration]
    assert all(stage.ToNanoseconds() >= 0 for stage in stages)
    assert sum(stage.ToNanoseconds() for stage in stages) == answer.timings.total_duration.ToNanoseconds()


def test_a_thousand_concurrent_calls_each_get_their_own_row(server: LocalServer, stub: Any) -> None:
    requests = [make_request(f"own-{i}", f"c{i % 7}", amount_minor=i) for i in range(1000)]
    calls = [stub.Score.future(request, timeout=20) for request in requests]
    for request, call in zip(requests, calls, strict=True):
        answer = call.result()
        assert answer.transaction_id == request.transaction_id
        assert answer.score == expected_score(server, request)


def test_batch_answers_in_order_and_one_bad_row_fails_alone(server: LocalServer, stub: Any) -> None:
    requests = [make_request(f"b{i}", amount_minor=i) for i in range(40)]
    requests[7].features["amount_minor"].double_value = 1.0
    requests[11].ClearField("event_time")
    answer = stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=requests), timeout=10)
    assert [result.transaction_id for result in answer.results] == [request.transaction_id for request in requests]
    assert answer.provenance.model == "puppet"
    for i, (request, result) in enumerate(zip(requests, answer.results, strict=True)):
        if i in (7, 11):
            assert not result.HasField("response")
            assert result.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        else:
            assert not result.HasField("status")
            assert result.response.score == expected_score(server, request)
            assert not result.response.HasField("provenance")
    assert violations_of(answer.results[7].status) == {'features["amount_minor"]': "WRONG_TYPE"}
    assert violations_of(answer.results[11].status) == {"event_time": "MISSING_FIELD"}


def test_batch_of_none_and_batch_over_the_limit_are_refused_whole() -> None:
    with LocalServer(engine={"slots": 64, "batch_call_rows_max": 16}) as server:
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        requests = [make_request(f"b{i}") for i in range(17)]
        assert len(stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=requests[:16]), timeout=10).results) == 16
        for rows, reason in ((requests, "TOO_MANY_ROWS"), ([], "EMPTY_BATCH")):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=rows), timeout=10)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert reason_of(status_of(caught.value)) == reason


def test_stream_answers_every_message_and_half_close_drains(server: LocalServer, stub: Any) -> None:
    requests = {f"s{i}": make_request(f"s{i}", amount_minor=i) for i in range(500)}
    answers = list(stub.ScoreStream((scoring_pb2.ScoreStreamRequest(request=r) for r in requests.values()), timeout=20))
    assert sorted(answer.transaction_id for answer in answers) == sorted(requests)
    for answer in answers:
        assert not answer.HasField("status")
        assert answer.response.score == expected_score(server, requests[answer.transaction_id])
        assert answer.response.provenance.model == "puppet"


def test_stream_answers_before_the_client_half_closes(stub: Any) -> None:
    """A conversation: the next message is sent only when the last answer has come."""
    outgoing: queue.SimpleQueue[scoring_pb2.ScoreStreamRequest | None] = queue.SimpleQueue()
    answers = stub.ScoreStream(iter(outgoing.get, None), timeout=20)
    for i in range(50):
        outgoing.put(scoring_pb2.ScoreStreamRequest(request=make_request(f"talk-{i}")))
        assert next(answers).transaction_id == f"talk-{i}"
    outgoing.put(None)
    assert list(answers) == []


def test_a_bad_message_in_a_stream_fails_alone(server: LocalServer) -> None:
    good = scoring_pb2.ScoreStreamRequest(request=make_request("good")).SerializeToString()
    wrong = scoring_pb2.ScoreStreamRequest(request=make_request("wrong"))
    wrong.request.features["amount_minor"].string_value = "12"
    raw = server.channel().stream_stream(
        "/assay.v1.ScoringService/ScoreStream", response_deserializer=scoring_pb2.ScoreStreamResponse.FromString
    )
    messages = [good, b"\x0a\xff\xff\xff", wrong.SerializeToString(), good]
    answers = list(raw(iter(messages), timeout=20))
    assert len(answers) == 4
    by_id = {answer.transaction_id: answer for answer in answers}
    assert by_id["good"].HasField("response")
    assert violations_of(by_id["wrong"].status) == {'features["amount_minor"]': "WRONG_TYPE"}
    assert reason_of(by_id[""].status) == "MALFORMED_MESSAGE"


def test_an_empty_stream_ends_well(stub: Any) -> None:
    assert list(stub.ScoreStream(iter(()), timeout=10)) == []


def test_a_stream_reads_no_further_than_its_limit() -> None:
    """The run hangs: of 300 messages only as many as the limit allows may reach the core. Then all are answered."""
    with LocalServer(limits={"stream_messages_max": 8}, lane={"timeout_ns_default": 60_000_000_000}) as server:
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        with held(server):
            answers = stub.ScoreStream(
                (scoring_pb2.ScoreStreamRequest(request=make_request(f"s{i}")) for i in range(300)), timeout=60
            )
            wait_until(lambda: server.engine.stats().slots_used == 8, "eight messages in the core")
            # Another call goes all the way to the core and back (a refusal): had the stream read on meanwhile, it would show.
            with pytest.raises(grpc.RpcError):
                stub.Score(scoring_pb2.ScoreRequest(), timeout=10)
            assert server.engine.stats().slots_used == 8
        assert len(list(answers)) == 300


@pytest.mark.parametrize("lane", [{}, INLINE], ids=["runners", "inline"])
def test_a_client_that_reads_no_answers_is_read_from_no_further(lane: dict[str, Any]) -> None:
    """Its answers fill the connection's window; then the server stops reading, though every message sent so far is scored."""
    count = 20_000
    with LocalServer(limits={"stream_messages_max": 4}, lane=lane) as server:
        request = make_request("big", include_features=True, include_timings=True)
        message = scoring_pb2.ScoreStreamRequest(request=request)
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel(("grpc.http2.bdp_probe", 0)))  # keeps the window small
        other = scoring_pb2_grpc.ScoringServiceStub(server.channel(("grpc.use_local_subchannel_pool", 1)))
        call = stub.ScoreStream(itertools.repeat(message, count), timeout=60)
        scored, before, probes = 0, -1, 0
        while scored != before:  # until nothing moved while another client made 200 calls
            before = scored
            for _ in range(200):
                other.Score(make_request("probe"), timeout=10)
            probes += 200
            scored = server.engine.stats().answered_rows - probes
        assert 0 < scored < count
        call.cancel()


def test_streams_over_the_limit_are_refused() -> None:
    with LocalServer(limits={"streams_max": 2}) as server:
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        open_streams = []
        for i in range(2):
            outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
            outgoing.put(scoring_pb2.ScoreStreamRequest(request=make_request(f"s{i}")))
            answers = stub.ScoreStream(iter(outgoing.get, None), timeout=30)
            assert next(answers).transaction_id == f"s{i}"
            open_streams.append((outgoing, answers))
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ScoreStream(iter(()), timeout=10))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(status_of(caught.value)) == "STREAM_LIMIT"
        for outgoing, answers in open_streams:
            outgoing.put(None)
            assert list(answers) == []
        assert list(stub.ScoreStream(iter(()), timeout=10)) == []


@pytest.mark.parametrize("lane", [{}, INLINE], ids=["runners", "inline"])
def test_a_run_that_fails_is_an_error_with_its_reason_and_the_next_is_not(lane: dict[str, Any]) -> None:
    with LocalServer(lane=lane) as server:
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        server.puppet.fail_next(1)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Score(make_request(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert reason_of(status_of(caught.value)) == "MODEL_RUN_FAILED"
        server.puppet.fail_next(1)
        (answer,) = stub.ScoreStream(iter([scoring_pb2.ScoreStreamRequest(request=make_request())]), timeout=10)
        assert reason_of(answer.status) == "MODEL_RUN_FAILED"
        assert stub.Score(make_request(), timeout=10).HasField("score")


def test_unknown_model_and_version(stub: Any) -> None:
    for fields, reason in (({"model": "other"}, "UNKNOWN_MODEL"), ({"model": "puppet", "version": "9"}, "UNKNOWN_VERSION")):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Score(make_request(**fields), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert reason_of(status_of(caught.value)) == reason
    assert stub.Score(make_request(model="puppet", version="1"), timeout=10).HasField("score")


def test_scoring_changes_no_state(server: LocalServer, stub: Any) -> None:
    before = server.store.stats()
    first = stub.Score(make_request("same"), timeout=10).score
    assert stub.Score(make_request("same"), timeout=10).score == first
    assert server.store.stats() == before


def test_windows_are_folded_at_the_event_time(server: LocalServer, stub: Any) -> None:
    """An answer's age counts from the request's event time, not from the server's clock (years away)."""
    writer = _core.EventWriter(server.plan, server.store)
    event = make_event("past", "aged", seconds_before=3600)
    assert writer.record_events(feature_pb2.RecordEventsRequest(events=[event]).SerializeToString()) == [(0, "past", None)]
    request = make_request("now", "aged", include_features=True)
    values = {item.name: item.value.double_value for item in stub.Score(request, timeout=10).inputs}
    assert values["tx_count_1d"] == 2
    request.event_time.FromDatetime(EVENT_TIME + timedelta(days=2))
    answer = stub.Score(request, timeout=10)
    values = {item.name: item.value.double_value for item in answer.inputs}
    assert values["tx_count_1d"] == 1
    assert answer.view_ages[0].age.ToTimedelta() == timedelta(days=2, hours=1)
