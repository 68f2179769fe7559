"""Messages that are labels: whether an event was a fraud, known days after it.

A label is put on its event; it makes none. One that is there before its event (topics are read side by side) waits for it, for a
limited time; so does its offset. One that cannot be put anywhere becomes a reject: too late (the event is in a tile already), or
without an event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from assay import _core
from assay.errors import StoreError
from assay.features.rejects import Violation
from assay.features.store_writer import StoreWriter
from assay.kafka.message_writer import STORE_FULL, Written, reject, violation_of
from assay.kafka.messages import Partition, TopicMessage
from assay.kafka.reject_sinks import MessageReject

_REASONS = {row.number: row.reason for row in _core.CODE_TABLE}
Place = tuple[Partition, int]


class LabelMessages:
    """`clock`: monotonic seconds. `events_are_behind`: whether events are still to be read; a label's wait begins anew then."""

    def __init__(
        self,
        plan: _core.FeaturePlan,
        writer: StoreWriter,
        wait_s: float,
        *,
        events_are_behind: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._wait_s = wait_s
        self._events_are_behind = events_are_behind
        self._clock = clock
        self._give_up_s: dict[Place, float] = {}  # of labels that wait

    def write(self, messages: Sequence[TopicMessage]) -> Written:
        labels, rejects = self._decode(messages)
        codes = self._writer.write_labels([label.value or b"" for label in labels]) if labels else []
        waiting: list[TopicMessage] = []
        known, self._give_up_s = self._give_up_s, {}
        counts = {"OK": 0, "EVENT_DUPLICATE": 0}
        for label, code in zip(labels, codes, strict=True):
            reason = _REASONS[code]
            if code == STORE_FULL:
                raise StoreError(f"the store is full: {_core.CODE_TABLE[code].message}")
            if reason == "EVENT_UNKNOWN" and self._waits(label, known):
                waiting.append(label)
            elif reason in ("OK", "EVENT_DUPLICATE"):
                counts[reason] += 1
            else:
                rejects.append(reject(label, (Violation(reason, "", _core.CODE_TABLE[code].message),)))
        return Written(counts["OK"], counts["EVENT_DUPLICATE"], rejects=rejects, waiting=waiting)

    # --- implementation ---

    def _decode(self, messages: Sequence[TopicMessage]) -> tuple[list[TopicMessage], list[MessageReject]]:
        labels: list[TopicMessage] = []
        rejects: list[MessageReject] = []
        for message in messages:
            violation = violation_of(message.value)
            violations = (violation,) if violation else self._violations(message.value or b"")
            if violations:
                rejects.append(reject(message, violations))
            else:
                labels.append(message)
        return labels, rejects

    def _violations(self, value: bytes) -> tuple[Violation, ...]:
        return tuple(Violation(*violation) for violation in self._plan.label_violations(value))

    def _waits(self, label: TopicMessage, known: dict[Place, float]) -> bool:
        place = label.partition, label.offset
        now_s = self._clock()
        give_up_s = known.get(place, now_s + self._wait_s)
        if self._events_are_behind():
            give_up_s = now_s + self._wait_s
        self._give_up_s[place] = give_up_s
        return now_s < give_up_s
