"""Messages for a collector against the SDK's, span by span: what is encoded once and copied is what the SDK would encode."""

from __future__ import annotations

import random

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from assay import __version__
from assay._core import CALL_KINDS, CODE_TABLE, DECISIONS, PRIORITIES, RECORD_REASONS, STAGES, CallRecord
from assay.observe.batch_spans import BATCH_SPAN
from assay.observe.spans import SHAPES_MAX, SpanMaker

RESOURCE = Resource({"service.name": "assay-test", "host.cpus": 2}, "https://opentelemetry.io/schemas/1.27.0")
SCOPE = InstrumentationScope("assay", __version__)
((SCORED, EXPLAINED),) = ((start, end) for name, start, end in STAGES if name == "explain")
OFFSET_NS = 1_700_000_000_000_000_000
SERVER_ERRORS = {2, 4, 12, 13, 14, 15}  # UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS


def some_record(rng: random.Random) -> CallRecord:
    reached = rng.randrange(1, 10)  # stamps come one after the other; the call may end in any stage
    stamps = [1_000 + 10 * index if index < reached else 0 for index in range(9)]
    if rng.random() < 0.5 and reached > EXPLAINED:  # nobody asked for an explanation
        stamps[EXPLAINED] = stamps[SCORED]
    has_lane = rng.random() < 0.8
    return CallRecord(
        kind=rng.choice([kind for name, kind in CALL_KINDS.items() if name != "probe"]),  # nobody sent such a call
        reasons=rng.randrange(1, 2 * max(RECORD_REASONS.values())),
        trace_id=rng.getrandbits(128) | 1,
        span_id=rng.getrandbits(64) | 1,
        parent_span_id=rng.choice([0, rng.getrandbits(64) | 1]),
        is_sampled=rng.random() < 0.5,
        model="card_fraud" if has_lane else "",
        version="1" if has_lane else "",
        answer=rng.randrange(len(CODE_TABLE)) if rng.random() < 0.4 else 0,
        failure=rng.randrange(len(CODE_TABLE)) if rng.random() < 0.2 else 0,
        decision=rng.choice([0, *DECISIONS.values()]),
        priority=rng.choice([0, *PRIORITIES.values()]),
        row_count=rng.randrange(4),
        failed_rows=rng.randrange(2),
        batch_rows=rng.randrange(3),
        is_degraded=rng.random() < 0.2,
        stamps_ns=tuple(stamps),
        ended_ns=2_000,
    )


def encoded_by_the_sdk(maker_spans: ExportTraceServiceRequest, records: list[CallRecord]) -> ExportTraceServiceRequest:
    """Times, ids and status made here; names and attributes, which integration tests look at, as the maker has them."""
    made = iter(maker_spans.resource_spans[0].scope_spans[0].spans)
    spans = []
    for record in records:
        own = SpanContext(record.trace_id, record.span_id, is_remote=False, trace_flags=TraceFlags(1))
        parent = SpanContext(record.trace_id, record.parent_span_id, is_remote=True, trace_flags=TraceFlags(1))
        row = CODE_TABLE[record.answer]
        times = [(record.stamps_ns[0], record.ended_ns)]
        for name, start, end in STAGES:
            if record.kind == CALL_KINDS["batch"] and name == STAGES[1][0]:
                continue  # one span with the stage before it
            if not record.stamps_ns[start]:
                break
            if name == "explain" and record.stamps_ns[start] == record.stamps_ns[end]:
                continue  # it has no such stage
            last = STAGES[1][2] if record.kind == CALL_KINDS["batch"] and name == STAGES[0][0] else end
            times.append((record.stamps_ns[start], record.stamps_ns[last] or record.ended_ns))
        for index, (start_ns, end_ns) in enumerate(times):
            span = next(made)
            is_server = index == 0
            span_id = record.span_id if is_server else int.from_bytes(span.span_id, "big")
            attributes = {one.key: value_of(one.value) for one in span.attributes}
            if is_server:
                counts = [attributes[f"assay.{name}"] for name in ("rows", "failed_rows", "batch_rows")]
                assert counts == [record.row_count, record.failed_rows, record.batch_rows]
            is_error = is_server and row.grpc_code in SERVER_ERRORS
            spans.append(
                ReadableSpan(
                    name=span.name,
                    kind=SpanKind.SERVER if is_server else SpanKind.INTERNAL,
                    context=SpanContext(record.trace_id, span_id, is_remote=False, trace_flags=TraceFlags(1)),
                    parent=(parent if record.parent_span_id else None) if is_server else own,
                    resource=RESOURCE,
                    instrumentation_scope=SCOPE,
                    attributes=attributes,
                    status=Status(StatusCode.ERROR, row.reason) if is_error else Status(StatusCode.UNSET),
                    start_time=start_ns + OFFSET_NS,
                    end_time=end_ns + OFFSET_NS,
                )
            )
    assert next(made, None) is None
    return encode_spans(spans)


def value_of(value: object) -> object:
    kind = value.WhichOneof("value")  # type: ignore[attr-defined]
    found = getattr(value, kind)
    return [value_of(one) for one in found.values] if kind == "array_value" else found


def without_batches(request: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    spans = request.resource_spans[0].scope_spans[0].spans
    kept = [span for span in spans if span.name != BATCH_SPAN]
    for span in kept:
        span.ClearField("links")
    copy = ExportTraceServiceRequest()
    copy.CopyFrom(request)
    copy.resource_spans[0].scope_spans[0].ClearField("spans")
    copy.resource_spans[0].scope_spans[0].spans.extend(kept)
    return copy


def in_one_run(rng: random.Random, count: int, rows: int) -> list[CallRecord]:
    """Records of calls that were scored by one run."""
    stamps = tuple(range(1_000, 1_090, 10))
    one = some_record(rng)._replace(model="m", version="1", batch_rows=rows, stamps_ns=stamps, kind=CALL_KINDS["score"])
    return [one._replace(trace_id=rng.getrandbits(128) | 1, span_id=rng.getrandbits(63) | 1) for _ in range(count)]


def test_calls_of_one_run_are_linked_to_its_span_and_it_to_them(rng: random.Random) -> None:
    maker = SpanMaker(RESOURCE)
    records = in_one_run(rng, 3, rows=5)
    spans = maker.request(records, OFFSET_NS).resource_spans[0].scope_spans[0].spans
    (batch,) = (span for span in spans if span.name == BATCH_SPAN)
    servers = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert [(link.trace_id, link.span_id) for link in batch.links] == [(one.trace_id, one.span_id) for one in servers]
    for server in servers:
        (link,) = server.links
        assert (link.trace_id, link.span_id) == (batch.trace_id, batch.span_id)
    assert not batch.parent_span_id
    assert batch.trace_id not in {server.trace_id for server in servers}
    assert {one.key: value_of(one.value) for one in batch.attributes} == {
        "assay.model": "m",
        "assay.version": "1",
        "assay.batch_rows": 5,
    }
    (late,) = in_one_run(rng, 1, rows=5)  # told in a later message: it finds the span, which is not told again
    late = late._replace(stamps_ns=records[0].stamps_ns)
    spans = maker.request([late], OFFSET_NS).resource_spans[0].scope_spans[0].spans
    assert BATCH_SPAN not in {span.name for span in spans}
    assert spans[0].links[0].span_id == batch.span_id


def test_a_call_that_was_scored_alone_has_no_batch(rng: random.Random) -> None:
    maker = SpanMaker(RESOURCE)
    spans = maker.request(in_one_run(rng, 1, rows=1), OFFSET_NS).resource_spans[0].scope_spans[0].spans
    assert BATCH_SPAN not in {span.name for span in spans}
    assert not spans[0].links


def test_copied_spans_are_the_sdks() -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    maker = SpanMaker(RESOURCE)
    for _ in range(60):
        records = [some_record(rng) for _ in range(rng.randrange(1, 8))]
        if rng.random() < 0.5:
            records += [record._replace(trace_id=rng.getrandbits(128) | 1) for record in records]  # of a shape that is known
        request = without_batches(maker.request(records, OFFSET_NS))
        assert request == encoded_by_the_sdk(request, records)


def test_shapes_are_bounded() -> None:
    maker = SpanMaker(RESOURCE)
    rng = random.Random(1)
    record = some_record(rng)
    for count in range(SHAPES_MAX + 10):
        maker.request([record._replace(row_count=count, failed_rows=count, batch_rows=count)], OFFSET_NS)
    assert maker._shape.cache_info().currsize == 1  # what clients choose makes none
    for count in range(SHAPES_MAX + 10):
        maker.request([record._replace(version=str(count))], OFFSET_NS)
    assert maker._shape.cache_info().currsize == SHAPES_MAX
