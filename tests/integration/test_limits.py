"""Limits of connections and calls, each met over a real socket. (Messages, metadata and gzip bombs: test_bad_input.py.)

Raw HTTP/2 frames where gRPC's own client would hide what the server says.
"""

from __future__ import annotations

import itertools
import json
import struct
import threading
from typing import Any

import grpc
import pytest

from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.http2 import (
    DATA,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    INTERNAL_ERROR,
    MAX_CONCURRENT_STREAMS,
    NO_ERROR,
    PING,
    SETTINGS,
    RawConnection,
    goaway_error,
)
from tests.support.server import EVENT_TIME, INLINE, LocalServer, make_request, reason_of, status_of, wait_until

pytestmark = pytest.mark.usefixtures("transport")

RESETS = 3000


def stub_of(server: LocalServer) -> Any:
    return scoring_pb2_grpc.ScoringServiceStub(server.channel())


@pytest.mark.parametrize("lane", [{}, INLINE], ids=["runners", "inline"])
def test_an_answer_that_is_too_large_is_refused_with_its_size(lane: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    names = [f"feature_{i}" for i in range(100)]
    text = {"name": "wide", "version": "1", "entities": ["customer_id"], "views": {}, "inputs": names}
    features = {name: {"dtype": "float64"} for name in names}
    plan = compile_plan(FeatureSet.parse(json.dumps({**text, "request_features": features})))
    small = scoring_pb2.ScoreRequest(transaction_id="small", entities={"customer_id": "c1"})
    small.event_time.FromDatetime(EVENT_TIME)
    for name in names:
        small.features[name].double_value = 1.5
    large = scoring_pb2.ScoreRequest.FromString(small.SerializeToString())
    large.transaction_id, large.include_features = "large", True
    batch = scoring_pb2.ScoreBatchRequest(requests=[small] * 32)
    with LocalServer(plan=plan, lane=lane, limits={"send_message_bytes_max": 1024}) as server:
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        for ask in (lambda: stub.Score(large, timeout=20), lambda: stub.ScoreBatch(batch, timeout=20)):
            with pytest.raises(grpc.RpcError) as caught:
                ask()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert reason_of(status_of(caught.value)) == "ANSWER_TOO_LARGE"
            assert "limits.send_message_bytes_max is 1,024" in str(caught.value.details())
        messages = [scoring_pb2.ScoreStreamRequest(request=request) for request in (large, small)]
        answers = {answer.transaction_id: answer for answer in stub.ScoreStream(iter(messages), timeout=20)}
        assert reason_of(answers["large"].status) == "ANSWER_TOO_LARGE"
        assert answers["small"].response.HasField("score")
        assert server.engine.stats().refused_calls == 3
    assert not [record for record in caplog.records if record.exc_info]


def test_a_client_that_pings_too_often_is_sent_away_and_nobody_else() -> None:
    with LocalServer() as server, RawConnection(server.addresses.public) as rude:
        neighbour = stub_of(server)
        assert neighbour.Score(make_request(), timeout=10).HasField("score")
        for index in range(50):
            try:
                rude.send(PING, struct.pack(">Q", index))
            except OSError:  # sent away already
                break
        assert goaway_error(rude.wait_for(GOAWAY)) == (ENHANCE_YOUR_CALM, b"too_many_pings")
        assert neighbour.Score(make_request(), timeout=10).HasField("score")


@pytest.mark.parametrize("count", [1, 1000])
def test_the_server_announces_how_many_calls_a_connection_may_have(count: int) -> None:
    with LocalServer(limits={"connection_streams_max": count}) as server, RawConnection(server.addresses.public) as raw:
        payload = raw.wait_for(SETTINGS)
        settings = dict(struct.unpack(">HI", payload[start : start + 6]) for start in range(0, len(payload), 6))
        assert settings[MAX_CONCURRENT_STREAMS] == count


def test_calls_past_the_connections_limit_wait_and_are_answered() -> None:
    with LocalServer(limits={"connection_streams_max": 2}) as server:
        stub = stub_of(server)
        stub.Score(make_request(), timeout=10)  # the client knows the limit once it has the server's settings
        server.puppet.hold()
        calls = [stub.Score.future(make_request(f"t{i}"), timeout=20) for i in range(6)]
        wait_until(lambda: server.waiting_count() == 2, "two are in the server")
        server.puppet.release()
        assert [call.result().transaction_id for call in calls] == [f"t{i}" for i in range(6)]
        assert server.engine.stats().slots_used_max == 2


def test_a_flood_of_calls_that_are_reset_at_once_costs_neighbours_nothing() -> None:
    """CVE-2023-44487: resets make room for more calls while those before are still worked on."""
    with LocalServer() as server, RawConnection(server.addresses.public) as raw:
        neighbour, message = stub_of(server), make_request("reset").SerializeToString()
        raw.send_call(1, message, is_reset=False)
        assert raw.wait_for(DATA)  # it is a call, had it not been reset
        for index in range(1, RESETS):
            raw.send_call(2 * index + 1, message, is_reset=True)
            if index % 100 == 0:
                assert neighbour.Score(make_request(), timeout=20).HasField("score")
        assert neighbour.Score(make_request(), timeout=20).HasField("score")
        wait_until(lambda: server.waiting_count() == 0 and server.engine.stats().slots_used == 0, "every slot comes back")


@pytest.mark.parametrize(
    ("limit", "error"), [("age_s_max", (NO_ERROR, b"max_age")), ("idle_s_max", (INTERNAL_ERROR, b"connection idle"))]
)
def test_an_old_or_idle_connection_is_asked_to_go(limit: str, error: tuple[int, bytes]) -> None:
    connection = {"age_s_max": 0, "idle_s_max": 0, limit: 1}
    with LocalServer(connection=connection) as server, RawConnection(server.addresses.public) as raw:
        if server.is_native:  # the first GOAWAY says nothing yet but to open no more; and idleness is no error
            assert goaway_error(raw.wait_for(GOAWAY)) == (NO_ERROR, b"")
            error = (NO_ERROR, error[1])
        assert goaway_error(raw.wait_for(GOAWAY)) == error


def test_connections_that_grow_old_under_load_lose_no_call() -> None:
    """With clients as they come: a call that crosses the GOAWAY was never looked at, and gRPC sends it again by itself (which the
    other tests switch off)."""
    with LocalServer(connection={"age_s_max": 1, "age_grace_s": 20}) as server:
        end, failures, call_count = threading.Event(), [], itertools.count()

        def call_over_and_over() -> None:
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(server.addresses.public, options=options) as channel:
                stub = scoring_pb2_grpc.ScoringServiceStub(channel)
                while not end.is_set():
                    try:
                        stub.Score(make_request(), timeout=20)
                        next(call_count)
                    except grpc.RpcError as error:
                        failures.append(str(error))

        threads = [threading.Thread(target=call_over_and_over) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):  # a bystander of the same age shows that time has come, three times
            with RawConnection(server.addresses.public) as raw:
                assert goaway_error(raw.wait_for(GOAWAY))[0] == NO_ERROR
        end.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert next(call_count) > 0


def test_a_stream_ends_before_its_connection_is_cut_and_loses_no_answer() -> None:
    with LocalServer(connection={"age_s_max": 1, "age_grace_s": 1}) as server:
        messages = (scoring_pb2.ScoreStreamRequest(request=make_request(f"s{i}")) for i in itertools.count())
        seen = []
        answers = stub_of(server).ScoreStream(messages, timeout=60)
        with pytest.raises(grpc.RpcError) as caught:
            seen.extend(answer.response.transaction_id for answer in answers)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(status_of(caught.value)) == "STREAM_TOO_OLD"
        stats = server.engine.stats()
        assert len(seen) == len(set(seen)) == stats.answered_rows == stats.accepted_rows > 0


def test_a_call_without_a_deadline_gets_the_servers_and_is_counted() -> None:
    with LocalServer(lane={"timeout_ns_default": 50_000_000}) as server:
        stub = stub_of(server)
        assert stub.Score(make_request(), timeout=10).HasField("score")
        assert server.engine.stats().defaulted_deadlines == 0
        server.puppet.hold()
        with pytest.raises(grpc.RpcError) as caught:
            stub.Score(make_request())
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert server.engine.stats().defaulted_deadlines == 1
        server.puppet.release()
