"""Traces of real calls, as a collector receives them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from assay._core import STAGES
from assay.features.store import open_remote_store
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.otlp_sink import OtlpSink, attributes_of
from tests.support.recorded_scores import open_log, read_log
from tests.support.redis_server import redis_server
from tests.support.server import INLINE, LocalServer, ServeProcess, held, make_request, wait_until

UNEXPLAINED = [name for name, _, _ in STAGES if name != "explain"]  # nobody asks here

pytestmark = pytest.mark.usefixtures("transport")

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = ("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01")
UNSAMPLED = ("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00")
CARD_NUMBER = "4111111111111111"


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    with OtlpSink() as sink:
        yield sink


def traced(sink: OtlpSink, **options: Any) -> LocalServer:
    tracing = {"endpoint": sink.endpoint, "sample_ratio": 0.0, "slow_ms": 0, **options.pop("tracing", {})}
    return LocalServer(tracing=tracing, **options)


def stub_of(server: LocalServer) -> scoring_pb2_grpc.ScoringServiceStub:
    return scoring_pb2_grpc.ScoringServiceStub(server.channel())


def check_nesting(sink: OtlpSink, server_span: trace_pb2.Span, stages: list[str]) -> None:
    """The stages lie in their server span, one behind the other, from its start to its end."""
    children = sink.children(server_span)
    assert list(children) == stages
    at = server_span.start_time_unix_nano
    for span in children.values():
        assert span.kind == trace_pb2.Span.SPAN_KIND_INTERNAL
        assert span.trace_id == server_span.trace_id
        assert span.start_time_unix_nano == at
        at = span.end_time_unix_nano
    assert at == server_span.end_time_unix_nano


@pytest.mark.parametrize("lane", [{}, INLINE], ids=["runners", "inline"])
def test_a_sampled_call_is_a_server_span_with_its_stages(sink: OtlpSink, lane: dict[str, Any]) -> None:
    with traced(sink, lane=lane) as server:
        before_ns = time.time_ns()
        stub_of(server).Score(make_request(), metadata=[SAMPLED], timeout=10)
        after_ns = time.time_ns()
        (span,) = sink.wait_servers(1)
    assert span.trace_id.hex() == TRACE_ID
    assert span.parent_span_id.hex() == PARENT_ID
    assert span.span_id not in (bytes(8), span.parent_span_id)
    assert span.name == "assay.v1.ScoringService/Score"
    # The two clocks are compared once a drain; a second is far more than they can part.
    assert before_ns - 1e9 < span.start_time_unix_nano <= span.end_time_unix_nano < after_ns + 1e9
    assert span.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    found = attributes_of(span)
    assert found.pop("assay.decision") in ("approve", "decline")
    assert found == {
        "rpc.system.name": "grpc",
        "rpc.method": "assay.v1.ScoringService/Score",
        "rpc.response.status_code": "OK",
        "assay.model": "puppet",
        "assay.version": "1",
        "assay.rows": 1,
        "assay.failed_rows": 0,
        "assay.batch_rows": 1,
        "assay.priority": "interactive",
        "assay.degraded": False,
        "assay.recorded_because": found["assay.recorded_because"],
    }
    assert "sampled" in found["assay.recorded_because"]
    check_nesting(sink, span, UNEXPLAINED)
    (resource,) = {tuple(sorted(resource.items())) for resource in sink.resources}
    assert dict(resource)["service.name"] == "assay"


def test_through_a_remote_store_and_the_audit_log_it_is_one_connected_trace(sink: OtlpSink, tmp_path: Path) -> None:
    audit = open_log(tmp_path / "log", "fsync")
    with (
        redis_server() as redis,
        open_remote_store(redis.url, lookup_timeout_ms=10_000) as store,
        traced(sink, remote=store, audit=audit) as server,
    ):
        stub_of(server).Score(make_request("traced"), metadata=[SAMPLED], timeout=10)
        (span,) = sink.wait_servers(1)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    check_nesting(sink, span, UNEXPLAINED)
    stages = sink.children(span)
    times_ns = {name: one.end_time_unix_nano - one.start_time_unix_nano for name, one in stages.items()}
    total_ns = span.end_time_unix_nano - span.start_time_unix_nano
    assert sum(times_ns.values()) == pytest.approx(total_ns, rel=0.02)
    assert min(times_ns["look_up"], times_ns["commit"]) > 0  # a hop to Redis, a sync of a disk
    (score,) = read_log(tmp_path / "log").scores()
    assert (score.transaction_id, score.trace_id.hex()) == ("traced", TRACE_ID)
    assert len(score.stage_ns) == 5


def test_calls_that_shared_a_run_are_linked_to_its_span(sink: OtlpSink) -> None:
    with traced(sink) as server:
        stub = stub_of(server)
        with held(server):
            first = stub.Score.future(make_request("first"), metadata=[SAMPLED], timeout=20)
            wait_until(lambda: server.engine.stats().batch_count == 1, "the first row runs")
            others = [stub.Score.future(make_request(f"r{i}"), metadata=[SAMPLED], timeout=20) for i in range(3)]
            wait_until(lambda: server.engine.stats().queued_rows == 3, "the others wait")
        for call in (first, *others):
            call.result()
        servers = sink.wait_servers(4)
        wait_until(lambda: any(span.name == "assay.batch" for span in sink.spans), "the run is told")
    (batch,) = (span for span in sink.spans if span.name == "assay.batch")
    assert attributes_of(batch) == {"assay.model": "puppet", "assay.version": "1", "assay.batch_rows": 3}
    members = {(link.trace_id, link.span_id) for link in batch.links}
    assert members == {(span.trace_id, span.span_id) for span in servers if span.links}
    assert len(members) == 3
    assert {(link.trace_id, link.span_id) for span in servers for link in span.links} == {(batch.trace_id, batch.span_id)}


def test_the_callers_no_holds_and_so_does_the_ratio(sink: OtlpSink) -> None:
    """Neither a caller that decided against it, nor one that decided nothing at a ratio of 0, is traced."""
    with traced(sink, lane={"thresholds": []}) as server:
        stub = stub_of(server)
        for _ in range(20):
            stub.Score(make_request(), metadata=[UNSAMPLED], timeout=10)
            stub.Score(make_request(), timeout=10)
        stub.Score(make_request(), metadata=[SAMPLED], timeout=10)
        assert len(sink.wait_servers(1)) == 1
    assert len(sink.servers()) == 1
    assert sink.servers()[0].trace_id.hex() == TRACE_ID


def test_without_a_caller_each_call_begins_a_trace(sink: OtlpSink) -> None:
    with traced(sink, tracing={"sample_ratio": 1.0}) as server:
        stub = stub_of(server)
        for metadata in ([], [("traceparent", f"00-{TRACE_ID.upper()}-{PARENT_ID}-01")], [("traceparent", "")]):
            stub.Score(make_request(), metadata=metadata, timeout=10)
        spans = sink.wait_servers(3)
        assert server.engine.metrics().refused_traceparents == 1
    assert all(span.parent_span_id == b"" for span in spans)
    assert len({span.trace_id for span in spans} - {bytes(16), bytes.fromhex(TRACE_ID)}) == 3


def test_a_batch_is_one_span_that_counts_its_rows(sink: OtlpSink) -> None:
    requests = [make_request(f"b{i}", amount_minor=i) for i in range(40)]
    requests[7].features["amount_minor"].double_value = 1.0
    with traced(sink) as server:
        stub_of(server).ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=requests), metadata=[SAMPLED], timeout=10)
        (span,) = sink.wait_servers(1)
    found = attributes_of(span)
    assert span.name == "assay.v1.ScoringService/ScoreBatch"
    assert (found["assay.rows"], found["assay.failed_rows"], found["error.type"]) == (40, 1, "INVALID_REQUEST")
    assert found["assay.priority"] == "bulk"
    assert 1 <= found["assay.batch_rows"] <= 16
    assert found["rpc.response.status_code"] == "OK"
    check_nesting(sink, span, ["admit", "queue", "assemble", "infer", "commit", "respond"])


def test_each_message_of_a_stream_is_a_span_under_its_opener(sink: OtlpSink) -> None:
    bad = make_request("bad")
    bad.features["amount_minor"].string_value = "12"
    messages = [scoring_pb2.ScoreStreamRequest(request=request) for request in (make_request("good"), bad)]
    with traced(sink) as server:
        assert len(list(stub_of(server).ScoreStream(iter(messages), metadata=[SAMPLED], timeout=10))) == 2
        spans = sink.wait_servers(2)
    assert {span.parent_span_id.hex() for span in spans} == {PARENT_ID}
    assert len({span.span_id for span in spans}) == 2
    codes = {attributes_of(span)["rpc.response.status_code"]: span for span in spans}
    assert set(codes) == {"OK", "INVALID_ARGUMENT"}
    assert codes["INVALID_ARGUMENT"].status.code == trace_pb2.Status.STATUS_CODE_UNSET  # the client was wrong, not we


def test_a_failed_call_is_traced_whatever_was_decided(sink: OtlpSink) -> None:
    with traced(sink) as server:
        server.puppet.fail_next(1)
        with pytest.raises(grpc.RpcError):
            stub_of(server).Score(make_request(), metadata=[UNSAMPLED], timeout=10)
        (span,) = sink.wait_servers(1)
    found = attributes_of(span)
    assert span.trace_id.hex() == TRACE_ID
    assert found["assay.recorded_because"] == ["failed"]
    assert (found["rpc.response.status_code"], found["error.type"]) == ("INTERNAL", "MODEL_RUN_FAILED")
    assert (span.status.code, span.status.message) == (trace_pb2.Status.STATUS_CODE_ERROR, "MODEL_RUN_FAILED")
    check_nesting(sink, span, ["decode", "look_up", "queue", "assemble", "infer"])  # the stage that it failed in lasts to the end


def test_a_declined_call_and_a_slow_one_are_traced_too(sink: OtlpSink) -> None:
    with traced(sink, lane={"thresholds": [(0.0, 4)]}, tracing={"slow_ms": 60_000}) as server:
        stub_of(server).Score(make_request(), timeout=10)
        (span,) = sink.wait_servers(1)
    assert attributes_of(span)["assay.recorded_because"] == ["declined"]
    with OtlpSink() as other, traced(other, lane={"thresholds": []}, tracing={"slow_ms": 1}) as server:
        stub = stub_of(server)
        with held(server):
            call = stub.Score.future(make_request(), timeout=20)
            wait_until(lambda: server.puppet.batches == [1], "the run begins")
            started = time.monotonic()
            wait_until(lambda: time.monotonic() > started + 0.002, "two milliseconds are over")
        call.result()
        (span,) = other.wait_servers(1)
    assert attributes_of(span)["assay.recorded_because"] == ["slow"]


def test_a_call_that_a_hung_run_holds_past_its_deadline_is_told(sink: OtlpSink) -> None:
    with traced(sink) as server:
        with held(server):
            request = make_request()
            request.timeout.FromSeconds(1)  # not the call's own: a client that gives up first takes its call back
            call = stub_of(server).Score.future(request, metadata=[UNSAMPLED], timeout=20)
            wait_until(lambda: server.puppet.batches == [1], "the run begins")
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            wait_until(lambda: server.waiting_count() == 0, "the server has answered")
        (span,) = sink.wait_servers(1)
    assert attributes_of(span)["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    check_nesting(sink, span, UNEXPLAINED)  # told when the run gave its row back


def test_a_refused_call_has_a_span_if_it_was_sampled(sink: OtlpSink) -> None:
    with traced(sink) as server:
        with pytest.raises(grpc.RpcError):
            stub_of(server).Score(make_request(model="other"), metadata=[SAMPLED], timeout=10)
        (span,) = sink.wait_servers(1)
    found = attributes_of(span)
    assert (found["rpc.response.status_code"], found["error.type"]) == ("NOT_FOUND", "UNKNOWN_MODEL")
    assert "assay.model" not in found  # a client's word is not ours
    check_nesting(sink, span, ["decode"])


def test_tracing_is_off_until_an_endpoint_is_named() -> None:
    with LocalServer() as server:
        assert not server.engine.is_tracing
        stub_of(server).Score(make_request(), metadata=[SAMPLED], timeout=10)
        assert server.engine.metrics().refused_traceparents == 0


def test_the_standard_variables_and_a_drain_that_flushes(sink: OtlpSink) -> None:
    """A real server process, configured by OpenTelemetry's variables alone; spans of its last second come before it ends."""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=bank-7",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_SERVICE_NAME": "scores",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    with ServeProcess("--drain-delay", "0", environment=environment) as server, grpc.insecure_channel(server.target) as channel:
        request = scoring_pb2.ScoreRequest(
            transaction_id=CARD_NUMBER, entities={"customer_id": CARD_NUMBER, "terminal_id": f"x\n{CARD_NUMBER}"}
        )
        request.event_time.FromSeconds(1_525_860_000)
        request.features["amount_minor"].int64_value = 5716
        scoring_pb2_grpc.ScoringServiceStub(channel).Score(request, timeout=10)
        server.process.terminate()
        assert server.wait() == 0, server.stderr()
        lines = server.stderr()
    said = [json.loads(line)["message"] for line in lines.splitlines()]
    assert [message for message in said if message != "request"] == ["serving", "draining", "drained"]
    assert said.count("request") == 1  # of a traced call, whatever log_requests says
    assert CARD_NUMBER not in lines
    assert len(sink.servers()) == 1
    assert sink.resources[0].items() >= {"service.name": "scores", "deployment.environment.name": "test"}.items()
    assert sink.headers[0]["x-tenant"] == "bank-7"
    assert CARD_NUMBER not in str(sink.spans)
