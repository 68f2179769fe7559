"""A writer that meets another one half-way: what it says became of an event is what became of it. No server runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from assay import _core
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.redis_servers import Part
from assay.features.redis_writer import HEADER_BYTES, RedisWriter
from assay.features.store_writer import LabelWrite
from tests.support.feature_sets import SHOP

PLAN = compile_plan(FeatureSet.parse(SHOP))
REASONS = {row.number: row.reason for row in _core.CODE_TABLE}
RING_EVENTS = 5_000  # more than a ring holds: an older event that comes after these is too late


class Writer(RedisWriter):
    """Of a store that is a dict. `meanwhile` happens once, between the reading of records and `parts` of their writing."""

    def __init__(self, store: dict[bytes, bytes], meanwhile: Callable[[], None] | None = None) -> None:
        servers: Any = SimpleNamespace(split=lambda keys: [Part("x", None, [key], [place]) for place, key in enumerate(keys)])
        super().__init__(servers, PLAN, "dict", 1 << 26, lambda _keys: None)
        self._store = store
        self._meanwhile = meanwhile
        self.after_parts = 0

    def _get(self, records: Sequence[_core.RecordRef]) -> list[bytes | None]:
        return [self._store.get(record.key) for record in records]

    def _put_part(self, part: Part, changes: Sequence[Any]) -> list[bool]:
        if self._meanwhile is not None and self.after_parts == 0:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        self.after_parts -= 1
        (change,) = changes
        is_same = self._store.get(change.record.key, b"")[:HEADER_BYTES] == change.header
        if is_same:
            self._store[change.record.key] = change.sealed
        return [is_same]


def line(number: int, second: int, *, customer: str = "c", terminal: str = "m", **more: Any) -> bytes:
    event = {
        "transaction_id": f"t{number}",
        "event_time": f"2026-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z",
        "entities": {"customer_id": customer, "terminal_id": terminal},
        **({} if "is_fraud" in more else {"features": {"amount_minor": 5}}),
        **more,
    }
    return json.dumps(event).encode() + b"\n"


def ingest(writer: RedisWriter, *lines: bytes) -> _core.IngestReport:
    log = _core.EventLog(PLAN)
    log.append(b"".join(lines))
    assert log.rejected_count == 0, log.rejections()
    log.sort()
    return writer.ingest(log, 0, log.event_count)


def fill(store: dict[bytes, bytes], **entities: str) -> Callable[[], None]:
    """Another writer, who records so many later events that the rings of these entities have passed what was before."""
    return lambda: check_counts(
        ingest(Writer(store), *[line(1_000 + n, 3_600 + n, **entities) for n in range(RING_EVENTS)]), recorded=RING_EVENTS
    )


def check_counts(report: _core.IngestReport, *, recorded: int = 0, duplicate: int = 0, late: int = 0) -> None:
    counts = (report.recorded_count, report.duplicate_count, report.late_count, report.refused_count)
    assert counts == (recorded, duplicate, late, 0)
    assert report.event_count == recorded + duplicate + late


def test_an_event_that_another_writer_left_no_room_for_is_late() -> None:
    """It was reported as recorded."""
    store: dict[bytes, bytes] = {}
    check_counts(ingest(Writer(store, fill(store)), line(1, 0)), late=1)
    check_counts(ingest(Writer(store), line(1, 0)), late=1)  # nothing of it is there


def test_one_that_was_written_before_the_windows_passed_it_is_recorded() -> None:
    """Two events in one try: all of the first one's records are written, then another writer fills them and the second one's."""
    store: dict[bytes, bytes] = {}

    def meanwhile() -> None:
        fill(store, customer="first", terminal="first")()
        fill(store, customer="second", terminal="second")()

    writer = Writer(store, meanwhile)
    events = [line(1, 0, customer="first", terminal="first"), line(2, 1, customer="second", terminal="second")]
    writer.after_parts = 2
    check_counts(ingest(writer, *events), recorded=1, late=1)


def test_one_that_some_record_could_not_take_is_late() -> None:
    """As in one try: late is what some record lacks, whichever others took it."""
    store: dict[bytes, bytes] = {}
    writer = Writer(store, fill(store, customer="other"))  # the terminal's record alone
    writer.after_parts = 1  # the customer's is written before
    check_counts(ingest(writer, line(1, 0)), late=1)
    check_counts(ingest(Writer(store), line(1, 0)), late=1)  # the customer's has it
    check_counts(ingest(Writer(store), line(2, 1)), late=1)  # the customer's takes it
    check_counts(ingest(Writer(store), line(2, 1, terminal="other")), recorded=1)  # the customer's has it


def test_a_second_try_puts_what_was_lost_alone() -> None:
    """A third writer changes a record that the first try has put: the second leaves it be."""
    store: dict[bytes, bytes] = {}

    def meanwhile() -> None:
        check_counts(ingest(Writer(store), line(2, 1, customer="c"), line(3, 2, customer="other")), recorded=2)

    writer = Writer(store, meanwhile)
    writer.after_parts = 1
    check_counts(ingest(writer, line(1, 0)), recorded=1)
    check_counts(ingest(Writer(store), *[line(number, number - 1) for number in (1, 2)]), duplicate=2)
    check_counts(ingest(Writer(store), line(3, 2, customer="other")), duplicate=1)


def test_a_repeat_after_a_second_try_is_one() -> None:
    store: dict[bytes, bytes] = {}
    ingest(Writer(store), line(1, 0))
    writer = Writer(store, lambda: check_counts(ingest(Writer(store), line(3, 5)), recorded=1))
    check_counts(ingest(writer, line(1, 0), line(2, 1)), recorded=1, duplicate=1)


@pytest.mark.parametrize(("is_raced", "says"), [(False, "OK"), (True, "EVENT_TOO_LATE")])
def test_a_label_whose_event_went_to_a_tile_meanwhile_is_late(is_raced: bool, says: str) -> None:
    store: dict[bytes, bytes] = {}
    ingest(Writer(store), line(1, 0))
    label = line(1, 0, is_fraud=True, label_time="2026-01-02T00:00:00Z")
    (code,) = Writer(store, fill(store) if is_raced else None).write_labels([LabelWrite(label)])
    assert REASONS[code] == says
    (code,) = Writer(store).write_labels([LabelWrite(label)])
    assert REASONS[code] == ("EVENT_TOO_LATE" if is_raced else "EVENT_DUPLICATE")
