"""SIGTERM ends a command in order, whatever it was doing."""

from __future__ import annotations

import subprocess
import sys

# The signal comes while the main thread holds the lock of the event that it waits for: as it does, for moments, within wait().
SCRIPT = """
import os, signal, threading
from assay.cli.stop_signals import stop_signals

stop = threading.Event()
with stop_signals(stop.set):
    with stop._cond:
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.wait(20)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
print("ended in order")
"""


def test_a_signal_within_a_wait_is_no_deadlock() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "ended in order\n"
