"""What transactions turned out to be, in the audit log: a record for each label that came to this server by RecordEvents, and one
more each time that it comes again. Labels that `assay ingest` writes to a store do not pass here."""

from __future__ import annotations

import time
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from assay import _core
from assay.codes import NUMBERS
from assay.v1 import audit_pb2, feature_pb2

# One that comes again may come because it could not be put on record the first time.
_RECORDED = frozenset({NUMBERS["OK"], NUMBERS["EVENT_DUPLICATE"]})


class LabelRecords:
    """Writes them: transport.feature_service.LabelLog. One thread at a time."""

    def __init__(self, log: _core.AuditLog, key: bytes) -> None:
        self._log = log
        self._key = key

    def refuses(self, message: bytes) -> bool:
        """Whether the message has labels for which there is no room."""
        if not self._log.is_refusing:
            return False
        try:
            return any(event.HasField("is_fraud") for event in _events_of(message))
        except DecodeError:
            return False  # it will be refused for that

    def record(self, message: bytes, codes: Sequence[int]) -> bool:
        """`message`: a RecordEventsRequest that was recorded; `codes`: what each of its events came to. Comes back once its
        labels are where the log's level wants them. False: they are not."""
        if _RECORDED.isdisjoint(codes):
            return True
        received_us = time.time_ns() // 1000
        recorded = [event for event, code in zip(_events_of(message), codes, strict=True) if code in _RECORDED]
        labels = [self._label(event, received_us) for event in recorded if event.HasField("is_fraud")]
        return self._log.commit([label.SerializeToString() for label in labels])

    def _label(self, event: feature_pb2.Event, received_us: int) -> audit_pb2.AuditRecord:
        label = audit_pb2.LabelRecord(
            transaction_id=_core.tokenised(event.transaction_id, self._key),
            event_time_us=event.event_time.ToMicroseconds(),
            label_time_us=event.label_time.ToMicroseconds() if event.HasField("label_time") else 0,
            received_us=received_us,
            is_fraud=event.is_fraud,
        )
        return audit_pb2.AuditRecord(label=label)


# --- implementation ---


def _events_of(message: bytes) -> Sequence[feature_pb2.Event]:
    """Raises DecodeError."""
    return feature_pb2.RecordEventsRequest.FromString(message).events
