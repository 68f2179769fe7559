"""How to reach Kafka, and what librdkafka is told: our settings over the user's. Errors name options, never their values."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from assay.errors import ConfigError
from assay.kafka.library import load_kafka
from assay.observe.logs import log_event

QUEUED_KBYTES_MAX = 16_384  # read ahead by librdkafka, of all partitions
MESSAGE_BYTES_MAX = 64 << 20  # of a dead letter; the broker's own limit is what counts

LIBRDKAFKA_LOG = logging.getLogger("assay.librdkafka")

log = logging.getLogger("assay.kafka")

Client = TypeVar("Client")


@dataclass(frozen=True)
class Connection:
    """Brokers, and options of librdkafka beside ours. The options may hold secrets."""

    brokers: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def consumer_config(self, group: str, instance_id: str | None) -> dict[str, Any]:
        """Of a member of a consumer group."""
        defaults = {"auto.offset.reset": "earliest", "queued.max.messages.kbytes": QUEUED_KBYTES_MAX}
        ours = {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            # Eager members stop all their partitions at each rebalance; freshness would suffer wherever somebody comes or goes.
            "partition.assignment.strategy": "cooperative-sticky",
        }
        if instance_id is not None:
            ours["group.instance.id"] = instance_id
        return {**self._config(defaults), **ours}

    def producer_config(self) -> dict[str, Any]:
        """Of what writes dead letters and metadata records."""
        defaults = {"linger.ms": 5, "message.max.bytes": MESSAGE_BYTES_MAX}
        # An option may be of consumers only: librdkafka says so in a line of its log and goes on.
        return {**self._config(defaults), "enable.idempotence": True, "acks": "all"}

    def _config(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        ours = {"bootstrap.servers": self.brokers, "error_cb": say_error, "logger": LIBRDKAFKA_LOG}
        return {**defaults, **self.options, **ours}


def make_client(kind: Callable[[dict[str, Any]], Client], config: dict[str, Any]) -> Client:
    """Raises ConfigError for what librdkafka does not take: the option's name, never its value."""
    try:
        return kind(config)
    except load_kafka().KafkaException as error:
        text = error.args[0].str()
    except (TypeError, ValueError) as error:
        text = str(error)
    named = re.search(r'"([a-z0-9._]+)"', text.partition(" for configuration property ")[2] or text)
    option = f" {named[1]}" if named else ""
    is_unknown = text.startswith("No such configuration property")
    what = "has no such option" if is_unknown else "does not take this value, or not with the others"
    raise ConfigError(f"--kafka-option{option}: librdkafka {what}; see its CONFIGURATION.md")


def say_error(error: Any) -> None:
    """librdkafka's own troubles: it goes on by itself, and so do we; what is final comes by another way."""
    log_event(log, logging.WARNING, "kafka", error=error.name(), text=error.str())
