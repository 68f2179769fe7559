"""Loads a file or a pipe of events into a store, in slices of bounded memory. Bad lines are kept out, named and kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from assay import _core
from assay.errors import InputError, StoreError
from assay.features.feature_set import FeatureSet
from assay.features.flush_record import FlushRecord, flush_record
from assay.features.line_blocks import LINE_BYTES_MAX, LineBlock, read_blocks
from assay.features.null_counts import count_nulls
from assay.features.rejects import Reject, Rejects, Violation
from assay.features.store_writer import StoreWriter
from assay.features.times import AHEAD_US_MAX

FLUSH_EVENTS_DEFAULT = 1_000_000  # events held, sorted and applied together: about 250 MB
FLUSH_REJECTS_MAX = 20_000
APPLY_EVENTS = 65_536  # between two moves of the progress bar

Progress = Callable[[int, int], None]  # done, total (0: unknown)
OnFlush = Callable[[FlushRecord], None]


@dataclass(frozen=True)
class IngestSummary:
    """What became of the events (or rows of attributes)."""

    event_count: int  # decoded
    recorded_count: int
    duplicate_count: int
    late_count: int
    rejected_count: int
    flushes: tuple[FlushRecord, ...]


def ingest_events(
    source: Path | None,
    writer: StoreWriter,
    plan: _core.FeaturePlan,
    feature_set: FeatureSet,
    *,
    rejects: Rejects | None = None,
    flush_events: int = FLUSH_EVENTS_DEFAULT,
    on_flush: OnFlush | None = None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Applies every event of `source` (None: standard input). `writer` and `plan` belong to `feature_set`.

    State is a function of the set of events; they are sorted within a slice of `flush_events`, so that a file in rough order of
    time loses none as too late. Raises InputError (cannot be read) and StoreError (the store is full): save nothing then."""
    with open_source(source) as file:
        total = source.stat().st_size if source is not None else 0
        ingestion = _Ingestion(writer, plan, feature_set, source_name(source), rejects or Rejects(), on_flush)
        for block in read_blocks(file):
            ingestion.take(block)
            if ingestion.is_due(flush_events):
                ingestion.flush()
            if progress is not None:
                progress(block.offset_bytes + len(block.data), total)
        ingestion.flush()
        return ingestion.summary()


def ingest_log(log: _core.EventLog, writer: StoreWriter, progress: Progress | None = None) -> IngestSummary:
    """Applies every event of a sorted log. Raises StoreError."""
    events = recorded = duplicates = late = 0
    for start in range(0, log.event_count, APPLY_EVENTS):
        stop = min(start + APPLY_EVENTS, log.event_count)
        report = writer.ingest(log, start, stop)
        check_report(report)
        events += report.event_count
        recorded += report.recorded_count
        duplicates += report.duplicate_count
        late += report.late_count
        if progress is not None:
            progress(stop, log.event_count)
    return IngestSummary(events, recorded, duplicates, late, rejected_count=0, flushes=())


def open_source(source: Path | None) -> AbstractContextManager[BinaryIO]:
    """The file, or standard input for None. Raises InputError."""
    if source is None:
        return nullcontext(sys.stdin.buffer)
    try:
        return source.open("rb")
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from None


def source_name(source: Path | None) -> str:
    return "stdin" if source is None else f"file:{source.name}"


class LoggedLines:
    """An EventLog, and the lines that went into it: knows where in the input each rejection stood and what it said."""

    def __init__(self, plan: _core.FeaturePlan, *, ahead_us_max: int = 0) -> None:
        self.log = _core.EventLog(plan, ahead_us_max=ahead_us_max)
        self._lines = 0
        self._bytes = 0

    def append(self, block: LineBlock) -> list[Reject]:
        """Decodes the lines of a block; returns those that are no events."""
        if block.is_too_long:
            violation = Violation("TOO_LONG", "", f"the line is longer than {LINE_BYTES_MAX >> 10} KiB; only its head is kept")
            return [Reject(block.first_line, block.offset_bytes, (violation,), block.data)]
        known = self.log.rejected_count
        self.log.append(block.data, known + block.line_count)
        rejects = [self._reject(r, block) for r in self.log.rejections[known:]] if self.log.rejected_count > known else []
        self._lines += block.line_count
        self._bytes += len(block.data)
        return rejects

    def _reject(self, rejection: _core.EventRejection, block: LineBlock) -> Reject:
        start = rejection.offset_bytes - self._bytes
        end = block.data.find(b"\n", start)
        return Reject(
            line=block.first_line + rejection.line - 1 - self._lines,
            offset_bytes=block.offset_bytes + start,
            violations=tuple(Violation(*violation) for violation in rejection.violations),
            original=block.data[start : end if end >= 0 else len(block.data)],
        )


# --- implementation ---


class _Ingestion:
    """One slice of events at a time: take() until is_due(), then flush()."""

    def __init__(
        self,
        writer: StoreWriter,
        plan: _core.FeaturePlan,
        feature_set: FeatureSet,
        source: str,
        rejects: Rejects,
        on_flush: OnFlush | None,
    ) -> None:
        self._writer = writer
        self._plan = plan
        self._set = feature_set
        self._source = source
        self._rejects = rejects
        self._on_flush = on_flush
        self._types = {name: str(feature.dtype) for name, feature in feature_set.request_features.items()}
        self._flushes: list[FlushRecord] = []
        self._events = self._recorded = self._duplicates = self._late = 0
        self._start_slice()

    def _start_slice(self) -> None:
        self._lines = LoggedLines(self._plan, ahead_us_max=AHEAD_US_MAX)
        self._rejected = 0  # of this slice
        self._nulls = dict.fromkeys(self._types, 0)

    def take(self, block: LineBlock) -> None:
        known = self._lines.log.event_count
        rejects = self._lines.append(block)
        self._rejected += len(rejects)
        self._rejects.add_all(rejects)
        if block.is_too_long:
            return
        offsets = [reject.offset_bytes - block.offset_bytes for reject in rejects]
        nulls = count_nulls(block.data, self._lines.log.event_count - known, offsets, list(self._types))
        for name, count in nulls.items():
            self._nulls[name] += count

    def is_due(self, flush_events: int) -> bool:
        return self._lines.log.event_count >= flush_events or self._rejected >= FLUSH_REJECTS_MAX

    def flush(self) -> None:
        """Applies the slice and records it. Does nothing for an empty one."""
        if self._lines.log.event_count == 0 and self._rejected == 0:
            return
        self._apply()
        record = flush_record(
            self._set.version, self._set.schema_hash, self._source, self._types, self._nulls, has_rejects=self._rejected > 0
        )
        self._flushes.append(record)
        if self._on_flush is not None:
            self._on_flush(record)
        self._start_slice()

    def _apply(self) -> None:
        self._lines.log.sort()
        applied = ingest_log(self._lines.log, self._writer)
        self._events += applied.event_count
        self._recorded += applied.recorded_count
        self._duplicates += applied.duplicate_count
        self._late += applied.late_count

    def summary(self) -> IngestSummary:
        return IngestSummary(
            self._events, self._recorded, self._duplicates, self._late, self._rejects.count, tuple(self._flushes)
        )


def check_report(report: _core.IngestReport) -> None:
    """Raises StoreError if the store refused any event."""
    if report.refused_count:
        row = _core.CODE_TABLE[report.refused_code]
        raise StoreError(f"the store refused {report.refused_count} events ({row.reason}: {row.message})")
