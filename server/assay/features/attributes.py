"""Loads attributes of entities into an attribute view, from JSON lines or Parquet. Newest wins, whatever the order of the rows.

A row has the entity's id under the entity's name, `updated_at`, and every attribute of the view (null where unknown). Types are
strict as those of events: 5 for a float64 is refused, 5.0 is right; an integer id is refused, "5" is right.
"""

from __future__ import annotations

from pathlib import Path

from assay import _core
from assay.errors import StoreError
from assay.features.attribute_files import AttributeRows, read_rows
from assay.features.columns import stored_attributes
from assay.features.definitions import AttributeView
from assay.features.feature_set import FeatureSet
from assay.features.flush_record import FlushRecord, flush_record
from assay.features.ingest import IngestSummary, IsStopped, OnFlush, Progress, never
from assay.features.rejects import Rejects
from assay.features.sources import source_name
from assay.features.store_writer import AttributeWrite, StoreWriter

FLUSH_ROWS_DEFAULT = 1_000_000
OUTCOMES = ("OK", "EVENT_DUPLICATE", "EVENT_TOO_LATE")


def ingest_attributes(
    source: Path | None,
    view_name: str,
    writer: StoreWriter,
    feature_set: FeatureSet,
    *,
    rejects: Rejects | None = None,
    flush_rows: int = FLUSH_ROWS_DEFAULT,
    on_flush: OnFlush | None = None,
    progress: Progress | None = None,
    is_stopped: IsStopped = never,
) -> IngestSummary:
    """Sets the attributes of every row of `source` (None: JSON lines on standard input), or of those before `is_stopped` said so.

    Raises FeatureSetError (no such view), InputError (unreadable, or columns that do not fit), StoreError (the store is full)."""
    view = feature_set.attribute_view(view_name)
    ingestion = _Ingestion(view_name, view, writer, feature_set, source_name(source), rejects or Rejects(), on_flush)
    for rows in read_rows(source, view):
        if is_stopped():
            break
        ingestion.take(rows)
        if ingestion.is_due(flush_rows):
            ingestion.flush()
        if progress is not None:
            progress(rows.done, rows.total)
    ingestion.is_stopped = is_stopped()
    ingestion.flush()
    return ingestion.summary()


def outcome_of(code: int) -> str:
    """What became of a row: one of OUTCOMES. Raises StoreError where the store said no."""
    reason = _core.CODE_TABLE[code].reason
    if reason not in OUTCOMES:
        raise StoreError(f"the store refused attributes ({reason}: {_core.CODE_TABLE[code].message})")
    return reason


# --- implementation ---


class _Ingestion:
    def __init__(
        self,
        view_name: str,
        view: AttributeView,
        writer: StoreWriter,
        feature_set: FeatureSet,
        source: str,
        rejects: Rejects,
        on_flush: OnFlush | None,
    ) -> None:
        self._view_name = view_name
        self._types = {name: str(dtype) for name, dtype in stored_attributes(view).items()}
        self._writer = writer
        self._set = feature_set
        self._source = source
        self._rejects = rejects
        self._on_flush = on_flush
        self._flushes: list[FlushRecord] = []
        self._outcomes = dict.fromkeys(OUTCOMES, 0)
        self._last_line = 0
        self.is_stopped = False
        self._start_flush()

    def _start_flush(self) -> None:
        self._nulls = [0] * len(self._types)
        self._rows = self._rejected = 0

    def take(self, rows: AttributeRows) -> None:
        self._rejects.add_all(rows.bad)
        self._rejected += len(rows.bad)
        self._last_line = rows.last_line
        self._rows += len(rows.good)
        writes = [AttributeWrite(row.entity_id, row.time_us, row.values) for row in rows.good]
        codes = self._writer.write_attributes(self._view_name, writes)
        for row, code in zip(rows.good, codes, strict=True):
            self._outcomes[outcome_of(code)] += 1
            for index, value in enumerate(row.values):
                self._nulls[index] += value is None

    def is_due(self, flush_rows: int) -> bool:
        return self._rows + self._rejected >= flush_rows

    def flush(self) -> None:
        if self._rows + self._rejected == 0:
            return
        nulls = dict(zip(self._types, self._nulls, strict=True))
        record = flush_record(
            self._set.version, self._set.schema_hash, self._source, self._types, nulls, has_rejects=self._rejected > 0
        )
        self._flushes.append(record)
        if self._on_flush is not None:
            self._on_flush(record)
        self._start_flush()

    def summary(self) -> IngestSummary:
        recorded, duplicates, late = self._outcomes.values()
        return IngestSummary(
            sum(self._outcomes.values()),
            recorded,
            duplicates,
            late,
            self._rejects.count,
            tuple(self._flushes),
            line_count=self._last_line,
            is_stopped=self.is_stopped,
        )
