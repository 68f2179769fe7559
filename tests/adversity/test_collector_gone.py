"""A collector that is dead, hangs or refuses: scores are unaffected, what could not be told is counted, the server still ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TERMINAL_ID, DEMO_TIME
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.otlp_sink import OtlpSink
from tests.support.server import LocalServer, ServeProcess, make_request, wait_until

SAMPLED = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


def dead(sink: OtlpSink) -> None:
    sink.close()


def hanging(sink: OtlpSink) -> None:
    sink.hang()


def refusing(sink: OtlpSink) -> None:
    sink.refuses = True


@pytest.fixture(autouse=True)
def _quick_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")


def score_all(server: LocalServer, count: int) -> None:
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    for call in [stub.Score.future(make_request(f"t{i}"), metadata=[SAMPLED], timeout=20) for i in range(count)]:
        assert call.result().HasField("score")


def dropped(server: LocalServer) -> dict[str, int]:
    """assay_call_records_dropped_total by where."""
    families = server.telemetry._export_families(server.engine.metrics())
    (family,) = [family for family in families if family.name == "assay_call_records_dropped"]
    return {sample.labels["at"]: int(sample.value) for sample in family.samples}


@pytest.mark.parametrize("harm", [dead, hanging, refusing])
def test_scores_go_on_and_the_lost_are_counted(harm: Callable[[OtlpSink], None]) -> None:
    with OtlpSink() as sink, LocalServer(tracing={"endpoint": sink.endpoint}, lane={"thresholds": []}) as server:
        harm(sink)
        score_all(server, 50)
        wait_until(lambda: dropped(server)["collector"] == 50, "the exporter gives the calls up")
        assert server.engine.stats().answered_rows == 50
        assert dropped(server) == {"core": 0, "queue": 0, "collector": 50}
        sink.go_on()


def test_a_collector_that_comes_back_gets_what_comes_then() -> None:
    with OtlpSink() as sink, LocalServer(tracing={"endpoint": sink.endpoint}, lane={"thresholds": []}) as server:
        port = sink.port
        sink.close()
        score_all(server, 5)
        wait_until(lambda: dropped(server)["collector"] == 5, "the exporter gives the calls up")
        with OtlpSink(port) as again:
            # gRPC's own backoff may eat some more; each that is eaten is counted.
            def arrives() -> bool:
                score_all(server, 1)
                return bool(again.servers())

            wait_until(arrives, "a call at the collector")


@pytest.mark.parametrize("harm", [dead, hanging])
def test_a_drain_does_not_wait_for_a_collector(harm: Callable[[OtlpSink], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter's own limit is an hour here: it is the drain's that ends it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
    with OtlpSink() as sink, ServeProcess("--drain-delay", "0", "--set", f"tracing.endpoint={sink.endpoint}") as server:
        harm(sink)
        with grpc.insecure_channel(server.target) as channel:
            request = scoring_pb2.ScoreRequest(
                transaction_id="t", entities={"customer_id": DEMO_CUSTOMER_ID, "terminal_id": DEMO_TERMINAL_ID}
            )
            request.event_time.FromDatetime(DEMO_TIME)
            request.features["amount_minor"].int64_value = 5716
            scoring_pb2_grpc.ScoringServiceStub(channel).Score(request, metadata=[SAMPLED], timeout=10)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.stderr()
        sink.go_on()


def test_a_wrong_setting_fails_the_start_with_its_name() -> None:
    for name, value in (("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_TRACES_SAMPLER", "sometimes")):
        environment: dict[str, Any] = {name: value, "OTEL_TRACES_EXPORTER": "otlp"}
        with pytest.raises(AssertionError, match=rf"the server ended with [1-9][\s\S]*{name}"):
            ServeProcess(environment=environment)
