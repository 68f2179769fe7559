"""Loads a file or a pipe of events into a store, in slices of bounded memory. Bad lines are kept out, named and kept."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from assay import _core
from assay.errors import InputError, StoreError
from assay.features.event_slice import EventSlice, feature_types
from assay.features.feature_set import FeatureSet
from assay.features.flush_record import FlushRecord, flush_record
from assay.features.line_blocks import LineBlock, read_blocks
from assay.features.rejects import Rejects
from assay.features.store_writer import StoreWriter

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
    accepted_ints: Mapping[str, int] = field(default_factory=dict)  # integers that were taken for a float64, by feature


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
        self._types = feature_types(feature_set)
        self._flushes: list[FlushRecord] = []
        self._events = self._recorded = self._duplicates = self._late = 0
        self._accepted_ints: Counter[str] = Counter()
        self._slice = self._new_slice()

    def _new_slice(self) -> EventSlice:
        return EventSlice(self._plan, list(self._types))

    def take(self, block: LineBlock) -> None:
        self._rejects.add_all(self._slice.take(block))

    def is_due(self, flush_events: int) -> bool:
        return self._slice.event_count >= flush_events or self._slice.rejected_count >= FLUSH_REJECTS_MAX

    def flush(self) -> None:
        """Applies the slice and records it. Does nothing for an empty one."""
        piece = self._slice
        if piece.event_count == 0 and piece.rejected_count == 0:
            return
        self._count(ingest_log(piece.sorted_log(), self._writer))
        self._accepted_ints.update(piece.accepted_ints)
        has_rejects = piece.rejected_count > 0
        record = flush_record(
            self._set.version, self._set.schema_hash, self._source, self._types, piece.null_counts, has_rejects=has_rejects
        )
        self._flushes.append(record)
        if self._on_flush is not None:
            self._on_flush(record)
        self._slice = self._new_slice()

    def _count(self, applied: IngestSummary) -> None:
        self._events += applied.event_count
        self._recorded += applied.recorded_count
        self._duplicates += applied.duplicate_count
        self._late += applied.late_count

    def summary(self) -> IngestSummary:
        return IngestSummary(
            self._events,
            self._recorded,
            self._duplicates,
            self._late,
            self._rejects.count,
            tuple(self._flushes),
            dict(self._accepted_ints),
        )


def check_report(report: _core.IngestReport) -> None:
    """Raises StoreError if the store refused any event."""
    if report.refused_count:
        row = _core.CODE_TABLE[report.refused_code]
        raise StoreError(f"the store refused {report.refused_count} events ({row.reason}: {row.message})")
