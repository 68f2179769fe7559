"""Metrics of a live server as a collector receives them: the numbers of /metrics; and a collector that is not there."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1 import metrics_pb2
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from assay.v1 import scoring_pb2_grpc
from tests.support.otlp_sink import OtlpSink, attributes_of
from tests.support.server import LocalServer, make_request, wait_until

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = ("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01")


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    with OtlpSink() as sink:
        yield sink


def exporting(sink: OtlpSink, **options: Any) -> LocalServer:
    return LocalServer(metrics_export={"endpoint": sink.endpoint, "interval_ms": 100}, **options)


def score(server: LocalServer, count: int, metadata: Any = ()) -> None:
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    for i in range(count):
        stub.Score(make_request(f"t{i}"), metadata=metadata, timeout=20)


def openmetrics(server: LocalServer) -> dict[str, Any]:
    """Families of the page, as Prometheus asks for it."""
    assert server.telemetry.metrics_address
    request = urllib.request.Request(
        f"http://{server.telemetry.metrics_address}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def exports(server: LocalServer) -> dict[str, int]:
    families = server.telemetry._export_families(server.engine.metrics())
    (family,) = [family for family in families if family.name == "assay_metric_exports"]
    return {sample.labels["outcome"]: int(sample.value) for sample in family.samples}


def inference_count(metrics: dict[str, metrics_pb2.Metric]) -> int:
    return sum(point.count for point in metrics["inference_latency_seconds"].histogram.data_points)


def test_a_collector_gets_the_numbers_of_the_page_and_the_traces_of_its_exemplars(sink: OtlpSink) -> None:
    tracing = {"endpoint": sink.endpoint, "sample_ratio": 0.0, "slow_ms": 0}
    with exporting(sink, metrics_listen="127.0.0.1:0", tracing=tracing, lane={"thresholds": []}) as server:
        score(server, 6)
        score(server, 1, [SAMPLED])
        has_exemplar = lambda: any(  # noqa: E731
            point.exemplars for point in sink.metrics[-1]["inference_latency_seconds"].histogram.data_points
        )
        wait_until(lambda: bool(sink.metrics) and has_exemplar(), "an exemplar at the collector")
        page = openmetrics(server)
        metrics = sink.metrics[-1]
        (span,) = sink.wait_servers(1)
    assert inference_count(metrics) == 7
    # What stands still now; counters of the exports themselves do not.
    for name in ("inference_latency_seconds", "assay_stage_seconds", "assay_batch_rows"):
        samples = page[name].samples
        for point in metrics[name].histogram.data_points:
            labels = attributes_of(point)
            mine = [sample for sample in samples if labels.items() <= sample.labels.items()]
            assert point.count == next(sample.value for sample in mine if sample.name == f"{name}_count")
            assert point.sum == next(sample.value for sample in mine if sample.name == f"{name}_sum")
            cumulative = [sample.value for sample in mine if sample.name == f"{name}_bucket"]
            assert [sum(point.bucket_counts[: i + 1]) for i in range(len(point.bucket_counts))] == cumulative
    for name in ("assay_rows", "assay_accepted_rows"):
        assert metrics[name].sum.is_monotonic
        sent = {tuple(attributes_of(point).items()): point.as_double for point in metrics[name].sum.data_points}
        assert sent == {tuple(sample.labels.items()): sample.value for sample in page[name].samples}
    assert metrics["process_start_time_seconds"].gauge.data_points
    (resource, *_) = sink.resources
    assert resource["service.name"] == "assay"
    # The same exemplar here and there, and it names the call's trace and span.
    (sample,) = [sample for sample in page["inference_latency_seconds"].samples if sample.exemplar]
    assert sample.labels["priority"] == "interactive"
    assert sample.exemplar.labels == {"trace_id": TRACE_ID, "span_id": span.span_id.hex()}
    assert 0 < sample.exemplar.value <= float(sample.labels["le"])
    assert sample.exemplar.value == pytest.approx((span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, rel=0.5)
    (exemplar,) = [
        exemplar for point in metrics["inference_latency_seconds"].histogram.data_points for exemplar in point.exemplars
    ]
    assert (exemplar.trace_id.hex(), exemplar.as_double) == (TRACE_ID, sample.exemplar.value)


def test_the_last_look_is_sent_when_the_server_ends(sink: OtlpSink) -> None:
    with LocalServer(metrics_export={"endpoint": sink.endpoint, "interval_ms": 86_400_000}) as server:
        score(server, 3)
    assert [inference_count(metrics) for metrics in sink.metrics] == [3]


def dead(sink: OtlpSink) -> None:
    sink.close()


def hanging(sink: OtlpSink) -> None:
    sink.hang()


def refusing(sink: OtlpSink) -> None:
    sink.refuses = True


@pytest.mark.parametrize("harm", [dead, hanging, refusing])
def test_scores_do_not_see_a_collector_that_is_gone_and_what_was_lost_is_counted(
    harm: Callable[[OtlpSink], None], sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "0.2")
    harm(sink)
    with exporting(sink) as server:
        score(server, 20)
        wait_until(lambda: exports(server)["lost"] >= 2, "the exporter gives up twice")
        assert exports(server)["taken"] == 0
        assert server.engine.stats().answered_rows == 20
        sink.go_on()


def test_a_collector_that_comes_back_gets_everything_since_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "0.2")
    with OtlpSink() as sink, exporting(sink) as server:
        sink.refuses = True
        score(server, 4)
        wait_until(lambda: exports(server)["lost"] >= 1, "a lost look")
        sink.refuses = False
        wait_until(lambda: exports(server)["taken"] >= 1, "a look that is taken")
        assert inference_count(sink.metrics[0]) == 4


def test_variables_of_the_exporter_are_honoured(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-tenant=bank")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    with exporting(sink):
        wait_until(lambda: bool(sink.metrics), "a look")
    assert sink.headers[0]["x-tenant"] == "bank"
    assert sink.resources[0]["deployment.environment.name"] == "test"


def test_a_hanging_collector_does_not_hold_the_end(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter's own limit is an hour here: it is ours that ends it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "3600")
    monkeypatch.setattr("assay.observe.telemetry.FLUSH_S", 0.1)
    sink.hang()
    with exporting(sink) as server:
        score(server, 1)
    sink.go_on()
