"""A question to several servers, answer by answer: who is to blame, what is given back to the pool. No server runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.exceptions import ClusterError, MovedError, TryAgainError

from assay import _core
from assay.features import redis_commands, redis_reading
from assay.features.breaker import BreakerLimits
from assay.features.redis_reading import ask
from assay.features.redis_servers import Part
from assay.features.redis_store import RedisStore
from assay.store_url import Address

UNAVAILABLE = next(row.number for row in _core.CODE_TABLE if row.reason == "STORE_UNAVAILABLE")


class Clock:
    """Stands for the module `time`, which nobody waits for."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(redis_reading, "time", clock)
    monkeypatch.setattr(redis_commands, "time", clock)
    monkeypatch.setattr(redis_commands, "_core", SimpleNamespace(exchange=exchange))
    return clock


class Server:
    """Client, pool, connection and socket in one: `answers` are read one after the other; an exception that is none of Redis's
    answers is raised. With a clock, a connection takes `connect_s` and every answer `answer_s`."""

    def __init__(self, *answers: Any, clock: Clock | None = None, connect_s: float = 0.0, answer_s: float = 0.0) -> None:
        self.answers = list(answers)
        self.clock = clock or Clock()
        self.connect_s = connect_s
        self.answer_s = answer_s
        self.connection_pool = self._sock = self
        self.taken = 0
        self.disconnected = 0

    def get_connection(self) -> Server:
        self.taken += 1
        self.clock.now_s += self.connect_s
        return self

    def release(self, connection: Server) -> None:
        self.taken -= 1

    def answer(self, deadline_s: float) -> bytes:
        self.clock.now_s = min(deadline_s, self.clock.now_s + self.answer_s)
        if self.answer_s and self.clock.now_s >= deadline_s:
            raise TimeoutError
        answer = self.answers.pop(0)
        if isinstance(answer, redis.ResponseError):
            return f"-{answer.status_code} {answer}\r\n".encode()
        if isinstance(answer, Exception):
            raise answer
        return b"_\r\n" if answer is None else b"$%d\r\n%s\r\n" % (len(answer), answer)

    def disconnect(self) -> None:
        self.disconnected += 1

    def close(self) -> None: ...


def exchange(server: Server, commands: bytes | None, answer_count: int, values_max: int, deadline_s: float) -> bytes:
    """Stands for the core's."""
    return b"".join(server.answer(deadline_s) for _ in range(answer_count))


class Servers:
    """A cluster whose keys all lie at "first"; another node, if it has one, is whom redirections point to."""

    is_cluster = True

    def __init__(self, first: Server, other: Server | None = None) -> None:
        self.first = first
        self.other = other
        self.forgotten = 0

    @property
    def names(self) -> Collection[str]:
        return ("first",)

    def split(self, keys: Sequence[bytes]) -> list[Part]:
        client: Any = self.first
        return [Part("first", client, list(keys), list(range(len(keys))))]

    def at(self, address: Address) -> Any:
        if self.other is None:
            raise ClusterError("more nodes than there may be")
        return self.other

    def forget_slots(self) -> None:
        self.forgotten += 1

    def ping(self) -> None: ...
    def close(self) -> None: ...


def store_of(servers: Servers) -> RedisStore:
    return RedisStore(servers, servers, "redis+cluster://x", 1 << 20, 1.0, BreakerLimits(failures_max=3, open_s=0.0))


def moved(port: int = 1) -> MovedError:
    return MovedError(f"7 other:{port}", status_code="MOVED")


def test_a_redirection_is_followed_and_the_others_stand() -> None:
    servers = Servers(Server(b"a", moved(), None), Server(b"b"))
    (answer,) = ask(servers, servers.split([b"1", b"2", b"3"]), 1.0)
    assert answer.records == [b"a", b"b", None]
    assert servers.forgotten == 1
    assert (servers.first.taken, servers.first.disconnected) == (0, 0)


@pytest.mark.parametrize(
    "redirection", [moved, lambda: TryAgainError("later", status_code="TRYAGAIN")], ids=["moved", "try-again"]
)
def test_who_points_elsewhere_is_not_away(redirection: Any) -> None:
    """A node that moves slots is well, though the one that it points to cannot be had."""
    servers = Servers(Server())
    store = store_of(servers)
    for _ in range(10):
        servers.first.answers = [b"a", redirection()]
        assert store.fetch([b"1", b"2"]) == [b"a", UNAVAILABLE]
    assert not store.is_away
    assert servers.first.taken == 0


def test_a_probe_that_is_redirected_nowhere_ends() -> None:
    """Else the breaker would wait for its end for ever."""
    servers = Servers(Server())
    store = store_of(servers)
    for _ in range(3):
        servers.first.answers = [ConnectionError("down")]
        assert store.fetch([b"1"]) is None
    assert store.is_away
    servers.first.answers = [moved()]
    assert store.fetch([b"1"]) == [UNAVAILABLE]
    servers.first.answers = [b"a"]
    assert store.fetch([b"1"]) == [b"a"]
    assert not store.is_away
    assert (servers.first.taken, servers.first.disconnected) == (0, 3)


def test_a_node_that_answers_drop_by_drop_has_no_more_time_than_another(clock: Clock) -> None:
    """It had all of the time for each record."""
    servers = Servers(Server(*[b"a"] * 100, clock=clock, answer_s=0.3))
    (answer,) = ask(servers, servers.split([b"%d" % number for number in range(100)]), 1.0)
    assert isinstance(answer.error, redis.TimeoutError)
    assert clock.now_s == pytest.approx(101.0)
    assert (servers.first.taken, servers.first.disconnected) == (0, 1)


def test_who_takes_long_to_connect_is_asked_all_the_same(clock: Clock) -> None:
    """Else it would be connected to again and again, and never read. Connecting has a limit of its own."""
    servers = Servers(Server(b"a", clock=clock, connect_s=2.0, answer_s=0.5))
    (answer,) = ask(servers, servers.split([b"1"]), 1.0)
    assert (answer.error, answer.records) == (None, [b"a"])
    assert (servers.first.taken, servers.first.disconnected) == (0, 0)


def test_redirections_to_many_nodes_end_with_the_time(clock: Clock) -> None:
    """Each of them is connected to, which takes time of its own."""
    redirections = [moved(port) for port in range(1, 101)]
    servers = Servers(Server(*redirections, clock=clock), Server(*[b"b"] * 100, clock=clock, connect_s=0.3))
    (answer,) = ask(servers, servers.split([b"%d" % number for number in range(100)]), 1.0)
    assert clock.now_s <= 101.0 + 0.3
    assert answer.records[:3] == [b"b"] * 3
    assert all(isinstance(record, MovedError) for record in answer.records[4:])  # nobody was asked: they are unavailable
    assert servers.other is not None
    assert servers.other.taken == 0
