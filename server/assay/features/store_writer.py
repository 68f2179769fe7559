"""Events and attributes into a store, wherever its records are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from assay import _core

Scalar = float | int | bool | str

PLACED_EVENTS_MAX: Final = 16_384  # applied in one step, so that no fence of a record passes events that are still to come


class AttributeWrite(NamedTuple):
    """One entity's attributes, in the view's order and declared types."""

    entity_id: str
    time_us: int
    values: Sequence[Scalar | None]


class LabelWrite(NamedTuple):
    """One JSON label, and where its topic has it."""

    line: bytes
    place: bytes | None = None  # of _core.EventWriter


class WriterOptions(NamedTuple):
    """Of _core.EventWriter."""

    applies_late: bool = False
    views: tuple[str, ...] | None = None

    def core_writer(self, plan: _core.FeaturePlan, store: _core.EmbeddedStore) -> _core.EventWriter:
        return _core.EventWriter(plan, store, applies_late=self.applies_late, views=self.views)


ALL_VIEWS: Final = WriterOptions()


class StoreWriter(Protocol):
    """One plan's way into one store. Thread-safe. Raises StoreError where the store cannot be reached or said no."""

    def record_events(self, message: bytes) -> list[tuple[int, str, _core.Refusal | None]] | _core.Refusal:
        """Applies one RecordEventsRequest. One (code, transaction_id, refusal) an event."""

    def ingest(self, log: _core.EventLog, start: int, stop: int) -> _core.IngestReport:
        """Applies events [start, stop) of a sorted log of the same plan. Those with places: at most PLACED_EVENTS_MAX."""

    def write_labels(self, labels: Sequence[LabelWrite]) -> list[int]:
        """Puts JSON labels on the events that they repeat. One code a label: OK, EVENT_DUPLICATE, EVENT_TOO_LATE,
        EVENT_UNKNOWN, INVALID_REQUEST, or why the store said no."""

    def write_attributes(self, view: str, rows: Sequence[AttributeWrite]) -> list[int]:
        """Sets attributes of entities. One code a row: OK, EVENT_DUPLICATE, EVENT_TOO_LATE, or why nothing changed."""


class LocalWriter:
    """The StoreWriter of records in this process."""

    def __init__(self, plan: _core.FeaturePlan, store: _core.EmbeddedStore, options: WriterOptions = ALL_VIEWS) -> None:
        self._writer = options.core_writer(plan, store)

    def record_events(self, message: bytes) -> list[tuple[int, str, _core.Refusal | None]] | _core.Refusal:
        return self._writer.record_events(message)

    def ingest(self, log: _core.EventLog, start: int, stop: int) -> _core.IngestReport:
        return log.ingest(self._writer, start, stop)

    def write_labels(self, labels: Sequence[LabelWrite]) -> list[int]:
        return [self._writer.write_label(label.line, label.place) for label in labels]

    def write_attributes(self, view: str, rows: Sequence[AttributeWrite]) -> list[int]:
        return [self._writer.write_attributes(view, *row) for row in rows]


class EventWriters(NamedTuple):
    """Who an event goes to. Models of one feature set share its writer: recording events twice would only count duplicates."""

    deciding: tuple[StoreWriter, ...]  # each records it, and one that rejects it rejects it
    trying: tuple[StoreWriter, ...] = ()  # of versions that answer nobody yet: what they reject is counted, and decides nothing
