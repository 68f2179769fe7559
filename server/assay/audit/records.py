"""Records of the audit log for people and for programs: plain values, in one order, of a record and its lineage."""

from __future__ import annotations

import base64
import functools
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from google.protobuf.message import DecodeError

from assay.audit.reading import LogBlock
from assay.audit.segments import json_integer
from assay.v1 import audit_pb2, scoring_pb2

Document = dict[str, Any]

TYPES: Final = ("score", "shadow", "explanation", "label", "checkpoint", "lineage")
STAGES: Final = ("decode", "look_up", "queue", "assemble", "infer")  # of ScoreRecord.stage_ns
FORMATS: Final = {"float32": "<f", "float64": "<d", "int32": "<i", "int64": "<q", "bool": "<?"}
BITS_OF_WORD: Final = 64
_LINEAGE_TAG: Final = bytes([audit_pb2.AuditRecord.LINEAGE_FIELD_NUMBER << 3 | 2])
_EPOCH: Final = datetime(1970, 1, 1)  # of times without a zone: all are UTC


@dataclass(frozen=True)
class Entry:
    """One record, where it stands, and the lineage that it refers to."""

    writer: str
    log_id: bytes
    sequence: int
    written_us: int
    chain: bytes  # after its block
    type: str  # of TYPES; empty: of a newer assay's kind, or damaged
    record: audit_pb2.AuditRecord
    known: KnownLineage | None

    @property
    def lineage(self) -> audit_pb2.LineageRecord | None:
        """None: it refers to none, or its record cannot be read."""
        return self.known.record if self.known else None

    @property
    def score(self) -> audit_pb2.ScoreRecord | None:
        """Of a score, or of one in shadow."""
        if self.type == "score":
            return self.record.score
        return self.record.shadow if self.type == "shadow" else None

    @property
    def transaction_id(self) -> str:
        """Empty where it is about none."""
        if self.type in ("", "checkpoint", "lineage"):
            return ""
        return str(getattr(self.record, self.type).transaction_id)

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
        self._lineages: dict[int, KnownLineage] = {}

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
            if data[:1] == _LINEAGE_TAG and (record := _parsed(data)).HasField("lineage"):
                self._learn(record)

    # --- implementation ---

    def _enter(self, block: LogBlock) -> None:
        if block.segment != self._segment:
            self._segment = block.segment
            self._lineages.clear()

    def _entry(self, block: LogBlock, index: int, data: bytes) -> Entry:
        record = _parsed(data)
        kind = record.WhichOneof("kind") or ""
        known: KnownLineage | None = None
        if kind == "score":
            known = self._lineages.get(record.score.lineage)
        elif kind == "shadow":
            known = self._lineages.get(record.shadow.lineage)
        elif kind == "explanation":
            known = self._lineages.get(record.explanation.lineage)
        elif kind == "lineage":
            known = self._learn(record)
        return Entry(
            self._writer,
            block.log_id,
            block.first_sequence + index,
            block.block.written_us,
            block.block.chain,
            kind,
            record,
            known,
        )

    def _learn(self, record: audit_pb2.AuditRecord) -> KnownLineage:
        known = self._lineages[record.lineage.number] = KnownLineage(record.lineage)
        return known


def document(entry: Entry) -> Document:
    """For JSON. What every record has comes first; the keys of a type are always the same, in the same order."""
    where: Document = {
        "type": entry.type,
        "writer": entry.writer,
        "log_id": entry.log_id.hex(),
        "sequence": json_integer(entry.sequence),
        "written": time_text(entry.written_us),
        "chain": entry.chain.hex(),
    }
    describe = _DOCUMENTS.get(entry.type)
    return {**where, **(describe(entry) if describe else {})}


class KnownLineage:
    """A lineage, and what all of its scores say alike: made once, for there are many of them."""

    def __init__(self, record: audit_pb2.LineageRecord) -> None:
        self.record = record
        self.names = tuple(item.name for item in record.inputs)
        self.origin: Document = {
            "model": record.provenance.model,
            "version": record.provenance.version,
            "model_sha256": record.provenance.model_sha256,
            "feature_set": record.provenance.feature_set,
            "feature_set_version": record.provenance.feature_set_version,
            "schema_hash": record.provenance.schema_hash,
            "runtime": record.runtime,
        }
        self.thresholds: Document = {decision_name(item.decision): item.score for item in record.thresholds}
        ordered = sorted(range(len(self.names)), key=lambda index: record.inputs[index].offset_bytes)
        self._row = _row_struct([record.inputs[index] for index in ordered], record.row_bytes)
        # Where in the row's order each input stands; None: in the same.
        self._places = None if ordered == sorted(ordered) else [ordered.index(index) for index in range(len(ordered))]

    def inputs_of(self, score: audit_pb2.ScoreRecord) -> Document | None:
        """Input -> value as the model was given it; None for NaN, words for what JSON has no number for. None: only a digest was
        kept, or the row does not fit the lineage."""
        if self._row is None or len(score.row) != self._row.size:
            return None
        values = self._row.unpack(score.row)
        if not math.isfinite(sum(values)):  # some value is not, or so it may be
            values = tuple(map(_json_number, values))
        if self._places is not None:
            values = tuple(values[place] for place in self._places)
        return dict(zip(self.names, values, strict=True))


def names_of_bits(bits: bytes, lineage: audit_pb2.LineageRecord) -> list[str]:
    """The inputs whose bit is set."""
    if not bits:
        return []
    number = int.from_bytes(bits, "little")
    return [item.name for index, item in enumerate(lineage.inputs) if number >> index & 1]


def decision_name(number: int) -> str:
    return _word(scoring_pb2.Decision, number, "DECISION_")


def time_text(time_us: int) -> str:
    """RFC 3339 with microseconds, UTC; a time that no calendar has as its number."""
    seconds, microseconds = divmod(time_us, 1_000_000)
    try:
        return f"{_second_text(seconds)}.{microseconds:06d}Z"
    except OverflowError:
        return str(time_us)


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


@functools.lru_cache(maxsize=256)
def _second_text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def _row_struct(inputs: Sequence[audit_pb2.AuditInput], row_bytes: int) -> struct.Struct | None:
    """Of a whole row with these inputs, in order of their offsets. None: they overlap, or are of types that this version does not
    know."""
    parts, end = ["<"], 0
    for item in inputs:
        form = FORMATS.get(item.type)
        if form is None or item.offset_bytes < end:
            return None
        parts.append(f"{item.offset_bytes - end}x{form[1:]}")
        end = item.offset_bytes + struct.calcsize(form)
    return struct.Struct("".join([*parts, f"{row_bytes - end}x"])) if end <= row_bytes else None


_NO_ORIGIN: Final = KnownLineage(audit_pb2.LineageRecord()).origin


def _parsed(data: bytes) -> audit_pb2.AuditRecord:
    try:
        return audit_pb2.AuditRecord.FromString(data)
    except DecodeError:
        return audit_pb2.AuditRecord()


def _score(entry: Entry) -> Document:
    score, known = entry.score, entry.known
    assert score is not None
    lineage = known.record if known else None
    return {
        "transaction_id": score.transaction_id,
        "is_tokenised": score.is_tokenised,
        "event_time": time_text(score.event_time_us),
        "received": time_text(score.received_us),
        **(known.origin if known else _NO_ORIGIN),
        "score": _json_number(score.score),
        "decision": decision_name(score.decision),
        "thresholds": known.thresholds if known else {},
        "inputs": known.inputs_of(score) if known else None,
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
        "outputs": base64.b64encode(score.outputs).decode() if score.outputs else None,
        "outputs_digest": score.outputs_digest.hex() or None,
        "explanation_status": _word(scoring_pb2.ExplanationStatus, score.explanation_status, "EXPLANATION_STATUS_")
        if score.explanation_status
        else None,
        "explanation": _explained(score.explanation, lineage) if score.HasField("explanation") else None,
    }


def _explanation(entry: Entry) -> Document:
    found = entry.record.explanation
    return {
        "transaction_id": found.transaction_id,
        "score_received": time_text(found.score_received_us),
        **_explained(found, entry.lineage),
    }


def _explained(found: audit_pb2.ExplanationRecord, lineage: audit_pb2.LineageRecord | None) -> Document:
    """Names are null where the lineage cannot be read, or has other players."""
    names: list[str] = []
    if lineage:
        is_by_input = found.players == scoring_pb2.EXPLAIN_PLAYERS_INPUTS
        names = [item.name for item in lineage.inputs] if is_by_input else list(lineage.groups)
    is_named = len(names) == len(found.contributions)
    return {
        "method": _word(scoring_pb2.ExplanationMethod, found.method, "EXPLANATION_METHOD_"),
        "background_sha256": lineage.background_sha256 if lineage else "",
        "base_margin": _json_number(found.base_margin),
        "margin": _json_number(found.margin),
        "margin_space": _word(scoring_pb2.MarginSpace, found.margin_space, "MARGIN_SPACE_") if found.margin_space else None,
        "residual": _json_number(found.residual),
        "players": names if is_named else None,
        "contributions": [_json_number(value) for value in found.contributions],
        "standard_errors": [_json_number(value) for value in found.standard_errors],
        "reasons_version": lineage.reasons_version if lineage else "",
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
    found, known = entry.record.lineage, entry.known
    assert known is not None
    return {
        "number": found.number,
        **known.origin,
        "thresholds": known.thresholds,
        "inputs": [{"name": item.name, "type": item.type, "offset_bytes": item.offset_bytes} for item in found.inputs],
        "views": list(found.views),
        "row_bytes": found.row_bytes,
        "groups": list(found.groups),
        "background_sha256": found.background_sha256,
        "reasons_version": found.reasons_version,
    }


_DOCUMENTS: Final = {
    "score": _score,
    "shadow": _score,
    "explanation": _explanation,
    "label": _label,
    "checkpoint": _checkpoint,
    "lineage": _lineage,
}


def _degradations(score: audit_pb2.ScoreRecord, lineage: audit_pb2.LineageRecord | None) -> list[Document]:
    if not score.degradations:
        return []
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


@functools.lru_cache(maxsize=1024)
def _word(enum: Any, number: int, prefix: str) -> str:
    """The name of an enum's value as a word; of one that this version does not know, its number."""
    value = enum.DESCRIPTOR.values_by_number.get(number)
    return value.name.removeprefix(prefix).lower() if value is not None else str(number)


def _json_number(value: float) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
