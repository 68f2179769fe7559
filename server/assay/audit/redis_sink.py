"""A stream of Redis or Valkey: entries with the fields `id` and `json`.

A record is safe here once the server has answered its XADD; where it keeps an append-only file and knows WAITAOF (Redis 7.2,
Valkey), once that file is synced too. What a failover loses beyond that, Redis loses: a replica may not have it. Nothing here
trims the stream."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Sequence
from typing import Any, Final

import redis
from redis.exceptions import AskError

from assay.audit.sinks import ShippedRecord, SinkAwayError
from assay.errors import ConfigError
from assay.features.redis_commands import Command, Commands
from assay.features.redis_errors import say
from assay.features.redis_servers import Part, RedisServers, options_problem, servers_of
from assay.store_url import PASSWORD_MEND, StoreUrl, parse_store_url

TIMEOUT_S: Final = 10.0
CONNECT_S: Final = 5.0
SYNC_MS: Final = 5_000  # of WAITAOF, within TIMEOUT_S
STREAM_BYTES_MAX: Final = 512
PROBE_S: Final = 60.0  # how often the server is asked whether it keeps an append-only file

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
    def __init__(self, servers: RedisServers, stream: bytes, url: StoreUrl) -> None:
        self._servers = servers
        self._stream = stream
        self._place = url.location
        self._syncs = False
        self._probe_at_s = 0.0

    def deliver(self, records: Sequence[ShippedRecord]) -> None:
        commands: list[Command] = [("XADD", self._stream, "*", "id", record.id, "json", record.json) for record in records]
        try:
            part = self._part()
            if time.monotonic() >= self._probe_at_s:
                self._syncs = self._ask_syncs(part)
                self._probe_at_s = time.monotonic() + PROBE_S
            if self._syncs:
                commands.append(("WAITAOF", 1, 0, SYNC_MS))
            said = _answers(part, commands)
        except SinkAwayError:
            raise
        except Exception as error:  # of a server that is away, or of one that does not speak as Redis does
            self._forget()
            raise SinkAwayError(f"{self._place}: {say(error)}") from None
        self._check(said, len(records))

    def close(self) -> None:
        self._servers.close()

    # --- implementation ---

    def _part(self) -> Part:
        (part,) = self._servers.split([self._stream])
        if part.client is None:
            self._forget()
            raise SinkAwayError(f"{self._place}: the stream's slot has no server now")
        return part

    def _ask_syncs(self, part: Part) -> bool:
        """Whether the server has an append-only file that it can be asked to sync. One that does not say has none."""
        about = _answers(part, [("INFO", "persistence"), ("COMMAND", "INFO", "WAITAOF")])
        if any(isinstance(answer, Exception) for answer in about):
            return False
        has_file = re.search(rb"^aof_enabled:1\r?$", bytes(about[0]), re.MULTILINE) is not None
        return has_file and bool(about[1]) and about[1][0] is not None

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
        self._probe_at_s = 0.0
        with contextlib.suppress(Exception):
            self._servers.forget_slots()


# --- implementation ---


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
