"""Records of the audit log for people and for programs: plain values, in one order, of a record and its lineage."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from google.protobuf.message import DecodeError

from assay.audit.reading import LogBlock
from assay.v1 import audit_pb2, scoring_pb2

Document = dict[str, Any]

TYPES: Final = ("score", "shadow", "explanation", "label", "checkpoint", "lineage")
STAGES: Final = ("decode", "look_up", "queue", "assemble", "infer")  # of ScoreRecord.stage_ns
FORMATS: Final = {"float32": "<f", "float64": "<d", "int32": "<i", "int64": "<q", "bool": "<?"}
BITS_OF_WORD: Final = 64
_LINEAGE_TAG: Final = audit_pb2.AuditRecord.LINEAGE_FIELD_NUMBER << 3 | 2
_EPOCH: Final = datetime(1970, 1, 1)  # of times without a zone: all are UTC


@dataclass(frozen=True)
class Entry:
    """One record, where it stands, and the lineage that it refers to."""

    writer: str
    log_id: bytes
    sequence: int
    written_us: int
    chain: bytes  # after its block
    record: audit_pb2.AuditRecord
    lineage: audit_pb2.LineageRecord | None

    @property
    def type(self) -> str:
        """Of TYPES; empty: of a newer assay's kind."""
        return self.record.WhichOneof("kind") or ""

    @property
    def score(self) -> audit_pb2.ScoreRecord | None:
        """Of a score, or of one in shadow."""
        kind = self.type
        return getattr(self.record, kind) if kind in ("score", "shadow") else None

    @property
    def transaction_id(self) -> str:
        """Empty where it is about none."""
        found = getattr(self.record, self.type) if self.type else None
        return str(getattr(found, "transaction_id", ""))

    @property
    def key(self) -> str:
        """By which a sink's consumers recognise a record that comes twice."""
        return f"{self.writer}-{self.log_id.hex()}-{self.sequence}"


class Decoder:
    """Records of the blocks of one log, in order. Remembers lineages, which every segment has anew; those of blocks that
    are not asked for are learnt by learn()."""

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self._segment = 0
        self._lineages: dict[int, audit_pb2.LineageRecord] = {}

    def entries(self, block: LogBlock) -> Iterator[Entry]:
        """All of them. What is no AuditRecord is given as an empty one, of no type."""
        self._enter(block)
        for index, data in enumerate(block.block.records):
            yield self._entry(block, index, data)

    def entries_with(self, block: LogBlock, needle: bytes) -> Iterator[Entry]:
        """Those that contain these bytes."""
        self.learn(block)
        for index, data in enumerate(block.block.records):
            if needle in data:
                yield self._entry(block, index, data)

    def learn(self, block: LogBlock) -> None:
        self._enter(block)
        for data in block.block.records:
            if data[:1] == bytes([_LINEAGE_TAG]):
                self._learn(_parsed(data))

    # --- implementation ---

    def _enter(self, block: LogBlock) -> None:
        if block.segment != self._segment:
            self._segment = block.segment
            self._lineages.clear()

    def _entry(self, block: LogBlock, index: int, data: bytes) -> Entry:
        record = _parsed(data)
        self._learn(record)
        kind = record.WhichOneof("kind")
        number = getattr(record, kind).lineage if kind in ("score", "shadow") else record.lineage.number
        return Entry(
            self._writer,
            block.log_id,
            block.first_sequence + index,
            block.block.written_us,
            block.block.chain,
            record,
            self._lineages.get(number),
        )

    def _learn(self, record: audit_pb2.AuditRecord) -> None:
        if record.WhichOneof("kind") == "lineage":
            self._lineages[record.lineage.number] = record.lineage


def document(entry: Entry) -> Document:
    """For JSON. What every record has comes first; the keys of a type are always the same, in the same order."""
    where: Document = {
        "type": entry.type,
        "writer": entry.writer,
        "log_id": entry.log_id.hex(),
        "sequence": entry.sequence,
        "written": time_text(entry.written_us),
        "chain": entry.chain.hex(),
    }
    describe = _DOCUMENTS.get(entry.type)
    return {**where, **(describe(entry) if describe else {})}


def inputs_of(score: audit_pb2.ScoreRecord, lineage: audit_pb2.LineageRecord) -> dict[str, Any] | None:
    """Input -> value as the model was given it; None for NaN, words for what JSON has no number for. None: only a
    digest was kept, or the row does not fit the lineage."""
    if not score.row or len(score.row) != lineage.row_bytes:
        return None
    values: dict[str, Any] = {}
    for item in lineage.inputs:
        form = FORMATS.get(item.type)
        if form is None or item.offset_bytes + struct.calcsize(form) > len(score.row):
            return None
        (value,) = struct.unpack_from(form, score.row, item.offset_bytes)
        values[item.name] = _json_number(value)
    return values


def names_of_bits(bits: bytes, lineage: audit_pb2.LineageRecord) -> list[str]:
    """The inputs whose bit is set."""
    number = int.from_bytes(bits, "little")
    return [item.name for index, item in enumerate(lineage.inputs) if number >> index & 1]


def decision_name(number: int) -> str:
    return _word(scoring_pb2.Decision, number, "DECISION_")


def time_text(time_us: int) -> str:
    """RFC 3339 with microseconds, UTC; a time that no calendar has as its number."""
    try:
        moment = _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return str(time_us)
    return moment.isoformat(timespec="microseconds") + "Z"


def line(entry: Entry) -> str:
    """One line for people."""
    record, kind = entry.record, entry.type
    head = f"{time_text(entry.written_us)} {entry.writer} {entry.sequence} {kind or 'unknown'}"
    if score := entry.score:
        model = f"{entry.lineage.provenance.model} {entry.lineage.provenance.version}" if entry.lineage else "unknown model"
        flags = "".join(f" {item['kind']}({item['view']})" for item in _degradations(score, entry.lineage))
        return f"{head} {score.transaction_id} {score.score:.6f} {decision_name(score.decision)} {model}{flags}"
    if kind == "label":
        return f"{head} {record.label.transaction_id} {'fraud' if record.label.is_fraud else 'genuine'}"
    if kind == "explanation":
        return f"{head} {record.explanation.transaction_id} {', '.join(record.explanation.reason_codes)}"
    if kind == "checkpoint":
        checkpoint = record.checkpoint
        dropped = "".join(f" {item.cause}={item.records}" for item in checkpoint.dropped)
        reason = _word(audit_pb2.CheckpointReason, checkpoint.reason, "CHECKPOINT_REASON_")
        return f"{head} {reason} recorded={checkpoint.recorded}{dropped}"
    if kind == "lineage":
        return f"{head} {record.lineage.provenance.model} {record.lineage.provenance.version}"
    return head


# --- implementation ---


def _parsed(data: bytes) -> audit_pb2.AuditRecord:
    try:
        return audit_pb2.AuditRecord.FromString(data)
    except DecodeError:
        return audit_pb2.AuditRecord()


def _score(entry: Entry) -> Document:
    score, lineage = entry.score, entry.lineage
    assert score is not None
    provenance = lineage.provenance if lineage else scoring_pb2.Provenance()
    return {
        "transaction_id": score.transaction_id,
        "is_tokenised": score.is_tokenised,
        "event_time": time_text(score.event_time_us),
        "received": time_text(score.received_us),
        "model": provenance.model,
        "version": provenance.version,
        "model_sha256": provenance.model_sha256,
        "feature_set": provenance.feature_set,
        "feature_set_version": provenance.feature_set_version,
        "schema_hash": provenance.schema_hash,
        "runtime": lineage.runtime if lineage else "",
        "score": _json_number(score.score),
        "decision": decision_name(score.decision),
        "thresholds": _thresholds(lineage) if lineage else {},
        "inputs": inputs_of(score, lineage) if lineage else None,
        "row": base64.b64encode(score.row).decode() if score.row else None,
        "row_digest": score.row_digest.hex() or None,
        "missing": names_of_bits(score.missing, lineage) if lineage else [],
        "imputed": names_of_bits(score.imputed, lineage) if lineage else [],
        "degradations": _degradations(score, lineage),
        "stages_ms": {name: ns / 1e6 for name, ns in zip(STAGES, score.stage_ns, strict=False)},
        "batch_rows": score.batch_rows,
        "priority": _word(scoring_pb2.Priority, score.priority, "PRIORITY_"),
        "call": _word(audit_pb2.AuditCall, score.call, "AUDIT_CALL_"),
        "trace_id": score.trace_id.hex() or None,
    }


def _explanation(entry: Entry) -> Document:
    found = entry.record.explanation
    return {
        "transaction_id": found.transaction_id,
        "score_sequence": found.score_sequence,
        "method": found.method,
        "base_value": _json_number(found.base_value),
        "contributions": [_json_number(value) for value in found.contributions],
        "reason_codes": list(found.reason_codes),
    }


def _label(entry: Entry) -> Document:
    found = entry.record.label
    return {
        "transaction_id": found.transaction_id,
        "event_time": time_text(found.event_time_us),
        "label_time": time_text(found.label_time_us),
        "received": time_text(found.received_us),
        "is_fraud": found.is_fraud,
    }


def _checkpoint(entry: Entry) -> Document:
    found = entry.record.checkpoint
    return {
        "reason": _word(audit_pb2.CheckpointReason, found.reason, "CHECKPOINT_REASON_"),
        "time": time_text(found.time_us),
        "recorded": found.recorded,
        "dropped": {item.cause: item.records for item in found.dropped},
        "ring_dropped": found.ring_dropped,
        "level": found.level,
        "inputs": found.inputs,
        "software": found.software,
    }


def _lineage(entry: Entry) -> Document:
    found = entry.record.lineage
    return {
        "number": found.number,
        "model": found.provenance.model,
        "version": found.provenance.version,
        "model_sha256": found.provenance.model_sha256,
        "feature_set": found.provenance.feature_set,
        "feature_set_version": found.provenance.feature_set_version,
        "schema_hash": found.provenance.schema_hash,
        "runtime": found.runtime,
        "thresholds": _thresholds(found),
        "inputs": [{"name": item.name, "type": item.type, "offset_bytes": item.offset_bytes} for item in found.inputs],
        "views": list(found.views),
        "row_bytes": found.row_bytes,
    }


_DOCUMENTS: Final = {
    "score": _score,
    "shadow": _score,
    "explanation": _explanation,
    "label": _label,
    "checkpoint": _checkpoint,
    "lineage": _lineage,
}


def _thresholds(lineage: audit_pb2.LineageRecord) -> Document:
    return {decision_name(item.decision): item.score for item in lineage.thresholds}


def _degradations(score: audit_pb2.ScoreRecord, lineage: audit_pb2.LineageRecord | None) -> list[Document]:
    views = lineage.views if lineage else ()
    return [
        {
            "kind": _word(scoring_pb2.DegradationKind, item.kind, "DEGRADATION_KIND_"),
            "view": views[item.view] if item.view < len(views) else str(item.view),
            "reason": item.reason or None,
            "cache_age_ms": item.cache_age_us / 1e3 if item.cache_age_us else None,
        }
        for item in score.degradations
    ]


def _word(enum: Any, number: int, prefix: str) -> str:
    """The name of an enum's value as a word; of one that this version does not know, its number."""
    value = enum.DESCRIPTOR.values_by_number.get(number)
    return value.name.removeprefix(prefix).lower() if value is not None else str(number)


def _json_number(value: float) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
