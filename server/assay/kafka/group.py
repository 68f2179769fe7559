"""A member of a consumer group: librdkafka's consumer, as the ingestion sees it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from assay.errors import ConfigError, KafkaError
from assay.kafka.connection import LIBRDKAFKA_LOG, Connection, make_client, say_error
from assay.kafka.library import load_kafka
from assay.kafka.messages import Partition, PartitionEnd, Progress, TopicMessage
from assay.observe.logs import log_event

ANSWER_S_MAX = 10.0  # of a broker, at the start and at the end
OFFSETS_S_MAX = 1.0
OFFSET_NONE = -1001

log = logging.getLogger("assay.kafka")

Read = TopicMessage | PartitionEnd


class Listener(Protocol):
    """Is told, from within read() and close(), which partitions come and go."""

    def on_assigned(self, partitions: Sequence[Partition]) -> None: ...
    def on_revoked(self, partitions: Sequence[Partition]) -> None:
        """They go to another member when this returns; what is committed before is what that one does not read again."""

    def on_lost(self, partitions: Sequence[Partition]) -> None:
        """Another member has them already: nothing of them may be committed."""


class Range(NamedTuple):
    """Offsets of a partition: [start, end)."""

    start: int
    end: int


class Group(Protocol):
    """What the ingestion needs of a member. One thread."""

    def join(self, listener: Listener) -> None: ...
    def read(self, count_max: int, timeout_s: float) -> list[Read]:
        """Waits for the first up to the limit of time. Raises KafkaError if this member can never go on."""

    def pause(self, partitions: Iterable[Partition]) -> None: ...
    def resume(self, partitions: Iterable[Partition]) -> None: ...
    def commit(self, offsets: Mapping[Partition, int], *, waits: bool) -> None:
        """`waits`: until the broker has answered. What failed is asked for again by the next commit."""

    def ranges(self) -> dict[Partition, Range]:
        """Of all partitions of the topics, asked of the brokers. Raises KafkaError."""

    def group_offsets(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """What the whole group has committed; nothing of a partition without, or if the broker does not answer soon."""

    def progress(self) -> dict[Partition, Progress]:
        """Of this member's partitions. Asks nobody."""

    def close(self) -> None: ...


class ConsumerGroup:
    """The Group of librdkafka."""

    def __init__(self, connection: Connection, topics: Sequence[str], group: str, instance_id: str | None = None) -> None:
        """Raises ConfigError: a wrong option, no broker there, no such topic."""
        self._kafka = load_kafka()
        self._topics = tuple(topics)
        self._committed: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}  # that were reached
        self._assigned: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._last_error = ""
        self._is_connected = False  # until then no failure is logged: one error says why, if no broker ever answers
        ours = {"on_commit": self._on_commit, "error_cb": self._on_error, "logger": self}
        config = {**connection.consumer_config(group, instance_id), **ours}
        self._consumer = make_client(self._kafka.Consumer, config)
        try:
            self._partitions = self._find_partitions(connection.brokers)
        except BaseException:
            self._consumer.close()
            raise

    def join(self, listener: Listener) -> None:
        def assign(consumer: Any, found: Sequence[Any]) -> None:
            consumer.incremental_assign(found)  # now, so that the listener can pause them before anything is read
            partitions = _named(found)
            self._assigned.update(partitions)
            listener.on_assigned(partitions)

        def revoke(_: Any, found: Sequence[Any]) -> None:
            partitions = _named(found)
            listener.on_revoked(partitions)
            self._forget(partitions)

        def lose(_: Any, found: Sequence[Any]) -> None:
            partitions = _named(found)
            listener.on_lost(partitions)
            self._forget(partitions)

        self._consumer.subscribe(list(self._topics), on_assign=assign, on_revoke=revoke, on_lost=lose)

    def read_from(self, offsets: Mapping[Partition, int]) -> None:
        """Instead of join(): reads these partitions, as a member of nothing."""
        self._consumer.assign([self._place(partition, offset) for partition, offset in offsets.items()])

    def read(self, count_max: int, timeout_s: float) -> list[Read]:
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        found = [first, *self._consumer.consume(count_max - 1, 0)] if count_max > 1 else [first]
        return [read for message in found if (read := self._read_of(message)) is not None]

    def pause(self, partitions: Iterable[Partition]) -> None:
        news = (self._assigned & set(partitions)) - self._paused
        self._set_paused(news, self._consumer.pause)
        self._paused |= news

    def resume(self, partitions: Iterable[Partition]) -> None:
        self._set_paused(self._paused & set(partitions), self._consumer.resume)
        self._paused -= set(partitions)

    def commit(self, offsets: Mapping[Partition, int], *, waits: bool) -> None:
        news = {p: offset for p, offset in offsets.items() if p in self._assigned and self._committed.get(p) != offset}
        if not news:
            return
        try:
            self._consumer.commit(offsets=[self._place(p, offset) for p, offset in news.items()], asynchronous=not waits)
        except self._kafka.KafkaException as error:
            self._say_failed_commit(error.args[0])
            return
        if waits:
            self._committed.update(news)

    def ranges(self) -> dict[Partition, Range]:
        return {partition: self._range(partition) for partition in self._partitions}

    def group_offsets(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        try:
            found = self._consumer.committed([self._place(p) for p in partitions], timeout=OFFSETS_S_MAX)
        except self._kafka.KafkaException:
            return {}  # it is asked again
        return {Partition(place.topic, place.partition): place.offset for place in found if place.offset >= 0}

    def progress(self) -> dict[Partition, Progress]:
        partitions = list(self._assigned)
        places = self._consumer.position([self._place(partition) for partition in partitions])
        return {p: self._progress(p, place.offset) for p, place in zip(partitions, places, strict=True)}

    def close(self) -> None:
        """Leaves the group; a static member's place is kept for session.timeout.ms."""
        self._consumer.close()

    def log(self, level: int, text: str, kind: str, *values: Any) -> None:
        """What librdkafka tells its logger."""
        if self._is_connected or kind != "FAIL":
            LIBRDKAFKA_LOG.log(level, text, kind, *values)

    # --- implementation ---

    def _find_partitions(self, brokers: str) -> list[Partition]:
        topics = self._list_topics(brokers)
        missing = [topic for topic in self._topics if topic not in topics or topics[topic].error is not None]
        if missing:
            raise ConfigError(
                f"no topic {', '.join(missing)} at {brokers}, or it may not be read; make it first, or mend the name"
            )
        return [Partition(topic, number) for topic in self._topics for number in sorted(topics[topic].partitions)]

    def _list_topics(self, brokers: str) -> dict[str, Any]:
        try:
            topics: dict[str, Any] = self._consumer.list_topics(timeout=ANSWER_S_MAX).topics
        except self._kafka.KafkaException as error:
            self._consumer.poll(0)  # what went wrong is heard here
            why = self._last_error or error.args[0].str()
            raise ConfigError(f"--kafka: no broker of {brokers} answers ({why})") from None
        self._consumer.poll(0)  # what went wrong before is over
        self._is_connected = True
        return topics

    def _range(self, partition: Partition) -> Range:
        try:
            return Range(*self._consumer.get_watermark_offsets(self._place(partition), timeout=ANSWER_S_MAX))
        except self._kafka.KafkaException as error:
            where = f"{partition.topic}, partition {partition.number}"
            raise KafkaError(f"{where}: its end cannot be had: {error.args[0].str()}") from None

    def _progress(self, partition: Partition, position: int) -> Progress:
        start, end = self._consumer.get_watermark_offsets(self._place(partition), cached=True) or (OFFSET_NONE, OFFSET_NONE)
        read_to = position if position >= 0 else self._committed.get(partition, start)
        # Behind the last message there may be marks of transactions, which are none for us.
        read_to = max(0, read_to, self._ends.get(partition, 0))
        return Progress(read_to, end if end >= 0 else None)

    def _read_of(self, message: Any) -> Read | None:
        partition = Partition(message.topic(), message.partition())
        error = message.error()
        if error is None:
            epoch = max(0, message.leader_epoch() or 0)  # brokers before 2.1 have none
            return TopicMessage(partition, message.offset(), message.key(), message.value(), epoch)
        if error.code() == self._kafka.KafkaError._PARTITION_EOF:
            self._ends[partition] = message.offset()
            return PartitionEnd(partition, message.offset())
        self._on_error(error)
        return None

    def _on_error(self, error: Any) -> None:
        if error.fatal() or error.code() in self._final_codes():
            raise KafkaError(f"this member cannot go on: {error.str()} ({error.name()})")
        if self._is_connected:
            say_error(error)
        elif error.code() != self._kafka.KafkaError._ALL_BROKERS_DOWN:  # says less than the one before it
            self._last_error = error.str()

    def _final_codes(self) -> tuple[int, ...]:
        """What no waiting mends."""
        kinds = self._kafka.KafkaError
        return (kinds._FATAL, kinds.FENCED_INSTANCE_ID, kinds.GROUP_AUTHORIZATION_FAILED, kinds.TOPIC_AUTHORIZATION_FAILED)

    def _on_commit(self, error: Any, places: Sequence[Any]) -> None:
        if error is not None:
            return self._say_failed_commit(error)
        for place in places:
            partition = Partition(place.topic, place.partition)
            if place.error is None and partition in self._assigned:
                self._committed[partition] = place.offset

    def _say_failed_commit(self, error: Any) -> None:
        # No loss: what is not committed is read again, and repeats change nothing.
        log_event(log, logging.WARNING, "offsets not committed", error=error.name(), text=error.str())

    def _set_paused(self, partitions: Iterable[Partition], change: Callable[[list[Any]], None]) -> None:
        places = [self._place(partition) for partition in partitions]
        if places:
            change(places)

    def _forget(self, partitions: Sequence[Partition]) -> None:
        self._assigned.difference_update(partitions)
        self._paused.difference_update(partitions)
        for partition in partitions:
            self._committed.pop(partition, None)
            self._ends.pop(partition, None)

    def _place(self, partition: Partition, offset: int = OFFSET_NONE) -> Any:
        return self._kafka.TopicPartition(partition.topic, partition.number, offset)


def _named(places: Sequence[Any]) -> list[Partition]:
    return [Partition(place.topic, place.partition) for place in places]
