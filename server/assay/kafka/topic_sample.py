"""Some of the newest messages of topics. No group is joined and nothing is committed: it leaves no trace."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from assay.errors import KafkaError
from assay.kafka.connection import Connection
from assay.kafka.group import ANSWER_S_MAX, ConsumerGroup
from assay.kafka.messages import TopicMessage

NO_GROUP = "assay-check"  # librdkafka wants a name; no broker is told


def sample_topics(connection: Connection, topics: Sequence[str], count_max: int) -> list[TopicMessage]:
    """At most `count_max` messages, an equal share of the newest of each partition. Raises ConfigError and KafkaError."""
    group = ConsumerGroup(connection, topics, NO_GROUP)
    try:
        ranges = group.ranges()
        share = max(1, count_max // max(1, len(ranges)))
        starts = {
            partition: max(found.start, found.end - share) for partition, found in ranges.items() if found.end > found.start
        }
        group.read_from(starts)
        ends = {partition: ranges[partition].end for partition in starts}
        found: list[TopicMessage] = []
        give_up_s = time.monotonic() + ANSWER_S_MAX
        while ends and len(found) < count_max:
            for read in group.read(count_max - len(found), 0.2):
                if isinstance(read, TopicMessage):
                    found.append(read)
                reached = read.offset + 1 if isinstance(read, TopicMessage) else read.offset
                if reached >= ends.get(read.partition, reached + 1):
                    del ends[read.partition]
                give_up_s = time.monotonic() + ANSWER_S_MAX
            if time.monotonic() > give_up_s:
                raise KafkaError(f"no message for {ANSWER_S_MAX:g} s, and the ends of the partitions are not reached")
        return found
    finally:
        group.close()


def key_matches(messages: Sequence[TopicMessage], entity_ids: Sequence[dict[str, Any]], entity: str) -> tuple[int, int]:
    """How many messages have the entity's id as key, of those that name the entity. `entity_ids`: of each message."""
    named = [
        (message, ids[entity]) for message, ids in zip(messages, entity_ids, strict=True) if isinstance(ids.get(entity), str)
    ]
    return sum(message.key == found.encode() for message, found in named), len(named)
