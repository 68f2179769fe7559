"""Ends in order at the first SIGTERM or Ctrl-C."""

from __future__ import annotations

import _thread
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_signals(stop: Callable[[], object]) -> Iterator[None]:
    """The first SIGTERM or Ctrl-C calls `stop`, in a thread of its own; the second does what it did before. Main thread only."""
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(*_: object) -> None:
        restore()
        # Not here: a handler runs in the midst of whatever the main thread does, and would wait for ever for a lock that it
        # holds, as that of the threading.Event that it waits for.
        _thread.start_new_thread(stop, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
