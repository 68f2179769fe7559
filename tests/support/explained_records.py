"""Audit logs with scores and explanations that no server wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.v1 import audit_pb2
from tests.support.audit_logs import append, open_log, spool_with_key


def hand_made(spool: Path, *records: audit_pb2.AuditRecord) -> Path:
    """A log that holds these records behind a lineage of two inputs in one group."""
    lineage = audit_pb2.LineageRecord(number=1, row_bytes=8, groups=["both", "[bold]x\x1b[2J"], reasons_version="1")
    for at, name in enumerate(("a", "b")):
        lineage.inputs.add(name=name, type="float32", offset_bytes=4 * at)
    lineage.provenance.model, lineage.provenance.version = "m", "1"
    log = open_log(spool_with_key(spool))
    append(log, [one.SerializeToString() for one in (audit_pb2.AuditRecord(lineage=lineage), *records)])
    log.close()
    return spool


def score_record(transaction_id: str = "t", **fields: Any) -> audit_pb2.AuditRecord:
    values = {"transaction_id": transaction_id, "lineage": 1, "score": 0.5, "received_us": 7, "decision": 1, **fields}
    return audit_pb2.AuditRecord(score=audit_pb2.ScoreRecord(**values))


def explanation_record(**fields: Any) -> audit_pb2.ExplanationRecord:
    values = {"method": 3, "base_margin": -1.0, "margin": 0.0, "players": 1, "contributions": [1.5, -0.5], **fields}
    return audit_pb2.ExplanationRecord(**values)
