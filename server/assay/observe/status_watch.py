"""The thread that looks at the server every few seconds, writes the status line, and gives up changes of the log in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from assay.observe.log_control import LogControl
from assay.observe.status import LOOK_INTERVAL_S, StatusBoard, log_status

log = logging.getLogger("assay")


class StatusWatch:
    """`interval_s`: between two lines; 0: none but those that are asked for. start(), then close()."""

    def __init__(
        self, board: StatusBoard, control: LogControl, interval_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._board, self._control, self._clock = board, control, clock
        self._interval_s = interval_s or float("inf")
        self._line_at = clock() + self._interval_s
        self._look_at = clock() + LOOK_INTERVAL_S
        self._woken = threading.Event()
        self._is_closing = False
        self._is_asked = False
        self._thread = threading.Thread(target=self._run, name="assay-status", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """For a line now. Never waits; from a signal handler's callback too."""
        self._is_asked = True
        self._woken.set()

    def wake(self) -> None:
        """What is due may have changed."""
        self._woken.set()

    def close(self) -> None:
        self._is_closing = True
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join()

    def step(self) -> float:
        """Does what is due. Returns the seconds until something is again."""
        now_s = self._clock()
        if now_s >= self._look_at:
            self._look_at = now_s + LOOK_INTERVAL_S
            self._board.keep_look()
        self._control.revert_if_due()
        if self._is_asked or now_s >= self._line_at:
            if not self._is_asked:
                self._line_at = now_s + self._interval_s
            self._is_asked = False
            log_status(self._board.status())
        return max(0.0, min(self._look_at - now_s, self._line_at - now_s, self._control.revert_in_s))

    # --- implementation ---

    def _run(self) -> None:
        while not self._is_closing:
            try:
                wait_s = self.step()
            except Exception:  # of a part that was asked: the next look may succeed
                log.exception("the server's status was not looked at")
                wait_s = LOOK_INTERVAL_S
            self._woken.wait(wait_s)
            self._woken.clear()
