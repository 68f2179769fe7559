"""--stop-at-end: whether all that the topics held at the start is safe, by whichever member of the group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from assay.kafka.group import Range
from assay.kafka.messages import Partition

ASK_S = 1.0  # between two questions for what other members have done

GroupOffsets = Callable[[Sequence[Partition]], Mapping[Partition, int]]


class EndWatch:
    def __init__(self, ranges: Mapping[Partition, Range], clock: Callable[[], float]) -> None:
        """`ranges` at the start. An empty partition has no end to wait for."""
        self._left = {partition: found.end for partition, found in ranges.items() if found.end > found.start}
        self._clock = clock
        self._ask_at_s = clock()

    def is_reached(self, safe: Mapping[Partition, int], group_offsets: GroupOffsets) -> bool:
        """`safe`: of this member's partitions. Other partitions' offsets are asked for once a second."""
        self._forget(safe)
        others = [partition for partition in self._left if partition not in safe]
        if others and len(others) == len(self._left) and self._clock() >= self._ask_at_s:
            self._ask_at_s = self._clock() + ASK_S
            self._forget(group_offsets(others))
        return not self._left

    def _forget(self, safe: Mapping[Partition, int]) -> None:
        self._left = {partition: end for partition, end in self._left.items() if safe.get(partition, -1) < end}
