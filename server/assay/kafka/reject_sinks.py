"""Where rejects of a topic go: another topic, a file, or nowhere, and then the ingestion ends."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Protocol

import orjson

from assay.errors import RejectedError, StoreError
from assay.features.rejects import Reject, Rejects
from assay.kafka.messages import MessagePlace
from assay.kafka.producer import MessageProducer, OutMessage

MessageReject = Reject[MessagePlace]


class RejectSink(Protocol):
    def keep(self, rejects: Sequence[MessageReject]) -> None:
        """Comes back once they are safe; may be asked twice for one. Raises KafkaAwayError or StoreError where it should be tried
        again later, another AssayError where the ingestion must end."""


class DeadLetterTopic:
    """The original message, key and value, with headers that say what is wrong with it and where it stood."""

    def __init__(self, producer: MessageProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    def keep(self, rejects: Sequence[MessageReject]) -> None:
        self._producer.deliver([self._letter(reject) for reject in rejects])

    def _letter(self, reject: MessageReject) -> OutMessage:
        message = reject.place.message
        headers = [
            ("assay_reason", reject.reason.encode()),
            ("assay_violations", orjson.dumps(reject.violation_documents())),
            ("assay_topic", message.partition.topic.encode()),
            ("assay_partition", str(message.partition.number).encode()),
            ("assay_offset", str(message.offset).encode()),
        ]
        return OutMessage(self._topic, message.key, message.value, headers)


class RejectsFile:
    """A file of JSON lines, synced before anything behind a reject is committed."""

    def __init__(self, rejects: Rejects) -> None:
        self._rejects = rejects

    def keep(self, rejects: Sequence[MessageReject]) -> None:
        try:
            self._rejects.add_all(rejects)
            self._rejects.sync()
        except OSError as error:
            raise StoreError(f"the file of rejects cannot be written: {error.strerror}") from None

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what is not on disk by now is not committed: it is read again
            self._rejects.close()


class NoRejects:
    """--fail-on-reject: the first reject ends the ingestion, its offset uncommitted."""

    def keep(self, rejects: Sequence[MessageReject]) -> None:
        first = rejects[0]
        more = f" (and {len(rejects) - 1} more)" if len(rejects) > 1 else ""
        raise RejectedError(f"{first.describe()}{more}. What is before it is committed; the next run begins with it again")
