"""assay.v1.FeatureService: events in. Answers on the admin listener only."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import grpc
from google.rpc import status_pb2

from assay._core import LIMITS, Engine, Refusal
from assay.codes import NUMBERS
from assay.errors import RecordError, StoreError
from assay.features.store_writer import EventWriters, StoreWriter
from assay.observe.logs import log_event
from assay.transport.status import abort
from assay.transport.worker import Worker
from assay.v1 import feature_pb2

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context, Handler

log = logging.getLogger("assay.store")

REJECTIONS_SHOWN_MAX = 100

_DUPLICATE = NUMBERS["EVENT_DUPLICATE"]
_TOO_LATE = NUMBERS["EVENT_TOO_LATE"]
_OK = 0
_NAMES = {_OK: "recorded", _DUPLICATE: "duplicate", _TOO_LATE: "too_late"}
_REJECTED = "rejected"
_UNTRIED = "rejected_by_tried"  # by the feature set of a version that answers nobody yet


class LabelLog(Protocol):
    """Where labels are put on record (assay.audit.labels). Called by the thread that records events."""

    def refuses(self, message: bytes) -> bool:
        """Whether labels of this RecordEventsRequest could not be put on record now."""
        ...

    def record(self, message: bytes, codes: Sequence[int]) -> bool:
        """`message` was recorded, `codes`: what each of its events came to. False: its labels are not on record, so the caller
        has to come again."""
        ...


# What one event came to: (code, transaction_id, why it was refused).
_Outcome = tuple[int, str, Refusal | None]


class FeatureService:
    """Records events into every feature set that is served. `writers`: asked for each message.

    With several that decide, each records every event, and an event that one of them rejects is rejected (recording it again
    after the mend is harmless)."""

    def __init__(self, writers: Callable[[], EventWriters], engine: Engine, labels: LabelLog | None = None) -> None:
        self._writers = writers
        self._engine = engine
        self._labels = labels
        # Events by outcome, written by the thread.
        self.counts = Counter[str](dict.fromkeys((*_NAMES.values(), _REJECTED, _UNTRIED), 0))
        # A message of 1,000 events takes milliseconds: not on the event loop. One thread keeps one caller's order.
        self._worker = Worker("assay-events")

    @property
    def held_count(self) -> int:
        """Messages that are being written or wait for it."""
        return self._worker.held_count

    def handlers(self) -> dict[str, Handler]:
        """Full method name -> handler. Requests stay bytes: the core decodes them."""
        return {
            "/assay.v1.FeatureService/RecordEvents": grpc.stream_unary_rpc_method_handler(
                self._record_events, response_serializer=feature_pb2.RecordEventsResponse.SerializeToString
            )
        }

    def close(self) -> None:
        """Waits for the message that is being written, if there is one: not on the event loop."""
        self._worker.close()

    async def _record_events(self, _: AsyncIterator[bytes], context: Context) -> feature_pb2.RecordEventsResponse:
        """A message that finds no room is refused, rather than left unread until there is some: its caller learns at once that
        this server's store is slow, and may ask another."""
        response = feature_pb2.RecordEventsResponse()
        index = 0
        # Not the iterator, which is a ring of references with the last message in it.
        while (message := await context.read()) is not grpc.aio.EOF:
            recording = self._worker.start(partial(self._record, message), len(message))
            if recording is None:
                await abort(context, self._engine.refuse_call("QUEUE_FULL", f"{self.held_count} messages are under way"))
            try:
                outcomes = await recording
            except StoreError as error:
                log_event(log, logging.WARNING, "events not recorded", error=str(error))
                # A bad record stays bad: nobody should be told to try again.
                outcomes = self._engine.refuse(error.reason if isinstance(error, RecordError) else "STORE_UNAVAILABLE")
            if isinstance(outcomes, Refusal):
                self._engine.count_refused_call(outcomes)
                await abort(context, outcomes)
            for outcome in outcomes:
                _tell(response, index, outcome)
                index += 1
        return response

    def _record(self, message: bytes) -> list[_Outcome] | Refusal:
        if self._labels is not None and self._labels.refuses(message):
            return self._engine.refuse("AUDIT_UNAVAILABLE")
        merged: list[_Outcome] = []
        writers = self._writers()
        for writer in writers.deciding:
            outcomes = writer.record_events(message)
            if isinstance(outcomes, Refusal):
                return outcomes
            merged = [_worse(*pair) for pair in zip(merged, outcomes, strict=True)] if merged else outcomes
        for writer in writers.trying:
            self._try(writer, message)
        # Here, for the caller may have left meanwhile.
        codes = [code for code, _, _ in merged]
        self.counts.update(_NAMES.get(code, _REJECTED) for code in codes)
        if self._labels is not None and not self._labels.record(message, codes):
            return self._engine.refuse("AUDIT_UNAVAILABLE")
        return merged

    def _try(self, writer: StoreWriter, message: bytes) -> None:
        """Into the feature set of a version that answers nobody yet."""
        try:
            outcomes = writer.record_events(message)
        except StoreError as error:
            log_event(log, logging.WARNING, "events not recorded for a version that is being tried", error=str(error))
            return
        if not isinstance(outcomes, Refusal):
            self.counts[_UNTRIED] += sum(_NAMES.get(code) is None for code, _, _ in outcomes)


# --- implementation ---


def _worse(one: _Outcome, other: _Outcome) -> _Outcome:
    """A refusal wins over a record, a record over a no-op."""
    for outcome in (one, other):
        if outcome[0] not in (_OK, _DUPLICATE, _TOO_LATE):
            return outcome
    return one if one[0] == _OK else other


def _tell(response: feature_pb2.RecordEventsResponse, index: int, outcome: _Outcome) -> None:
    """Puts one event's outcome into the response."""
    code, transaction_id, refusal = outcome
    if code == _OK:
        response.recorded_count += 1
        return
    if code == _DUPLICATE:
        response.duplicate_count += 1
        return
    if code == _TOO_LATE:
        response.late_count += 1
        return
    response.rejected_count += 1
    if len(response.rejected_events) < REJECTIONS_SHOWN_MAX:
        is_id = len(transaction_id.encode()) <= LIMITS["id_bytes_max"]  # the answer must not grow with what was sent
        rejected = response.rejected_events.add(index=index, transaction_id=transaction_id if is_id else "")
        if refusal is not None:
            rejected.status.CopyFrom(status_pb2.Status.FromString(refusal.rpc_status))
