"""Events and labels of topics that are older than a record's exact events: each counts once, whatever is read again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.kafka.messages import Partition, source_of
from tests.support.kafka_events import (
    FENCE,
    FENCES_AT,
    ingest_file,
    ingest_to_end,
    make_events,
    make_labels,
    send_events,
    send_labels,
    state_of,
)
from tests.support.mock_kafka import MockKafka, mock_kafka
from tests.support.redis_server import RedisServer, redis_server, view_of

COUNT = 700  # of one customer and one terminal, whose records hold 256 one by one
EVENTS, LABELS = "fence-events", "fence-labels"
ALL = ("--fail-on-reject", "--flush-rows", "50", "--json")  # so few together that no flush puts them in order


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with mock_kafka() as started:
        started.create(EVENTS, 1)
        started.create(LABELS, 1)
        yield started


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


def shuffled_events(rng: random.Random) -> list[dict[str, Any]]:
    events = make_events(rng, COUNT)
    for event in events:
        event["entities"] = {"customer_id": "c", "terminal_id": "m"}
    rng.shuffle(events)
    return events


def counts(run: tuple[int, str, str]) -> dict[str, int]:
    code, out, said = run
    assert code == 0, said
    found = json.loads(out)
    return {name: found[f"{name}_count"] for name in ("recorded", "duplicate", "too_late")}


def ingested(kafka: MockKafka, redis: RedisServer, folder: Path, group: str, *more: str) -> dict[str, int]:
    return counts(ingest_to_end(kafka, folder, redis.url, "--topic", EVENTS, "--group", group, *ALL, *more))


def fences(redis: RedisServer) -> dict[str, list[tuple[int, int, int]]]:
    """Those of events and of labels, by view."""
    with redis.client() as client:
        records = {view_of(key): client.get(key) or b"" for key in client.scan_iter("a1:*")}
    return {view: [FENCE.unpack_from(record, FENCES_AT + 16 * kind) for kind in range(2)] for view, record in records.items()}


def test_events_in_any_order_give_the_state_that_a_file_gives(
    kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path
) -> None:
    events = shuffled_events(rng)
    send_events(kafka, EVENTS, events)
    assert ingested(kafka, redis, tmp_path, "one", "--late-events", "apply")["recorded"] == COUNT
    found = fences(redis)
    source = source_of(Partition(EVENTS, 0))
    assert found == {view: [(source, 0, COUNT - 1), (0, 0, 0)] for view in ("customer", "terminal")}
    again = ingested(kafka, redis, tmp_path, "two", "--late-events", "apply")
    assert again == {"recorded": 0, "duplicate": COUNT, "too_late": 0}
    assert fences(redis) == found
    with redis.client() as client:
        state = state_of(client)
        client.flushall()
        ingest_file(tmp_path, redis.url, events)
        assert state == state_of(client)


def test_unless_asked_they_are_too_late_and_a_replay_tells_them_from_repeats(
    kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path
) -> None:
    send_events(kafka, EVENTS, shuffled_events(rng))
    found = ingested(kafka, redis, tmp_path, "one")
    assert found["too_late"] > 0
    assert found["recorded"] + found["too_late"] == COUNT
    with redis.client() as client:
        state = state_of(client)
        again = ingested(kafka, redis, tmp_path, "two")
        assert state == state_of(client)
    assert again["recorded"] == 0
    assert again["duplicate"] >= found["recorded"]


def test_what_a_file_has_loaded_no_topic_counts_again(
    kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path
) -> None:
    events = shuffled_events(rng)
    send_events(kafka, EVENTS, events)
    ingest_file(tmp_path, redis.url, events)
    with redis.client() as client:
        state = state_of(client)
        found = ingested(kafka, redis, tmp_path, "one", "--late-events", "apply")
        assert state == state_of(client)
    assert found == {"recorded": 0, "duplicate": 256, "too_late": COUNT - 256}


def test_labels_of_events_in_tiles_count_once(kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path) -> None:
    events = sorted(shuffled_events(rng), key=lambda event: str(event["event_time"]))
    labels = make_labels(rng, events)
    send_events(kafka, EVENTS, events)
    assert ingested(kafka, redis, tmp_path, "one")["recorded"] == COUNT
    send_labels(kafka, LABELS, [{**label, "was_fraud": False} for label in labels])
    labelled = ("--label-topic", LABELS)
    tiled_genuine = sum(not label["is_fraud"] for label in labels[: COUNT - 256])
    assert ingested(kafka, redis, tmp_path, "one", *labelled)["recorded"] == COUNT - tiled_genuine
    assert ingested(kafka, redis, tmp_path, "two", *labelled) == {"recorded": 0, "duplicate": 2 * COUNT, "too_late": 0}
    assert fences(redis)["terminal"][1] == (source_of(Partition(LABELS, 0)), 0, COUNT - 1)
    with redis.client() as client:
        state = state_of(client)
        client.flushall()
        known = {label["transaction_id"]: {name: label[name] for name in ("is_fraud", "label_time")} for label in labels}
        ingest_file(tmp_path, redis.url, [{**event, **known[event["transaction_id"]]} for event in events])
        assert state == state_of(client)


def test_a_label_that_does_not_say_what_was_known_is_a_reject(
    kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path
) -> None:
    events = sorted(shuffled_events(rng), key=lambda event: str(event["event_time"]))
    send_events(kafka, EVENTS, events)
    ingested(kafka, redis, tmp_path, "one")
    send_labels(kafka, LABELS, make_labels(rng, events[:1]))
    reading = ("--topic", EVENTS, "--label-topic", LABELS, "--group", "one", "--rejects", str(tmp_path / "rejects.jsonl"))
    code, _, said = ingest_to_end(kafka, tmp_path, redis.url, *reading)
    assert code == 4, said
    (reject,) = (json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines())
    assert [violation["reason"] for violation in reject["violations"]] == ["EVENT_TOO_LATE"]
