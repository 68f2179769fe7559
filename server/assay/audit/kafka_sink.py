"""A topic of Kafka. A record is safe here once all in-sync replicas have it (acks=all, an idempotent producer).

The key is the transaction's id, so that all that is told of one transaction is in one partition, in order; without one it is
the log's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.audit.sinks import ShippedRecord, SinkAwayError
from assay.errors import ConfigError, KafkaError
from assay.kafka.connection import Connection
from assay.kafka.options import read_options
from assay.kafka.producer import MessageProducer, OutMessage


def kafka_sink(brokers: str, topic: str, config: Path | None) -> KafkaSink:
    """Raises ConfigError."""
    try:
        options = read_options(config) if config else {}
        return KafkaSink(Connection(brokers, options), topic)
    except ConfigError as error:
        text = str(error).replace("--kafka-config", "audit.sink, config").replace("--kafka-option", "audit.sink, config:")
        raise ConfigError(text) from None


class KafkaSink:
    def __init__(self, connection: Connection, topic: str) -> None:
        """Raises ConfigError for a wrong option."""
        self._connection = connection
        self._topic = topic
        self._producer: MessageProducer | None = MessageProducer(connection)

    def deliver(self, records: Sequence[ShippedRecord]) -> None:
        if self._producer is None:
            self._producer = MessageProducer(self._connection)
        try:
            self._producer.deliver([self._message(record) for record in records])
        except KafkaError as error:
            # Also what Kafka calls final (no such topic, no right to it): somebody may mend it, and no record is lost meanwhile.
            # A producer that has given up is no use any more.
            self.close()
            raise SinkAwayError(f"Kafka: {error}") from None

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    # --- implementation ---

    def _message(self, record: ShippedRecord) -> OutMessage:
        key = record.key or record.id.rpartition("-")[0]
        return OutMessage(self._topic, key.encode(), record.json, [("assay_id", record.id.encode())])
