"""Spans of one call, made after its end from the times that the core stamped.

    assay.v1.ScoringService/Score          SERVER    received .. answered
      decode look_up queue assemble infer explain commit respond    INTERNAL, one behind the other; as far as the call came

A ScoreBatch decodes and looks up its rows in turn: there both are one span, admit. A message of a ScoreStream has a server span
of its own, a child of whoever opened the stream. Calls that shared a run of the model are linked to its span (batch_spans.py).

Imports the OpenTelemetry SDK: only where tracing is on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random
from typing import Any, Final, NamedTuple

import grpc
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from assay import __version__
from assay._core import CALL_KINDS, CODE_TABLE, DECISIONS, PRIORITIES, RECORD_REASONS, STAGES, CallRecord
from assay.observe import semconv
from assay.observe.batch_spans import BATCH_SPAN, BatchSpans, Ids, Run, add_link, run_of
from assay.observe.calls import is_explained, method_of

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
    after that only what differs is encoded, at a small part of the cost. `resource`: of all of them. One thread."""

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
        scope = request.resource_spans[0].scope_spans[0]
        members: dict[Run, list[Ids]] = {}
        encoded: list[bytes] = []
        for record in records:
            shape = self._shape(_shape_of(record))
            own_id = _span_id(record.span_id)
            trace_id = record.trace_id.to_bytes(16, "big")
            run = run_of(record)
            if run is not None:
                members.setdefault(run, []).append(Ids(trace_id, own_id))
            encoded += self._encode_server(shape, record, run, trace_id, own_id, wall_offset_ns)
            encoded += _encode_stages(shape, record, trace_id, own_id, wall_offset_ns)
        scope.MergeFromString(b"".join(encoded))
        for run in self._batches.take_new(list(members)):
            self._add_batch(scope.spans, run, members[run], wall_offset_ns)
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

    def _encode_server(
        self, shape: _Shape, record: CallRecord, run: Run | None, trace_id: bytes, own_id: bytes, wall_offset_ns: int
    ) -> tuple[bytes, bytes]:
        span = Span()
        span.CopyFrom(shape.server)
        span.span_id = own_id
        if record.parent_span_id:
            span.parent_span_id = _span_id(record.parent_span_id)
        for index, field in shape.counts:
            span.attributes[index].value.int_value = getattr(record, field)
        _set_times(span, trace_id, record.stamps_ns[0] + wall_offset_ns, record.ended_ns + wall_offset_ns)
        if run is not None:
            add_link(span, self._batches.ids(run))
        body = span.SerializeToString()
        return _frame(len(body)), body

    def _make_shape(self, record: CallRecord) -> _Shape:
        own = _context(record, record.span_id)
        parent = _context(record, record.parent_span_id, is_remote=True) if record.parent_span_id else None
        found = [self._span(method_of(record), SpanKind.SERVER, own, parent, _attributes(record), _status(record))]
        found += [self._span(name, SpanKind.INTERNAL, own, own) for name, _, _ in _stages(record)]
        server, *stages = encode_spans(found).resource_spans[0].scope_spans[0].spans
        counts = [(index, _COUNTS[one.key]) for index, one in enumerate(server.attributes) if one.key in _COUNTS]
        return _Shape(server, counts, [_Stage.of(span, *stage[1:]) for span, stage in zip(stages, _stages(record), strict=True)])

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


# What differs between the stages of one shape, as a Span has it on the wire, where the order of fields is free.
_OWN_FIELDS = struct.Struct("<2s16s2s8s2s8scQcQ")
_TRACE_ID, _SPAN_ID, _PARENT = b"\x0a\x10", b"\x12\x08", b"\x22\x08"  # bytes: field number << 3 | 2, length
_START, _END = b"\x39", b"\x41"  # fixed64: field number << 3 | 1

_random = Random()  # of ids, which need not be secret


class _Stage(NamedTuple):
    start: int  # in CallRecord.stamps_ns
    end: int  # likewise; where that is 0, the call ended in this stage
    frame: bytes  # what stands before its bytes in ScopeSpans
    rest: bytes  # all but _OWN_FIELDS

    @classmethod
    def of(cls, span: Span, start: int, end: int) -> _Stage:
        """Of a span as the SDK encodes it."""
        for name in ("trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano"):
            span.ClearField(name)
        rest = span.SerializeToString()
        return cls(start, end, _frame(_OWN_FIELDS.size + len(rest)), rest)


class _Shape(NamedTuple):
    server: Span
    counts: list[tuple[int, str]]  # which of its attributes are a record's own, and the record's fields
    stages: list[_Stage]


def _encode_stages(shape: _Shape, record: CallRecord, trace_id: bytes, parent_id: bytes, wall_offset_ns: int) -> Iterator[bytes]:
    stamps_ns = record.stamps_ns
    ids = _random.randbytes(8 * len(shape.stages))
    for index, (start, end, frame, rest) in enumerate(shape.stages):
        start_ns = stamps_ns[start] + wall_offset_ns
        end_ns = (stamps_ns[end] or record.ended_ns) + wall_offset_ns
        own_id = ids[8 * index : 8 * index + 8]
        yield frame
        yield _OWN_FIELDS.pack(_TRACE_ID, trace_id, _SPAN_ID, own_id, _PARENT, parent_id, _START, start_ns, _END, end_ns)
        yield rest


def _frame(size: int) -> bytes:
    """Tag and length of one of ScopeSpans' spans."""
    frame = bytearray((ScopeSpans.SPANS_FIELD_NUMBER << 3 | 2,))
    for _ in range(5):
        if size < 0x80:
            break
        frame.append(size & 0x7F | 0x80)
        size >>= 7
    frame.append(size)
    return bytes(frame)


def _reached(record: CallRecord) -> tuple[int, ...]:
    """1 for each stamp that there is; where the call was explained they all differ, so that the shape was explained, too."""
    step = int(is_explained(record))
    return tuple(1 + index * step if stamp else 0 for index, stamp in enumerate(record.stamps_ns))


def _shape_of(record: CallRecord) -> CallRecord:
    """What its spans have in common with others': ids and times only say whether they are there. Not the counts, which clients
    choose."""
    return record._replace(
        trace_id=1,
        span_id=1,
        parent_span_id=1 if record.parent_span_id else 0,
        stamps_ns=_reached(record),
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
    """(name, its start, its end in stamps_ns) of each stage that was begun; one in which the call ended has no end stamp."""
    for name, start, end in _BATCH_STAGES if record.kind == CALL_KINDS["batch"] else STAGES:
        if not record.stamps_ns[start]:
            return
        if name != "explain" or is_explained(record):
            yield name, start, end
