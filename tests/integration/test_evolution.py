"""A feature set changes while the old one serves. What is derived touches no stored row; a changed view writes beside the old;
both versions of servers share one Redis, and the new view is filled from a file meanwhile."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from assay import _core
from assay.cli.ingest import ingest as ingest_command
from assay.features.difference import compare
from assay.features.feature_set import FeatureSet
from assay.features.store import open_remote_store
from assay.features.times import format_time_us
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2_grpc
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import EVENT_TIME, WAIT_S, LocalServer, make_event, make_request

OLD = """
name: shop
version: "1"
entities: [customer_id]
request_features: {amount_minor: {dtype: int64}}
views:
  customer:
    entity: customer_id
    aggregates:
      count_1d: {op: count, window: 1d}
      sum_7d: {op: sum, of: amount_minor, window: 7d}
derived:
  spent_7d: {op: scale, of: sum_7d, divide_by: 100}
inputs: [count_1d, spent_7d]
"""
NEW_DERIVED = OLD.replace('"1"', '"2"').replace("derived:", "derived:\n  log_spent: {op: log1p, of: spent_7d}").replace(
    "spent_7d]", "spent_7d, log_spent]"
)  # fmt: skip
NEW_VIEW = OLD.replace('"1"', '"3"').replace("count_1d: {op: count, window: 1d}", "count_1d: {op: count, window: 2d}")
TIME_US = int(EVENT_TIME.timestamp()) * 1_000_000
DAY_US = 86_400_000_000

app = typer.Typer()
app.command()(ingest_command)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@contextmanager
def serving(redis: RedisServer, feature_set: str) -> Iterator[LocalServer]:
    store = open_remote_store(redis.url, lookup_timeout_ms=5_000)
    try:
        with LocalServer(feature_set=feature_set, remote=store, store={"lookup_timeout_ms_max": 5_000}) as server:
            yield server
    finally:
        store.close()


def inputs(server: LocalServer, customer_id: str = "c1") -> dict[str, float]:
    request = make_request("probe", customer_id, include_features=True, timeout={"seconds": 10})
    answer = scoring_pb2_grpc.ScoringServiceStub(server.channel()).Score(request, timeout=WAIT_S)
    assert list(answer.degradations) == []
    return {item.name: item.value.double_value for item in answer.inputs}


def record(server: LocalServer, *events: feature_pb2.Event) -> int:
    request = feature_pb2.RecordEventsRequest(events=events)
    answer = feature_pb2_grpc.FeatureServiceStub(server.admin_channel()).RecordEvents(iter([request]), timeout=WAIT_S)
    return int(answer.recorded_count)


def records(redis: RedisServer) -> dict[bytes, bytes]:
    with redis.client() as client:
        return {key: client.get(key) for key in client.keys("a1:*")}


def ingest(redis: RedisServer, events: Path, feature_set: Path) -> dict[str, Any]:
    arguments = ["--events", str(events), "--feature-set", str(feature_set), "--store", redis.url, "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def history(path: Path, count: int) -> Path:
    """A file of events of a week, whose seed is printed."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    with path.open("w") as file:
        for number in range(count):
            event = {
                "transaction_id": f"h{number}",
                "event_time": format_time_us(TIME_US - rng.randrange(1, 7 * DAY_US)),
                "entities": {"customer_id": rng.choice(["c1", "c2"])},
                "features": {"amount_minor": rng.randrange(10_000)},
            }
            file.write(json.dumps(event) + "\n")
    return path


def replayed(feature_set: str, events: Path) -> dict[str, float]:
    """What a store that held only this file would give."""
    with LocalServer(feature_set=feature_set) as server:
        log = _core.EventLog(server.plan)
        log.append(events.read_bytes())
        log.sort()
        log.ingest(_core.EventWriter(server.plan, server.store), 0, log.event_count)
        return inputs(server)


def test_what_is_derived_touches_no_stored_row(redis: RedisServer) -> None:
    assert [rows.state for rows in compare(FeatureSet.parse(OLD), FeatureSet.parse(NEW_DERIVED)).views] == ["kept"]
    with serving(redis, OLD) as old, serving(redis, NEW_DERIVED) as new:
        assert record(old, make_event("e1", amount_minor=250)) == 1
        before = records(redis)
        assert inputs(old) == {"count_1d": 1, "spent_7d": 2.5}
        assert inputs(new) == {**inputs(old), "log_spent": pytest.approx(1.252763, rel=1e-6)}
        assert records(redis) == before
        assert record(new, make_event("e1", amount_minor=250)) == 0  # the other version's event is this one's too
        assert record(new, make_event("e2", amount_minor=50)) == 1
        assert inputs(old) == {"count_1d": 2, "spent_7d": 3.0}
        assert records(redis).keys() == before.keys()


def test_a_changed_view_is_filled_from_a_file_while_the_old_one_serves(redis: RedisServer, tmp_path: Path) -> None:
    events = history(tmp_path / "events.jsonl", 300)
    old_path, new_path = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old_path.write_text(OLD)
    new_path.write_text(NEW_VIEW)
    ingest(redis, events, old_path)
    with serving(redis, OLD) as old, serving(redis, NEW_VIEW) as new:
        expected = inputs(old)
        kept = records(redis)
        assert expected == replayed(OLD, events)
        assert inputs(new) == {"count_1d": 0, "spent_7d": 0}  # nothing of the old view is taken for the new one's
        seen: list[dict[str, float]] = []
        is_filled = threading.Event()

        def keep_scoring() -> None:
            while not is_filled.is_set():
                seen.append(inputs(old))

        scoring = threading.Thread(target=keep_scoring)
        scoring.start()
        try:
            assert ingest(redis, events, new_path)["recorded_count"] == 300
        finally:
            is_filled.set()
            scoring.join()
        assert seen
        assert all(found == expected for found in seen)
        assert inputs(new) == replayed(NEW_VIEW, events)
        now = records(redis)
        assert {key: now[key] for key in kept} == kept
        assert len(now) == 2 * len(kept)
        assert ingest(redis, events, new_path)["recorded_count"] == 0  # loaded again: nothing twice


def test_an_event_of_the_time_between_is_brought_over_by_loading_again(redis: RedisServer, tmp_path: Path) -> None:
    events, new_path = history(tmp_path / "events.jsonl", 20), tmp_path / "new.yaml"
    new_path.write_text(NEW_VIEW)
    with serving(redis, OLD) as old, serving(redis, NEW_VIEW) as new:
        ingest(redis, events, new_path)
        between = make_event("e1", amount_minor=100)
        assert record(old, between) == 1
        before = inputs(new)
        assert record(new, between) == 1  # its own view lacks it, whatever the old one has
        assert inputs(new)["count_1d"] == before["count_1d"] + 1
        assert record(new, between) == 0


def test_a_new_view_is_filled_alone(redis: RedisServer, tmp_path: Path) -> None:
    """What others keep is neither written nor counted."""
    two_views = OLD.replace(
        "derived:", "  slow:\n    entity: customer_id\n    aggregates:\n      count_30d: {op: count, window: 30d}\nderived:"
    )
    events = tmp_path / "events.jsonl"
    lines = [
        {
            "transaction_id": f"t{number}",
            "event_time": format_time_us(TIME_US - number * 1_000_000),
            "entities": {"customer_id": "c1"},
            "features": {"amount_minor": 5},
        }
        for number in range(20)
    ]
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    set_path = tmp_path / "two.yaml"
    set_path.write_text(two_views)

    def ingest(*arguments: str) -> Any:
        command = ["--events", str(events), "--store", redis.url, "--feature-set", str(set_path), "--json", *arguments]
        return CliRunner().invoke(app, command)

    with redis.client() as client:
        for view in ("slow", "customer"):
            found = json.loads(ingest("--only-view", view).stdout)
            assert (found["recorded_count"], found["duplicate_count"]) == (20, 0)
            views = {key.decode().split(":")[-2] for key in client.scan_iter("a1:*")}
            assert views == ({"slow"} if view == "slow" else {"slow", "customer"})
    refused = ingest("--only-view", "none")
    assert refused.exit_code == 2
    assert "no view of events of shop" in refused.stderr
