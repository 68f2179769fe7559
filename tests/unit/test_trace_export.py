"""The exporter's list and thread, with a collector that obeys."""

from __future__ import annotations

import logging
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExportResult

from assay._core import CALL_KINDS, RECORD_REASONS, CallRecord
from assay.observe.trace_export import RECORDS_MAX, SEND_RECORDS_MAX, TraceExport
from assay.observe.tracing_settings import TracingSettings
from tests.support.server import wait_until


class Collector:
    """Takes batches when it may; says what it was told to say."""

    def __init__(self) -> None:
        self.batches: list[int] = []  # server spans of each
        self.result = SpanExportResult.SUCCESS
        self.may_answer = threading.Event()
        self.is_called = threading.Event()
        self.is_shut_down = False
        self.raises = False

    def export(self, request: ExportTraceServiceRequest) -> SpanExportResult:
        self.is_called.set()
        self.may_answer.wait()
        self.batches.append(sum(not span.parent_span_id for span in request.resource_spans[0].scope_spans[0].spans))
        if self.raises:
            raise RuntimeError("told to raise")
        return self.result

    def shutdown(self) -> None:
        self.is_shut_down = True
        self.may_answer.set()


def record(trace_id: int = 1) -> CallRecord:
    return CallRecord(
        kind=CALL_KINDS["score"],
        reasons=RECORD_REASONS["sampled"],
        trace_id=trace_id,
        span_id=2,
        parent_span_id=0,
        is_sampled=True,
        model="m",
        version="1",
        answer=0,
        failure=0,
        decision=1,
        priority=1,
        row_count=1,
        failed_rows=0,
        batch_rows=1,
        is_degraded=False,
        stamps_ns=(10, 20, 30, 40, 50, 60, 60, 0, 70),
        ended_ns=70,
    )


@pytest.fixture
def collector() -> Collector:
    return Collector()


def test_what_does_not_fit_is_dropped_and_counted_and_nobody_waits(collector: Collector) -> None:
    export = TraceExport(TracingSettings(is_on=True), lambda: collector)
    export.offer([record()])
    assert collector.is_called.wait(20)  # one is on its way; the list is empty
    export.offer([record()] * RECORDS_MAX)
    assert export.overflow_count == 0
    export.offer([record()] * 3)
    assert export.overflow_count == 3
    collector.may_answer.set()
    wait_until(lambda: export.exported_count == RECORDS_MAX + 1, "all that fitted are sent")
    assert max(collector.batches) == SEND_RECORDS_MAX
    export.close(20)
    assert collector.is_shut_down


def test_close_sends_what_waits(collector: Collector) -> None:
    collector.may_answer.set()
    export = TraceExport(TracingSettings(is_on=True), lambda: collector)
    export.offer([record(i) for i in range(1, 101)])
    export.close(20)
    export.close(20)
    assert (export.exported_count, export.unsent_count) == (100, 0)
    assert sum(collector.batches) == 100


def test_close_gives_up_after_its_time_and_counts_the_rest(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    export = TraceExport(TracingSettings(is_on=True), lambda: collector)
    export.offer([record()] * (SEND_RECORDS_MAX + 5))
    assert collector.is_called.wait(20)
    collector.result = SpanExportResult.FAILURE  # a call that shutdown() ended has failed
    export.close(0.0)
    assert export.exported_count == 0
    assert export.unsent_count == SEND_RECORDS_MAX + 5


def test_a_collector_that_refuses_or_breaks_loses_its_batch_only(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    collector.may_answer.set()
    collector.result = SpanExportResult.FAILURE
    export = TraceExport(TracingSettings(is_on=True), lambda: collector)
    export.offer([record()])
    wait_until(lambda: export.unsent_count == 1, "a refused batch is counted")
    collector.raises = True
    export.offer([record()])
    wait_until(lambda: export.unsent_count == 2, "a batch that raised is counted")
    collector.raises = False
    collector.result = SpanExportResult.SUCCESS
    export.offer([record()])
    wait_until(lambda: export.exported_count == 1, "the next one is sent")
    export.close(20)
    # However many are lost, a line when it begins and one when it ends.
    assert [line.levelname for line in caplog.records if line.name == "assay.tracing"] == ["WARNING", "INFO"]
