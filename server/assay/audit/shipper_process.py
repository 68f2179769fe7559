"""The shipper of a server's log: `assay audit ship` in a process of its own, so that its work never waits for a score, nor a
score for it. Watched by one thread, which starts it again when it ends and tells the log how far the sink has come."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from assay.observe.logs import log_event

SINK_VARIABLE: Final = "ASSAY_AUDIT__SINK"  # not an argument: those can be seen by others
TICK_S: Final = 1.0
RESTART_S_MIN: Final = 1.0
RESTART_S_MAX: Final = 60.0
TELL_S: Final = 60.0  # between two lines about ticks that fail
LAST_RECORDS_S: Final = 12.0  # how long it may take to ship what is left when the server ends: it gives a sink that is away 10

log = logging.getLogger("assay.audit")


class ShipperProcess:
    """Runs from its making until close(). `on_tick` is called about once a second."""

    def __init__(
        self,
        spool: Path,
        sink: str,
        on_tick: Callable[[], None],
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`environment`: beside this process's own. `command`: for tests."""
        self._command = list(command or _ship_command(spool))
        self._environment = {**os.environ, **(environment or {}), SINK_VARIABLE: sink}
        self._on_tick = on_tick
        self._clock = clock
        self._tell_at_s = clock()
        self._is_closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self._thread = threading.Thread(target=self._run, name="assay-shipper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Lets it ship what is left, at most for LAST_RECORDS_S. After the log was closed. Idempotent."""
        self._is_closing.set()
        self._thread.join()
        if self._process is not None:
            _end(self._process)
            self._process = None

    # --- implementation ---

    def _run(self) -> None:
        pause_s = RESTART_S_MIN
        while not self._is_closing.is_set():
            self._process = self._start()
            ticks = self._watch(self._process)
            if self._is_closing.is_set():
                return
            code = self._process.wait() if self._process else None
            log_event(log, logging.WARNING, "the audit shipper has ended; it is started again", exit_code=code, pause_s=pause_s)
            self.restarts += 1
            pause_s = RESTART_S_MIN if ticks * TICK_S > RESTART_S_MAX else min(2 * pause_s, RESTART_S_MAX)
            self._is_closing.wait(pause_s)

    def _start(self) -> subprocess.Popen[bytes] | None:
        try:
            # It ends when its stdin closes: also where this process is killed. Its log lines stand among ours. In a session of
            # its own, so that Ctrl-C ends this process first.
            return subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError, MemoryError) as error:  # the last two: of what no process can be given, now or ever
            reason = getattr(error, "strerror", None) or type(error).__name__
            log_event(log, logging.ERROR, "the audit shipper cannot be started", reason=reason)
            return None

    def _watch(self, process: subprocess.Popen[bytes] | None) -> int:
        """Until it ends, or this is closed. Returns how many ticks that took."""
        ticks = 0
        while process is not None and process.poll() is None:
            if self._is_closing.wait(TICK_S):
                break
            ticks += 1
            self._tick()
        return ticks

    def _tick(self) -> None:
        try:
            self._on_tick()
        except Exception:  # of who is told: this thread goes on, for nobody else starts the shipper again
            if self._clock() >= self._tell_at_s:
                self._tell_at_s = self._clock() + TELL_S
                log.exception("how far the audit sink has come was not told")


# --- implementation ---


def _ship_command(spool: Path) -> list[str]:
    # -P: no module of the working directory, for whoever may write there would run as this server, with the sink's password.
    return [sys.executable, "-P", "-m", "assay", "audit", "ship", "--with-parent", "--spool", str(spool)]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(LAST_RECORDS_S)
    except subprocess.TimeoutExpired:
        log_event(log, logging.WARNING, "the audit shipper was stopped before everything was shipped; the next one goes on")
        process.terminate()
        try:
            process.wait(TICK_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
