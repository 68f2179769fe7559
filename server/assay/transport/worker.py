"""A thread for calls that may take long, and a limit on what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

HELD_ITEMS_MAX = 64
HELD_BYTES_MAX = 64 << 20  # the messages of those

Result = TypeVar("Result")


class Worker:
    """One thread, off the event loop, that does one thing after the other. Used on one event loop.

    Callers leave when they please, but what they asked for stays in the thread's queue, with its message. So an item has its
    place until the thread has come to it, whoever waits: what is held never passes the limits. One that nobody waits for is not
    begun.
    """

    def __init__(self, name: str, begin: Callable[[], None] | None = None) -> None:
        """`begin`: what the thread does first."""
        self.held_count = 0  # under way or waiting
        self._held_bytes = 0
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name, initializer=begin)

    def start(self, work: Callable[[], Result], size_bytes: int) -> asyncio.Future[Result] | None:
        """What `work` will have returned or raised; who does not wait any more cancels it. None: there is no room. One item
        always has it, however large: limits.receive_message_bytes_max is there for that."""
        is_wanted = True

        def begin() -> Result:
            if not is_wanted:
                raise _UnwantedError
            return work()

        def note_done(done: asyncio.Future[Result]) -> None:
            done.exception()  # it is heard: asyncio would log one that is not
            self.held_count -= 1
            self._held_bytes -= size_bytes

        def note_end(answer: asyncio.Future[Result]) -> None:
            nonlocal is_wanted
            is_wanted = not answer.cancelled()

        if self.held_count and (self.held_count >= HELD_ITEMS_MAX or self._held_bytes + size_bytes > HELD_BYTES_MAX):
            return None
        done = asyncio.get_running_loop().run_in_executor(self._executor, begin)
        self.held_count += 1
        self._held_bytes += size_bytes
        done.add_done_callback(note_done)
        answer = asyncio.shield(done)  # cancelled itself, `done` would end before its item does
        answer.add_done_callback(note_end)
        return answer

    def close(self) -> None:
        """Waits for what is under way, if there is anything: not on the event loop."""
        self._executor.shutdown()

    def leave(self) -> None:
        """Begins nothing new, and waits for nothing."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class _UnwantedError(Exception):
    """Nobody hears it."""
