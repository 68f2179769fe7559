"""Calls in the core's hands, and their way back to the event loop that waits for them.

One Replies per event loop. The core writes an eventfd once a batch; `_drain` then hands every finished answer to whoever waits.
The deadline is ours to keep: at a call's deadline the client is answered, even while the run that holds the call hangs.

Cost counts here (every call passes): a token is an integer, the registry is a dict, and deadlines wait in one heap with one
timer armed for the earliest, which in steady state fires about once a timeout, not once a call.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

from assay._core import Accepted, Engine, Refusal

# What the core gives back: the encoded response, or why there is none.
Answer = bytes | Refusal

_NEVER_NS = 1 << 62
_GRPC_TICK_NS = 1_000_000  # gRPC reckons deadlines in milliseconds, so it may end a call a little before ours
_HEAP_ENTRIES_MIN = 4096
REMAINING_S_MAX = 86_400.0  # clients may send 10^8 hours; nanoseconds in 64 bits may not hold that


class Reply(Protocol):
    """Who waits for an answer. asyncio.Future is one."""

    def done(self) -> bool: ...
    def set_result(self, answer: Answer, /) -> None: ...


class Replies:
    """Not thread-safe: everything happens on the loop's thread."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.queue = engine.open_queue()
        self.next_token = itertools.count(1).__next__
        self._engine = engine
        self._loop = loop
        self._waiting: dict[int, Reply] = {}
        self._deadlines: list[tuple[int, int, int]] = []  # a heap of (deadline_ns, token, call); entries outlive their calls
        self._deadlines_max = _HEAP_ENTRIES_MIN
        self._armed_ns = _NEVER_NS
        self._timer: asyncio.TimerHandle | None = None
        self._expired = engine.refuse("DEADLINE_EXCEEDED")
        loop.add_reader(self.queue.fd, self._drain)

    def expect(self, token: int, accepted: Accepted, rpc_deadline_ns: int, reply: Reply) -> None:
        """`reply` waits for the call. gRPC itself ends a call at its own deadline (rpc_deadline_ns; 0: none): a timer is kept
        only where ours comes first."""
        self._waiting[token] = reply
        deadline_ns = accepted.deadline_ns
        if rpc_deadline_ns == 0 or deadline_ns < rpc_deadline_ns:
            heapq.heappush(self._deadlines, (deadline_ns, token, accepted.call))
            if deadline_ns < self._armed_ns:
                self._arm(deadline_ns)
            if len(self._deadlines) > self._deadlines_max:
                self._compact()

    def forget(self, token: int, accepted: Accepted) -> None:
        """Nobody waits any more: the client left, or gRPC has ended the call at its deadline."""
        if self._waiting.pop(token, None) is None:
            return
        if time.monotonic_ns() >= accepted.deadline_ns - _GRPC_TICK_NS:
            self._engine.expire(accepted.call)
        else:
            self._engine.cancel(accepted.call)

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        """Stops listening. Calls still waiting are never answered: end them first."""
        self._loop.remove_reader(self.queue.fd)
        if self._timer is not None:
            self._timer.cancel()

    # --- implementation ---

    def _drain(self) -> None:
        pop = self._waiting.pop
        for token, answer in self.queue.drain():
            reply = pop(token, None)
            # None: it was answered at its deadline, or its client left. done(): the client is leaving right now.
            if reply is not None and not reply.done():
                reply.set_result(answer)

    def _arm(self, deadline_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ns = deadline_ns
        self._timer = self._loop.call_later(max(0.0, (deadline_ns - time.monotonic_ns()) * 1e-9), self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._armed_ns = _NEVER_NS
        now_ns = time.monotonic_ns()
        deadlines = self._deadlines
        while deadlines:
            deadline_ns, token, call = deadlines[0]
            reply = self._waiting.get(token)
            if reply is not None and deadline_ns > now_ns:
                self._arm(deadline_ns)
                return
            heapq.heappop(deadlines)
            if reply is not None:
                del self._waiting[token]
                self._engine.expire(call)
                if not reply.done():
                    reply.set_result(self._expired)

    def _compact(self) -> None:
        """Drops the deadlines of finished calls, so that the heap is bounded by the calls that wait."""
        self._deadlines = [entry for entry in self._deadlines if entry[1] in self._waiting]
        heapq.heapify(self._deadlines)
        self._deadlines_max = max(_HEAP_ENTRIES_MIN, 4 * len(self._deadlines))


def rpc_deadline_ns(remaining_s: float | None) -> int:
    """Monotonic deadline of a call from gRPC's time_remaining(); 0: the client set none."""
    if remaining_s is None:
        return 0
    return time.monotonic_ns() + int(min(remaining_s, REMAINING_S_MAX) * 1e9)
