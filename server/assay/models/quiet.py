"""Proving a model beside those that serve, without their noticing: a thread that became quiet takes what the others leave.

It has the lowest priority, and rests after each run of a model; its child processes are idle by the kernel's book at first. The
thread itself is not: it holds Python's lock now and then, and who holds a lock and gets no processor holds up all who want it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NICE: Final = 19
REST: Final = 9  # seconds for each second of work: a tenth of a processor
REST_S_MAX: Final = 0.05  # after one run: a large model has long runs anyway, and must be loaded some day

log = logging.getLogger("assay.rollout")
_this = threading.local()


def become_quiet() -> None:
    """The calling thread, for good; threads that it starts inherit the priority alone."""
    _this.is_quiet = True
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    except OSError:
        log.warning("the thread that proves bundles keeps its priority: the system refused to lower it")


def is_quiet() -> bool:
    """Whether the calling thread is."""
    return getattr(_this, "is_quiet", False)


@contextmanager
def rest_after() -> Iterator[None]:
    """Around one run of a model: a quiet thread rests after it."""
    began_s = time.monotonic()
    yield
    if is_quiet():
        time.sleep(min(REST * (time.monotonic() - began_s), REST_S_MAX))


def make_idle(pid: int) -> None:
    """Gives a child process only what nobody else wants; on a busy machine that is nothing. There is no way back for it."""
    try:
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        return  # it has ended, or inherits the thread's priority at least
