"""Messages into a store: events the store refuses are found among good ones; labels wait for their events, not for ever."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from assay import _core
from assay.errors import StoreError
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.store_writer import AttributeWrite, LocalWriter
from assay.kafka.label_messages import LabelMessages
from assay.kafka.message_writer import EventMessages
from assay.kafka.messages import Partition, TopicMessage
from tests.support.feature_sets import SHOP
from tests.support.kafka_events import make_events, make_labels

NUMBERS = {row.reason: row.number for row in _core.CODE_TABLE}
EVENTS, LABELS = Partition("payments", 0), Partition("labels", 0)


@pytest.fixture(scope="module")
def plan() -> _core.FeaturePlan:
    return compile_plan(FeatureSet.parse(SHOP))


def messages(documents: Sequence[dict[str, Any]], partition: Partition) -> list[TopicMessage]:
    return [TopicMessage(partition, offset, None, json.dumps(document).encode()) for offset, document in enumerate(documents)]


class RefusingWriter:
    """Refuses events by id, as a store does of whose sums would overflow; takes all others."""

    def __init__(self, inner: LocalWriter, ids: set[str], reason: str) -> None:
        self._inner = inner
        self._ids = ids
        self._code = NUMBERS[reason]

    def ingest(self, log: _core.EventLog, start: int, stop: int) -> _core.IngestReport:
        report = self._inner.ingest(log, start, stop)
        refused = len(self._ids & set(log.transaction_ids(start, stop)))
        return report._replace(refused_count=refused, refused_code=self._code if refused else 0)

    def record_events(self, message: bytes) -> list[tuple[int, str, _core.Refusal | None]] | _core.Refusal:
        raise AssertionError

    def write_labels(self, lines: Sequence[bytes]) -> list[int]:
        raise AssertionError

    def write_attributes(self, view: str, rows: Sequence[AttributeWrite]) -> list[int]:
        raise AssertionError


def test_events_that_the_store_refuses_are_found_among_the_good(plan: _core.FeaturePlan) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    events = make_events(rng, 100)
    ids = {event["transaction_id"] for event in rng.sample(events, 3)}
    writer = RefusingWriter(LocalWriter(plan, _core.EmbeddedStore()), ids, "INTEGER_OVERFLOW")
    written = EventMessages(plan, ["amount_minor", "channel"], writer).write(messages(events, EVENTS))
    assert {json.loads(found.original)["transaction_id"] for found in written.rejects} == ids
    assert {found.reason for found in written.rejects} == {"INTEGER_OVERFLOW"}
    assert written.null_counts["amount_minor"] == 0


def test_a_full_store_is_no_fault_of_an_event(plan: _core.FeaturePlan) -> None:
    writer = RefusingWriter(LocalWriter(plan, _core.EmbeddedStore()), {"t1"}, "STORE_FULL")
    with pytest.raises(StoreError, match="full"):
        EventMessages(plan, [], writer).write(messages(make_events(random.Random(1), 3), EVENTS))


class Labels:
    """LabelMessages over an embedded store, with a clock and a lag that a test sets."""

    def __init__(self, plan: _core.FeaturePlan) -> None:
        self.now_s = 0.0
        self.is_behind = False
        writer = LocalWriter(plan, _core.EmbeddedStore())
        self.events = EventMessages(plan, [], writer)
        self.labels = LabelMessages(plan, writer, 60, events_are_behind=lambda: self.is_behind, clock=lambda: self.now_s)


def test_a_label_waits_until_its_event_is_there(plan: _core.FeaturePlan) -> None:
    house = Labels(plan)
    events = make_events(random.Random(1), 1)
    labels = messages(make_labels(random.Random(1), events), LABELS)
    assert house.labels.write(labels).waiting == labels
    house.now_s = 59
    assert house.labels.write(labels).waiting == labels
    house.events.write(messages(events, EVENTS))
    written = house.labels.write(labels)
    assert (written.recorded_count, written.waiting, written.rejects) == (1, [], [])
    assert house.labels.write(labels).duplicate_count == 1


def test_a_label_waits_a_limited_time_once_all_events_are_read(plan: _core.FeaturePlan) -> None:
    house = Labels(plan)
    labels = messages(make_labels(random.Random(1), make_events(random.Random(1), 1)), LABELS)
    house.is_behind = True
    for house.now_s in (0, 100, 200):
        assert house.labels.write(labels).waiting == labels
    house.is_behind = False
    house.now_s = 259
    assert house.labels.write(labels).waiting == labels
    house.now_s = 260
    written = house.labels.write(labels)
    assert written.waiting == []
    assert [found.reason for found in written.rejects] == ["EVENT_UNKNOWN"]


def test_a_label_of_a_tiled_event_is_too_late(plan: _core.FeaturePlan) -> None:
    house = Labels(plan)
    events = make_events(random.Random(2), 2_000)
    for event in events:
        event["entities"] = {"customer_id": "c1", "terminal_id": "m1"}
    house.events.write(messages(events, EVENTS))
    first, last = events[0], events[-1]
    written = house.labels.write(messages(make_labels(random.Random(2), [first, last]), LABELS))
    assert [found.reason for found in written.rejects] == ["EVENT_TOO_LATE"]
    assert written.recorded_count == 1
