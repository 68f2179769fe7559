"""A stream of Redis or Valkey: entries with the fields `id` and `json`.

A record is safe here once the server has answered its XADD; where it keeps an append-only file and knows WAITAOF (Redis 7.2,
Valkey), once that file is synced too. What a failover loses beyond that, Redis loses: a replica may not have it. Nothing here
trims the stream. That nothing can be synced, or that the stream may be evicted, is said in the log, once."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis
from redis.exceptions import AskError

from assay.audit.sinks import ShippedRecord, SinkAwayError
from assay.errors import ConfigError
from assay.features.redis_commands import Command, Commands
from assay.features.redis_errors import say
from assay.features.redis_servers import Part, RedisServers, options_problem, servers_of
from assay.observe.logs import log_event
from assay.store_url import PASSWORD_MEND, StoreUrl, parse_store_url

TIMEOUT_S: Final = 10.0
CONNECT_S: Final = 5.0
SYNC_MS: Final = 5_000  # of WAITAOF, within TIMEOUT_S
STREAM_BYTES_MAX: Final = 512
PROBE_S: Final = 60.0  # how often the server is asked whether it keeps an append-only file, and evicts

log = logging.getLogger("assay.audit")

_FORM: Final = "redis://HOST:PORT/DB?stream=NAME"


def redis_sink(url: str) -> RedisSink:
    """Raises ConfigError where the URL is wrong; the error never shows it."""
    parsed = parse_store_url(url)
    if parsed is None:
        raise ConfigError(f"audit.sink: not a Redis URL; expected {_FORM}. {PASSWORD_MEND}")
    options = dict(parsed.options)
    stream = options.pop("stream", "")
    if not stream or len(stream.encode()) > STREAM_BYTES_MAX:
        raise ConfigError(f"audit.sink: name the stream: {_FORM}")
    place = dataclasses.replace(parsed, options=options)
    if problem := options_problem(place):
        raise ConfigError(f"audit.sink: {problem}, beside stream")
    try:
        servers = servers_of(place, TIMEOUT_S, CONNECT_S)
    except (ValueError, TypeError, redis.RedisError) as error:
        raise ConfigError(f"audit.sink: not a Redis URL ({type(error).__name__}); expected {_FORM}") from None
    return RedisSink(servers, stream.encode(), parsed)


class RedisSink:
    def __init__(self, servers: RedisServers, stream: bytes, url: StoreUrl, clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = servers
        self._stream = stream
        self._place = url.location
        self._clock = clock
        self._syncs = False
        self._doubts: dict[str, dict[str, str]] = {}  # line of the log and its fields
        self._said: set[str] = set()  # of those lines
        self._probe_at_s = -math.inf

    def deliver(self, records: Sequence[ShippedRecord]) -> None:
        commands: list[Command] = [("XADD", self._stream, "*", "id", record.id, "json", record.json) for record in records]
        try:
            part = self._part()
            if self._clock() >= self._probe_at_s:
                self._look(part)
                self._probe_at_s = self._clock() + PROBE_S
            if self._syncs:
                commands.append(("WAITAOF", 1, 0, SYNC_MS))
            said = _answers(part, commands)
        except SinkAwayError:
            raise
        except Exception as error:  # of a server that is away, or of one that does not speak as Redis does
            self._forget()
            raise SinkAwayError(f"{self._place}: {say(error)}") from None
        self._check(said, len(records))
        self._say_doubts()

    def close(self) -> None:
        self._servers.close()

    # --- implementation ---

    def _part(self) -> Part:
        (part,) = self._servers.split([self._stream])
        if part.client is None:
            self._forget()
            raise SinkAwayError(f"{self._place}: the stream's slot has no server now")
        return part

    def _look(self, part: Part) -> None:
        """How safe the server keeps what it has answered. What it does not say is not so."""
        persistence, waitaof, memory = _answers(
            part, [("INFO", "persistence"), ("COMMAND", "INFO", "WAITAOF"), ("INFO", "memory")]
        )
        why = _why_unsynced(persistence, waitaof)
        policy = _evicting_policy(memory)
        self._syncs = why is None
        self._doubts = {}
        if why is not None:
            self._doubts["the audit sink confirms records before a disk has them"] = {"reason": why}
        if policy is not None:
            self._doubts["the audit sink may evict records"] = {"policy": policy}

    def _say_doubts(self) -> None:
        """Each once: of records that were confirmed all the same."""
        for message, fields in self._doubts.items():
            if message not in self._said:
                self._said.add(message)
                log_event(log, logging.WARNING, message, sink=self._place, **fields)

    def _check(self, said: list[Any], count: int) -> None:
        """Every record has its entry's id, and the file was synced."""
        for answer in said[:count]:
            if isinstance(answer, AskError):
                self._forget()
            if isinstance(answer, Exception):
                raise SinkAwayError(f"{self._place}: {_say(answer)}") from None
        if len(said) > count:
            synced = said[count]
            if isinstance(synced, Exception):
                self._forget()
                raise SinkAwayError(f"{self._place}: WAITAOF: {say(synced)}")
            if synced[0] < 1:
                raise SinkAwayError(f"{self._place}: the append-only file was not synced in {SYNC_MS / 1000:g} s")

    def _forget(self) -> None:
        self._probe_at_s = -math.inf
        with contextlib.suppress(Exception):
            self._servers.forget_slots()


# --- implementation ---


def _why_unsynced(persistence: Any, waitaof: Any) -> str | None:
    """Of INFO and COMMAND INFO: why the server cannot be asked to sync what it has answered. None: it can."""
    if isinstance(persistence, Exception) or isinstance(waitaof, Exception):
        return "it does not say whether it keeps an append-only file: the user needs INFO and COMMAND"
    if _field(persistence, b"aof_enabled") != b"1":
        return "it keeps no append-only file"
    if not waitaof or waitaof[0] is None:
        return "it does not know WAITAOF (Redis 7.2, Valkey): its append-only file is synced as its appendfsync says"
    return None


def _evicting_policy(memory: Any) -> str | None:
    """Of INFO: the policy by which the server may drop the stream for want of memory. None: it does not, or does not say."""
    policy = _field(memory, b"maxmemory_policy")
    return policy.decode("ascii", "replace") if policy.startswith(b"allkeys") and _field(memory, b"maxmemory") != b"0" else None


def _field(info: Any, name: bytes) -> bytes:
    """Of what INFO says; empty: it says nothing of it."""
    found = re.search(rb"^%s:([^\r\n]*)\r?$" % name, info, re.MULTILINE) if isinstance(info, bytes | bytearray) else None
    return bytes(found[1]) if found else b""


def _answers(part: Part, commands: Sequence[Command]) -> list[Any]:
    assert part.client is not None
    return Commands(part.client, commands).answers(time.monotonic() + TIMEOUT_S)


def _say(error: Exception) -> str:
    """Of what a stream may meet beside say()'s."""
    if isinstance(error, redis.ResponseError) and str(error).startswith("WRONGTYPE"):
        return "the stream's name is taken by a key of another type"
    if isinstance(error, redis.OutOfMemoryError):
        return "the server has no memory left (maxmemory)"
    if isinstance(error, redis.exceptions.NoPermissionError):
        return "the user may not do this: XADD on the stream is what it needs"
    return say(error)
