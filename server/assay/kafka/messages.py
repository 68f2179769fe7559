"""What comes out of topics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Partition(NamedTuple):
    topic: str
    number: int


class TopicMessage(NamedTuple):
    """One message. Value and key are somebody's transaction: they never reach a log."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def size_bytes(self) -> int:
        return len(self.value or b"") + len(self.key or b"")


class PartitionEnd(NamedTuple):
    """All messages of a partition below `offset` were given."""

    partition: Partition
    offset: int


class Progress(NamedTuple):
    """How far a partition was read."""

    read_to: int  # offset of the next message
    end: int | None  # where new messages go, about as old as the last answer of the broker; None: there was none yet


@dataclass(frozen=True)
class MessagePlace:
    """Where a reject stood in a topic."""

    message: TopicMessage = field(repr=False)

    def describe(self) -> str:
        topic, partition = self.message.partition
        return f"{topic}, partition {partition}, offset {self.message.offset}"

    def document(self) -> dict[str, Any]:
        topic, partition = self.message.partition
        return {"topic": topic, "partition": partition, "offset": self.message.offset}
