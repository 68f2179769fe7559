"""A member of a group against librdkafka's mock cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from assay.errors import KafkaError
from assay.kafka.connection import Connection
from assay.kafka.group import ConsumerGroup
from assay.kafka.messages import Partition
from tests.support.mock_kafka import MockKafka, mock_kafka
from tests.support.server import wait_until

HEARTBEAT, FENCED_INSTANCE_ID = 12, 82  # numbers of Kafka's protocol


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


def test_an_instance_id_that_another_process_uses_ends_this_one(kafka: MockKafka) -> None:
    options = {"heartbeat.interval.ms": "100", "session.timeout.ms": "1500"}
    group = ConsumerGroup(Connection(kafka.brokers, options), ["payments"], "fraud", "host-1")
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
