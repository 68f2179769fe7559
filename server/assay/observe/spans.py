"""Spans of one call, made after its end from the times that the core stamped.

    assay.v1.ScoringService/Score          SERVER    received .. answered
      decode look_up queue assemble infer respond    INTERNAL, one behind the other; as far as the call came

A ScoreBatch decodes and looks up its rows in turn: there both are one span, admit. A message of a ScoreStream has a server span
of its own, a child of whoever opened the stream.

Imports the OpenTelemetry SDK: only where tracing is on.
"""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from assay import __version__
from assay._core import CALL_KINDS, CODE_TABLE, DECISIONS, PRIORITIES, RECORD_REASONS, STAGES, CallRecord
from assay.observe import semconv
from assay.observe.calls import method_of


def make_resource() -> Resource:
    """Who we are: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, and our own name and version where those say nothing."""
    found = Resource.create()
    own: dict[str, AttributeValue] = {}
    if str(found.attributes.get(semconv.SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        own[semconv.SERVICE_NAME] = "assay"
    if semconv.SERVICE_VERSION not in found.attributes:
        own[semconv.SERVICE_VERSION] = __version__
    whole = found.merge(Resource(own))
    return _Resource(dict(whole.attributes), whole.schema_url)


class SpanMaker:
    """Makes spans of records. `wall_offset_ns`, added to a monotonic time, gives the time of day."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    def spans(self, record: CallRecord, wall_offset_ns: int) -> Iterator[ReadableSpan]:
        """The server span, then its stages."""
        own = _context(record, record.span_id)
        parent = _context(record, record.parent_span_id, is_remote=True) if record.parent_span_id else None
        yield ReadableSpan(
            name=method_of(record),
            kind=SpanKind.SERVER,
            context=own,
            parent=parent,
            resource=self._resource,
            instrumentation_scope=_SCOPE,
            attributes=_attributes(record),
            status=_status(record),
            start_time=record.stamps_ns[0] + wall_offset_ns,
            end_time=record.ended_ns + wall_offset_ns,
        )
        for name, start_ns, end_ns in _stages(record):
            yield ReadableSpan(
                name=name,
                kind=SpanKind.INTERNAL,
                context=_context(record, _IDS.generate_span_id()),
                parent=own,
                resource=self._resource,
                instrumentation_scope=_SCOPE,
                start_time=start_ns + wall_offset_ns,
                end_time=end_ns + wall_offset_ns,
            )


# --- implementation ---


class _Resource(Resource):
    """Knows its hash. The SDK asks for it with every span that it encodes and makes it anew, by way of JSON."""

    def __init__(self, attributes: dict[str, AttributeValue], schema_url: str | None) -> None:
        super().__init__(attributes, schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


_SCOPE = InstrumentationScope("assay", __version__)
_IDS = RandomIdGenerator()
_GRPC_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_DECISION_NAMES = {number: name for name, number in DECISIONS.items()}
_PRIORITY_NAMES = {number: name for name, number in PRIORITIES.items()}

# Of a ScoreBatch: from the first stage's start to the second's end, then the rest.
_BATCH_STAGES = (("admit", STAGES[0][1], STAGES[1][2]), *STAGES[2:])


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
        semconv.ASSAY_RECORDED_BECAUSE: [name for name, bit in RECORD_REASONS.items() if record.reasons & bit],
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
