"""Training equals serving: rows that a model was given are those of a replay of the events; where they are not, it is found."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner, Result

from assay import _core
from assay.cli.features import app
from assay.features.feature_set import FeatureSet
from assay.features.served_rows import read_sample
from assay.features.times import format_time_us
from assay.transport.served_rows_messages import PAGE_BYTES_MAX
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.support.server import EVENT_TIME, WAIT_S, LocalServer, reason_of, status_of

SHOP = """
name: shop
version: "7"
entities: [customer_id, terminal_id]
request_features:
  amount_minor: {dtype: int64, minimum: 0}
  ratio: {dtype: float64, required: false}
views:
  customer:
    entity: customer_id
    current: include
    aggregates:
      count_1d: {op: count, window: 1d}
      average_7d: {op: avg, of: amount_minor, window: 7d}
      seen_at: {op: last, of: event_time, window: 7d}
  terminal:
    entity: terminal_id
    labels: true
    delay: 1d
    aggregates:
      risk_30d: {op: rate_true, of: is_fraud, window: 30d}
derived:
  amount: {op: scale, of: amount_minor, divide_by: 100}
inputs:
  - amount
  - {name: ratio, when_null: nan}
  - count_1d
  - {name: average_7d, when_null: nan}
  - {name: risk_30d, when_null: {default: 0.25}, add_is_missing: true}
"""
START_US = int(EVENT_TIME.timestamp()) * 1_000_000
CUSTOMERS = 12
ALL = {"sample_one_in": 1}


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(feature_set=SHOP, skew=ALL) as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    return path


def make_events(count: int) -> list[dict[str, Any]]:
    """Events in order, as JSON."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    times = sorted(START_US + 1_000_000 * rng.randrange(40 * 86_400) for _ in range(count))
    return [
        {
            "transaction_id": str(1_000 + number),
            "event_time": format_time_us(time_us),
            "entities": {"customer_id": f"c{rng.randrange(CUSTOMERS)}", "terminal_id": f"m{rng.randrange(4)}"},
            "features": {"amount_minor": rng.randrange(10_000), **({"ratio": rng.random()} if rng.random() < 0.7 else {})},
            "is_fraud": rng.random() < 0.2,
        }
        for number, time_us in enumerate(times)
    ]


def write(path: Path, events: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def fill(message: Any, event: dict[str, Any]) -> Any:
    message.transaction_id = event["transaction_id"]
    message.event_time.FromJsonString(event["event_time"])
    message.entities.update(event["entities"])
    message.features["amount_minor"].int64_value = event["features"]["amount_minor"]
    if "ratio" in event["features"]:
        message.features["ratio"].double_value = event["features"]["ratio"]
    return message


def serve(server: LocalServer, events: list[dict[str, Any]], is_told: Callable[[int], bool] = lambda index: True) -> None:
    """Scores each event, then records it if the store is to be told."""
    scoring = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    features = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
    for index, event in enumerate(events):
        assert scoring.Score(fill(scoring_pb2.ScoreRequest(), event), timeout=WAIT_S).HasField("score")
        if is_told(index):
            told = fill(feature_pb2.Event(is_fraud=event["is_fraud"]), event)
            answer = features.RecordEvents(iter([feature_pb2.RecordEventsRequest(events=[told])]), timeout=WAIT_S)
            assert answer.recorded_count == 1, answer


def admin(server: LocalServer) -> str:
    return f"unix:{server.addresses.admin}"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def checked(exit_code: int, *arguments: str | Path) -> dict[str, Any]:
    result = run("check-skew", *arguments, "--json")
    assert result.exit_code == exit_code, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def page(server: LocalServer, after: int = 0, **fields: str) -> feature_pb2.GetServedRowsResponse:
    request = feature_pb2.GetServedRowsRequest(after_position=after, **fields)
    answer: feature_pb2.GetServedRowsResponse = feature_pb2_grpc.FeatureServiceStub(server.admin_channel()).GetServedRows(
        request, timeout=WAIT_S
    )
    return answer


def test_every_row_served_is_the_replayed_one(server: LocalServer, shop: Path, tmp_path: Path) -> None:
    events = make_events(300)
    serve(server, events)
    path = write(tmp_path / "events.jsonl", random.sample(events, len(events)))
    report = checked(0, "--target", admin(server), "--events", path, "--feature-set", shop)
    assert (report["row_count"], report["compared_count"], report["skew_max"]) == (300, 300, 0.0)
    assert {one["name"] for one in report["inputs"]} == set(FeatureSet.parse(SHOP).input_names)
    for one in report["inputs"]:
        assert (one["compared_count"], one["mismatch_count"], one["missing_count"], one["extra_count"]) == (300, 0, 0, 0)
        assert one["difference_max"] == 0.0


def test_an_event_that_the_store_was_not_told_is_found(server: LocalServer, shop: Path, tmp_path: Path) -> None:
    events = make_events(200)
    serve(server, events, is_told=lambda index: index != 100)
    path = write(tmp_path / "events.jsonl", events)
    report = checked(4, "--target", admin(server), "--events", path, "--feature-set", shop, "--mismatch-max", "0")
    skewed = {one["name"]: one for one in report["inputs"] if one["mismatch_count"] + one["missing_count"] > 0}
    assert "average_7d" in skewed, "the customer's next payment within a week has another average"
    assert set(skewed) <= {"count_1d", "average_7d", "risk_30d", "risk_30d_is_missing"}
    assert skewed["average_7d"]["difference_max"] > 0
    # As many may differ as do.
    found = str(report["skew_max"])
    checked(0, "--target", admin(server), "--events", path, "--feature-set", shop, "--mismatch-max", found)
    # The table says it too.
    shown = run("check-skew", "--target", admin(server), "--events", path, "--feature-set", shop, "--mismatch-max", "0")
    assert shown.exit_code == 4
    assert "model puppet 1: 200 of 200 rows compared" in shown.stdout


def test_a_file_of_rows_is_as_good_as_the_server(server: LocalServer, shop: Path, tmp_path: Path) -> None:
    events = make_events(60)
    serve(server, events)
    out = tmp_path / "served.jsonl"
    written = run("served-rows", "--target", admin(server), "--out", out)
    assert written.exit_code == 0, written.output
    assert "60 rows of model puppet 1" in written.output
    assert out.stat().st_mode & 0o777 == 0o600
    assert [row.transaction_id for row in read_sample(out).rows] == [event["transaction_id"] for event in events]
    text = out.read_text()
    assert not any(f'"c{number}"' in text or f'"m{number}"' in text for number in range(CUSTOMERS)), "an entity's id is in it"
    path = write(tmp_path / "events.jsonl", events)
    from_file = checked(0, "--rows", out, "--events", path, "--feature-set", shop)
    assert from_file == checked(0, "--target", admin(server), "--events", path, "--feature-set", shop)


def test_a_server_is_held_against_its_own_feature_set(server: LocalServer, tmp_path: Path) -> None:
    """It was the demo's, so that nobody could leave --feature-set out."""
    events = make_events(20)
    serve(server, events)
    path = write(tmp_path / "events.jsonl", events)
    for named in ((), ("--model", "puppet", "--version", "1")):
        report = checked(0, "--target", admin(server), "--events", path, *named)
        assert (report["compared_count"], report["schema_hash"]) == (20, FeatureSet.parse(SHOP).schema_hash)


def test_rows_without_an_event_and_with_another_time_are_said(server: LocalServer, shop: Path, tmp_path: Path) -> None:
    events = make_events(30)
    serve(server, events)
    late = {**events[-1], "event_time": format_time_us(START_US + 41 * 86_400_000_000)}
    path = write(tmp_path / "events.jsonl", [*events[:-2], late])
    report = checked(0, "--target", admin(server), "--events", path, "--feature-set", shop, "--mismatch-max", "1")
    assert (report["row_count"], report["compared_count"]) == (30, 29)
    assert (report["unknown_count"], report["other_time_count"], report["degraded_count"]) == (1, 1, 0)


def test_nothing_to_compare_is_no_success(shop: Path, tmp_path: Path) -> None:
    events = make_events(5)
    path = write(tmp_path / "events.jsonl", events)
    with LocalServer(feature_set=SHOP, skew={"sample_one_in": 0}) as server:
        serve(server, events)
        result = run("check-skew", "--target", admin(server), "--events", path, "--feature-set", shop)
    assert result.exit_code == 4
    assert "no row could be compared" in result.output


@pytest.mark.parametrize(("told_count", "exit_code"), [(14, 4), (15, 0)])
def test_less_than_half_compared_is_no_success(
    server: LocalServer, shop: Path, tmp_path: Path, told_count: int, exit_code: int
) -> None:
    """The rows that are left all agree; but events of another day, or a store that is away, once made one row a proof."""
    events = make_events(30)
    serve(server, events)
    path = write(tmp_path / "events.jsonl", events[:told_count])
    arguments = ("--target", admin(server), "--events", path, "--feature-set", shop)
    assert checked(exit_code, *arguments)["skew_max"] == 0.0
    result = run("check-skew", *arguments, "--json")
    said = " ".join(result.stderr.split())
    assert ("only 14 of 30 rows could be compared" in said) is (exit_code == 4)
    assert ("16 rows are of transactions that the events do not have" in said) is (exit_code == 4)


def test_another_feature_set_is_refused_with_both_hashes(server: LocalServer, tmp_path: Path) -> None:
    events = make_events(2)
    serve(server, events)
    other = tmp_path / "other.yaml"
    other.write_text(SHOP.replace("window: 1d", "window: 2d"))
    path = write(tmp_path / "events.jsonl", events)
    result = run("check-skew", "--target", admin(server), "--events", path, "--feature-set", other)
    assert result.exit_code == 1
    said = "".join(result.output.split())
    for definition in (SHOP, other.read_text()):
        assert FeatureSet.parse(definition).schema_hash in said


@pytest.mark.parametrize("arguments", [[], ["--target", "unix:x", "--rows", "y"], ["--rows", "y", "--model", "m"]])
def test_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    assert run("check-skew", "--events", tmp_path / "none", *arguments).exit_code == 2


def test_the_server_keeps_the_newest_and_counts_the_others(shop: Path, tmp_path: Path) -> None:
    events = make_events(25)
    with LocalServer(feature_set=SHOP, skew={"sample_one_in": 1, "rows_max": 10}) as server:
        serve(server, events)
        answer = page(server)
        stats = server.engine.stats()
    assert [row.transaction_id for row in answer.rows] == [event["transaction_id"] for event in events[-10:]]
    assert (answer.last_position, answer.newest_position) == (25, 25)
    assert (stats.sampled_rows, stats.dropped_sampled_rows) == (25, 15)


def test_the_entity_decides_whose_rows_are_kept(tmp_path: Path) -> None:
    events = make_events(100)
    with LocalServer(feature_set=SHOP, skew={"sample_one_in": 3}) as server:
        serve(server, events)
        kept = {row.transaction_id for row in page(server).rows}
    customers = {event["entities"]["customer_id"] for event in events if event["transaction_id"] in kept}
    assert kept == {event["transaction_id"] for event in events if event["entities"]["customer_id"] in customers}


def test_pages_follow_one_another_and_each_is_bounded() -> None:
    inputs = "".join(f"  - {{name: copy_{n}_{'x' * 50}, from: ratio, when_null: nan}}\n" for n in range(200))
    wide = SHOP + inputs
    events = [{**event, "features": {"amount_minor": 1}} for event in make_events(150)]
    with LocalServer(feature_set=wide, skew=ALL) as server:
        serve(server, events)
        found: list[str] = []
        after, pages = 0, 0
        while True:
            answer = page(server, after)
            assert answer.ByteSize() <= PAGE_BYTES_MAX + 96 * len(answer.input_names)
            found += [row.transaction_id for row in answer.rows]
            pages += 1
            if answer.last_position >= answer.newest_position:
                break
            assert answer.last_position > after
            after = answer.last_position
    assert pages > 1
    assert found == [event["transaction_id"] for event in events]


def test_rows_are_of_the_model_that_is_asked_for(server: LocalServer) -> None:
    serve(server, make_events(4))
    assert (page(server, model="puppet", version="1").provenance.model, len(page(server, after=2).rows)) == ("puppet", 2)
    for fields, reason in (({"model": "other"}, "UNKNOWN_MODEL"), ({"version": "9"}, "UNKNOWN_VERSION")):
        with pytest.raises(grpc.RpcError) as caught:
            page(server, **fields)
        assert reason_of(status_of(caught.value)) == reason
    # Rows of a model that is served no more, or beside it, are passed over; the place moves on.
    server.engine.add_lane(
        model="second",
        version="1",
        model_sha256="1" * 64,
        reader=server.reader,
        runner=_core.PuppetModel(),
    )
    request = fill(scoring_pb2.ScoreRequest(model="second"), make_events(1)[0])
    scoring_pb2_grpc.ScoringServiceStub(server.channel()).Score(request, timeout=WAIT_S)
    answer = page(server, after=4)
    assert (len(answer.rows), answer.last_position, answer.newest_position) == (0, 5, 5)
