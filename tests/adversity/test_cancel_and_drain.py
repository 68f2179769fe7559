"""Deadlines while a run hangs, clients that leave, drains under load: every call is answered once, and every slot comes back."""

from __future__ import annotations

import collections
import itertools
import json
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.support.server import (
    INLINE,
    WAIT_S,
    LocalServer,
    held,
    make_event,
    make_request,
    reason_of,
    retry_s_of,
    status_of,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("transport")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


def stub_of(server: LocalServer) -> Any:
    return scoring_pb2_grpc.ScoringServiceStub(server.channel())


def batch(count: int, **fields: Any) -> scoring_pb2.ScoreBatchRequest:
    return scoring_pb2.ScoreBatchRequest(requests=[make_request(f"b{i}") for i in range(count)], **fields)


def slots_used(server: LocalServer) -> int:
    return server.engine.stats().slots_used


def error_of(call: Any) -> Any:
    error = call.exception(timeout=WAIT_S)
    assert error is not None
    return error


# --- deadlines


def test_the_servers_deadline_is_kept_while_the_run_hangs() -> None:
    """No deadline from the client: the model's default ends the call, with details, though the run is still on."""
    with LocalServer(lane={"timeout_ns_default": 50_000_000}) as server, held(server):
        stub = stub_of(server)
        started = time.monotonic()
        for call in (stub.Score.future(make_request()), stub.ScoreBatch.future(batch(5))):
            error = error_of(call)
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert reason_of(status_of(error)) == "DEADLINE_EXCEEDED"
        assert time.monotonic() - started >= 0.05
        # The one that hangs keeps its slot until the core gives it back; then it is free.
        server.puppet.release()
        wait_until(lambda: slots_used(server) == 0, "slots come back")


def test_the_requests_own_timeout_is_kept(server: LocalServer) -> None:
    stub = stub_of(server)
    request = make_request()
    request.timeout.FromMilliseconds(30)
    with held(server):
        error = error_of(stub.Score.future(request, timeout=30))
        assert reason_of(status_of(error)) == "DEADLINE_EXCEEDED"


def test_deadlines_are_kept_in_their_own_order() -> None:
    """Later calls with earlier deadlines overtake; each ends at its own."""
    with LocalServer(lane={"timeout_ns_default": 30_000_000_000}) as server, held(server):
        stub = stub_of(server)
        ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        for milliseconds in (900, 300, 600, 100):
            request = make_request(f"t{milliseconds}")
            request.timeout.FromMilliseconds(milliseconds)
            call = stub.Score.future(request, timeout=30)
            call.add_done_callback(lambda _, milliseconds=milliseconds: ended.put(milliseconds))
        assert [ended.get(timeout=WAIT_S) for _ in range(4)] == [100, 300, 600, 900]


def test_the_clients_deadline_frees_the_slot(server: LocalServer) -> None:
    stub = stub_of(server)
    with held(server):
        first = stub.Score.future(make_request("holds"), timeout=60)
        wait_until(lambda: server.puppet.batches == [1], "the first is running")
        error = error_of(stub.Score.future(make_request("waits"), timeout=0.1))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        wait_until(lambda: server.waiting_count() == 1, "nobody waits for the second any more")
    assert first.result().HasField("score")
    wait_until(lambda: slots_used(server) == 0, "both slots are free")
    assert server.puppet.batches == [1], "the second was run for nobody"


def test_a_message_of_a_stream_expires_alone() -> None:
    with LocalServer(lane={"timeout_ns_default": 50_000_000}) as server:
        stub = stub_of(server)
        outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        answers = stub.ScoreStream(iter(outgoing.get, None), timeout=60)
        with held(server):
            outgoing.put(scoring_pb2.ScoreStreamRequest(request=make_request("late")))
            answer = next(answers)
            assert (answer.transaction_id, reason_of(answer.status)) == ("late", "DEADLINE_EXCEEDED")
        wait_until(lambda: slots_used(server) == 0, "the run has ended")
        # The default's deadline ends a message, never the stream.
        outgoing.put(scoring_pb2.ScoreStreamRequest(request=make_request("next")))
        assert next(answers).response.transaction_id == "next"
        outgoing.put(None)
        assert list(answers) == []


def test_a_call_that_has_no_time_left_is_never_run(server: LocalServer) -> None:
    stub = stub_of(server)
    stub.Score(make_request(), timeout=10)
    runs = len(server.puppet.batches)
    request = make_request()
    request.timeout.nanos = 1
    error = error_of(stub.Score.future(request, timeout=10))
    assert reason_of(status_of(error)) == "DEADLINE_EXCEEDED"
    assert len(server.puppet.batches) == runs


# --- clients that leave


def test_a_cancelled_call_gives_its_slots_back(server: LocalServer) -> None:
    stub = stub_of(server)
    with held(server):
        first = stub.Score.future(make_request("holds"), timeout=60)
        wait_until(lambda: server.puppet.batches == [1], "the first is running")
        calls = [stub.Score.future(make_request(f"c{i}"), timeout=60) for i in range(50)]
        calls += [stub.ScoreBatch.future(batch(20), timeout=60) for _ in range(5)]
        wait_until(lambda: slots_used(server) == 151, "all are in the core")
        for call in calls:
            call.cancel()
        wait_until(lambda: server.waiting_count() == 1, "nobody waits for the others any more")
    assert first.result().HasField("score")
    wait_until(lambda: slots_used(server) == 0, "all slots are free")
    assert server.engine.stats().cancelled_rows >= 150
    # None of them was run: the first alone, in one batch.
    assert server.puppet.batches == [1]


def test_a_cancelled_stream_cancels_all_it_has_in_flight(server: LocalServer) -> None:
    stub = stub_of(server)
    with held(server):
        first = stub.Score.future(make_request("holds"), timeout=60)
        wait_until(lambda: server.puppet.batches == [1], "the first is running")
        outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for i in range(40):
            outgoing.put(scoring_pb2.ScoreStreamRequest(request=make_request(f"s{i}")))
        answers = stub.ScoreStream(iter(outgoing.get, None), timeout=60)
        wait_until(lambda: slots_used(server) == 41, "the stream's messages are in the core")
        answers.cancel()
        wait_until(lambda: server.waiting_count() == 1, "nobody waits for the stream's messages any more")
    assert first.result().HasField("score")
    outgoing.put(None)
    wait_until(lambda: slots_used(server) == 0, "all slots are free")
    assert server.puppet.batches == [1]


def test_a_client_that_dies_gives_its_slots_back(server: LocalServer) -> None:
    channel = grpc.insecure_channel(server.addresses.public)
    stub = scoring_pb2_grpc.ScoringServiceStub(channel)
    with held(server):
        calls = [stub.Score.future(make_request(f"c{i}"), timeout=60) for i in range(20)]
        wait_until(lambda: slots_used(server) == 20, "all are in the core")
        channel.close()
        wait_until(lambda: server.waiting_count() == 0, "nobody waits any more")
    wait_until(lambda: slots_used(server) == 0, "all slots are free")
    del calls


def test_a_storm_of_cancels_and_deadlines_leaves_neighbours_untouched(server: LocalServer) -> None:
    """Half of the callers leave at random moments; the other half gets its own answer, each once."""
    stub = stub_of(server)
    done: collections.Counter[str] = collections.Counter()

    def leave(i: int) -> None:
        call = stub.Score.future(make_request(f"leave-{i}"), timeout=20 if i % 3 else 0.002)
        if i % 3:
            call.cancel()
        call.exception(timeout=WAIT_S) if not call.cancelled() else None
        done["left"] += 1

    def stay(i: int) -> None:
        answer = stub.Score(make_request(f"stay-{i}", amount_minor=i), timeout=20)
        assert answer.transaction_id == f"stay-{i}"
        done["stayed"] += 1

    with ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(leave if i % 2 else stay, i) for i in range(1000)]
        for job in jobs:
            assert job.exception() is None or isinstance(job.exception(), grpc.FutureCancelledError), job.exception()
    assert done["stayed"] == 500
    wait_until(lambda: slots_used(server) == 0, "all slots are free")


# --- overload


def test_a_full_slab_refuses_with_a_retry_delay() -> None:
    with LocalServer(engine={"slots": 16, "batch_call_rows_max": 4}) as server:
        stub = stub_of(server)
        with held(server):
            accepted = [stub.Score.future(make_request(f"c{i}"), timeout=60) for i in range(16)]
            wait_until(lambda: slots_used(server) == 16, "the slab is full")
            for call in (stub.Score.future(make_request("over"), timeout=10), stub.ScoreBatch.future(batch(2), timeout=10)):
                error = error_of(call)
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                status = status_of(error)
                assert reason_of(status) == "SLOTS_EXHAUSTED"
                assert retry_s_of(status) > 0
                pushback = [value for key, value in error.trailing_metadata() if key == "grpc-retry-pushback-ms"]
                assert len(pushback) == 1
                assert int(pushback[0]) > 0
        assert all(call.result().HasField("score") for call in accepted)


def test_a_full_queue_refuses() -> None:
    with LocalServer(lane={"queue_rows_max": 4, "batch_rows_max": 1}) as server:
        stub = stub_of(server)
        with held(server):
            running = stub.Score.future(make_request("runs"), timeout=60)
            wait_until(lambda: slots_used(server) == 1 and server.engine.stats().queued_rows == 0, "one is running")
            queued = [stub.Score.future(make_request(f"q{i}"), timeout=60) for i in range(4)]
            wait_until(lambda: server.engine.stats().queued_rows == 4, "the queue is full")
            error = error_of(stub.Score.future(make_request("over"), timeout=10))
            assert reason_of(status_of(error)) == "QUEUE_FULL"
        assert all(call.result().HasField("score") for call in (running, *queued))


def test_a_failed_run_is_an_internal_error_with_details(server: LocalServer) -> None:
    stub = stub_of(server)
    server.puppet.fail_next(10)
    error = error_of(stub.Score.future(make_request(), timeout=10))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert reason_of(status_of(error)) == "MODEL_RUN_FAILED"
    server.puppet.fail_next(0)
    assert stub.Score(make_request(), timeout=10).HasField("score")


# --- drain


def test_calls_in_flight_finish_and_new_ones_are_refused() -> None:
    with LocalServer(lane={"timeout_ns_default": 30_000_000_000}) as server:
        stub = stub_of(server)
        with held(server):
            calls = [stub.Score.future(make_request(f"c{i}"), timeout=60) for i in range(20)]
            calls.append(stub.ScoreBatch.future(batch(10), timeout=60))
            wait_until(lambda: slots_used(server) == 30, "all are in the core")
            finish = server.start_drain(grace_s=30)
            late = scoring_pb2_grpc.ScoringServiceStub(server.channel(("grpc.use_local_subchannel_pool", 1)))

            def is_refused() -> bool:
                error = late.Score.future(make_request("late"), timeout=0.2).exception(timeout=WAIT_S)
                return error is not None and error.code() is grpc.StatusCode.UNAVAILABLE

            wait_until(is_refused, "new calls are refused")
        finish()
        for call in calls:
            call.result()


def test_an_open_stream_is_answered_then_ended_with_draining(server: LocalServer) -> None:
    stub = stub_of(server)
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = stub.ScoreStream(iter(outgoing.get, None), timeout=60)
    with held(server):
        for i in range(10):
            request = make_request(f"s{i}")
            outgoing.put(scoring_pb2.ScoreStreamRequest(request=request))
        wait_until(lambda: slots_used(server) == 10, "all are in the core")
        finish = server.start_drain(grace_s=600)
    seen = []

    def read_all() -> None:
        for answer in answers:
            assert answer.HasField("response")
            seen.append(answer.transaction_id)

    with pytest.raises(grpc.RpcError) as caught:
        read_all()
    assert sorted(seen) == sorted(f"s{i}" for i in range(10))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(status_of(caught.value)) == "DRAINING"
    finish()
    outgoing.put(None)


@pytest.mark.parametrize("lane", [{}, INLINE], ids=["runners", "inline"])
def test_a_busy_stream_is_drained_without_losing_an_answer(lane: dict[str, Any]) -> None:
    """Every message that the server read is answered with its score; then the stream ends with DRAINING."""
    with LocalServer(lane=lane) as server:
        messages = (scoring_pb2.ScoreStreamRequest(request=make_request(f"s{i}")) for i in itertools.count())
        answers = stub_of(server).ScoreStream(messages, timeout=60)
        seen = [next(answers).response.transaction_id for _ in range(100)]
        finish = server.start_drain(grace_s=600)
        with pytest.raises(grpc.RpcError) as caught:
            seen.extend(answer.response.transaction_id for answer in answers)
        assert reason_of(status_of(caught.value)) == "DRAINING"
        finish()
        stats = server.engine.stats()
        assert len(seen) == len(set(seen)) == stats.answered_rows == stats.accepted_rows
        # The native transport runs only those itself behind which nothing waits.
        inline_rows_min = (1 if server.is_native else len(seen)) if lane is INLINE else 0
        assert inline_rows_min <= stats.inline_rows <= (len(seen) if lane is INLINE else 0)


def test_calls_that_outlast_the_grace_are_ended() -> None:
    with LocalServer(lane={"timeout_ns_default": 30_000_000_000}) as server:
        stub = stub_of(server)
        with held(server):
            call = stub.Score.future(make_request(), timeout=60)
            wait_until(lambda: slots_used(server) == 1, "it is in the core")
            server.start_drain(grace_s=0.1)()
            assert error_of(call).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_during_the_lame_duck_calls_are_answered_and_health_says_no(server: LocalServer) -> None:
    stub, health = stub_of(server), health_pb2_grpc.HealthStub(server.channel())
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=30)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    finish = server.start_drain(delay_s=1.5)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert stub.Score(make_request(), timeout=10).HasField("score")
    finish()


def test_a_rolling_restart_under_load_fails_no_call() -> None:
    """Two servers behind one channel that watches health, retries off. Each is replaced while calls keep coming."""
    service_config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
    stop, failures, answered = threading.Event(), [], collections.Counter[str]()
    with LocalServer() as one, LocalServer() as other:
        options = [("grpc.service_config", json.dumps(service_config)), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(f"ipv4:{one.addresses.public},{other.addresses.public}", options=options) as channel:
            stub = scoring_pb2_grpc.ScoringServiceStub(channel)

            def load(worker: int) -> None:
                i = 0
                while not stop.is_set():
                    i += 1
                    try:
                        answer = stub.Score(make_request(f"{worker}-{i}"), timeout=20)
                        assert answer.transaction_id == f"{worker}-{i}"
                        answered["ok"] += 1
                    except grpc.RpcError as error:
                        failures.append((error.code(), error.details()))

            with ThreadPoolExecutor(6) as pool:
                for worker in range(6):
                    pool.submit(load, worker)
                wait_until(
                    lambda: min(one.engine.stats().answered_rows, other.engine.stats().answered_rows) > 50, "both are used"
                )
                one.start_drain(delay_s=1.0)()
                count = other.engine.stats().answered_rows
                wait_until(lambda: other.engine.stats().answered_rows > count + 200, "the other takes the load")
                stop.set()
    assert failures == []
    assert answered["ok"] > 250


def test_events_being_recorded_finish(server: LocalServer) -> None:
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    call = feature_pb2_grpc.FeatureServiceStub(server.admin_channel()).RecordEvents.future(iter(outgoing.get, None), timeout=30)
    outgoing.put(feature_pb2.RecordEventsRequest(events=[make_event(f"e{i}", f"c{i}") for i in range(1000)]))
    wait_until(lambda: server.store.stats().event_count == 1000, "the first message is in the store")
    finish = server.start_drain(grace_s=30)
    outgoing.put(feature_pb2.RecordEventsRequest(events=[make_event(f"f{i}", f"c{i}") for i in range(10)]))
    outgoing.put(None)
    assert call.result(timeout=WAIT_S).recorded_count == 1010
    finish()
