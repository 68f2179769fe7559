"""What transactions turned out to be, in the audit log: a record for each label that came to this server by RecordEvents and
changed something. Labels that `assay ingest` writes to a store do not pass here."""

from __future__ import annotations

import time
from collections.abc import Sequence

from assay import _core
from assay.codes import NUMBERS
from assay.v1 import audit_pb2, feature_pb2

_RECORDED = NUMBERS["OK"]


class LabelRecords:
    """Writes them. One thread at a time."""

    def __init__(self, log: _core.AuditLog, key: bytes) -> None:
        self._log = log
        self._key = key

    def record(self, message: bytes, codes: Sequence[int]) -> int:
        """`message`: a RecordEventsRequest that was recorded; `codes`: what each of its events came to. Returns how many labels
        there were."""
        if _RECORDED not in codes:
            return 0
        received_us = time.time_ns() // 1000
        events = feature_pb2.RecordEventsRequest.FromString(message).events
        labels = [event for event, code in zip(events, codes, strict=True) if code == _RECORDED and event.HasField("is_fraud")]
        for event in labels:
            self._log.append_record(self._label(event, received_us).SerializeToString())
        return len(labels)

    def _label(self, event: feature_pb2.Event, received_us: int) -> audit_pb2.AuditRecord:
        label = audit_pb2.LabelRecord(
            transaction_id=_core.tokenised(event.transaction_id, self._key),
            event_time_us=event.event_time.ToMicroseconds(),
            label_time_us=event.label_time.ToMicroseconds() if event.HasField("label_time") else 0,
            received_us=received_us,
            is_fraud=event.is_fraud,
        )
        return audit_pb2.AuditRecord(label=label)
