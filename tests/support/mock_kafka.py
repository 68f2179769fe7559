"""A Kafka for tests: librdkafka's mock cluster, in this process, for clients of any process. No confluent-kafka, no test.

It keeps at most 5 MiB of a partition and drops silently what is older: 15,000 events. It does not notice when the last member of
a group leaves: give consumers the short session.timeout.ms of OPTIONS.

To try things by hand: python -m tests.support.mock_kafka TOPIC... < events.jsonl
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 20.0
NOT_ENOUGH_REPLICAS = 19  # of Kafka's protocol: an error that passes
OPTIONS = ("--kafka-option", "session.timeout.ms=1500", "--kafka-option", "heartbeat.interval.ms=300")


class MockKafka:
    """One broker on loopback. A rebalance begins at once (a real broker waits for more members first)."""

    def __init__(self, kafka: Any) -> None:
        self._kafka = kafka
        self._library = _library(kafka)
        error = ctypes.create_string_buffer(512)
        self._client = self._library.rd_kafka_new(0, None, error, len(error))
        assert self._client, error.value.decode()
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.brokers: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._producer = kafka.Producer({"bootstrap.servers": self.brokers, "message.max.bytes": 4 << 20})

    def create(self, topic: str, partitions: int) -> None:
        assert self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1) == 0

    def producer(self) -> Any:
        """A producer of its own, with the defaults of the client."""
        return self._kafka.Producer({"bootstrap.servers": self.brokers})

    def send(self, topic: str, messages: Iterable[tuple[bytes | None, bytes | None]], partition: int = -1) -> None:
        """(key, value) each; partition -1: by key. Returns once the broker has them."""
        for number, (key, value) in enumerate(messages):
            self._producer.produce(topic, value, key, partition=partition)
            if number % 1_000 == 999:
                self._producer.flush(WAIT_S)
        assert self._producer.flush(WAIT_S) == 0

    def read(self, topic: str) -> list[Any]:
        """All messages of a topic, partition by partition."""
        config = {"bootstrap.servers": self.brokers, "group.id": "reader", "enable.partition.eof": True}
        consumer = self._kafka.Consumer(config)
        try:
            numbers = consumer.list_topics(topic, WAIT_S).topics[topic].partitions
            consumer.assign([self._kafka.TopicPartition(topic, number, 0) for number in numbers])
            messages, ends = [], 0
            while ends < len(numbers):
                message = consumer.poll(WAIT_S)
                assert message is not None, "the mock broker does not answer"
                if message.error() is None:
                    messages.append(message)
                else:
                    assert message.error().code() == self._kafka.KafkaError._PARTITION_EOF, message.error()
                    ends += 1
            return sorted(messages, key=lambda message: (message.partition(), message.offset()))
        finally:
            consumer.close()

    def committed_count(self, group: str, topic: str) -> int:
        """How many messages of a topic, from its beginning, a group has committed."""
        return sum(self.committed(group, topic).values())

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Partition -> offset; nothing for one without."""
        consumer = self._kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": group})
        try:
            numbers = consumer.list_topics(topic, WAIT_S).topics[topic].partitions
            places = consumer.committed([self._kafka.TopicPartition(topic, number) for number in numbers], WAIT_S)
            return {place.partition: place.offset for place in places if place.offset >= 0}
        finally:
            consumer.close()

    def set_up(self, is_up: bool) -> None:
        """Whether the broker answers; without, connections are cut and refused."""
        change = self._library.rd_kafka_mock_broker_set_up if is_up else self._library.rd_kafka_mock_broker_set_down
        assert change(self._cluster, 1) == 0

    def fail_topic(self, topic: str, error: int) -> None:
        """Every request for the topic fails so; 0: none."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), error)

    def fail_requests(self, api: int, errors: Sequence[int]) -> None:
        """The next requests of this kind (a number of Kafka's protocol) are answered with these errors, one each."""
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, api, len(errors), (ctypes.c_int * len(errors))(*errors)
        )

    def close(self) -> None:
        self._producer.close()  # else it asks for the cluster, and says so on stderr, for as long as somebody holds this
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


@contextlib.contextmanager
def mock_kafka() -> Iterator[MockKafka]:
    kafka = pytest.importorskip("confluent_kafka", reason="no Kafka client: pip install confluent-kafka")
    cluster = MockKafka(kafka)
    try:
        yield cluster
    finally:
        cluster.close()


def options_of_librdkafka(folder: Path) -> dict[str, str]:
    """Every option that it takes: name -> the one that it is an alias for, or "". `folder` is for a scratch file."""
    kafka = pytest.importorskip("confluent_kafka", reason="no Kafka client: pip install confluent-kafka")
    library, c_library = _library(kafka), ctypes.CDLL(None)
    c_library.fopen.restype = ctypes.c_void_p
    c_library.fclose.argtypes = [ctypes.c_void_p]
    path = folder / "options.md"
    file = c_library.fopen(bytes(path), b"w")
    assert file
    library.rd_kafka_conf_properties_show(file)
    c_library.fclose(file)
    rows = re.findall(r"^([a-z][a-z0-9._]+) +\|.*\| (?:.*Alias for `([a-z0-9._]+)`)?", path.read_text(), re.MULTILINE)
    return dict(rows)


def keyed(lines: Sequence[bytes], keys: Sequence[str]) -> list[tuple[bytes, bytes]]:
    return [(key.encode(), line) for key, line in zip(keys, lines, strict=True)]


# --- implementation ---


def _library(kafka: Any) -> ctypes.CDLL:
    """The librdkafka that the client itself has loaded."""
    folder = Path(kafka.__file__).parent.with_name("confluent_kafka.libs")
    (path,) = folder.glob("librdkafka-*.so*")
    library = ctypes.CDLL(str(path))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_new", pointer, (number, pointer, text, ctypes.c_size_t)),
        ("rd_kafka_destroy", None, (pointer,)),
        ("rd_kafka_conf_properties_show", None, (pointer,)),
        ("rd_kafka_mock_cluster_new", pointer, (pointer, number)),
        ("rd_kafka_mock_cluster_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_bootstraps", text, (pointer,)),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_topic_create", number, (pointer, text, number, number)),
        ("rd_kafka_mock_topic_set_error", None, (pointer, text, number)),
        ("rd_kafka_mock_push_request_errors_array", None, (pointer, ctypes.c_int16, ctypes.c_size_t, pointer)),
        ("rd_kafka_mock_broker_set_up", number, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_broker_set_down", number, (pointer, ctypes.c_int32)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt), mock_kafka() as by_hand:
        topics = sys.argv[1:]
        for topic in topics:
            by_hand.create(topic, 2)
        if not sys.stdin.isatty():
            by_hand.send(topics[0], [(None, line.rstrip(b"\n")) for line in sys.stdin.buffer])
        print(by_hand.brokers, flush=True)
        signal.pause()
