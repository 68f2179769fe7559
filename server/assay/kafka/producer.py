"""Messages into topics, all of them or an error: what is said to be delivered, all replicas have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    """One thread."""

    def __init__(self, connection: Connection) -> None:
        """Raises ConfigError for a wrong option."""
        self._kafka = load_kafka()
        self._producer = make_client(self._kafka.Producer, connection.producer_config())
        self._failure: Any = None  # the first of one deliver()
        self.dropped_count = 0

    def deliver(self, messages: Sequence[OutMessage]) -> None:
        """Comes back once they are delivered. Raises KafkaAwayError, and KafkaError for what waiting does not mend."""
        self._failure = None
        for message in messages:
            self._produce(message)
        left = self._producer.flush(DELIVERY_S_MAX)
        if left:
            self._producer.purge()
            self._producer.flush(_STEP_S)
            raise KafkaAwayError(f"{left} messages were not delivered in {DELIVERY_S_MAX:g} s; some may have been")
        if self._failure is not None:
            self._raise(self._failure)

    def offer(self, message: OutMessage) -> None:
        """Sends it when it can be sent, and waits for nothing. What librdkafka's queue has no room for is dropped and counted."""
        try:
            self._producer.produce(message.topic, message.value, message.key, headers=list(message.headers))
        except (BufferError, self._kafka.KafkaException):
            self.dropped_count += 1
        self._producer.poll(0)

    def close(self) -> None:
        self._producer.flush(_CLOSE_S)

    # --- implementation ---

    def _produce(self, message: OutMessage) -> None:
        headers = list(message.headers)
        try:
            self._producer.produce(message.topic, message.value, message.key, headers=headers, on_delivery=self._on_delivery)
        except BufferError:
            raise KafkaAwayError("librdkafka's queue is full (queue.buffering.max.messages)") from None
        except self._kafka.KafkaException as error:
            self._raise(error.args[0])
        self._producer.poll(0)

    def _on_delivery(self, error: Any, _: Any) -> None:
        if error is not None and self._failure is None:
            self._failure = error

    def _raise(self, error: Any) -> None:
        if error.code() in _final_codes(self._kafka.KafkaError):
            raise KafkaError(f"a message was refused: {error.str()} ({error.name()})")
        raise KafkaAwayError(f"a message was not delivered: {error.str()} ({error.name()})")


def _final_codes(kinds: Any) -> tuple[int, ...]:
    return (
        kinds.MSG_SIZE_TOO_LARGE,
        kinds.RECORD_LIST_TOO_LARGE,
        kinds.TOPIC_AUTHORIZATION_FAILED,
        kinds.INVALID_RECORD,
        kinds._UNKNOWN_TOPIC,
        kinds.UNKNOWN_TOPIC_OR_PART,
        kinds.TOPIC_EXCEPTION,
    )
