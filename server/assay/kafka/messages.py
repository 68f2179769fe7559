"""What comes out of topics."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from assay import _core

_PLACE: Final = struct.Struct("<IIq")  # as _core takes it: source, epoch, offset


class Partition(NamedTuple):
    topic: str
    number: int


class TopicMessage(NamedTuple):
    """One message. Value and key are somebody's transaction: they never reach a log."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    leader_epoch: int = 0

    @property
    def place(self) -> bytes:
        """Where the topic has it, for the fences of records."""
        return _PLACE.pack(source_of(self.partition), self.leader_epoch, self.offset)

    @property
    def order(self) -> tuple[Partition, int]:
        return self.partition, self.offset

    @property
    def size_bytes(self) -> int:
        return len(self.value or b"") + len(self.key or b"")


@lru_cache(maxsize=4096)
def source_of(partition: Partition) -> int:
    """What a record calls a partition: 32 bits, not 0. Two that are called the same would be taken for one, and only the events
    that are older than a record's exact ones would then be counted wrongly."""
    return _core.xxh64(f"{partition.topic}\0{partition.number}".encode()) % 0xFFFF_FFFF + 1


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
