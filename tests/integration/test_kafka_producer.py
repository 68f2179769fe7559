"""The producer against librdkafka's mock cluster: what passes, what is final, what is dropped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from assay.errors import KafkaError
from assay.kafka.connection import Connection
from assay.kafka.producer import KafkaAwayError, MessageProducer, OfferedTopic, OutMessage
from tests.support.mock_kafka import NOT_ENOUGH_REPLICAS, MockKafka, mock_kafka
from tests.support.server import wait_until

# Numbers of Kafka's protocol.
PRODUCE, INIT_PRODUCER_ID = 0, 22
TOPIC_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED, OUT_OF_ORDER_SEQUENCE_NUMBER = 29, 31, 45

MESSAGE = OutMessage("letters", b"key", b"value")


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with mock_kafka() as started:
        started.create("letters", 1)
        yield started


def producer_of(kafka: MockKafka, **options: str) -> MessageProducer:
    return MessageProducer(connection(kafka, **options))


def offered_topic(kafka: MockKafka, **options: str) -> OfferedTopic:
    return OfferedTopic(connection(kafka, **options), "letters")


def connection(kafka: MockKafka, **options: str) -> Connection:
    return Connection(kafka.brokers, {name.replace("_", "."): value for name, value in options.items()})


def test_what_passes_is_asked_for_again(kafka: MockKafka) -> None:
    kafka.fail_topic("letters", NOT_ENOUGH_REPLICAS)
    producer = producer_of(kafka, message_timeout_ms="300")
    with pytest.raises(KafkaAwayError):
        producer.deliver([MESSAGE])
    kafka.fail_topic("letters", 0)

    def is_delivered() -> bool:
        with contextlib.suppress(KafkaAwayError):
            producer.deliver([MESSAGE])
            return True
        return False

    wait_until(is_delivered, "it is there again")
    assert {letter.value() for letter in kafka.read("letters")} == {b"value"}
    producer.close()


@pytest.mark.parametrize(
    ("api", "error"),
    [
        (INIT_PRODUCER_ID, CLUSTER_AUTHORIZATION_FAILED),
        (PRODUCE, CLUSTER_AUTHORIZATION_FAILED),
        (PRODUCE, TOPIC_AUTHORIZATION_FAILED),
        (PRODUCE, OUT_OF_ORDER_SEQUENCE_NUMBER),
    ],
)
def test_what_is_final_is_no_reason_to_wait(kafka: MockKafka, api: int, error: int) -> None:
    kafka.fail_requests(api, [error] * 9)
    producer = producer_of(kafka, message_timeout_ms="2000")
    # The second try at the latest: librdkafka may say of the first one's messages only that they were not sent.
    with contextlib.suppress(KafkaError):
        producer.deliver([MESSAGE])
    with pytest.raises(KafkaError) as caught:
        producer.deliver([MESSAGE])
    assert not isinstance(caught.value, KafkaAwayError)
    producer.close()


def test_what_is_dropped_is_counted(kafka: MockKafka) -> None:
    kafka.fail_topic("letters", NOT_ENOUGH_REPLICAS)
    topic = offered_topic(kafka, message_timeout_ms="300", queue_buffering_max_messages="1")
    topic.offer(b"value")
    assert topic.dropped_count == 0
    topic.offer(b"value")
    assert topic.dropped_count == 1  # no room

    def drops() -> int:
        topic.poll()
        return topic.dropped_count

    wait_until(lambda: drops() == 2, "the first one's time is over")
    topic.close()


def test_what_arrives_is_not_counted(kafka: MockKafka) -> None:
    topic = offered_topic(kafka)
    topic.offer(b"value")
    topic.close()
    assert topic.dropped_count == 0
    assert len(kafka.read("letters")) == 1


def test_what_is_offered_to_a_broken_producer_is_dropped(kafka: MockKafka) -> None:
    """It stops nothing, for ever."""
    kafka.fail_requests(INIT_PRODUCER_ID, [CLUSTER_AUTHORIZATION_FAILED] * 9)
    topic = offered_topic(kafka)

    def drops() -> int:
        topic.offer(b"value")
        return topic.dropped_count

    wait_until(lambda: drops() > 1, "it is broken")
    topic.close()
