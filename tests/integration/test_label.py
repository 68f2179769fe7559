"""`assay label` and Event.is_label: a label finds its event, adds none, and says what became of it; every store alike."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from assay import _core
from assay.cli.label import label as label_command
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.store import open_remote_store, open_store
from assay.v1 import feature_pb2, feature_pb2_grpc
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import EVENT_TIME, WAIT_S, LocalServer, reason_of

SHOP = """
name: shop
version: "1"
entities: [customer_id, terminal_id]
request_features: {amount_minor: {dtype: int64}}
views:
  customer:
    entity: customer_id
    aggregates: {sum_7d: {op: sum, of: amount_minor, window: 7d}}
  terminal:
    entity: terminal_id
    labels: true
    delay: 7d
    aggregates: {risk_30d: {op: rate_true, of: is_fraud, window: 30d}}
inputs: [{name: risk_30d, when_null: {default: -1}}, {name: sum_7d, dtype: float64}]
"""
DAY_US = 86_400_000_000
TIME_US = int(EVENT_TIME.timestamp()) * 1_000_000
PLAN = compile_plan(FeatureSet.parse(SHOP))
REASONS = {row.number: row.reason for row in _core.CODE_TABLE}
ENTITIES = {"customer_id": "c1", "terminal_id": "m1"}

app = typer.Typer()
app.command()(label_command)


def event(name: str, **fields: Any) -> feature_pb2.Event:
    made = feature_pb2.Event(transaction_id=name, entities=ENTITIES, **fields)
    made.event_time.FromMicroseconds(TIME_US)
    made.features["amount_minor"].int64_value = 100
    return made


def label(name: str, is_fraud: bool, label_us: int = TIME_US) -> feature_pb2.Event:
    made = feature_pb2.Event(transaction_id=name, entities={"terminal_id": "m1"}, is_fraud=is_fraud, is_label=True)
    made.event_time.FromMicroseconds(TIME_US)
    made.label_time.FromMicroseconds(label_us)
    return made


def message(*events: feature_pb2.Event) -> bytes:
    return feature_pb2.RecordEventsRequest(events=events).SerializeToString()


def outcomes(store: Any, *events: feature_pb2.Event) -> list[str]:
    found = store.writer(PLAN).record_events(message(*events))
    assert not isinstance(found, _core.Refusal), found
    return [REASONS[code] for code, _, _ in found]


def risk(store: Any, time_us: int) -> float:
    """-1: no event is old enough."""
    records = store.records_of(PLAN, ENTITIES)
    row = _core.FeatureReader(PLAN, records.store).read("probe", time_us, ENTITIES, {"amount_minor": 1})
    assert isinstance(row, _core.ReadRow), row
    (_, _, offset, _) = next(segment for segment in PLAN.segments if segment[0] == "input_float32")
    return float(memoryview(row.row)[offset : offset + 4].cast("f")[0])


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(params=["embedded", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "embedded":
        with open_store("embedded:") as opened:
            yield opened
        return
    server = request.getfixturevalue("redis")
    with server.client() as client:
        client.flushall()
    with open_remote_store(server.url) as opened:
        yield opened


def test_a_label_finds_its_event_and_adds_none(store: Any) -> None:
    late_us = TIME_US + 9 * DAY_US
    assert outcomes(store, label("e1", True)) == ["EVENT_UNKNOWN"]
    assert outcomes(store, event("e1"), event("e2"), label("e1", True, late_us)) == ["OK", "OK", "OK"]
    assert [risk(store, TIME_US + day * DAY_US) for day in (6, 7, 8, 9)] == [-1.0, 0.0, 0.0, 0.5]
    assert outcomes(store, label("e1", True, late_us)) == ["EVENT_DUPLICATE"]
    assert outcomes(store, label("e1", False, late_us)) == ["EVENT_TOO_LATE"]
    assert outcomes(store, label("e3", True)) == ["EVENT_UNKNOWN"]
    assert outcomes(store, label("e1", False, late_us + 1)) == ["OK"]
    assert risk(store, TIME_US + 10 * DAY_US) == 0.0
    assert outcomes(store, label("e2", True)) == ["OK"]  # known at once, it counts when an inline one does
    assert risk(store, TIME_US + 7 * DAY_US) == 0.5


def test_labels_in_any_order_make_the_same_record(store: Any) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    labels = [label("e1", rng.random() < 0.5, TIME_US + rng.randrange(3) * DAY_US) for _ in range(3)]
    seen = set()
    for order in itertools.permutations(labels):
        with open_store("embedded:") as fresh:
            outcomes(fresh, event("e1"), *order)
            seen.add(_sealed(fresh))
    outcomes(store, event("e1"), *labels)
    seen.add(_sealed(store))
    assert len(seen) == 1


def _sealed(store: Any) -> bytes:
    """The terminal's record, without the time of its writing."""
    writer = _core.EventWriter(PLAN, store.records_of(PLAN, ENTITIES).store)
    sealed = writer.take_changed_record(writer.record_of("terminal", "m1"), None)
    assert sealed is not None
    return sealed[16:40] + sealed[48:]


def test_what_a_label_lacks_is_said() -> None:
    bare = feature_pb2.Event(transaction_id="e1", entities={"terminal_id": "m1"}, is_label=True)
    refused = PLAN.decode_event(bare.SerializeToString())
    assert isinstance(refused, _core.Refusal)
    assert "is_fraud is missing; a label says true or false" in refused.message
    assert "event_time is missing" in refused.message
    assert "label_time is missing; expected when the label became known" in refused.message
    nowhere = label("e1", True)
    nowhere.ClearField("entities")
    nowhere.entities["customer_id"] = "c1"  # no view of customers uses labels
    refused = PLAN.decode_event(nowhere.SerializeToString())
    assert isinstance(refused, _core.Refusal)
    assert "entities names no entity of a view that uses labels" in refused.message
    timed = event("e1")
    timed.label_time.FromMicroseconds(TIME_US)
    refused = PLAN.decode_event(timed.SerializeToString())
    assert isinstance(refused, _core.Refusal)
    with open_store("embedded:") as opened:
        ahead = label("e1", True, 4_000_000_000_000_000)
        assert outcomes(opened, event("e1"), ahead) == ["OK", "EVENT_IN_FUTURE"]


def test_the_server_says_which_label_found_no_event() -> None:
    with LocalServer(feature_set=SHOP) as server:
        stub = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
        sent = [event("e1"), label("e1", True), label("e1", True), label("e2", True)]
        answer = stub.RecordEvents(iter([feature_pb2.RecordEventsRequest(events=sent)]), timeout=WAIT_S)
        assert (answer.recorded_count, answer.duplicate_count, answer.rejected_count) == (2, 1, 1)
        (rejected,) = answer.rejected_events
        assert (rejected.index, reason_of(rejected.status)) == (3, "EVENT_UNKNOWN")


# --- the command


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A feature set, and a store with one event."""
    path, url = tmp_path / "shop.yaml", f"embedded:{tmp_path / 'store.snapshot'}"
    path.write_text(SHOP)
    with open_store(url) as opened:
        assert outcomes(opened, event("e1")) == ["OK"]
        opened.save()
    return str(path), url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


AT = ("--event-time", EVENT_TIME.isoformat(), "--entity", "terminal_id=m1")


def test_label_a_stored_event(files: tuple[str, str]) -> None:
    path, url = files
    where = ("--store", url, "--feature-set", path)
    found = run("e1", "--fraud", *AT, "--label-time", "2026-03-09T00:00:00Z", *where)
    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines() == ["e1 fraud: labelled", "  counts in view terminal from 2026-03-09T00:00:00Z"]
    with open_store(url, mode="read") as opened:
        assert risk(opened, TIME_US + 10 * DAY_US) == 1.0
    again = run("e1", "--fraud", *AT, "--label-time", "2026-03-09T00:00:00Z", *where, "--json")
    assert json.loads(again.stdout) == {"transaction_id": "e1", "is_fraud": True, "outcome": "already", "counts_from": {}}
    older = run("e1", "--genuine", *AT, "--label-time", "2026-03-08T00:00:00Z", *where)
    assert (older.exit_code, "a newer label stands" in " ".join(older.stderr.split())) == (4, True)
    unknown = run("e9", "--fraud", *AT, *where, "--json")
    assert (unknown.exit_code, json.loads(unknown.stdout)["outcome"]) == (4, "unknown")


def test_label_by_way_of_a_server(files: tuple[str, str]) -> None:
    with LocalServer(feature_set=SHOP) as server:
        target = ("--target", f"unix:{server.addresses.admin}")
        assert run("e1", "--fraud", *AT, *target).exit_code == 4
        stub = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
        stub.RecordEvents(iter([feature_pb2.RecordEventsRequest(events=[event("e1")])]), timeout=WAIT_S)
        said = [
            run("e1", kind, *AT, *target, "--label-time", "2026-03-09T00:00:00Z") for kind in ("--fraud", "--fraud", "--genuine")
        ]
        assert [found.exit_code for found in said] == [0, 0, 4], [found.output for found in said]
        assert said[0].stdout.splitlines()[1] == "  counts in view terminal from 2026-03-09T00:00:00Z"
        assert "already" in said[1].stdout
        found = run("e1", "--fraud", *AT, "--target", server.addresses.public)
        assert (found.exit_code, "--target unix:PATH" in found.stderr) == (1, True), found.output
    assert run("e1", "--fraud", *AT, "--target", "127.0.0.1:1").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("e1", *AT), 2, "--fraud or --genuine"),
        (("e1", "--fraud", "--event-time", "yesterday", "--entity", "terminal_id=m1"), 2, "--event-time: expected a time"),
        (("e1", "--fraud", *AT[:2], "--entity", "customer_id=c1"), 1, "labels count in views of: terminal_id"),
        (("e1", "--fraud", *AT[:2], "--entity", "terminal=m1"), 1, "did you mean terminal_id?"),
        (("e" * 129, "--fraud", *AT), 1, "transaction_id has 129 bytes"),
    ],
)
def test_label_says_what_is_wrong(files: tuple[str, str], arguments: tuple[str, ...], exit_code: int, says: str) -> None:
    path, url = files
    found = run(*arguments, "--store", url, "--feature-set", path)
    assert (found.exit_code, says in " ".join(found.output.split())) == (exit_code, True), found.output
