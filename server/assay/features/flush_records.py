"""Flush records of a stream: what several flushes did in one record, so that a stream with a hundred flushes a second writes one
record a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from assay.features.flush_record import FlushRecord


class FlushRecords:
    """Of one source. add() what a flush held; take() gives a record when one is due. `clock`: monotonic seconds."""

    def __init__(
        self, make: Callable[[Mapping[str, int], bool], FlushRecord], interval_s: float, clock: Callable[[], float]
    ) -> None:
        """`make` gets the nulls of each feature, and whether there were rejects."""
        self._make = make
        self._interval_s = interval_s
        self._clock = clock
        self._due_s = clock()
        self._null_counts: dict[str, int] = {}
        self._has_rejects = False
        self._is_empty = True

    def add(self, null_counts: Mapping[str, int], *, has_rejects: bool) -> None:
        for name, count in null_counts.items():
            self._null_counts[name] = self._null_counts.get(name, 0) + count
        self._has_rejects |= has_rejects
        self._is_empty = False

    def take(self, *, at_end: bool = False) -> FlushRecord | None:
        """None: nothing was flushed, or the last record is not `interval_s` old yet (at the end it need not be)."""
        now_s = self._clock()
        if self._is_empty or (now_s < self._due_s and not at_end):
            return None
        record = self._make(self._null_counts, self._has_rejects)
        self._null_counts, self._has_rejects, self._is_empty = {}, False, True
        self._due_s = now_s + self._interval_s
        return record
