"""Spans of one call, made after its end from the times that the core stamped.

    assay.v1.ScoringService/Score          SERVER    received .. answered
      decode look_up queue assemble infer commit respond    INTERNAL, one behind the other; as far as the call came

A ScoreBatch decodes and looks up its rows in turn: there both are one span, admit. A message of a ScoreStream has a server span
of its own, a child of whoever opened the stream. Calls that shared a run of the model are linked to its span (batch_spans.py).

Imports the OpenTelemetry SDK: only where tracing is on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import grpc
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from assay import __version__
from assay._core import CALL_KINDS, CODE_TABLE, DECISIONS, PRIORITIES, RECORD_REASONS, STAGES, CallRecord
from assay.observe import semconv
from assay.observe.batch_spans import BATCH_SPAN, BatchSpans, Ids, Run, add_link, run_of
from assay.observe.calls import method_of

SHAPES_MAX: Final = 1024  # of records whose spans are kept encoded


def make_resource() -> Resource:
    """Who we are: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, and our own name and version where those say nothing."""
    found = Resource.create()
    own: dict[str, AttributeValue] = {}
    if str(found.attributes.get(semconv.SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        own[semconv.SERVICE_NAME] = "assay"
    if semconv.SERVICE_VERSION not in found.attributes:
        own[semconv.SERVICE_VERSION] = __version__
    return found.merge(Resource(own))


class SpanMaker:
    """Makes messages for a collector of records. The SDK encodes the spans of one record of a shape (all but ids and times) once;
    after that they are copied, at a tenth of the cost. `resource`: of all of them."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._frame = ExportTraceServiceRequest()
        self._frame.CopyFrom(encode_spans([self._span("frame", SpanKind.INTERNAL)]))
        self._frame.resource_spans[0].scope_spans[0].ClearField("spans")
        (batch,) = encode_spans([self._span(BATCH_SPAN, SpanKind.INTERNAL)]).resource_spans[0].scope_spans[0].spans
        self._batch = batch
        self._batches = BatchSpans()
        self._shape = lru_cache(SHAPES_MAX)(self._make_shape)

    def request(self, records: Sequence[CallRecord], wall_offset_ns: int) -> ExportTraceServiceRequest:
        """Of each record the server span, then its stages; then the runs that several calls shared. `wall_offset_ns`, added to a
        monotonic time, gives the time of day."""
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._frame)
        spans = request.resource_spans[0].scope_spans[0].spans
        members: dict[Run, list[Ids]] = {}
        for record in records:
            server = self._add(spans, record, wall_offset_ns)
            if (run := run_of(record)) is not None:
                add_link(server, self._batches.ids(run))
                members.setdefault(run, []).append(Ids(server.trace_id, server.span_id))
        for run in self._batches.take_new(list(members)):
            self._add_batch(spans, run, members[run], wall_offset_ns)
        return request

    def _add_batch(self, spans: Any, run: Run, members: Sequence[Ids], wall_offset_ns: int) -> None:
        spans.append(self._batch)
        span = spans[-1]
        trace_id, span.span_id = self._batches.ids(run)
        _set_times(span, trace_id, run.formed_ns + wall_offset_ns, run.scored_ns + wall_offset_ns)
        for key, value in ((semconv.ASSAY_MODEL, run.model), (semconv.ASSAY_VERSION, run.version)):
            span.attributes.add(key=key).value.string_value = value
        span.attributes.add(key=semconv.ASSAY_BATCH_ROWS).value.int_value = run.rows
        for member in members:
            add_link(span, member)

    def _add(self, spans: Any, record: CallRecord, wall_offset_ns: int) -> Span:
        trace_id, own_id = record.trace_id.to_bytes(16, "big"), _span_id(record.span_id)
        server, *stages = self._shape(_shape_of(record))
        spans.append(server)
        span: Span = spans[-1]
        span.span_id = own_id
        if record.parent_span_id:
            span.parent_span_id = _span_id(record.parent_span_id)
        for attribute in span.attributes:
            if field := _COUNTS.get(attribute.key):
                attribute.value.int_value = getattr(record, field)
        _set_times(span, trace_id, record.stamps_ns[0] + wall_offset_ns, record.ended_ns + wall_offset_ns)
        for stage, (_, start_ns, end_ns) in zip(stages, _stages(record), strict=True):
            spans.append(stage)
            spans[-1].span_id = _span_id(_IDS.generate_span_id())
            spans[-1].parent_span_id = own_id
            _set_times(spans[-1], trace_id, start_ns + wall_offset_ns, end_ns + wall_offset_ns)
        return span

    def _make_shape(self, record: CallRecord) -> list[Span]:
        own = _context(record, record.span_id)
        parent = _context(record, record.parent_span_id, is_remote=True) if record.parent_span_id else None
        found = [self._span(method_of(record), SpanKind.SERVER, own, parent, _attributes(record), _status(record))]
        for name, _, _ in _stages(record):
            found.append(self._span(name, SpanKind.INTERNAL, _context(record, _IDS.generate_span_id()), own))
        return list(encode_spans(found).resource_spans[0].scope_spans[0].spans)

    def _span(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext = INVALID_SPAN_CONTEXT,
        parent: SpanContext | None = None,
        attributes: dict[str, AttributeValue] | None = None,
        status: Status | None = None,
    ) -> ReadableSpan:
        return ReadableSpan(
            name=name,
            kind=kind,
            context=context,
            parent=parent,
            resource=self._resource,
            instrumentation_scope=_SCOPE,
            attributes=attributes,
            status=status or Status(StatusCode.UNSET),
            start_time=0,
            end_time=0,
        )


# --- implementation ---


_SCOPE = InstrumentationScope("assay", __version__)
_IDS = RandomIdGenerator()
_GRPC_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_DECISION_NAMES = {number: name for name, number in DECISIONS.items()}
_PRIORITY_NAMES = {number: name for name, number in PRIORITIES.items()}

# Attributes that are set in each copy, and the record's fields.
_COUNTS = {
    semconv.ASSAY_ROWS: "row_count",
    semconv.ASSAY_FAILED_ROWS: "failed_rows",
    semconv.ASSAY_BATCH_ROWS: "batch_rows",
}

# Of a ScoreBatch: from the first stage's start to the second's end, then the rest.
_BATCH_STAGES = (("admit", STAGES[0][1], STAGES[1][2]), *STAGES[2:])


def _shape_of(record: CallRecord) -> CallRecord:
    """What its spans have in common with others': ids and times only say whether they are there. Not the counts, which clients
    choose."""
    return record._replace(
        trace_id=1,
        span_id=1,
        parent_span_id=1 if record.parent_span_id else 0,
        stamps_ns=tuple(map(bool, record.stamps_ns)),
        ended_ns=1,
        is_sampled=True,
        row_count=0,
        failed_rows=0,
        batch_rows=0,
    )


def _span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _set_times(span: Span, trace_id: bytes, start_ns: int, end_ns: int) -> None:
    span.trace_id = trace_id
    span.start_time_unix_nano = start_ns
    span.end_time_unix_nano = end_ns


def _context(record: CallRecord, span_id: int, *, is_remote: bool = False) -> SpanContext:
    # What is exported was recorded: it is sampled, whatever the caller thought.
    return SpanContext(record.trace_id, span_id, is_remote, TraceFlags(TraceFlags.SAMPLED))


def _grpc_name(record: CallRecord) -> str:
    return _GRPC_NAMES[CODE_TABLE[record.answer].grpc_code]


def _status(record: CallRecord) -> Status:
    is_error = _grpc_name(record) in semconv.SERVER_ERROR_CODES
    return Status(StatusCode.ERROR, CODE_TABLE[record.answer].reason) if is_error else Status(StatusCode.UNSET)


def _attributes(record: CallRecord) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        semconv.RPC_SYSTEM_NAME: semconv.RPC_SYSTEM_GRPC,
        semconv.RPC_METHOD: method_of(record),
        semconv.RPC_RESPONSE_STATUS_CODE: _grpc_name(record),
        semconv.ASSAY_ROWS: record.row_count,
        semconv.ASSAY_FAILED_ROWS: record.failed_rows,
        semconv.ASSAY_BATCH_ROWS: record.batch_rows,
        semconv.ASSAY_DEGRADED: record.is_degraded,
        semconv.ASSAY_RECORDED_BECAUSE: [
            name for name, bit in RECORD_REASONS.items() if record.reasons & bit and name != "logged"
        ],
    }
    if record.model:
        attributes[semconv.ASSAY_MODEL] = record.model
        attributes[semconv.ASSAY_VERSION] = record.version
    if record.priority:
        attributes[semconv.ASSAY_PRIORITY] = _PRIORITY_NAMES[record.priority]
    if record.decision:
        attributes[semconv.ASSAY_DECISION] = _DECISION_NAMES[record.decision]
    if failure := record.answer or record.failure:
        attributes[semconv.ERROR_TYPE] = CODE_TABLE[failure].reason
    return attributes


def _stages(record: CallRecord) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of each stage that was begun; one in which the call ended lasts until then."""
    for name, start, end in _BATCH_STAGES if record.kind == CALL_KINDS["batch"] else STAGES:
        if not record.stamps_ns[start]:
            return
        yield name, record.stamps_ns[start], record.stamps_ns[end] or record.ended_ns
