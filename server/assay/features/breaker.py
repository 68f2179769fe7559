"""A circuit breaker: while a service is down nobody waits for it, and one call now and then finds out whether it is back.

CLOSED --failures_max in a row--> OPEN --after open_s--> PROBING --success--> CLOSED
                                    ^------failure----------'
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable


class BreakerState(enum.Enum):
    CLOSED = "closed"  # calls go through
    OPEN = "open"  # calls are spared
    PROBING = "probing"  # one call is on its way to find out


class Breaker:
    """Thread-safe. `clock`: monotonic seconds."""

    def __init__(self, *, failures_max: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._failures = 0  # in a row
        self._opened_s = 0.0

    @property
    def state(self) -> BreakerState:
        return self._state

    def allows(self) -> bool:
        """Whether to make a call. Who is told yes must say succeeded() or failed()."""
        with self._lock:
            if self._state is BreakerState.OPEN and self._clock() - self._opened_s >= self._open_s:
                self._state = BreakerState.PROBING
                return True
            return self._state is BreakerState.CLOSED

    def succeeded(self) -> bool:
        """Returns whether this closed the breaker."""
        with self._lock:
            was_closed = self._state is BreakerState.CLOSED
            self._state = BreakerState.CLOSED
            self._failures = 0
            return not was_closed

    def failed(self) -> bool:
        """Returns whether this opened a closed breaker."""
        with self._lock:
            self._failures += 1
            was_closed = self._state is BreakerState.CLOSED
            if was_closed and self._failures < self._failures_max:
                return False
            self._state = BreakerState.OPEN
            self._opened_s = self._clock()
            return was_closed
