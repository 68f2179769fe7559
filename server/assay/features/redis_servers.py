"""The Redis servers behind one URL, and which of them holds a record.

One server (by host, by Unix socket, or whichever the Sentinels name) holds all of them. In a cluster a record's slot says which:
the map of slots is read from any node that answers, and read again when a node says that a slot has moved.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterError, TryAgainError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

from assay.store_url import Address, StoreKind, StoreUrl

NODES_MAX: Final = 1024
NO_SERVER: Final = "no server"  # has the slots that no node has
REFRESH_NODES_MAX: Final = 16  # that are asked for the map before it is given up
REFRESH_S: Final = 0.25
TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")  # others are ours to set, or make it unsafe
SENTINEL_OPTIONS: Final = {"sentinel_username": "username", "sentinel_password": "password"}

REDIRECTIONS: Final = (AskError, TryAgainError)  # MovedError is an AskError: the record is elsewhere, or on its way there

Connect = Callable[[Address], redis.Redis]


@dataclass(frozen=True)
class Part:
    """What one server is asked of a question: its keys, and where in the question they stood."""

    server: str  # HOST:PORT, or what stands for it
    client: redis.Redis | None  # None: the slots of these keys have no server now
    keys: list[bytes]
    places: list[int]


class RedisServers(Protocol):
    """Thread-safe."""

    is_cluster: bool

    @property
    def names(self) -> Collection[str]:
        """Of the servers that split() may give."""

    @property
    def only(self) -> Part | None:
        """The one server that holds everything, if there is one; no keys."""

    def split(self, keys: Sequence[bytes]) -> list[Part]:
        """The keys by server. Raises redis.RedisError or OSError where nobody says who holds them."""

    def at(self, address: Address) -> redis.Redis:
        """The server that another one pointed to."""

    def forget_slots(self) -> None:
        """The map is out of date: it is read again before the next split()."""

    def ping(self) -> None:
        """Raises redis.RedisError or OSError unless every server answers."""

    def close(self) -> None: ...


def address_of(redirection: AskError, asked: Part) -> Address:
    """Where a node points to; without a name, to another port of its own host."""
    return redirection.host or asked.server.rpartition(":")[0], int(redirection.port)


def name_of(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def options_problem(url: StoreUrl) -> str | None:
    """What is wrong with the options of a URL, without their values: what redis-py would find out late, or take though it should
    not. None: nothing."""
    known = {*(TLS_OPTIONS if url.is_tls else ()), *(SENTINEL_OPTIONS if url.kind is StoreKind.SENTINEL else ())}
    for name, value in url.options.items():
        if name not in known or not value:
            return (
                f"an option is not supported or empty; rediss:// takes {', '.join(TLS_OPTIONS)}, and redis+sentinel:// "
                f"{', '.join(SENTINEL_OPTIONS)}"
            )
        if name in TLS_OPTIONS and not Path(value).exists():
            return f"{name}: there is no such file"
    return None


def servers_of(url: StoreUrl, timeout_s: float, connect_timeout_s: float) -> RedisServers:
    """Connects lazily. Raises ValueError, TypeError or redis.RedisError for options that do not go together."""
    options = _client_options(url, timeout_s, connect_timeout_s)
    if url.kind is StoreKind.CLUSTER:
        return Cluster(url.addresses, lambda address: redis.Redis(host=address[0], port=address[1], **options))
    if url.kind is StoreKind.SENTINEL:
        sentinel_options = {ours: url.options[name] for name, ours in SENTINEL_OPTIONS.items() if name in url.options}
        tls = {name: value for name, value in options.items() if name.startswith("ssl")}
        times = {"socket_timeout": connect_timeout_s, "socket_connect_timeout": connect_timeout_s}
        sentinel_kwargs = {**sentinel_options, **tls, **times, **_PLAIN}
        sentinel = Sentinel(list(url.addresses), sentinel_kwargs=sentinel_kwargs, **options)  # type: ignore[no-untyped-call]
        return OneServer(url.place.service, sentinel.master_for(url.place.service))  # type: ignore[no-untyped-call]
    if url.kind is StoreKind.SOCKET:
        return OneServer(url.place.path, redis.Redis(unix_socket_path=url.place.path, db=url.place.database, **options))
    host, port = url.addresses[0]
    return OneServer(name_of((host, port)), redis.Redis(host=host, port=port, db=url.place.database, **options))


class OneServer:
    """One server holds everything."""

    is_cluster = False

    def __init__(self, name: str, client: redis.Redis) -> None:
        self._name = name
        self._client = client
        client.connection_pool.make_connection()  # connects nothing, but finds what the class does not take

    @property
    def names(self) -> Collection[str]:
        return (self._name,)

    @property
    def only(self) -> Part | None:
        return Part(self._name, self._client, [], [])

    def split(self, keys: Sequence[bytes]) -> list[Part]:
        return [Part(self._name, self._client, list(keys), list(range(len(keys))))] if keys else []

    def at(self, address: Address) -> redis.Redis:
        raise ClusterError("a single server points to no other")  # only a node of a cluster does, and then it is one

    def forget_slots(self) -> None:
        pass

    def ping(self) -> None:
        self._client.ping()

    def close(self) -> None:
        self._client.close()


class Cluster:
    """The primaries of a Redis Cluster. Replicas are never read: they may be behind, and a count that is behind is wrong.

    split() by a map of slots, which is read at the first call, and again after forget_slots() by the thread that comes first,
    every REFRESH_S at most; the others go on with the old one meanwhile."""

    is_cluster = True
    only = None

    def __init__(self, first: Sequence[Address], connect: Connect, clock: Callable[[], float] = time.monotonic) -> None:
        self._first = tuple(first)
        self._connect = connect
        self._clock = clock
        connect(self._first[0]).connection_pool.make_connection()
        self._clients: dict[Address, redis.Redis] = {}
        self._owners: list[Address | None] = []  # by slot
        self._is_stale = True
        self._read_s = -math.inf  # when the map was read, or was to be
        self._teller: Address | None = None  # who gave it
        self._lock = threading.Lock()  # of the clients
        self._refreshing = threading.Lock()

    @property
    def names(self) -> Collection[str]:
        return {NO_SERVER if owner is None else name_of(owner) for owner in dict.fromkeys(self._owners)}

    def split(self, keys: Sequence[bytes]) -> list[Part]:
        if self._is_stale:
            self._refresh()
        owners = self._owners
        parts: dict[Address | None, Part] = {}
        for place, key in enumerate(keys):
            address = owners[key_slot(key)]
            part = parts.get(address)
            if part is None:
                part = parts[address] = self._part_of(address)
            part.keys.append(key)
            part.places.append(place)
        if None in parts:
            self.forget_slots()
        return list(parts.values())

    def at(self, address: Address) -> redis.Redis:
        with self._lock:
            client = self._clients.get(address)
            if client is None:
                if len(self._clients) >= NODES_MAX:
                    raise ClusterError(f"more than {NODES_MAX} nodes")
                client = self._clients[address] = self._connect(address)
            return client

    def forget_slots(self) -> None:
        self._is_stale = True

    def ping(self) -> None:
        self._refresh()
        for address in sorted({owner for owner in self._owners if owner is not None}):
            self.at(address).ping()

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()

    # --- implementation ---

    def _part_of(self, address: Address | None) -> Part:
        if address is None:
            return Part(NO_SERVER, None, [], [])
        return Part(name_of(address), self.at(address), [], [])

    def _refresh(self) -> None:
        """Raises what the last node said if none gives a map, unless there is an old one to go on with."""
        if not self._refreshing.acquire(blocking=not self._owners):
            return
        try:
            is_due = self._clock() - self._read_s >= REFRESH_S
            if not self._owners or (self._is_stale and is_due):
                self._read_s = self._clock()
                self._take(self._read_map())
        except Exception:
            if not self._owners:
                raise
        finally:
            self._refreshing.release()

    def _read_map(self) -> list[Address | None]:
        # First who told it last: it is alive, and one that is not costs a wait.
        known = dict.fromkeys([self._teller, *self._owners, *self._first])
        known.pop(None, None)
        failure: Exception = ClusterError("no node is known")
        for address in list(known)[:REFRESH_NODES_MAX]:
            assert address is not None
            try:
                said = self.at(address).execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
                owners = read_slots(said, address)
                self._teller = address
                return owners
            except Exception as error:  # of a name that is none, or of an answer that is not Redis's: the next node may know
                failure = error
        raise failure

    def _take(self, owners: list[Address | None]) -> None:
        self._owners = owners
        self._is_stale = False
        gone = set(self._clients) - {owner for owner in owners if owner is not None} - set(self._first)
        with self._lock:
            left = [self._clients.pop(address) for address in gone]
        for client in left:
            client.connection_pool.disconnect(inuse_connections=False)


def read_slots(said: Any, asked: Address) -> list[Address | None]:
    """The owner of each slot, from what CLUSTER SLOTS says: [[first, last, [host, port, id, ...], replicas...], ...]. A node that
    does not know its own name says "" or null: it is at the address that was `asked`. Raises redis.InvalidResponse."""
    owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    try:
        for first, last, primary, *_ in said:
            host = primary[0].decode() if primary[0] else ""
            owner = (host if host not in ("", "?") else asked[0], int(primary[1]))
            if not 0 <= first <= last < REDIS_CLUSTER_HASH_SLOTS:
                raise ValueError("not a range of slots")
            owners[first : last + 1] = [owner] * (last + 1 - first)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise redis.InvalidResponse("not what CLUSTER SLOTS answers") from error
    return owners


# --- implementation ---

# Nothing is tried twice, and a server says only what it is asked: one that may announce its maintenance (a push of RESP3) may
# also lift time limits, and name any host to send the password to.
_PLAIN: Final[dict[str, Any]] = {
    "retry": Retry(NoBackoff(), 0),
    "health_check_interval": 0,
    "protocol": 3,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}


def _client_options(url: StoreUrl, timeout_s: float, connect_timeout_s: float) -> dict[str, Any]:
    tls = {name: value for name, value in url.options.items() if name not in SENTINEL_OPTIONS}
    return {
        "username": url.username,
        "password": url.password,
        "socket_timeout": timeout_s,
        **({} if url.kind is StoreKind.SOCKET else {"socket_connect_timeout": connect_timeout_s, "ssl": url.is_tls, **tls}),
        **({"db": url.place.database} if url.kind is StoreKind.SENTINEL else {}),
        "client_name": "assay",
        **_PLAIN,
    }
