"""Deadlines and answers of one event loop, on a clock that stands still until told."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from assay._core import Accepted, Refusal
from assay.transport import replies as module
from assay.transport.replies import Replies, rpc_deadline_ns

SEED = int(os.environ.get("ASSAY_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
MS = 1_000_000


class Queue:
    """A completion queue whose finished calls the test puts in."""

    fd = 99

    def __init__(self) -> None:
        self.finished: list[tuple[int, bytes | Refusal]] = []

    def drain(self) -> list[tuple[int, bytes | Refusal]]:
        taken, self.finished = self.finished, []
        return taken


class Core:
    def __init__(self) -> None:
        self.queue = Queue()
        self.cancelled: list[int] = []
        self.expired: list[int] = []

    def open_queue(self) -> Queue:
        return self.queue

    def cancel(self, call: int) -> bool:
        self.cancelled.append(call)
        return True

    def expire(self, call: int) -> bool:
        self.expired.append(call)
        return True

    def refuse(self, reason: str, detail: str = "") -> Refusal:
        return Refusal(1, 4, reason + detail, b"")


class Timer:
    def __init__(self, due_ns: int, callback: Callable[[], None]) -> None:
        self.due_ns, self.callback, self.is_cancelled = due_ns, callback, False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """Time and timers of the test; add_reader keeps the callback."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * MS
        self.timers: list[Timer] = []
        self.readable: Callable[[], None] = lambda: None

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self.readable = callback

    def remove_reader(self, fd: int) -> None:
        self.readable = lambda: None

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now_ns + round(delay_s * 1e9), callback))
        return self.timers[-1]

    def armed(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.is_cancelled]

    def advance_to(self, time_ns: int) -> None:
        while True:
            due = [timer for timer in self.armed() if timer.due_ns <= time_ns]
            if not due:
                break
            first = min(due, key=lambda timer: timer.due_ns)
            self.timers.remove(first)
            self.now_ns = max(self.now_ns, first.due_ns)
            first.callback()
        self.now_ns = time_ns


class House:
    """Replies over the fakes."""

    def __init__(self) -> None:
        self.core, self.loop = Core(), Loop()
        self.replies = Replies(self.core, self.loop)  # type: ignore[arg-type]
        self.futures = asyncio.new_event_loop()

    def expect(self, deadline_ns: int, rpc_ns: int = 0) -> tuple[int, asyncio.Future[Any]]:
        token, reply = self.replies.next_token(), self.futures.create_future()
        self.replies.expect(token, Accepted(token + 1000, deadline_ns), rpc_ns, reply)
        return token, reply

    def finish(self, *tokens: int) -> None:
        self.core.queue.finished += [(token, b"%d" % token) for token in tokens]
        self.loop.readable()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    house = House()
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: house.loop.now_ns)
    yield house
    house.futures.close()


def test_every_answer_reaches_its_own_waiter(house: House) -> None:
    waiting = dict(house.expect(5_000 * MS) for _ in range(5))
    house.finish(*reversed(waiting))
    assert {token: reply.result() for token, reply in waiting.items()} == {token: b"%d" % token for token in waiting}
    assert house.replies.waiting_count == 0
    assert house.core.cancelled == []


def test_at_its_deadline_a_call_is_answered_and_expired_in_the_core(house: House) -> None:
    token, reply = house.expect(1_500 * MS)
    house.loop.advance_to(1_499 * MS)
    assert not reply.done()
    house.loop.advance_to(1_500 * MS)
    assert reply.result().message == "DEADLINE_EXCEEDED"
    assert (house.core.expired, house.core.cancelled) == ([token + 1000], [])
    house.finish(token)  # the core's own answer comes later, and reaches nobody
    assert house.loop.armed() == []


def test_an_answer_at_the_last_moment_wins(house: House) -> None:
    token, reply = house.expect(1_500 * MS)
    house.finish(token)
    house.loop.advance_to(2_000 * MS)
    assert reply.result() == b"%d" % token
    assert house.core.cancelled == []


def test_a_later_call_with_an_earlier_deadline_overtakes(house: House) -> None:
    _, late = house.expect(3_000 * MS)
    _, early = house.expect(1_100 * MS)
    house.loop.advance_to(1_100 * MS)
    assert early.done()
    assert not late.done()
    house.loop.advance_to(3_000 * MS)
    assert late.done()


def test_grpc_keeps_its_own_deadline_and_we_arm_no_timer_for_it(house: House) -> None:
    house.expect(1_500 * MS, rpc_ns=1_500 * MS)
    assert house.loop.armed() == []
    house.expect(1_400 * MS, rpc_ns=1_500 * MS)
    assert len(house.loop.armed()) == 1


def test_who_leaves_is_forgotten_once(house: House) -> None:
    token, reply = house.expect(1_500 * MS)
    reply.cancel()
    house.loop.advance_to(1_498 * MS)
    house.replies.forget(token, Accepted(token + 1000, 1_500 * MS))
    house.replies.forget(token, Accepted(token + 1000, 1_500 * MS))
    assert (house.core.expired, house.core.cancelled) == ([], [token + 1000])
    house.finish(token)
    house.loop.advance_to(2_000 * MS)


def test_a_call_that_grpc_ends_at_its_deadline_has_expired(house: House) -> None:
    """No timer of ours is armed for it; gRPC counts in milliseconds and may be one early."""
    for end_ns in (1_499 * MS, 1_501 * MS):
        token, reply = house.expect(1_500 * MS, rpc_ns=1_500 * MS)
        reply.cancel()
        house.loop.advance_to(end_ns)
        house.replies.forget(token, Accepted(token + 1000, 1_500 * MS))
        assert house.core.expired[-1:] == [token + 1000]
    assert house.core.cancelled == []


def test_an_answer_for_one_who_is_just_leaving_is_dropped(house: House) -> None:
    """asyncio cancels the future first and runs the handler's clean-up later; an answer may come in between."""
    token, reply = house.expect(1_500 * MS)
    reply.cancel()
    house.finish(token)
    assert reply.cancelled()


def test_many_calls_cost_few_timers_and_bounded_memory(house: House) -> None:
    """200,000 calls of a steady load, each answered within 5 ms, with a timeout of 60 s: the heap must not keep them all."""
    timers = 0
    for i in range(200_000):
        token, _ = house.expect(house.loop.now_ns + 60_000 * MS)
        house.finish(token)
        if i % 100 == 99:
            before = len(house.loop.timers)
            house.loop.advance_to(house.loop.now_ns + 5 * MS)
            timers += before - len(house.loop.timers)
    assert len(house.replies._deadlines) <= 5 * module._HEAP_ENTRIES_MIN
    assert timers < 1000
    assert len(house.loop.timers) <= 1


def test_random_loads_answer_each_call_exactly_once(house: House) -> None:
    print(f"ASSAY_TEST_SEED={SEED}")
    stream = random.Random(SEED)
    waiting: dict[int, tuple[int, asyncio.Future[Any]]] = {}
    for _ in range(3000):
        kind = stream.random()
        if kind < 0.5:
            deadline_ns = house.loop.now_ns + stream.randrange(1, 50) * MS
            token, reply = house.expect(deadline_ns)
            waiting[token] = (deadline_ns, reply)
        elif kind < 0.7 and waiting:
            token = stream.choice(list(waiting))
            _, reply = waiting.pop(token)
            house.finish(token)
            assert reply.result() == b"%d" % token
        elif kind < 0.8 and waiting:
            token = stream.choice(list(waiting))
            house.replies.forget(token, Accepted(token + 1000, waiting.pop(token)[0]))
        else:
            house.loop.advance_to(house.loop.now_ns + stream.randrange(1, 10) * MS)
            for token in [token for token, (deadline_ns, _) in waiting.items() if deadline_ns <= house.loop.now_ns]:
                assert isinstance(waiting.pop(token)[1].result(), Refusal)
        assert house.replies.waiting_count == len(waiting)
        assert all(not reply.done() for _, reply in waiting.values())


def test_deadlines_from_grpc(house: House) -> None:
    assert rpc_deadline_ns(None) == 0
    assert rpc_deadline_ns(0.25) == house.loop.now_ns + 250 * MS
    assert rpc_deadline_ns(0.0) == house.loop.now_ns
    assert rpc_deadline_ns(99_999_999 * 3600.0) < 1 << 62  # the longest that a client can ask for
