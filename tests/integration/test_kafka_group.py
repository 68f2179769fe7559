"""A member of a group against librdkafka's mock cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from assay.errors import ConfigError, KafkaError
from assay.kafka import group as group_module
from assay.kafka.connection import Connection
from assay.kafka.group import ConsumerGroup, Read
from assay.kafka.library import load_kafka
from assay.kafka.messages import Partition, PartitionEnd, Progress
from tests.support.mock_kafka import MockKafka, mock_kafka
from tests.support.server import wait_until

HEARTBEAT, FENCED_INSTANCE_ID = 12, 82  # numbers of Kafka's protocol
QUICK = {"heartbeat.interval.ms": "100", "session.timeout.ms": "1500"}


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with mock_kafka() as started:
        started.create("payments", 1)
        yield started


class Assigned:
    def __init__(self) -> None:
        self.partitions: list[Partition] = []

    def on_assigned(self, partitions: Sequence[Partition]) -> None:
        self.partitions += partitions

    def on_revoked(self, partitions: Sequence[Partition]) -> None:
        pass

    def on_lost(self, partitions: Sequence[Partition]) -> None:
        pass


def test_where_no_broker_answers_one_error_says_why(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """librdkafka tries, and says so, twenty times a second."""
    monkeypatch.setattr(group_module, "ANSWER_S_MAX", 1.0)
    with pytest.raises(ConfigError, match=r"no broker of 127\.0\.0\.1:1 answers \(.*Connection refused.*\)"):
        ConsumerGroup(Connection("127.0.0.1:1"), ["payments"], "fraud")
    assert caplog.messages == []


def test_what_happens_once_a_broker_has_answered_is_logged(kafka: MockKafka, caplog: pytest.LogCaptureFixture) -> None:
    group = ConsumerGroup(Connection(kafka.brokers, {"linger.ms": "5"}), ["payments"], "fraud")
    (line,) = caplog.messages
    assert "CONFWARN" in line, "an option of producers alone is no failure, and told at once"

    def says_so() -> bool:
        group.read(1, 0.05)
        return {record.name for record in caplog.records[1:]} == {"assay.kafka", "assay.librdkafka"}

    try:
        kafka.set_up(False)
        wait_until(says_so, "a line of librdkafka's own and one of its errors")
    finally:
        group.close()


def test_an_instance_id_that_another_process_uses_ends_this_one(kafka: MockKafka) -> None:
    group = ConsumerGroup(Connection(kafka.brokers, QUICK), ["payments"], "fraud", "host-1")
    assigned = Assigned()
    group.join(assigned)

    def is_member() -> bool:
        group.read(1, 0.05)
        return bool(assigned.partitions)

    def read_on() -> bool:
        group.read(1, 0.05)
        return False

    try:
        wait_until(is_member, "a partition")
        kafka.fail_requests(HEARTBEAT, [FENCED_INSTANCE_ID] * 9)
        with pytest.raises(KafkaError, match=r"group\.instance\.id"):
            wait_until(read_on, "it is told")
    finally:
        group.close()


def test_a_partition_is_read_past_what_is_no_message(kafka: MockKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks of transactions behind its last message: the consumer's position stays before them, and its end is told behind."""
    group = ConsumerGroup(Connection(kafka.brokers), ["payments"], "fraud")
    partition = Partition("payments", 0)
    assigned = Assigned()
    group.join(assigned)
    try:
        kafka.send("payments", [(b"k", b"v")] * 3)
        read: list[Read] = []

        def is_at_end() -> bool:
            read.extend(group.read(9, 0.05))
            return PartitionEnd(partition, 3) in read

        wait_until(is_at_end, "the end")
        assert group.progress() == {partition: Progress(3, 3)}
        monkeypatch.setattr(group, "_consumer", Beside(group._consumer, end=5))
        group.read(1, 0.05)
        assert group.progress() == {partition: Progress(5, 5)}
    finally:
        monkeypatch.undo()
        group.close()


class Beside:
    """A consumer whose partition has marks of transactions up to `end`."""

    def __init__(self, consumer: Any, end: int) -> None:
        self._consumer = consumer
        self._end = end

    def poll(self, _: float) -> Any:
        return self

    def topic(self) -> str:
        return "payments"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._end

    def error(self) -> Any:
        return self

    def code(self) -> int:
        return int(load_kafka().KafkaError._PARTITION_EOF)

    def position(self, places: list[Any]) -> list[Any]:
        return list(self._consumer.position(places))

    def get_watermark_offsets(self, _: Any, *, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, self._end


def test_a_member_that_comes_back_knows_that_it_has_read_all(kafka: MockKafka) -> None:
    """No message comes that would move the consumer's position; a label that waits for events would wait for ever."""
    partition = Partition("payments", 0)
    kafka.send("payments", [(b"k", b"v")] * 3)
    for run in (1, 2):
        group = ConsumerGroup(Connection(kafka.brokers, QUICK), ["payments"], "fraud")
        assigned = Assigned()
        group.join(assigned)
        read: list[Read] = []

        def is_at_end(group: ConsumerGroup = group, read: list[Read] = read) -> bool:
            read.extend(group.read(9, 0.05))
            return PartitionEnd(partition, 3) in read

        try:
            wait_until(is_at_end, "the end")
            assert len(read) == (4 if run == 1 else 1)
            assert group.progress() == {partition: Progress(3, 3)}
            group.commit({partition: 3}, waits=True)
        finally:
            group.close()
