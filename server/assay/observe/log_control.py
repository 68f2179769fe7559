"""How much the server says, changed while it runs: the level of its log, the part of calls that is traced or gets a line."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from assay.observe.logs import Level, log_event, log_level, set_log_level

REVERT_S_MAX = 86_400.0

log = logging.getLogger("assay.operations")


class Ratios(Protocol):
    """The core's: assay._core.Engine."""

    @property
    def is_tracing(self) -> bool: ...
    def set_sample_ratio(self, ratio: float) -> None: ...
    def set_log_ratio(self, ratio: float) -> None: ...


@dataclass(frozen=True)
class Logging:
    """How much is said. Ratios are 0..1."""

    level: Level
    trace_sample_ratio: float  # 0 where tracing is off
    request_log_ratio: float
    revert_at_s: float | None = None  # wall clock: when the configured values come back


class LogControl:
    """Thread-safe. `configured`: what a change for a while goes back to. Clocks are for tests."""

    def __init__(
        self,
        ratios: Ratios,
        trace_sample_ratio: float,
        request_log_ratio: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._ratios = ratios
        self._clock, self._wall_clock = clock, wall_clock
        self._lock = threading.Lock()
        self._configured = Logging(log_level(), trace_sample_ratio if ratios.is_tracing else 0.0, request_log_ratio)
        self._now = self._configured
        self._revert_at = float("inf")  # of the monotonic clock

    @property
    def is_tracing(self) -> bool:
        """Whether a sample ratio means anything."""
        return self._ratios.is_tracing

    @property
    def now(self) -> Logging:
        return replace(self._now, level=log_level())

    @property
    def revert_in_s(self) -> float:
        """Until revert_if_due() has something to do; infinity: never."""
        return self._revert_at - self._clock()

    def change(
        self,
        *,
        level: Level | None = None,
        trace_sample_ratio: float | None = None,
        request_log_ratio: float | None = None,
        revert_after_s: float | None = None,
        asked_by: str | None = None,
    ) -> tuple[Logging, Logging]:
        """What was before, and what is now. None stays; without `revert_after_s` all of it stays for good. A second change for a
        while goes back to what was configured, too. REQUIRES: values in range, and tracing for a sample ratio."""
        with self._lock:
            before = self.now
            wanted = Logging(
                level or before.level,
                before.trace_sample_ratio if trace_sample_ratio is None else trace_sample_ratio,
                before.request_log_ratio if request_log_ratio is None else request_log_ratio,
                None if revert_after_s is None else self._wall_clock() + revert_after_s,
            )
            self._revert_at = float("inf") if revert_after_s is None else self._clock() + revert_after_s
            self._apply(wanted, "logging changed", asked_by=asked_by, revert_after_s=revert_after_s)
            return before, self._now

    def revert_if_due(self) -> None:
        """Goes back to what was configured, if the time has come."""
        with self._lock:
            if self._clock() >= self._revert_at:
                self._revert_at = float("inf")
                self._apply(self._configured, "logging is as configured again")

    def _apply(self, wanted: Logging, event: str, **fields: object) -> None:
        set_log_level(wanted.level)
        if self.is_tracing:
            self._ratios.set_sample_ratio(wanted.trace_sample_ratio)
        self._ratios.set_log_ratio(wanted.request_log_ratio)
        self._now = wanted
        # A warning: whoever reads the log must see it at any level but error.
        log_event(
            log,
            logging.WARNING,
            event,
            log_level=wanted.level,
            trace_sample_ratio=wanted.trace_sample_ratio if self.is_tracing else None,
            request_log_ratio=wanted.request_log_ratio,
            **fields,
        )
