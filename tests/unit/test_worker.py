"""Worker: what it holds has a limit that callers who leave do not widen."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable

import pytest

from assay.transport import worker
from assay.transport.worker import Worker

WAIT_S = 20.0


class Message:
    """Something whose end can be seen."""


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "HELD_ITEMS_MAX", 5)
    monkeypatch.setattr(worker, "HELD_BYTES_MAX", 100)


def working(message: Message, begun: list[Message], is_back: threading.Event) -> Callable[[], None]:
    def work() -> None:
        begun.append(message)
        assert is_back.wait(WAIT_S)

    return work


@pytest.mark.parametrize(("size_bytes", "held_max"), [(1, 5), (30, 3), (500, 1)])
def test_what_is_held_never_passes_the_limits_whoever_leaves(size_bytes: int, held_max: int) -> None:
    """By the messages that are alive, not by what it counts."""
    messages: weakref.WeakSet[Message] = weakref.WeakSet()
    begun: list[Message] = []
    is_back = threading.Event()

    async def press() -> None:
        one = Worker("test")
        first = None
        for _ in range(50):
            message = Message()
            messages.add(message)
            started = one.start(working(message, begun, is_back), size_bytes)
            del message
            if first is None:
                first = started
            elif started is not None:
                started.cancel()
            await asyncio.sleep(0)
            assert len(messages) <= held_max
        assert len(messages) == one.held_count == held_max
        is_back.set()
        assert first is not None
        await first
        await asyncio.to_thread(one.close)
        while one.held_count:
            await asyncio.sleep(0.001)
        assert len(begun) == 1  # nobody waited for the others

    asyncio.run(asyncio.wait_for(press(), WAIT_S))


def test_an_error_is_the_caller_s_and_gives_the_place_back() -> None:
    def fail() -> None:
        raise ValueError("of the work")

    async def press() -> None:
        one = Worker("test")
        for _ in range(10):
            started = one.start(fail, 100)
            assert started is not None
            with pytest.raises(ValueError, match="of the work"):
                await started
        assert one.held_count == 0
        await asyncio.to_thread(one.close)

    asyncio.run(press())
