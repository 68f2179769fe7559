"""Messages into topics: all of them or an error, what is said to be delivered all replicas have; or as many as can be sent."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from assay.errors import KafkaError
from assay.kafka.connection import Connection, make_client
from assay.kafka.library import load_kafka

DELIVERY_S_MAX = 10.0
_STEP_S = 0.1
_CLOSE_S = 2.0


class KafkaAwayError(KafkaError):
    """Messages were not taken in time: try again later. Some of them may have arrived."""


class OutMessage(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class MessageProducer:
    """Messages that are waited for. One thread."""

    def __init__(self, connection: Connection) -> None:
        """Raises ConfigError for a wrong option."""
        self._kafka = load_kafka()
        self._producer = make_client(self._kafka.Producer, connection.producer_config())
        self._failure: Any = None  # the first of one deliver()

    def deliver(self, messages: Sequence[OutMessage]) -> None:
        """Comes back once they are delivered. Raises KafkaAwayError, and KafkaError for what waiting does not mend."""
        self._failure = None
        try:
            left = self._send_all(messages)
        except BufferError:
            raise KafkaAwayError("librdkafka's queue is full (queue.buffering.max.messages)") from None
        except self._kafka.KafkaException as error:
            self._raise(error.args[0])
        except SystemError:  # how confluent-kafka says "fatal" where a callback of ours ran after librdkafka's
            raise KafkaError("the producer cannot go on; the log has librdkafka's reason") from None
        if left:
            raise KafkaAwayError(f"{left} messages were not delivered in {DELIVERY_S_MAX:g} s; some may have been")
        if self._failure is not None:
            self._raise(self._failure)

    def close(self) -> None:
        with contextlib.suppress(self._kafka.KafkaException, SystemError):
            self._producer.flush(_CLOSE_S)

    # --- implementation ---

    def _send_all(self, messages: Sequence[OutMessage]) -> int:
        """How many were not delivered in time. Raises what librdkafka raises."""
        for message in messages:
            headers = list(message.headers)
            self._producer.produce(message.topic, message.value, message.key, headers=headers, on_delivery=self._on_delivery)
            self._producer.poll(0)
        left: int = self._producer.flush(DELIVERY_S_MAX)
        if left:
            self._producer.purge()
            self._producer.flush(_STEP_S)
        return left

    def _on_delivery(self, error: Any, _: Any) -> None:
        if error is not None and self._failure is None:
            self._failure = error

    def _raise(self, error: Any) -> NoReturn:
        if error.fatal() or error.code() in _final_codes(self._kafka.KafkaError):
            raise KafkaError(f"a message was refused: {error.str()} ({error.name()})")
        raise KafkaAwayError(f"a message was not delivered: {error.str()} ({error.name()})")


class OfferedTopic:
    """A topic of messages that may be dropped: nothing waits for them. One thread."""

    def __init__(self, connection: Connection, topic: str) -> None:
        """Raises ConfigError for a wrong option."""
        self._kafka = load_kafka()
        self._producer = make_client(self._kafka.Producer, connection.producer_config())
        self._topic = topic
        self.dropped_count = 0

    def offer(self, value: bytes) -> None:
        """Sends it when it can be sent. What cannot be sent is dropped and counted."""
        try:
            self._producer.produce(self._topic, value, on_delivery=self._on_delivery)
        except (BufferError, self._kafka.KafkaException):
            self.dropped_count += 1
        self.poll()

    def poll(self) -> None:
        """Hears what became of what was offered."""
        with contextlib.suppress(self._kafka.KafkaException, SystemError):  # it is final; what is offered then is counted
            self._producer.poll(0)

    def close(self) -> None:
        with contextlib.suppress(self._kafka.KafkaException, SystemError):
            self._producer.flush(_CLOSE_S)

    # --- implementation ---

    def _on_delivery(self, error: Any, _: Any) -> None:
        if error is not None:
            self.dropped_count += 1


def _final_codes(kinds: Any) -> tuple[int, ...]:
    return (
        kinds._FATAL,
        kinds.CLUSTER_AUTHORIZATION_FAILED,
        kinds.MSG_SIZE_TOO_LARGE,
        kinds.RECORD_LIST_TOO_LARGE,
        kinds.TOPIC_AUTHORIZATION_FAILED,
        kinds.INVALID_RECORD,
        kinds._UNKNOWN_TOPIC,
        kinds.UNKNOWN_TOPIC_OR_PART,
        kinds.TOPIC_EXCEPTION,
    )
