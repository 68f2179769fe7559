"""Events that are applied together: decoded, counted for the flush's record, then sorted for the writer."""

from __future__ import annotations

from assay import _core
from assay.features.feature_set import FeatureSet
from assay.features.line_blocks import LineBlock
from assay.features.logged_lines import LoggedLines
from assay.features.null_counts import count_nulls
from assay.features.rejects import LinePlace, Reject
from assay.features.times import AHEAD_US_MAX


def feature_types(feature_set: FeatureSet) -> dict[str, str]:
    """Request feature -> dtype, as flush records name them."""
    return {name: str(feature.dtype) for name, feature in feature_set.request_features.items()}


class EventSlice:
    """take() blocks of lines, then apply sorted_log()."""

    def __init__(self, plan: _core.FeaturePlan, feature_names: list[str]) -> None:
        self.rejected_count = 0
        self.null_counts = dict.fromkeys(feature_names, 0)
        self._names = feature_names
        self._lines = LoggedLines(plan, ahead_us_max=AHEAD_US_MAX)

    @property
    def event_count(self) -> int:
        return self._lines.log.event_count

    @property
    def accepted_ints(self) -> dict[str, int]:
        """How many events had an integer for a float64, by feature that accepts those."""
        return self._lines.log.accepted_ints()

    def take(self, block: LineBlock, places: bytes | None = None) -> list[Reject[LinePlace]]:
        """Decodes; returns the lines that are no events. `places`: of EventLog.append()."""
        known = self._lines.log.event_count
        rejects = self._lines.append(block, places)
        self.rejected_count += len(rejects)
        if not block.is_too_long:
            offsets = [reject.place.offset_bytes - block.offset_bytes for reject in rejects]
            nulls = count_nulls(block.data, self._lines.log.event_count - known, offsets, self._names)
            for name, count in nulls.items():
                self.null_counts[name] += count
        return rejects

    def sorted_log(self) -> _core.EventLog:
        self._lines.log.sort()
        return self._lines.log
