"""The ingestion of topics: read, hold, write, commit; in this order, and nothing is committed that was not written.

READING --the store (or the dead letters) away--> WAITING --written at last--> READING
   |                                                 |
   '-------- stop(), the end, or an error -----------'--> ENDED

READING  messages are held until there are enough of them, or the first is old enough; then they are written together
WAITING  all partitions are paused, the member stays in its group, what is held is tried again; waits grow and are jittered
ENDED    nothing is written or committed any more

Delivery is at least once, and a repeat changes nothing: an offset is committed after its message, and after all before it.
"""

from __future__ import annotations

import enum
import logging
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from assay.errors import AssayError, RejectedError, StoreError
from assay.kafka.end_watch import EndWatch
from assay.kafka.group import Group, Read
from assay.kafka.held_messages import HeldMessages
from assay.kafka.label_messages import AGAIN_S
from assay.kafka.message_writer import Flush
from assay.kafka.messages import Partition, PartitionEnd, TopicMessage
from assay.kafka.producer import KafkaAwayError
from assay.kafka.reject_sinks import MessageReject, RejectSink
from assay.kafka.stats import IngestionStats
from assay.observe.logs import log_event

IDLE_S = 0.2  # longest wait for a message: how soon a signal is seen
RETRY_S_MIN, RETRY_S_MAX = 0.1, 10.0
LOOK_S = 1.0
HELD_BYTES_MAX = 16 << 20  # but for what the last read brought

log = logging.getLogger("assay.ingest")


class State(enum.Enum):
    READING = "reading"
    WAITING = "waiting"
    ENDED = "ended"


class Writer(Protocol):
    def write(self, messages: Sequence[TopicMessage]) -> Flush:
        """Asked again for the same, it changes nothing."""


@dataclass(frozen=True)
class Settings:
    messages_max: int  # held; a flush writes them
    flush_s: float
    checkpoint_s: float  # between two commits
    is_store_here: bool  # an embedded store: what it refuses it will refuse again


class Ingestion:
    """One thread calls run(); stop() may be called from a signal handler. `clock`: monotonic seconds."""

    def __init__(
        self,
        group: Group,
        writer: Writer,
        sink: RejectSink,
        settings: Settings,
        *,
        save: Callable[[], object] = lambda: None,
        on_look: Callable[[bool], None] = lambda _: None,
        on_flush: Callable[[Flush, Sequence[TopicMessage]], None] = lambda _, __: None,
        stats: IngestionStats | None = None,
        end: EndWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`save` makes what was written durable, before each commit. `on_look` is called about once a second and, told True, at
        the end; `on_flush` with what was written, or kept as a reject, and the messages that were: each of them once."""
        self.state = State.READING
        self.stats = stats or IngestionStats()
        self._group = group
        self._writer = writer
        self._sink = sink
        self._settings = settings
        self._save = save
        self._on_look = on_look
        self._on_flush = on_flush
        self._end = end
        self._clock = clock
        self._rng = rng or random.Random()
        self._held = HeldMessages(messages_max=settings.messages_max, bytes_max=HELD_BYTES_MAX)
        self._partitions: set[Partition] = set()
        self._has_joined = False
        self._is_stopped = False
        self._flush_at_s = math.inf
        self._held_back: frozenset[str] = frozenset()  # topics that are not read while labels of theirs wait
        self._retry_at_s = 0.0  # in WAITING
        self._retry_s = RETRY_S_MIN
        self._checkpoint_at_s = clock() + settings.checkpoint_s
        self._look_at_s = clock() + LOOK_S
        self._saved: Mapping[Partition, int] = {}

    def run(self) -> None:
        """Reads until stop() or the end. Raises AssayError where it cannot go on; what was not committed is read again then."""
        self._group.join(self)
        try:
            while not self._is_over():
                self._turn()
            self._finish()
        finally:
            self.state = State.ENDED
            self._group.close()

    def stop(self) -> None:
        """Writes and commits what is held, then run() returns. If the store is away, what is held is left to be read again."""
        self._is_stopped = True

    # --- what the group tells

    def on_assigned(self, partitions: Sequence[Partition]) -> None:
        self._has_joined = True
        self._partitions.update(partitions)
        if self.state is State.WAITING:
            self._group.pause(partitions)
        self._group.pause(partition for partition in partitions if partition.topic in self._held_back)
        log_event(log, logging.INFO, "partitions assigned", partitions=_text(partitions))

    def on_revoked(self, partitions: Sequence[Partition]) -> None:
        if self.state is State.READING:
            self._flush()
        if self.state is State.READING:
            self._checkpoint(waits=True)
        self._drop(partitions, "partitions revoked")

    def on_lost(self, partitions: Sequence[Partition]) -> None:
        self._drop(partitions, "partitions lost")

    # --- implementation ---

    def _is_over(self) -> bool:
        if self._is_stopped:
            return True
        if self._end is None or not self._has_joined:
            return False
        return self._end.is_reached(self._held.safe_offsets(), self._group.group_offsets)

    def _turn(self) -> None:
        match self.state:
            case State.READING:
                self._take(self._group.read(max(1, self._held.room()), self._read_s()))
                if self._is_due():
                    self._flush()
            case State.WAITING:
                self._take(self._group.read(1, min(IDLE_S, max(0.0, self._retry_at_s - self._clock()))))
                if self._clock() >= self._retry_at_s:
                    self._flush()
            case State.ENDED:
                raise AssertionError("a turn after the end")
        if self._clock() >= self._checkpoint_at_s:
            self._checkpoint(waits=False)
        if self._clock() >= self._look_at_s:
            self._look()
        self.stats.held_messages, self.stats.held_bytes = self._held.message_count, self._held.size_bytes

    def _take(self, found: Sequence[Read]) -> None:
        for read in found:
            if read.partition not in self._partitions:
                continue  # it left from within this read: its new owner reads this too
            if isinstance(read, PartitionEnd):
                self._held.end(read)
                continue
            self._flush_at_s = min(self._flush_at_s, self._clock() + self._settings.flush_s)
            self._held.add(read)

    def _read_s(self) -> float:
        return max(0.0, min(IDLE_S, self._flush_at_s - self._clock()))

    def _is_due(self) -> bool:
        return self._held.message_count > 0 and (self._held.room() == 0 or self._clock() >= self._flush_at_s)

    def _flush(self) -> None:
        """Writes what is held and keeps its rejects. What did not become safe stays held; if an error is the reason: WAITING."""
        if self._held.message_count == 0:  # partitions took it along
            self._wait_for_nothing()
            if self.state is State.WAITING:
                self._go_on("nothing is held any more; reading goes on")
            return
        started_s = self._clock()
        messages = list(self._held.messages())
        flush = self._writer.write(messages)
        refusal = self._keep(flush.rejects)
        unsafe = [*flush.unwritten, *(reject.place.message for reject in flush.rejects if refusal is not None)]
        self._held.release(unsafe, flush.waiting)
        self._count(flush if refusal is None else flush.without_rejects(), messages, self._clock() - started_s)
        if isinstance(refusal, RejectedError):
            self._checkpoint(waits=True)
            raise refusal
        if flush.error is not None and self._settings.is_store_here:
            raise flush.error
        if error := flush.error or refusal:
            self._wait(error)
            return
        self._flush_at_s = self._clock() + AGAIN_S if flush.waiting else math.inf
        if self.state is State.WAITING:
            self._go_on("written at last; reading goes on")
        self._hold_back(frozenset(message.partition.topic for message in flush.waiting))

    def _keep(self, rejects: Sequence[MessageReject]) -> AssayError | None:
        """None: they are safe. Else why not, where it is known what that means: the end, or a wait."""
        try:
            if rejects:
                self._sink.keep(rejects)
        except (RejectedError, StoreError, KafkaAwayError) as error:
            return error
        return None

    def _count(self, flush: Flush, messages: Sequence[TopicMessage], seconds: float) -> None:
        if not flush.written:
            return
        self.stats.flushed(flush.written, seconds)
        left = {message.order for message in self._held.messages()}
        self._on_flush(flush, [message for message in messages if message.order not in left] if left else messages)

    def _wait_for_nothing(self) -> None:
        """Nothing is held."""
        self._flush_at_s = math.inf
        self._hold_back(frozenset())

    def _wait(self, error: AssayError) -> None:
        pause_s = self._retry_s * self._rng.uniform(0.5, 1.0)
        self._retry_at_s = self._clock() + pause_s
        self._retry_s = min(RETRY_S_MAX, 2 * self._retry_s)
        if self.state is State.READING:
            self.state = State.WAITING
            self._group.pause(self._partitions)
        self.stats.is_away = True
        log_event(
            log,
            logging.WARNING,
            "not written; it is tried again",
            error=str(error),
            held_messages=self._held.message_count,
            retry_s=round(pause_s, 2),
        )

    def _go_on(self, why: str) -> None:
        self.state = State.READING
        self._retry_s = RETRY_S_MIN
        self._group.resume(self._partitions)
        self._group.pause(partition for partition in self._partitions if partition.topic in self._held_back)
        self.stats.is_away = False
        log_event(log, logging.INFO, why)

    def _hold_back(self, topics: frozenset[str]) -> None:
        """Topics whose labels wait are not read on: what waits is bounded by one flush, and events catch up."""
        if topics == self._held_back:
            return
        before, self._held_back = self._held_back, topics
        if self.state is not State.READING:
            return  # all are paused, and _go_on() knows
        self._group.resume(partition for partition in self._partitions if partition.topic in before - topics)
        self._group.pause(partition for partition in self._partitions if partition.topic in topics)

    def _checkpoint(self, *, waits: bool) -> None:
        self._checkpoint_at_s = self._clock() + self._settings.checkpoint_s
        safe = self._held.safe_offsets()
        if safe != self._saved:
            self._save()
            self._saved = safe
        self._group.commit(safe, waits=waits)

    def _drop(self, partitions: Sequence[Partition], what: str) -> None:
        self._partitions.difference_update(partitions)
        dropped = self._held.drop(partitions)
        if self._held.message_count == 0:
            self._wait_for_nothing()
        log_event(log, logging.INFO, what, partitions=_text(partitions), read_again_messages=dropped)

    def _finish(self) -> None:
        self._flush()
        if self.state is State.WAITING:
            log_event(log, logging.WARNING, "stopped while away", read_again_messages=self._held.message_count)
        self._checkpoint(waits=True)
        self._look(is_over=True)

    def _look(self, *, is_over: bool = False) -> None:
        self._look_at_s = self._clock() + LOOK_S
        self.stats.progress = self._group.progress()
        is_waiting = self.state is State.WAITING
        self.stats.paused_partitions = sum(is_waiting or p.topic in self._held_back for p in self._partitions)
        self._on_look(is_over)


def _text(partitions: Sequence[Partition]) -> str:
    return ",".join(f"{topic}/{number}" for topic, number in sorted(partitions))
