"""A circuit breaker: while a service is down, or too slow to be of use, nobody waits for it, and one call now and then finds
out whether it is well again.

CLOSED --failures_max in a row, or bad_share_max of the last window_calls failed or slow--> OPEN --after about open_s--> PROBING
   ^                                                                                          ^------failed or slow--------'|
   '-----------------------------------------------------------------------------------------------------succeeded----------'
"""

from __future__ import annotations

import enum
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


class BreakerState(enum.Enum):
    CLOSED = "closed"  # calls go through
    OPEN = "open"  # calls are spared
    PROBING = "probing"  # one call is on its way to find out


@dataclass(frozen=True)
class BreakerLimits:
    failures_max: int = 3  # in a row
    window_calls: int = 20  # that bad_share_max is of
    bad_share_max: float = 0.5
    open_s: float = 1.0
    jitter_share: float = 0.25  # of open_s, either way: many clients do not knock at once


class Breaker:
    """Thread-safe. `clock`: monotonic seconds; `share`: a random number in [0, 1)."""

    def __init__(
        self,
        limits: BreakerLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._share = share
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._failures = 0  # in a row
        self._were_bad: deque[bool] = deque(maxlen=limits.window_calls)
        self._open_until_s = 0.0

    @property
    def state(self) -> BreakerState:
        return self._state

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last call failed, or the next one is to find out."""
        return self._failures > 0 or self._state is not BreakerState.CLOSED

    def allows(self) -> bool:
        """Whether to make a call. Who is told yes must say succeeded() or failed()."""
        with self._lock:
            if self._state is BreakerState.OPEN and self._clock() >= self._open_until_s:
                self._state = BreakerState.PROBING
                return True
            return self._state is BreakerState.CLOSED

    def succeeded(self, *, is_slow: bool = False) -> bool:
        """Returns whether this opened or closed the breaker. A slow success is no failure, but many of them are no service."""
        with self._lock:
            self._failures = 0
            if self._state is not BreakerState.CLOSED:
                return self._open() if is_slow else self._close()
            return self._note(is_bad=is_slow)

    def failed(self) -> bool:
        """Returns whether this opened a closed breaker."""
        with self._lock:
            if self._state is not BreakerState.CLOSED:
                return self._open()
            self._failures += 1
            is_opened = self._note(is_bad=True)
            return is_opened or (self._failures >= self._limits.failures_max and self._open())

    # --- implementation; the lock is held ---

    def _note(self, *, is_bad: bool) -> bool:
        self._were_bad.append(is_bad)
        is_full = len(self._were_bad) == self._limits.window_calls
        return is_full and sum(self._were_bad) >= self._limits.bad_share_max * self._limits.window_calls and self._open()

    def _open(self) -> bool:
        was_closed = self._state is BreakerState.CLOSED
        self._state = BreakerState.OPEN
        jitter = self._limits.jitter_share * (2 * self._share() - 1)
        self._open_until_s = self._clock() + self._limits.open_s * (1 + jitter)
        return was_closed

    def _close(self) -> bool:
        self._state = BreakerState.CLOSED
        self._were_bad.clear()
        return True
