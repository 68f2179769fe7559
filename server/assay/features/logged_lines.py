"""Lines of events in a log, and where each that is no event stood."""

from __future__ import annotations

from assay import _core
from assay.features.line_blocks import LINE_BYTES_MAX, LineBlock
from assay.features.rejects import LinePlace, Reject, Violation


class LoggedLines:
    """An EventLog, and the lines that went into it: knows where in the input each rejection stood and what it said."""

    def __init__(self, plan: _core.FeaturePlan, *, ahead_us_max: int = 0) -> None:
        self.log = _core.EventLog(plan, ahead_us_max=ahead_us_max)
        self._lines = 0
        self._bytes = 0

    def append(self, block: LineBlock, places: bytes | None = None) -> list[Reject[LinePlace]]:
        """Decodes the lines of a block; returns those that are no events. `places`: of EventLog.append()."""
        if block.is_too_long:
            violation = Violation("TOO_LONG", "", f"the line is longer than {LINE_BYTES_MAX >> 10} KiB; only its head is kept")
            return [Reject(LinePlace(block.first_line, block.offset_bytes), (violation,), block.data)]
        known = self.log.rejected_count
        self.log.append(block.data, known + block.line_count, places=places)
        rejects = [self._reject(rejection, block) for rejection in self.log.rejections(known)]
        self._lines += block.line_count
        self._bytes += len(block.data)
        return rejects

    def _reject(self, rejection: _core.EventRejection, block: LineBlock) -> Reject[LinePlace]:
        start = rejection.offset_bytes - self._bytes
        end = block.data.find(b"\n", start)
        return Reject(
            LinePlace(block.first_line + rejection.line - 1 - self._lines, block.offset_bytes + start),
            violations=tuple(Violation(*violation) for violation in rejection.violations),
            original=block.data[start : end if end >= 0 else len(block.data)],
        )
