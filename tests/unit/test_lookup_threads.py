"""What becomes of look-ups that the core gives back, and what breakers hear of those that it settles by itself."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from assay._core import Hops
from assay.features.breaker import BreakerLimits
from assay.features.line import Line
from assay.features.redis_servers import OneServer
from assay.features.redis_store import RedisStore
from assay.scoring.lookups import LookupThreads


class Batch:
    keys = (b"k",)

    def __init__(self) -> None:
        self.said: list[object] = []

    def give(self, records: Sequence[object]) -> None:
        self.said.append(records)

    def fail(self) -> None:
        self.said.append("failed")


class House:
    """An engine whose hops end as `ends` says, None: take_lookups() gives a batch; and a store that has a line while it can."""

    def __init__(self, *ends: object) -> None:
        self.ends = list(ends)
        self.batches: list[Batch] = []
        self.ended: list[Hops] = []
        self.fetch_count = 0
        self.has_line = True
        engine: Any = self
        store: Any = self
        threads = LookupThreads(engine, store, 1)
        threads.start()
        threads.join(20)

    # --- the engine

    def run_hops(self, connection: socket.socket, rows_max: int, timeout_s: float, slow_s: float) -> Hops:
        end: Any = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return Hops(end, 3, self._batch() if end in ("timeout", "odd") else None)

    def take_lookups(self, rows_max: int) -> Batch | None:
        if not self.ends:
            return None
        assert self.ends.pop(0) == "taken"
        return self._batch()

    def _batch(self) -> Any:
        self.batches.append(Batch())
        return self.batches[-1]

    # --- the store

    def open_line(self) -> Line | None:
        if not self.ends or self.ends[0] == "taken":
            return None
        return Line(socket.socket(), 1.0, 0.5, self.ended.append)

    def fetch(self, keys: Sequence[bytes]) -> list[bytes]:
        self.fetch_count += 1
        return [b"record"]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (["stopped"], []),
        (["slow", "slow", "stopped"], []),
        (["timeout", "stopped"], ["failed"]),
        (["odd", "stopped"], [[b"record"]]),
        (["taken", "odd", "taken", "stopped"], [[b"record"]] * 3),
        ([MemoryError(), "taken", "stopped"], [[b"record"]]),  # not tried again at once: it would be for ever
        (["taken"], [[b"record"]]),
    ],
)
def test_what_the_core_gives_back_is_settled(ends: list[object], said: list[object]) -> None:
    house = House(*ends)
    assert [one for batch in house.batches for one in batch.said] == said
    assert house.fetch_count == sum(one != "failed" for one in said)
    assert len(house.ended) == sum(one != "taken" for one in ends)
    assert house.ends == []


def store(limits: BreakerLimits) -> RedisStore:
    def server() -> OneServer:
        return OneServer("odd", redis.Redis(port=1))

    return RedisStore(server(), server(), "redis://odd", 1 << 20, 5.0, limits)


def hops(end: Any, count: int) -> Hops:
    return Hops(end, count, None)


def test_a_breaker_hears_of_hops_as_of_fetches() -> None:
    limits = BreakerLimits(failures_max=3, window_calls=10, bad_share_max=0.5)
    remote = store(limits)
    note = remote._breakers.note_hops
    for _ in range(30):
        note("odd", hops("slow", 100))  # one in a hundred
    assert not remote.is_away
    for _ in range(4):
        note("odd", hops("slow", 2))  # every other one
    assert remote.is_away
    note("odd", hops("stopped", 1))  # another thread's, on its line meanwhile
    assert not remote.is_away
    remote = store(limits)
    for _ in range(2):
        remote._breakers.note_hops("odd", hops("timeout", 0))
    assert not remote.is_away
    assert remote.open_line() is None  # its last answer did not come
    remote._breakers.note_hops("odd", hops("timeout", 0))
    assert remote.is_away
    remote = store(limits)
    for _ in range(9):
        remote._breakers.note_hops("odd", hops("timeout", 1))  # never three in a row, and half of them well
    assert not remote.is_away
    for end in ("odd", "stopped"):
        remote._breakers.note_hops("odd", hops(end, 0))
    assert not remote.is_away
