"""Whether a log is whole: its chain, checksums, sequences and keys, what it says of itself, and what is not there any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from assay import _core
from assay.audit.place import read_key
from assay.audit.reading import Finding, Kind, LogBlock, LogReader, Progress
from assay.audit.records import Decoder, time_text
from assay.audit.segments import LogDirectory, SegmentBlocks, SegmentFile, json_integer, open_segment, spool_of
from assay.audit.shipped import Shipped, read_shipped_place
from assay.errors import ConfigError
from assay.v1 import audit_pb2

_CHECKPOINT_TAG = bytes([audit_pb2.AuditRecord.CHECKPOINT_FIELD_NUMBER << 3 | 2])
FINDINGS_MAX = 1000  # of one log that are kept; the others are counted


@dataclass(frozen=True)
class Span:
    """Which records are looked at; None: no end on that side. Of one kind: sequences or times, both ends included."""

    first: int | None = None
    last: int | None = None
    first_us: int | None = None
    last_us: int | None = None

    def count(self, block: LogBlock) -> int:
        """Of this block's records."""
        if not (self.first_us or 0) <= block.block.written_us <= (self.last_us if self.last_us is not None else 1 << 63):
            return 0
        end = block.end_sequence if self.last is None else min(block.end_sequence, self.last + 1)
        return max(0, end - max(block.first_sequence, self.first or 0))

    def is_before(self, block: LogBlock) -> bool:
        """Whether nothing behind this block is looked at."""
        is_late = self.last_us is not None and block.block.written_us > self.last_us
        return is_late or (self.last is not None and block.first_sequence > self.last)


ALL = Span()


@dataclass
class LogReport:
    """What was found in one log."""

    writer: str
    log_id: bytes = b""
    records: int = 0
    blocks: int = 0
    segments: int = 0
    first_sequence: int = 0
    last_sequence: int = 0
    first_us: int = 0
    last_us: int = 0
    head: bytes = b""  # the chain after the last block
    has_head: bool | None = None  # whether it holds the value that was asked for; None: none was
    dropped: dict[str, int] = field(default_factory=dict)  # by its own checkpoints, of the records that were looked at
    keys: dict[str, bool | None] = field(default_factory=dict)  # id -> whether it is the directory's key; None: not readable
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    has_damage: bool = False

    @property
    def is_sound(self) -> bool:
        return not self.has_damage and self.has_head is not False

    def document(self) -> dict[str, Any]:
        return {
            "writer": self.writer,
            "is_sound": self.is_sound,
            "log_id": self.log_id.hex() or None,
            "records": self.records,
            "blocks": self.blocks,
            "segments": self.segments,
            "first_sequence": self.first_sequence or None,
            "last_sequence": json_integer(self.last_sequence) or None,
            "first_written": time_text(self.first_us) if self.records else None,
            "last_written": time_text(self.last_us) if self.records else None,
            "head": self.head.hex() or None,
            "has_head": self.has_head,
            "dropped": self.dropped,
            "keys": self.keys,
            "findings": [finding.document() for finding in self.findings],
            "more_findings": self.more_findings,
        }

    def note(self, finding: Finding) -> None:
        self.has_damage |= finding.is_damage
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)
        else:
            self.more_findings += 1


def verify_log(log: LogDirectory, span: Span = ALL, head: bytes | None = None, progress: Progress = lambda *_: None) -> LogReport:
    """Reads everything of the span, and the segment before its first record. Raises OSError."""
    report = LogReport(log.name, has_head=None if head is None else False)
    shipped = read_shipped_place(log.path)  # before the log is read, which only grows
    files = log.segments()
    total = sum(file.path.stat().st_size for file in files if file.path.exists())
    counts = _Counts()
    seen: set[int] = set()
    with LogReader(log, report.note) as reader:
        if span != ALL and files:
            reader.start_at(_first_file(files, span))
        for block in reader:
            if head in (block.chain_before, block.block.chain):
                report.has_head = True
            if span.is_before(block):
                break
            report.log_id, report.head = block.log_id, block.block.chain
            _take(report, block, span.count(block), counts)
            if block.segment not in seen:
                seen.add(block.segment)
                report.keys.setdefault(block.key_id.hex(), None)
            progress(reader.offset, total)
        else:
            reader.end()
            _check_shipped(report, log, shipped)
    report.segments = len(seen)
    report.dropped = counts.total()
    _check_keys(report, log)
    return report


# --- implementation ---


class _Counts:
    """What checkpoints say was dropped: each process counts from its start."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def take(self, checkpoint: audit_pb2.CheckpointRecord) -> None:
        if checkpoint.reason == audit_pb2.CHECKPOINT_REASON_START:
            self._before, self._last = self.total(), {}
        self._last = {item.cause: item.records for item in checkpoint.dropped}
        if checkpoint.ring_dropped:
            self._last["ring"] = checkpoint.ring_dropped

    def total(self) -> dict[str, int]:
        causes = self._before.keys() | self._last.keys()
        return {cause: self._before.get(cause, 0) + self._last.get(cause, 0) for cause in sorted(causes)}


def _take(report: LogReport, block: LogBlock, count: int, counts: _Counts) -> None:
    if not count:
        return
    if not report.records:
        report.first_sequence, report.first_us = block.first_sequence, block.block.written_us
    report.records += count
    report.blocks += 1
    report.last_sequence, report.last_us = block.end_sequence - 1, block.block.written_us
    for data in block.block.records:
        if data[:1] == _CHECKPOINT_TAG:
            for entry in Decoder(report.writer).entries_with(block, data):
                counts.take(entry.record.checkpoint)


def _first_file(files: list[SegmentFile], span: Span) -> SegmentFile:
    """The newest one that can hold the span's first record and everything behind."""
    found = files[0]
    for file in files[1:]:
        if span.first is not None and file.first_sequence > span.first:
            break
        if span.first_us is not None:
            segment = open_segment(file)
            if not isinstance(segment, SegmentBlocks):
                break
            segment.close()
            if segment.header.made_us > span.first_us:
                break
        if span.first is None and span.first_us is None:
            break
        found = file
    return found


def _check_shipped(report: LogReport, log: LogDirectory, shipped: Shipped) -> None:
    """A log that ends before what its sink has was cut."""
    if shipped.log_id == report.log_id and shipped.sequence > report.last_sequence > 0:
        text = f"the sink was given records up to {shipped.sequence:,}: the end of the log was lost or cut off"
        report.note(Finding(Kind.LOST, log.path, 0, report.last_sequence + 1, shipped.sequence, text))


def _check_keys(report: LogReport, log: LogDirectory) -> None:
    try:
        ours = _core.audit_key_id(read_key(spool_of(log.path))).hex()
    except ConfigError:
        return
    report.keys = {key: key == ours for key in report.keys}
