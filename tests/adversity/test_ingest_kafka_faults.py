"""`assay ingest --kafka` killed, rebalanced, without its store, without its broker: nothing is lost, nothing counted twice."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka_events import (
    IngestProcess,
    event_counts,
    ingest_file,
    ingest_to_end,
    ingesting,
    make_events,
    make_labels,
    of_entity,
    send_events,
    send_labels,
    state_of,
)
from tests.support.mock_kafka import NOT_ENOUGH_REPLICAS, MockKafka, mock_kafka
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import wait_until

TOPIC, TERMINAL_TOPIC, LABEL_TOPIC = "payments", "payments-by-terminal", "labels"
ARGUMENTS = ("--topic", TOPIC, "--group", "fraud", "--fail-on-reject")
STATE_KEYS = 70  # 40 customers, 30 terminals


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with mock_kafka() as started:
        started.create(TOPIC, 4)
        yield started


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


def state(redis: RedisServer) -> dict[bytes, bytes]:
    with redis.client() as client:
        return state_of(client)


def check_state(redis: RedisServer, events: list[dict[str, Any]], folder: Path, keys: int = STATE_KEYS) -> None:
    """What is in the store is what a file of these events would have put there, to the byte; and each event, once."""
    found = state(redis)
    assert event_counts(found) == {"customer": len(events), "terminal": len(events)}
    with redis.client() as client:
        client.flushall()
    ingest_file(folder, redis.url, events)
    assert found == state(redis)
    assert len(found) == keys


KILLED_OFTEN = pytest.mark.parametrize(
    ("kills", "event_count"), [(10, 12_000), pytest.param(100, 50_000, marks=[pytest.mark.torture, pytest.mark.timeout(3600)])]
)


class Killing:
    """Kills the ingestion of topics at random moments, and lets the last one end."""

    def __init__(self, kafka: MockKafka, redis: RedisServer, rng: random.Random, folder: Path) -> None:
        self._kafka, self._redis, self._rng, self._folder = kafka, redis, rng, folder

    def run(self, kills: int, message_count: int, *topics: str) -> None:
        """`message_count`: of all topics."""
        rows = 50 if kills <= 10 else 5  # so few that the end is not reached before most kills
        small = ("--flush-rows", str(rows), "--checkpoint-ms", "20")  # many flushes and commits, to be killed in each of
        arguments = [*ARGUMENTS, *(word for topic in topics if topic != TOPIC for word in ("--topic", topic))]
        midway = 0
        for _ in range(kills):
            with ingesting(self._kafka, self._folder, self._redis.url, *arguments, *small) as running:
                _lines_until(running.process.stderr, "partitions assigned")
                time.sleep(self._rng.uniform(0, 0.3))
                assert running.process.poll() is None
                running.kill()
            midway += 0 < self._committed_count(topics) < message_count
        assert midway > kills // 3
        code, _, said = ingest_to_end(self._kafka, self._folder, self._redis.url, *arguments)
        assert code == 0, said
        assert self._committed_count(topics) == message_count

    def _committed_count(self, topics: tuple[str, ...]) -> int:
        return sum(self._kafka.committed_count("fraud", topic) for topic in topics)


@KILLED_OFTEN
def test_killed_anywhere(
    kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path, kills: int, event_count: int
) -> None:
    """One topic by customer: a terminal's events come from all partitions, of which one may be at its end before another is
    begun. So a terminal has no more events than its record keeps one by one: else some come too late, killed or not
    (docs/ingestion.md, Topics and views; tests/unit/test_kafka_messages.py). Customers have more."""
    terminal_count = event_count // 100
    events = make_events(rng, event_count, terminal_count=terminal_count)
    send_events(kafka, TOPIC, events)
    Killing(kafka, redis, rng, tmp_path).run(kills, event_count, TOPIC)
    check_state(redis, events, tmp_path, keys=40 + terminal_count)


@KILLED_OFTEN
def test_killed_anywhere_with_a_topic_for_each_view(
    kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path, kills: int, event_count: int
) -> None:
    """Customers and terminals have more events than records keep one by one; none is late, whichever partition lags."""
    kafka.create(TERMINAL_TOPIC, 4)
    events = make_events(rng, event_count)
    send_events(kafka, TOPIC, of_entity(events, "customer_id"))
    send_events(kafka, TERMINAL_TOPIC, of_entity(events, "terminal_id"), key="terminal_id")
    Killing(kafka, redis, rng, tmp_path).run(kills, 2 * event_count, TOPIC, TERMINAL_TOPIC)
    check_state(redis, events, tmp_path)


def test_killed_among_late_events(kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path) -> None:
    """All of two entities in no order: most come when their record's exact events are newer, and have its fence alone to be told
    from repeats by."""
    events = make_events(rng, 3_000)
    for event in events:
        event["entities"] = {"customer_id": "c1", "terminal_id": "m1"}
    rng.shuffle(events)
    send_events(kafka, TOPIC, events)
    applying = (*ARGUMENTS, "--late-events", "apply")
    for _ in range(5):
        with ingesting(kafka, tmp_path, redis.url, *applying, "--flush-rows", "50", "--checkpoint-ms", "200") as running:
            _lines_until(running.process.stderr, "partitions assigned")
            time.sleep(rng.uniform(0, 0.3))
            assert running.process.poll() is None
            running.kill()
    code, out, said = ingest_to_end(kafka, tmp_path, redis.url, *applying, "--json")
    assert code == 0, said
    assert json.loads(out)["too_late_count"] == 0
    check_state(redis, events, tmp_path, keys=2)


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=[pytest.mark.torture, pytest.mark.timeout(3600)])])
def test_labels_and_rejects_killed_and_rebalanced(
    kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path, kills: int
) -> None:
    """Two members, one of which dies again and again; labels often come before their events, and messages that are no events
    among both. State is that of a file whose events bring their labels along; every reject is in a file."""
    kafka.create(LABEL_TOPIC, 3)
    events = make_events(rng, min(600 * kills, 6_000))  # 200 a terminal: no ring overflows, so that no label is too late
    labels = make_labels(rng, events)
    rejects = [b"no event %d" % number for number in range(20 * kills)]
    rounds = list(zip(_shares(events, kills), _shares(labels, kills, rng), _shares(rejects, kills), strict=True))
    sent = midway = 0
    with Members(kafka, redis, tmp_path) as members:
        for some_events, some_labels, some_rejects in rounds:
            send_labels(kafka, LABEL_TOPIC, some_labels)
            kafka.send(LABEL_TOPIC, [(None, reject) for reject in some_rejects[::2]])
            kafka.send(TOPIC, [(None, reject) for reject in some_rejects[1::2]])
            send_events(kafka, TOPIC, some_events)
            time.sleep(rng.uniform(0, 0.5))
            members.kill_one(rng)
            sent += len(some_events) + len(some_labels) + len(some_rejects)
            midway += committed_count(kafka) < sent
    assert midway > kills // 3
    code, _, said = ingest_to_end(kafka, tmp_path, redis.url, *members.arguments("end"))
    assert code in (0, 4), said  # 4: it has met rejects
    assert committed_count(kafka) == sent
    lines = [line for path in tmp_path.glob("rejects-*.jsonl") for line in path.read_bytes().splitlines()]
    assert {original for line in lines if (original := _original_of(line))} == set(rejects)
    told = [
        event | {name: label[name] for name in ("is_fraud", "label_time")} for event, label in zip(events, labels, strict=True)
    ]
    check_state(redis, told, tmp_path)


def committed_count(kafka: MockKafka) -> int:
    return kafka.committed_count("fraud", TOPIC) + kafka.committed_count("fraud", LABEL_TOPIC)


class Members:
    """Two of one group that read events and labels. Each starts again when it has been killed; in the end both are killed."""

    def __init__(self, kafka: MockKafka, redis: RedisServer, folder: Path) -> None:
        self._kafka, self._redis, self._folder = kafka, redis, folder

    def __enter__(self) -> Members:
        self._members = [self._start(0), self._start(1)]
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.kill()

    def arguments(self, name: str) -> tuple[str, ...]:
        """Of a member: it has a file of rejects of its own, and waits for events for as long as this takes."""
        topics = ("--topic", TOPIC, "--label-topic", LABEL_TOPIC, "--group", "fraud", "--label-wait-ms", "600000")
        return (*topics, "--rejects", str(self._folder / f"rejects-{name}.jsonl"), "--flush-rows", "50", "--checkpoint-ms", "20")

    def kill_one(self, rng: random.Random) -> None:
        which = rng.randrange(2)
        assert self._members[which].process.poll() is None
        self._members[which].kill()
        self._members[which] = self._start(which)

    def _start(self, which: int) -> IngestProcess:
        started = IngestProcess(self._kafka, self._folder, self._redis.url, *self.arguments(str(which)))
        _lines_until(started.process.stderr, "partitions assigned")
        return started


def test_partitions_move_between_members(kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path) -> None:
    events = make_events(rng, 4_000)
    send_events(kafka, TOPIC, events[:1_000])
    with ExitStack() as stack:
        first = stack.enter_context(ingesting(kafka, tmp_path, redis.url, *ARGUMENTS, "--json"))
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == 1_000, "the first thousand")
        second = stack.enter_context(ingesting(kafka, tmp_path, redis.url, *ARGUMENTS, "--json"))
        send_events(kafka, TOPIC, events[1_000:2_000])
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == 2_000, "the second thousand")
        time.sleep(3)  # longer than a member's heartbeat: both have their share
        send_events(kafka, TOPIC, events[2_000:3_000])
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == 3_000, "the third thousand")
        code, out, said = first.terminate()
        assert code == 0, said
        of_first = json.loads(out)["recorded_count"]
        send_events(kafka, TOPIC, events[3_000:])
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == 4_000, "the rest")
        code, out, said = second.terminate()
        assert code == 0, said
    of_second = json.loads(out)["recorded_count"]
    assert of_first + of_second == 4_000  # all was committed before it was handed over: nothing was read twice
    assert of_second > 1_000
    check_state(redis, events, tmp_path)


def test_store_frozen_and_back(kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path) -> None:
    events = make_events(rng, 2_000)
    send_events(kafka, TOPIC, events[:1_000])
    with ingesting(kafka, tmp_path, redis.url, *ARGUMENTS) as running:
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == 1_000, "the first thousand")
        redis.freeze()
        send_events(kafka, TOPIC, events[1_000:])
        said = _lines_until(running.process.stderr, "not written; it is tried again")
        assert "no answer" in said or "TimeoutError" in said
        assert kafka.committed_count("fraud", TOPIC) == 1_000
        redis.thaw()
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == 2_000, "the rest, once the store is back")
        code, _, said = running.terminate()
    assert code == 0, said
    assert "written at last" in said
    check_state(redis, events, tmp_path)


def test_store_dead_and_told_to_stop(kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path) -> None:
    """SIGTERM ends it though the store is away; what it had in hand is read again by the next."""
    events = make_events(rng, 1_000)
    redis.kill()
    send_events(kafka, TOPIC, events)
    with ingesting(kafka, tmp_path, redis.url, *ARGUMENTS) as running:
        _lines_until(running.process.stderr, "not written; it is tried again")
        code, _, said = running.terminate()
    assert code == 0, said
    assert "stopped while away" in said
    assert kafka.committed_count("fraud", TOPIC) == 0
    redis.start()
    code, _, said = ingest_to_end(kafka, tmp_path, redis.url, *ARGUMENTS)
    assert code == 0, said
    check_state(redis, events, tmp_path)


def test_broker_gone_and_back(kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path) -> None:
    events = make_events(rng, 2_000)
    send_events(kafka, TOPIC, events[:1_000])
    quick = ("--kafka-option", "reconnect.backoff.max.ms=200")
    with ingesting(kafka, tmp_path, redis.url, *ARGUMENTS, *quick) as running:
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == 1_000, "the first thousand")
        kafka.set_up(False)
        _lines_until(running.process.stderr, "ALL_BROKERS_DOWN")
        kafka.set_up(True)
        send_events(kafka, TOPIC, events[1_000:])
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == 2_000, "the rest")
        code, _, said = running.terminate()
    assert code == 0, said
    check_state(redis, events, tmp_path)


def test_dead_letters_away_and_back(kafka: MockKafka, redis: RedisServer, tmp_path: Path) -> None:
    """While a dead letter cannot be delivered nothing behind it is committed; once it is, everything is."""
    kafka.create("letters", 1)
    kafka.fail_topic("letters", NOT_ENOUGH_REPLICAS)
    events = make_events(random.Random(1), 100)
    kafka.send(TOPIC, [(b"k", b"no event")], partition=0)
    kafka.send(TOPIC, [(b"k", json.dumps(event).encode()) for event in events], partition=0)
    arguments = ("--topic", TOPIC, "--group", "fraud", "--dead-letter-topic", "letters")
    quick = ("--kafka-option", "message.timeout.ms=300")
    with ingesting(kafka, tmp_path, redis.url, *arguments, *quick) as running:
        _lines_until(running.process.stderr, "not written; it is tried again")
        assert kafka.committed_count("fraud", TOPIC) == 0
        kafka.fail_topic("letters", 0)
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == 101, "everything")
        code, _, said = running.terminate()
    assert code == 0, said
    assert {letter.value() for letter in kafka.read("letters")} == {b"no event"}


def test_metadata_away_keeps_nothing_away(kafka: MockKafka, redis: RedisServer, tmp_path: Path) -> None:
    """Dead letters were once waited for together with metadata records, of one producer."""
    kafka.create("letters", 1)
    kafka.create("metadata", 1)
    kafka.fail_topic("metadata", NOT_ENOUGH_REPLICAS)
    arguments = ("--topic", TOPIC, "--group", "fraud", "--dead-letter-topic", "letters", "--metadata-topic", "metadata")
    with ingesting(kafka, tmp_path, redis.url, *arguments, "--metadata-ms", "10") as running:
        for count in range(1, 4):
            kafka.send(TOPIC, [(b"k", b"no event")], partition=0)
            wait_until(lambda count=count: kafka.committed_count("fraud", TOPIC) == count, "a dead letter")  # type: ignore[misc]
        code, _, said = running.terminate()
    assert code == 0, said
    assert "not written" not in said
    assert len(kafka.read("letters")) == 3


def test_a_full_file_of_rejects_is_waited_for(kafka: MockKafka, tmp_path: Path) -> None:
    """Beside an embedded store it once ended the ingestion, and at the end of any with a traceback."""
    store = f"embedded:{tmp_path / 'store.snapshot'}"
    kafka.send(TOPIC, [(b"k", b"no event")], partition=0)
    with ingesting(kafka, tmp_path, store, "--topic", TOPIC, "--group", "fraud", "--rejects", "/dev/full") as running:
        for _ in range(2):
            assert "No space left" in _lines_until(running.process.stderr, "not written; it is tried again")
        code, _, said = running.terminate()
    assert code == 0, said
    assert "stopped while away" in said
    assert kafka.committed_count("fraud", TOPIC) == 0
    path = tmp_path / "rejects.jsonl"
    code, _, said = ingest_to_end(kafka, tmp_path, store, "--topic", TOPIC, "--group", "fraud", "--rejects", str(path))
    assert code == 4, said
    assert len(path.read_bytes().splitlines()) == 1


def _flip(client: Any, key: bytes) -> None:
    client.set(key, bytes(client.get(key))[:-1] + b"?")


def _make_list(client: Any, key: bytes) -> None:
    client.delete(key)
    client.lpush(key, "of somebody else")


def _make_huge(client: Any, key: bytes) -> None:
    client.setrange(key, 300 << 20, "x")


@pytest.mark.parametrize(
    ("damage", "reason"), [(_flip, "RECORD_CHECKSUM"), (_make_list, "RECORD_LENGTH"), (_make_huge, "RECORD_LENGTH")]
)
def test_a_damaged_record_costs_its_own_events(
    kafka: MockKafka,
    redis: RedisServer,
    rng: random.Random,
    tmp_path: Path,
    damage: Callable[[Any, bytes], None],
    reason: str,
) -> None:
    events = make_events(rng, 2_000)
    ingest_file(tmp_path, redis.url, events[:1_000])
    with redis.client() as client:
        (key,) = client.scan_iter("a1:{customer_id:c7}:*")
        damage(client, key)
        before = (client.type(key), client.memory_usage(key))
    send_events(kafka, TOPIC, events[1_000:])
    path = tmp_path / "rejects.jsonl"
    code, _, said = ingest_to_end(kafka, tmp_path, redis.url, "--topic", TOPIC, "--group", "fraud", "--rejects", str(path))
    assert code == 4, said
    assert kafka.committed_count("fraud", TOPIC) == 1_000
    rejects = [json.loads(line) for line in path.read_bytes().splitlines()]
    ids = {event["transaction_id"] for event in events[1_000:] if event["entities"]["customer_id"] == "c7"}
    assert {json.loads(reject["original"])["transaction_id"] for reject in rejects} == ids
    assert {reject["reason"] for reject in rejects} == {reason}
    with redis.client() as client:
        assert before == (client.type(key), client.memory_usage(key))
        client.delete(key)
    ingest_file(tmp_path, redis.url, [event for event in events if event["entities"]["customer_id"] == "c7"])
    check_state(redis, events, tmp_path)  # as docs/ingestion.md has it


def test_a_flush_that_does_not_fit_into_memory_is_written_in_parts(
    kafka: MockKafka, redis: RedisServer, rng: random.Random, tmp_path: Path
) -> None:
    """It was tried again for ever."""
    events = make_events(rng, 6_000)
    for event in events:
        event["entities"]["customer_id"] = f"only-{event['transaction_id']}"
    send_events(kafka, TOPIC, events)
    code, out, said = ingest_to_end(kafka, tmp_path, redis.url, *ARGUMENTS, "--store-bytes-max", str(1 << 20), "--json")
    assert code == 0, said
    assert json.loads(out)["recorded_count"] == 6_000
    check_state(redis, events, tmp_path, keys=6_030)


def _shares(items: list[Any], count: int, shuffled_by: random.Random | None = None) -> list[list[Any]]:
    """Even shares, in order or not."""
    if shuffled_by is not None:
        items = shuffled_by.sample(items, len(items))
    return [items[len(items) * index // count : len(items) * (index + 1) // count] for index in range(count)]


def _original_of(line: bytes) -> bytes | None:
    """Of a line of a file of rejects; None: who wrote it was killed midway."""
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return str(document["original"]).encode()


def _lines_until(stream: Any, text: str) -> str:
    """Reads lines up to one that holds the text, and returns that one."""
    for line in stream:
        if text in line:
            return str(line)
    raise AssertionError(f"it ended without saying {text!r}")
