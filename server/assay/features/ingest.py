"""Loads a file or a pipe of events into a store, in slices of bounded memory. Bad lines are kept out, named and kept."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay import _core
from assay.errors import StoreError
from assay.features.event_slice import EventSlice, feature_types
from assay.features.feature_set import FeatureSet
from assay.features.flush_record import FlushRecord, flush_record
from assay.features.line_blocks import LineBlock, read_blocks
from assay.features.rejects import Rejects
from assay.features.sources import Source, open_source, source_name
from assay.features.store_writer import StoreWriter

FLUSH_EVENTS_DEFAULT = 1_000_000  # events held, sorted and applied together: about 250 MB
FLUSH_REJECTS_MAX = 20_000
FLUSH_S = 1.0  # what a pipe brings is held no longer
FLUSHES_KEPT_MAX = 10_000  # the newest, for the summary: a pipe may stay open for months
APPLY_EVENTS = 65_536  # between two moves of the progress bar

Progress = Callable[[int, int], None]  # done, total (0: unknown)
OnFlush = Callable[[FlushRecord], None]
IsStopped = Callable[[], bool]  # somebody wants what was read so far to be all
Clock = Callable[[], float]


def never() -> bool:
    return False


@dataclass(frozen=True)
class IngestSummary:
    """What became of the events (or rows of attributes)."""

    event_count: int  # decoded
    recorded_count: int
    duplicate_count: int
    late_count: int  # too late for one view at least, whatever the others did
    rejected_count: int
    flushes: tuple[FlushRecord, ...]
    accepted_ints: Mapping[str, int] = field(default_factory=dict)  # integers that were taken for a float64, by feature
    line_count: int = 0  # read; of Parquet rows
    is_stopped: bool = False  # before the end


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
    is_stopped: IsStopped = never,
) -> IngestSummary:
    """Applies every event of `source` (None: standard input), or of its lines before `is_stopped` said so. `writer` and `plan`
    belong to `feature_set`.

    State is a function of the set of events; they are sorted within a slice of `flush_events`, so that a file in rough order of
    time loses none as too late. A pipe's slice is FLUSH_S old at most. Raises InputError (cannot be read) and StoreError (the
    store is full): save nothing then."""
    ingestion = EventIngestion(writer, plan, feature_set, source_name(source), rejects or Rejects(), on_flush)
    total = source.stat().st_size if source is not None and source.is_file() else 0

    def advance(block: LineBlock) -> None:
        if progress is not None:
            progress(block.offset_bytes + len(block.data), total)

    with open_source(source) as file:
        ingestion.run(file, flush_events, advance, is_stopped)
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


# --- implementation ---


class EventIngestion:
    """One slice of events at a time: what is read goes into it, until it is full or (a pipe's) old; then it is applied."""

    def __init__(
        self,
        writer: StoreWriter,
        plan: _core.FeaturePlan,
        feature_set: FeatureSet,
        source: str,
        rejects: Rejects,
        on_flush: OnFlush | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._writer = writer
        self._plan = plan
        self._set = feature_set
        self._source = source
        self._rejects = rejects
        self._on_flush = on_flush
        self._clock = clock
        self._types = feature_types(feature_set)
        self._flushes: deque[FlushRecord] = deque(maxlen=FLUSHES_KEPT_MAX)
        self._events = self._recorded = self._duplicates = self._late = 0
        self._accepted_ints: Counter[str] = Counter()
        self._last_line = 0
        self._is_stopped = False
        self._start_slice()

    def run(self, source: Source, flush_events: int, advance: Callable[[LineBlock], None], is_stopped: IsStopped) -> None:
        """To the end of the source, or until `is_stopped`, which is asked after each read. Of a line whose end has not come
        nothing is taken then: who writes a pipe is often stopped by the same signal."""
        for block in read_blocks(source):
            is_last = is_stopped()
            if is_last and not block.data.endswith(b"\n"):
                break
            self._take(block)
            if self._is_full(flush_events) or (source.is_pipe and self._is_old()):
                self._flush()
            advance(block)
            if is_last:
                break
        self._is_stopped = is_stopped()  # a pipe's writer may have ended at the same signal
        self._flush()

    def _start_slice(self) -> None:
        self._slice = EventSlice(self._plan, list(self._types))
        self._first_s: float | None = None  # when the slice got its first event, or reject

    @property
    def _is_empty(self) -> bool:
        return self._slice.event_count == 0 and self._slice.rejected_count == 0

    def _take(self, block: LineBlock) -> None:
        self._rejects.add_all(self._slice.take(block))
        self._last_line = block.last_line
        if self._first_s is None and not self._is_empty:
            self._first_s = self._clock()

    def _is_full(self, flush_events: int) -> bool:
        return self._slice.event_count >= flush_events or self._slice.rejected_count >= FLUSH_REJECTS_MAX

    def _is_old(self) -> bool:
        return self._first_s is not None and self._clock() - self._first_s >= FLUSH_S

    def _flush(self) -> None:
        """Applies the slice and records it. Does nothing for an empty one."""
        if self._is_empty:
            return
        piece = self._slice
        self._count(ingest_log(piece.sorted_log(), self._writer))
        self._accepted_ints.update(piece.accepted_ints)
        has_rejects = piece.rejected_count > 0
        record = flush_record(
            self._set.version, self._set.schema_hash, self._source, self._types, piece.null_counts, has_rejects=has_rejects
        )
        self._flushes.append(record)
        if self._on_flush is not None:
            self._on_flush(record)
        self._start_slice()

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
            self._last_line,
            self._is_stopped,
        )


def check_report(report: _core.IngestReport) -> None:
    """Raises StoreError if the store refused any event."""
    if report.refused_count:
        row = _core.CODE_TABLE[report.refused_code]
        raise StoreError(f"the store refused {report.refused_count} events ({row.reason}: {row.message})")
