"""Messages that are labels: whether an event was a fraud, known days after it.

A label is put on its event; it makes none. One that is there before its event (topics are read side by side) waits for it, for a
limited time; so does its offset. One that cannot be put anywhere becomes a reject: too late (the event is in a tile already, and
the label does not say what it was taken for), or without an event.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from assay import _core
from assay.codes import NUMBERS
from assay.errors import RecordError, StoreFullError
from assay.features.rejects import Violation
from assay.features.store_writer import LabelWrite, StoreWriter
from assay.kafka.message_writer import Written, record_violation, reject, split_lines, store_full_error
from assay.kafka.messages import Partition, Progress, TopicMessage

AGAIN_S: Final = 0.5  # between two tries for a label: while events flow there is a flush every few milliseconds
Place = tuple[Partition, int]


class LabelMessages:
    """`clock`: monotonic seconds. `event_progress`: how far this process has read each of its partitions of events."""

    def __init__(
        self,
        plan: _core.FeaturePlan,
        writer: StoreWriter,
        wait_s: float,
        *,
        event_progress: Callable[[], Mapping[Partition, Progress]],
        clock: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._wait_s = wait_s
        self._event_progress = event_progress
        self._clock = clock
        self._waiting: dict[Place, _Waiting] = {}

    def write(self, messages: Sequence[TopicMessage]) -> Written:
        lines, rejects = split_lines(messages)
        now_s = self._clock()
        rest = {place for place, one in self._waiting.items() if now_s < one.again_s}
        resting = [line for line in lines if line.order in rest]
        labels = [line for line in lines if line.order not in rest]
        orphans: list[TopicMessage] = []
        counts = {"OK": 0, "EVENT_DUPLICATE": 0}
        for label, code in zip(labels, self._write(labels), strict=True):
            if isinstance(code, RecordError):
                rejects.append(reject(label, (record_violation(code),)))
                continue
            reason = _core.CODE_TABLE[code].reason
            if reason == "STORE_FULL":
                raise store_full_error()
            if reason == "EVENT_UNKNOWN":
                orphans.append(label)
            elif reason in counts:
                counts[reason] += 1
            else:
                rejects.append(reject(label, self._violations(label, code)))
        self._look(orphans, resting, now_s)
        given_up = [label for label in orphans if label.order not in self._waiting]
        rejects += [reject(label, self._violations(label, NUMBERS["EVENT_UNKNOWN"])) for label in given_up]
        waiting = [label for label in (*orphans, *resting) if label.order in self._waiting]
        return Written(counts["OK"], counts["EVENT_DUPLICATE"], rejects=rejects, waiting=waiting)

    # --- implementation ---

    def _write(self, labels: Sequence[TopicMessage]) -> list[int | RecordError]:
        """One code a label. Labels that need a record that cannot be trusted are found by halves; so is room for all."""
        if not labels:
            return []
        try:
            return list(self._writer.write_labels([LabelWrite(label.value or b"", label.place) for label in labels]))
        except StoreFullError:
            if len(labels) == 1:
                raise
        except RecordError as error:
            if not error.is_damage:
                raise
            if len(labels) == 1:
                return [error]
        middle = len(labels) // 2
        return [*self._write(labels[:middle]), *self._write(labels[middle:])]

    def _violations(self, label: TopicMessage, code: int) -> tuple[Violation, ...]:
        reason = _core.CODE_TABLE[code].reason
        found = self._plan.label_violations(label.value or b"") if reason == "INVALID_REQUEST" else ()
        return tuple(Violation(*one) for one in found) or (Violation(reason, "", _core.CODE_TABLE[code].message),)

    def _look(self, orphans: Sequence[TopicMessage], resting: Sequence[TopicMessage], now_s: float) -> None:
        """Leaves those in `_waiting` whose time is not over, or that were not tried: nothing is given up without a last try."""
        known, self._waiting = self._waiting, {}
        if not orphans and not resting:
            return
        begun = _Wait()
        waits = {label.order: known[label.order].wait if label.order in known else begun for label in (*orphans, *resting)}
        progress = self._event_progress()
        for wait in set(waits.values()):
            wait.look(progress, now_s + self._wait_s)
        self._waiting = {label.order: known[label.order] for label in resting}
        for place in (label.order for label in orphans if now_s < waits[label.order].give_up_s):
            self._waiting[place] = _Waiting(waits[place], now_s + AGAIN_S)


class _Wait:
    """Of labels that began to wait together. Its time runs once the events are read that were there at its beginning; those that
    come meanwhile renew it no more, or a topic that never stands still would keep it for ever."""

    def __init__(self) -> None:
        self.give_up_s = -math.inf
        self._ends: dict[Partition, int] = {}  # of a partition that came later: at its first look

    def look(self, progress: Mapping[Partition, Progress], give_up_s: float) -> None:
        """`give_up_s`: if its time runs from now on."""
        is_new = self.give_up_s == -math.inf
        for partition, (read_to, end) in progress.items():
            if end is not None:
                self._ends.setdefault(partition, end)
            is_new |= read_to < self._ends.get(partition, math.inf)
        if is_new:
            self.give_up_s = give_up_s


class _Waiting(NamedTuple):
    """A label that waits."""

    wait: _Wait
    again_s: float  # when it is tried again
