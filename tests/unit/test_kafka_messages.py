"""Messages into a store: events the store refuses are found among good ones; labels wait for their events, not for ever."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from assay import _core
from assay.errors import RecordError, StoreError
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.store_writer import AttributeWrite, LabelWrite, LocalWriter, WriterOptions
from assay.kafka.label_messages import AGAIN_S, LabelMessages
from assay.kafka.message_writer import EventMessages, TopicWriter
from assay.kafka.messages import Partition, Progress, TopicMessage
from assay.kafka.stats import IngestionStats
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

    def write_labels(self, labels: Sequence[LabelWrite]) -> list[int]:
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


@pytest.mark.parametrize("applies_late", [False, True])
def test_what_a_view_lacks_for_a_partition_that_lags_is_counted(plan: _core.FeaturePlan, applies_late: bool) -> None:
    """A topic by customer, read one partition after the other. Customers' events are in order and all there. A terminal's
    record follows the partition of its first event and refuses what is older than its exact events of another. That was once
    counted as recorded, for the customer took it."""
    store = _core.EmbeddedStore()
    writer = EventMessages(plan, ["amount_minor", "channel"], LocalWriter(plan, store, WriterOptions(applies_late)))
    events = make_events(random.Random(4), 12_000)  # of a terminal 400, of which its record keeps 256 one by one
    recorded_count = late_count = 0
    for number in range(4):
        of_partition = [event for event in events if int(event["entities"]["customer_id"][1:]) % 4 == number]
        written = writer.write(messages(of_partition, Partition("payments", number)))
        recorded_count += written.recorded_count
        late_count += written.late_count
    missing_count = 2 * len(events) - store.stats().event_count
    assert 0 < missing_count < 1_000
    assert late_count == missing_count
    assert recorded_count == len(events) - missing_count


@pytest.fixture(scope="module")
def accepting_plan() -> _core.FeaturePlan:
    ratio = "  ratio: {dtype: float64, required: false, accept_int: true}\n"
    return compile_plan(FeatureSet.parse(SHOP.replace("request_features:\n", f"request_features:\n{ratio}")))


def test_integers_for_a_float64_are_counted_once_they_are_written(accepting_plan: _core.FeaturePlan) -> None:
    writer = EventMessages(accepting_plan, ["ratio"], LocalWriter(accepting_plan, _core.EmbeddedStore()))
    events = make_events(random.Random(3), 6)
    for event, ratio in zip(events, (1, 2.5, -3, 2**53 + 1, None, 0), strict=True):
        event["features"]["ratio"] = ratio
    written = writer.write(messages(events, EVENTS))
    assert [found.reason for found in written.rejects] == ["OUT_OF_RANGE"]
    assert written.accepted_ints == {"ratio": 3}
    stats = IngestionStats()
    for _ in range(2):
        stats.flushed({EVENTS.topic: written}, 0.01)
    assert stats.accepted_ints == {"ratio": 6}


class DamagedWriter:
    """A store that cannot trust the records of some customers: it takes nothing that needs one of them."""

    def __init__(self, inner: LocalWriter, customers: set[str], reason: str = "RECORD_CHECKSUM") -> None:
        self._inner = inner
        self._customers = customers
        self._reason = reason
        self.calls = 0

    def _check(self, customers: Iterable[str]) -> None:
        self.calls += 1
        if self._customers & set(customers):
            raise RecordError(self._reason, f"redis://store: a record of view customer cannot be trusted ({self._reason})")

    def ingest(self, log: _core.EventLog, start: int, stop: int) -> _core.IngestReport:
        self._check(CUSTOMER_OF[transaction_id] for transaction_id in log.transaction_ids(start, stop))
        return self._inner.ingest(log, start, stop)

    def write_labels(self, labels: Sequence[LabelWrite]) -> list[int]:
        self._check(json.loads(label.line)["entities"]["customer_id"] for label in labels if label.line != b"{}")
        return self._inner.write_labels(labels)

    def record_events(self, message: bytes) -> list[tuple[int, str, _core.Refusal | None]] | _core.Refusal:
        raise AssertionError

    def write_attributes(self, view: str, rows: Sequence[AttributeWrite]) -> list[int]:
        raise AssertionError


def test_topics_behind_one_that_is_not_taken_stay_unwritten(plan: _core.FeaturePlan) -> None:
    """What was written before it is told all the same: else its events would be counted as repeats at the next try."""
    names, store = ["amount_minor", "channel"], LocalWriter(plan, _core.EmbeddedStore())
    events = make_events(random.Random(5), 6)
    full = RefusingWriter(store, {"t4"}, "STORE_FULL")
    writer = TopicWriter({topic: EventMessages(plan, names, full) for topic in ("a", "b", "c")})
    sent = [message for topic in ("c", "b", "a") for message in messages(events[:2], Partition(topic, 0))]
    sent += messages(events[4:], Partition("b", 1))
    flush = writer.write(sent)
    assert {topic: part.recorded_count for topic, part in flush.written.items()} == {"a": 2}
    assert "full" in str(flush.error)
    assert sorted(flush.unwritten) == sorted(message for message in sent if message.partition.topic != "a")


MANY = make_events(random.Random(9), 300)
CUSTOMER_OF = {event["transaction_id"]: event["entities"]["customer_id"] for event in MANY}
OF_DAMAGED = [number for number, event in enumerate(MANY) if event["entities"]["customer_id"] in ("c3", "c8")]


def test_integers_are_counted_of_the_events_that_are_written(accepting_plan: _core.FeaturePlan) -> None:
    """Halves are written until the damaged are alone: each event counts once."""
    events = [event | {"features": event["features"] | {"ratio": 1}} for event in MANY]
    writer = DamagedWriter(LocalWriter(accepting_plan, _core.EmbeddedStore()), {"c3", "c8"})
    written = EventMessages(accepting_plan, ["ratio"], writer).write(messages(events, EVENTS))
    assert written.accepted_ints == {"ratio": len(MANY) - len(OF_DAMAGED)}


def test_a_damaged_record_costs_the_events_that_need_it(plan: _core.FeaturePlan) -> None:
    """They are rejects with its reason. The ingestion once waited for ever for all of them."""
    assert 2 < len(OF_DAMAGED) < 40
    writer = DamagedWriter(LocalWriter(plan, _core.EmbeddedStore()), {"c3", "c8"})
    no_event = TopicMessage(EVENTS, 300, None, b"{")
    topic = EventMessages(plan, ["amount_minor", "channel"], writer)
    written = topic.write([*messages(MANY, EVENTS), no_event])
    reasons = {found.place.message.offset: found.reason for found in written.rejects}
    assert reasons == {**dict.fromkeys(OF_DAMAGED, "RECORD_CHECKSUM"), 300: "MALFORMED_JSON"}
    assert len(written.rejects) == len(reasons)
    assert "cannot be trusted" in written.rejects[0].describe() + written.rejects[-1].describe()
    assert written.recorded_count == 300 - len(OF_DAMAGED)
    good = [event for number, event in enumerate(MANY) if number not in OF_DAMAGED]
    assert written.null_counts == {
        "amount_minor": 0,
        "channel": sum(event["features"]["channel"] is None for event in good),
    }
    assert writer.calls < 2 * len(OF_DAMAGED) * 10
    again = topic.write(messages(good, EVENTS))
    assert (again.recorded_count, again.duplicate_count) == (0, len(good))


def test_a_damaged_record_costs_the_labels_that_need_it(plan: _core.FeaturePlan) -> None:
    inner = LocalWriter(plan, _core.EmbeddedStore())
    EventMessages(plan, [], inner).write(messages(MANY, EVENTS))
    labels = LabelMessages(plan, DamagedWriter(inner, {"c3", "c8"}), 60, event_progress=dict, clock=lambda: 0.0)
    given = [*messages(make_labels(random.Random(9), MANY), LABELS), TopicMessage(LABELS, 300, None, b"{}")]
    written = labels.write(given)
    of_record = {found.place.message.offset for found in written.rejects if found.reason == "RECORD_CHECKSUM"}
    assert of_record == set(OF_DAMAGED)
    assert len(written.rejects) == len(OF_DAMAGED) + 1
    assert written.recorded_count == 300 - len(OF_DAMAGED)


def test_a_record_of_a_newer_assay_is_no_fault_of_an_event(plan: _core.FeaturePlan) -> None:
    """Else a process that is older than its neighbours would send all events to the dead letters."""
    inner = LocalWriter(plan, _core.EmbeddedStore())
    writer = DamagedWriter(inner, {"c3"}, "RECORD_VERSION")
    with pytest.raises(RecordError, match="RECORD_VERSION"):
        EventMessages(plan, ["amount_minor", "channel"], writer).write(messages(MANY, EVENTS))
    labels = LabelMessages(plan, writer, 60, event_progress=dict, clock=lambda: 0.0)
    with pytest.raises(RecordError, match="RECORD_VERSION"):
        labels.write(messages(make_labels(random.Random(9), MANY), LABELS))


def test_a_full_store_is_no_fault_of_an_event(plan: _core.FeaturePlan) -> None:
    writer = RefusingWriter(LocalWriter(plan, _core.EmbeddedStore()), {"t1"}, "STORE_FULL")
    with pytest.raises(StoreError, match="full"):
        EventMessages(plan, [], writer).write(messages(make_events(random.Random(1), 3), EVENTS))


class Labels:
    """LabelMessages over an embedded store, with a clock and a place in the topics of events that a test sets."""

    def __init__(self, plan: _core.FeaturePlan) -> None:
        self.now_s = 0.0
        self.progress: dict[Partition, Progress] = {EVENTS: Progress(0, 0)}
        self.writer = LocalWriter(plan, _core.EmbeddedStore())
        self.events = EventMessages(plan, [], self.writer)
        self.labels = LabelMessages(plan, self.writer, 60, event_progress=lambda: self.progress, clock=lambda: self.now_s)


def test_a_label_waits_until_its_event_is_there(plan: _core.FeaturePlan) -> None:
    house = Labels(plan)
    events = make_events(random.Random(1), 1)
    labels = messages(make_labels(random.Random(1), events), LABELS)
    assert house.labels.write(labels).waiting == labels
    house.now_s = 59
    assert house.labels.write(labels).waiting == labels
    house.events.write(messages(events, EVENTS))
    assert house.labels.write(labels).waiting == labels  # it was tried just now
    house.now_s += AGAIN_S
    written = house.labels.write(labels)
    assert (written.recorded_count, written.waiting, written.rejects) == (1, [], [])
    assert house.labels.write(labels).duplicate_count == 1


def orphans(count: int) -> list[TopicMessage]:
    """Labels without events."""
    return messages(make_labels(random.Random(1), make_events(random.Random(1), count)), LABELS)


def test_a_label_that_waits_is_tried_twice_a_second_and_once_more_at_the_end(
    plan: _core.FeaturePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While events flow there is a flush every few milliseconds: all labels that waited were written with each."""
    house = Labels(plan)
    orphan = orphans(1)
    tried_s = []
    write = house.writer.write_labels

    def note(labels: Sequence[LabelWrite]) -> list[int]:
        tried_s.append(house.now_s)
        return list(write(labels))

    monkeypatch.setattr(house.writer, "write_labels", note)
    while house.labels.write(orphan).waiting:
        house.now_s += 0.125
    assert [when_s for when_s in tried_s if when_s < 60] == [AGAIN_S * number for number in range(120)]
    assert tried_s[-1] == 60
    assert house.now_s == 60


def test_a_label_waits_a_limited_time_once_all_events_are_read_that_were_there(plan: _core.FeaturePlan) -> None:
    house = Labels(plan)
    labels = orphans(1)
    house.progress = {EVENTS: Progress(0, 500)}
    for house.now_s in (0, 100, 200):
        assert house.labels.write(labels).waiting == labels
    for house.now_s, read_to in ((250, 499), (309, 500)):  # the last time that it begins anew, and the first that it does not
        house.progress = {EVENTS: Progress(read_to, 900)}
        assert house.labels.write(labels).waiting == labels
    house.now_s = 310
    written = house.labels.write(labels)
    assert written.waiting == []
    assert [found.reason for found in written.rejects] == ["EVENT_UNKNOWN"]


def test_a_topic_of_events_that_never_ends_keeps_no_label_for_ever(plan: _core.FeaturePlan) -> None:
    """There is always one event more to read. A label's wait once began anew with each."""
    house = Labels(plan)
    labels = orphans(1)
    for second in range(200):
        house.now_s = second
        house.progress = {EVENTS: Progress(1_000 + 10 * second, 1_005 + 10 * second)}
        if not house.labels.write(labels).waiting:
            break
    assert house.now_s == 60  # from the first second on, at whose look the events of the beginning were read


def test_a_label_that_comes_later_waits_for_events_that_came_later(plan: _core.FeaturePlan) -> None:
    house = Labels(plan)
    first, second = orphans(2)
    house.labels.write([first])
    house.now_s = 50
    house.progress = {EVENTS: Progress(0, 7)}
    assert house.labels.write([first, second]).waiting == [first, second]
    house.now_s = 60
    assert house.labels.write([first, second]).waiting == [second]
    house.now_s = 130
    assert house.labels.write([second]).waiting == [second]  # the 7 are not read


def test_a_partition_whose_end_is_not_known_yet_is_waited_for(plan: _core.FeaturePlan) -> None:
    house = Labels(plan)
    labels = orphans(1)
    other = Partition("payments", 1)
    house.progress = {EVENTS: Progress(0, 0), other: Progress(0, None)}
    for house.now_s in (0, 100):
        assert house.labels.write(labels).waiting == labels
    house.progress[other] = Progress(0, 3)
    house.now_s = 200
    assert house.labels.write(labels).waiting == labels
    del house.progress[other]  # another member's now
    house.now_s = 260
    assert house.labels.write(labels).waiting == []


@pytest.mark.parametrize(
    ("change", "reasons"),
    [({"label_time": "yesterday"}, ["BAD_TIMESTAMP"]), ({"is_fraud": 1}, ["WRONG_TYPE", "MISSING_FIELD"])],
)
def test_a_bad_label_is_told_apart_with_all_that_is_wrong(
    plan: _core.FeaturePlan, change: dict[str, Any], reasons: list[str]
) -> None:
    house = Labels(plan)
    events = make_events(random.Random(1), 3)
    house.events.write(messages(events, EVENTS))
    labels = make_labels(random.Random(1), events)
    labels[1] |= change
    written = house.labels.write(messages(labels, LABELS))
    assert written.recorded_count == 2
    assert [found.place.message.offset for found in written.rejects] == [1]
    assert [violation.reason for violation in written.rejects[0].violations] == reasons
    assert all(violation.field for violation in written.rejects[0].violations)


def test_good_labels_are_decoded_by_the_writer_alone(plan: _core.FeaturePlan) -> None:
    asked: list[bytes] = []

    class Plan:
        def label_violations(self, line: bytes) -> tuple[tuple[str, str, str], ...]:
            asked.append(line)
            return plan.label_violations(line)

    writer = LocalWriter(plan, _core.EmbeddedStore())
    labels = LabelMessages(Plan(), writer, 60, event_progress=dict, clock=lambda: 0.0)  # type: ignore[arg-type]
    bad = TopicMessage(LABELS, 9, None, b"{}")
    labels.write([*orphans(5), bad])
    assert asked == [b"{}"]


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
