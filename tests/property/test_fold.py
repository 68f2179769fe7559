"""The fold of the core against a slow Python reference, on random streams of events.

Late, duplicate, same-second, empty, boundary-exact; labels late and absent; nulls; the current transaction in and out, stored
and not.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from assay import _core
from assay.features import definitions as d
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.rows import input_columns
from tests.conftest import SCALE
from tests.support.reference_fold import Event, ReferenceAggregate, ReferenceStore, ReferenceView, Value

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
START_US = 1_522_540_800 * SECOND_US  # 2018-04-01
BEFORE_1970_US = -300 * MINUTE_US

WINDOWS = ("10m", "1h", "1d")
NO_EXPIRY = "10h"  # all events of a stream lie within it

COLUMNS = [
    ("count", None), ("sum", "amount_minor"), ("avg", "amount_minor"), ("min", "amount_minor"), ("max", "amount_minor"),
    ("last", "amount_minor"), ("min", "rate"), ("max", "rate"), ("last", "rate"), ("rate_true", "chip"), ("last", "chip"),
    ("distinct", "channel"), ("distinct", "amount_minor"), ("distinct", "rate"), ("last", "event_time"), ("min", "event_time"),
]  # fmt: skip


def feature_set_of(lateness: str) -> FeatureSet:
    """Four views: with the current transaction, without it, delayed, delayed with labels."""
    views = {
        "with_current": {
            "entity": "customer_id",
            "current": "include",
            **_aggregates("i", [*COLUMNS, ("distinct", "terminal_id")]),
        },
        "without": {"entity": "customer_id", **_aggregates("x", [*COLUMNS, ("distinct", "terminal_id")])},
        "delayed": {"entity": "terminal_id", "delay": "20m", **_aggregates("d", COLUMNS)},
        "risk": {
            "entity": "terminal_id",
            "delay": "20m",
            "labels": True,
            **_aggregates("r", [("count", None), ("rate_true", "is_fraud")]),
        },
    }
    names = [name for view in views.values() for name in view["aggregates"]]  # type: ignore[attr-defined]
    document = {
        "name": "random",
        "version": "1",
        "entities": ["customer_id", "terminal_id"],
        "request_features": {
            "amount_minor": {"dtype": "int64"},
            "rate": {"dtype": "float64", "required": False},
            "chip": {"dtype": "bool", "required": False},
            "channel": {"dtype": "string", "required": False},
        },
        "views": {name: {"lateness": lateness, **view} for name, view in views.items()},
        "inputs": [_input(name) for name in names],
    }
    return FeatureSet.parse(json.dumps(document))


def _aggregates(prefix: str, columns: list[tuple[str, str | None]]) -> dict[str, object]:
    return {
        "aggregates": {
            f"{prefix}_{op}_{of or 'events'}_{window}": {"op": op, "window": window} | ({} if of is None else {"of": of})
            for op, of in columns
            for window in WINDOWS
        }
    }


def _input(name: str) -> dict[str, object]:
    """float64 keeps the value; NaN is null. Integers go through their own tensor, so that none is rounded."""
    _, op, of = name.split("_", 2)
    is_integer = op in ("count", "sum", "distinct") or (
        op in ("min", "max", "last") and of.startswith(("amount_minor", "event_time"))
    )
    if is_integer:
        return {"name": name, "dtype": "int64", "when_null": {"default": 0}, "add_is_missing": True}
    return {"name": name, "dtype": "float64", "when_null": "nan"}


@lru_cache
def compiled(lateness: str) -> tuple[FeatureSet, _core.FeaturePlan]:
    feature_set = feature_set_of(lateness)
    return feature_set, compile_plan(feature_set)


def reference_view(view: d.WindowView) -> ReferenceView:
    aggregates = {name: ReferenceAggregate(a.op, a.of, a.window) for name, a in view.aggregates.items()}
    return ReferenceView(view.entity, aggregates, view.delay, view.current == "include", view.labels)


class Harness:
    """One store of the core and one of the reference, asked the same questions."""

    def __init__(self, lateness: str) -> None:
        self.feature_set, self.plan = compiled(lateness)
        self.store = _core.EmbeddedStore()
        self.reader = _core.FeatureReader(self.plan, self.store)
        self.writer = _core.EventWriter(self.plan, self.store)
        self.views = {name: view for name, view in self.feature_set.views.items() if isinstance(view, d.WindowView)}
        self.reference = {
            name: ReferenceStore(reference_view(view), lambda text: _core.xxh64(text.encode()))
            for name, view in self.views.items()
        }
        self.codes = {row.number: row.reason for row in _core.CODE_TABLE}
        self.outcomes: Counter[str] = Counter()

    def write(self, event: Event) -> str:
        code, refusal = self.writer.write_json(line_of(event))
        assert refusal is None, refusal
        self.outcomes[self.codes[code]] += 1
        return self.codes[code]

    def read(self, current: Event) -> dict[str, Value]:
        features = {name: value for name, value in current.features.items() if value is not None}
        row = self.reader.read(current.transaction_id, current.time_us, current.entities, features)
        assert isinstance(row, _core.ReadRow), row
        assert not any(fold.rejected or fold.saturated or fold.approximate for fold in row.views)
        return self.values_of(np.frombuffer(row.row, np.uint8).reshape(1, -1))

    def values_of(self, rows: np.ndarray) -> dict[str, Value]:
        columns = {name: column[0].item() for name, column in input_columns(self.plan, rows).items()}
        values: dict[str, Value] = {}
        for name, value in columns.items():
            if name.endswith("_is_missing"):
                continue
            is_null = columns[f"{name}_is_missing"] if f"{name}_is_missing" in columns else math.isnan(value)
            values[name] = None if is_null else value
        return values

    def expected(self, current: Event) -> dict[str, Value]:
        """What the reference says, booleans as the numbers that a tensor has."""
        values = {name: value for reference in self.reference.values() for name, value in reference.fold(current).items()}
        return {name: float(value) if isinstance(value, bool) else value for name, value in values.items()}


def line_of(event: Event) -> bytes:
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=event.time_us)
    document = {
        "transaction_id": event.transaction_id,
        "event_time": time.isoformat().replace("+00:00", "Z"),
        "entities": event.entities,
        "features": {name: value for name, value in event.features.items() if value is not None},
    }
    return json.dumps(document | ({} if event.is_fraud is None else {"is_fraud": event.is_fraud})).encode()


# Few ids, few times: collisions are the point. Whole minutes, and one microsecond beside them, meet every boundary.
def times(minutes_max: int) -> st.SearchStrategy[int]:
    near = [0, 5, 10, 20, 30, 60, 70, 80, 90]
    far = [1_440, 1_450, 1_460, 1_490] if minutes_max > 1_500 else []
    return st.builds(
        lambda minute, micro: minute * MINUTE_US + micro,
        st.one_of(st.sampled_from([*near, *far]), st.integers(0, minutes_max)),
        st.sampled_from([0, 0, 0, -1, 1]),
    )


FEATURES = st.fixed_dictionaries(
    {
        "amount_minor": st.one_of(st.integers(-5, 5), st.integers(-(1 << 53), 1 << 53)),
        "rate": st.one_of(st.none(), st.sampled_from([0.0, 1.5, -2.25]), st.floats(allow_nan=False, allow_infinity=False)),
        "chip": st.one_of(st.none(), st.booleans()),
        "channel": st.one_of(st.none(), st.sampled_from(["", "web", "pos", "käse"])),
    }
)


@st.composite
def events(draw: st.DrawFn, start_us: int = START_US, minutes_max: int = 590) -> Event:
    return Event(
        transaction_id=draw(st.sampled_from([str(i) for i in range(30)])),
        time_us=start_us + draw(times(minutes_max)),
        entities={"customer_id": draw(st.sampled_from("ab")), "terminal_id": draw(st.sampled_from("xy"))},
        features=draw(FEATURES),
        is_fraud=draw(st.sampled_from([None, False, True, True])),
    )


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[str, Event]]:
    """Writes and reads in any order; a write may repeat an earlier one, with another label or another time."""
    start_us = draw(st.sampled_from([START_US, BEFORE_1970_US]))
    steps: list[tuple[str, Event]] = []
    for _ in range(draw(st.integers(1, 40))):
        kind = draw(st.sampled_from(["write", "write", "repeat", "label", "read", "replay"]))
        event = draw(events(start_us))
        written = [event for step, event in steps if step == "write"]
        if kind in ("repeat", "label") and written:
            event = draw(st.sampled_from(written))
            if kind == "label":
                event = Event(event.transaction_id, event.time_us, event.entities, event.features, draw(st.booleans()))
        if kind in ("read", "replay"):
            steps.append(("read", event))
        if kind != "read":
            steps.append(("write", event))
    return steps


@settings(max_examples=80 * SCALE)
@given(streams())
def test_every_fold_equals_the_reference(steps: list[tuple[str, Event]]) -> None:
    """Nothing expires here, so every question has the reference's answer."""
    harness = Harness(NO_EXPIRY)
    for kind, event in steps:
        if kind == "write":
            code = harness.write(event)
            changed = [reference.apply(event) for reference in harness.reference.values()]
            assert code == ("OK" if any(changed) else "EVENT_DUPLICATE")
        else:
            note(f"reading as {event.transaction_id} at {event.time_us}")
            assert harness.read(event) == harness.expected(event)
    note(str(harness.outcomes))


@settings(max_examples=30 * SCALE)
@given(st.lists(events(), min_size=1, max_size=40, unique_by=lambda event: event.transaction_id), st.data())
def test_state_is_a_function_of_the_set_of_events(stream: list[Event], data: st.DataObject) -> None:
    """Any order of the same events gives the same answers, bit by bit."""
    one, other = Harness(NO_EXPIRY), Harness(NO_EXPIRY)
    for event in stream:
        one.write(event)
    for event in data.draw(st.permutations(stream)):
        other.write(event)
    question = data.draw(events())
    assert one.read(question) == other.read(question)


@settings(max_examples=30 * SCALE)
@given(st.lists(events(minutes_max=4_000), min_size=1, max_size=60, unique_by=lambda event: event.transaction_id))
def test_what_has_expired_is_never_missed(stream: list[Event]) -> None:
    """State expires with a lateness of 30 min; a question at most that much behind the newest event must not see it."""
    harness = Harness("30m")
    horizon_us = (1_440 + 20 + 30) * MINUTE_US
    for event in stream:
        for name, reference in harness.reference.items():
            newest_us = reference.newest_us(event.entities[harness.views[name].entity])
            # Refused or not, nobody may ask for it any more: the reference may as well have it.
            reference.apply(event)
            if newest_us is not None and event.time_us > newest_us - horizon_us:
                assert reference.holds(event)
        code = harness.write(event)
        assert code in ("OK", "EVENT_TOO_LATE")
        newest = [
            reference.newest_us(event.entities[harness.views[name].entity]) for name, reference in harness.reference.items()
        ]
        if all(event.time_us > (time or 0) - horizon_us for time in newest):
            assert code == "OK"
        if all(event.time_us >= (time or 0) - 30 * MINUTE_US for time in newest):
            question = Event("question", event.time_us, event.entities, event.features)
            assert harness.read(question) == harness.expected(question)


@settings(max_examples=30 * SCALE)
@given(st.lists(events(), min_size=1, max_size=40))
def test_replay_is_score_then_apply_in_order(stream: list[Event]) -> None:
    """EventLog.replay, the training set's path, gives what read and write give one by one, in (time, id) order."""
    harness = Harness(NO_EXPIRY)
    log = _core.EventLog(harness.plan)
    log.append(b"\n".join(line_of(event) for event in stream))
    log.sort()
    store = _core.EmbeddedStore()
    rows, valid, times, report = log.replay(
        _core.FeatureReader(harness.plan, store), _core.EventWriter(harness.plan, store), 0, len(stream)
    )
    ordered = sorted(enumerate(stream), key=lambda item: (item[1].time_us, int(item[1].transaction_id), item[0]))
    assert times.tolist() == [event.time_us for _, event in ordered]
    assert log.transaction_ids(0, len(stream)) == [event.transaction_id for _, event in ordered]
    assert valid.all()
    assert report.event_count == len(stream)
    for index, (_, event) in enumerate(ordered):
        assert harness.values_of(rows[index : index + 1]) == harness.read(event)
        harness.write(event)


HOT = """
name: hot
version: "1"
entities: [customer_id]
request_features: {amount_minor: {dtype: int64}}
views:
  hot:
    entity: customer_id
    aggregates:
      count_1d: {op: count, window: 1d}
      sum_1d: {op: sum, of: amount_minor, window: 1d}
      count_7d: {op: count, window: 7d}
inputs: [{name: count_1d, dtype: float64}, {name: sum_1d, dtype: float64}, {name: count_7d, dtype: float64}]
"""


@settings(max_examples=20 * SCALE)
@given(st.integers(0, 2**32 - 1), st.integers(600, 3_000))
def test_a_hot_entity_is_off_by_less_than_a_24th_of_its_window(seed: int, event_count: int) -> None:
    """Past exact_events_max events fold from tiles (docs/row-record.md): a window may reach back by less than w/24 more."""
    plan = compile_plan(FeatureSet.parse(HOT))
    store = _core.EmbeddedStore()
    reader, writer = _core.FeatureReader(plan, store), _core.EventWriter(plan, store)
    random = np.random.default_rng(seed)
    minutes = np.sort(random.integers(0, 10 * 1_440, event_count))
    for number, minute in enumerate(minutes.tolist()):
        event = Event(str(number), START_US + minute * MINUTE_US, {"customer_id": "a"}, {"amount_minor": number})
        assert writer.write_json(line_of(event)) == (0, None)
    assert store.stats().tiled_event_count > 0
    for minute in (int(minutes[-1]), int(minutes[-1]) + 300, int(minutes[-1]) + 2_000):
        row = reader.read("question", START_US + minute * MINUTE_US, {"customer_id": "a"}, {"amount_minor": 0})
        assert isinstance(row, _core.ReadRow)
        count_1d, sum_1d, count_7d = np.frombuffer(row.row, np.float64)[:3]
        for found, days in ((count_1d, 1), (count_7d, 7)):
            tail = minute - days * 1_440
            exact = np.count_nonzero(minutes > tail)
            assert exact <= found <= np.count_nonzero(minutes > tail - days * 1_440 / 24)
            assert found == exact or row.views[0].approximate
        # The newest events: a sum over the same tail as the count.
        assert sum_1d == np.arange(event_count)[event_count - int(count_1d) :].sum()


def test_boundaries_are_half_open() -> None:
    """(t - w, t]: exactly w ago is out, exactly now is in; with a delay everything is shifted."""
    harness = Harness(NO_EXPIRY)
    for offset in (0, 10, 20, 30):
        event = Event(
            str(offset),
            START_US + offset * MINUTE_US,
            {"customer_id": "a", "terminal_id": "x"},
            {"amount_minor": 1},
            offset == 20,
        )
        assert harness.write(event) == "OK"
    for at, expected in ((30, (1, 4, 1, 0.0)), (40, (0, 4, 1, 1.0)), (50, (0, 4, 1, 0.0)), (60, (0, 3, 0, None))):
        question = Event("question", START_US + at * MINUTE_US, {"customer_id": "a", "terminal_id": "x"}, {"amount_minor": 1})
        values = harness.read(question)
        found = tuple(
            values[name] for name in ("x_count_events_10m", "x_count_events_1h", "r_count_events_10m", "r_rate_true_is_fraud_10m")
        )
        assert found == expected, f"at {at} min"
        assert values == harness_expected(harness, question)


def harness_expected(harness: Harness, question: Event) -> dict[str, Value]:
    for offset in (0, 10, 20, 30):
        event = Event(
            str(offset),
            START_US + offset * MINUTE_US,
            {"customer_id": "a", "terminal_id": "x"},
            {"amount_minor": 1},
            offset == 20,
        )
        for reference in harness.reference.values():
            reference.apply(event)
    return harness.expected(question)


def test_a_retry_after_ingestion_counts_its_transaction_once() -> None:
    harness = Harness(NO_EXPIRY)
    event = Event("1", START_US, {"customer_id": "a", "terminal_id": "x"}, {"amount_minor": 700})
    before = harness.read(event)
    assert harness.write(event) == "OK"
    assert harness.read(event) == before
    assert before["i_count_events_10m"] == 1
    assert before["x_count_events_10m"] == 0


@pytest.mark.parametrize("sums", [(1 << 62, 1 << 62), (-(1 << 63), -1)])
def test_a_sum_past_int64_is_said_not_wrapped(sums: tuple[int, int]) -> None:
    harness = Harness(NO_EXPIRY)
    entities = {"customer_id": "a", "terminal_id": "x"}
    for index, amount in enumerate(sums):
        assert harness.write(Event(str(index), START_US, entities, {"amount_minor": amount})) == "OK"
    row = harness.reader.read("question", START_US, entities, {"amount_minor": 0})
    if isinstance(row, _core.ReadRow):
        rejected = {fold.view: harness.codes[fold.rejected] for fold in row.views}
        assert rejected["with_current"] == rejected["without"] == "INTEGER_OVERFLOW"
        values = harness.values_of(np.frombuffer(row.row, np.uint8).reshape(1, -1))
        assert values["x_sum_amount_minor_10m"] is None
    else:
        assert "INTEGER_OVERFLOW" in row.message
