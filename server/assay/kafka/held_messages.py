"""Messages that were read and are not safe yet, by partition. What is not held and was read may be committed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from assay.kafka.messages import Partition, PartitionEnd, TopicMessage


class HeldMessages:
    """Bounded by whoever adds: room() says how many messages more may be read. A message's bytes are known once it is there, so
    the bytes may pass their limit by what one read brings."""

    def __init__(self, *, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._held: dict[Partition, list[TopicMessage]] = {}
        self._read_to: dict[Partition, int] = {}  # offset of the next message to read
        self.message_count = 0
        self.size_bytes = 0
        self._waiting_count = 0
        self._waiting_bytes = 0

    def room(self) -> int:
        """Messages that wait (labels for their events) are held beside the others: at most one flush's worth again."""
        if self.size_bytes - self._waiting_bytes >= self._bytes_max:
            return 0
        return max(0, self._messages_max - (self.message_count - self._waiting_count))

    def add(self, message: TopicMessage) -> None:
        self._hold(message)
        self._read_to[message.partition] = message.offset + 1

    def end(self, end: PartitionEnd) -> None:
        """What lies between the last message and the end of a partition is none for us (marks of transactions)."""
        self._read_to[end.partition] = max(end.offset, self._read_to.get(end.partition, 0))

    def messages(self) -> Iterator[TopicMessage]:
        """All, partition by partition, each in order."""
        for messages in self._held.values():
            yield from messages

    def release(self, unsafe: Iterable[TopicMessage] = (), waiting: Iterable[TopicMessage] = ()) -> None:
        """All but the unsafe and the waiting ones are safe."""
        waits = list(waiting)
        self._held.clear()
        self.message_count = self.size_bytes = 0
        for message in sorted([*unsafe, *waits], key=lambda message: message.order):
            self._hold(message)
        self._waiting_count, self._waiting_bytes = len(waits), sum(message.size_bytes for message in waits)

    def drop(self, partitions: Iterable[Partition]) -> int:
        """Forgets partitions that went to somebody else. Returns how many messages were held of them."""
        dropped = 0
        for partition in partitions:
            messages = self._held.pop(partition, [])
            self._read_to.pop(partition, None)
            dropped += len(messages)
            self.size_bytes -= sum(message.size_bytes for message in messages)
        self.message_count -= dropped
        self._waiting_count = min(self._waiting_count, self.message_count)
        self._waiting_bytes = min(self._waiting_bytes, self.size_bytes)
        return dropped

    def safe_offsets(self) -> dict[Partition, int]:
        """Of each partition: every message below is safe."""
        return {
            partition: self._held[partition][0].offset if self._held.get(partition) else read_to
            for partition, read_to in self._read_to.items()
        }

    # --- implementation ---

    def _hold(self, message: TopicMessage) -> None:
        self._held.setdefault(message.partition, []).append(message)
        self.message_count += 1
        self.size_bytes += message.size_bytes
