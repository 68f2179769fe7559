"""Row records in Redis or Valkey: one string a record, under the key of ext/core/features/record_key.h.

Reading is one MGET for all rows of a batch, on a look-up thread. It has little time: rows go on without their records when it is
over (ext/core/serving/lookups.h), so nothing here is tried twice, and while the store is down a breaker spares the wait.
Writing is redis_writer.py.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qs

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from assay import _core
from assay.errors import StoreError
from assay.features.breaker import Breaker, BreakerState
from assay.features.redis_writer import RedisWriter, get_records, put_records
from assay.observe.logs import log_event
from assay.store_url import PASSWORD_MEND, location_of, split_store_url

log = logging.getLogger("assay.store")

TOOL_TIMEOUT_S = 5.0  # of what nobody waits for in a call: writing, looking
CONNECT_TIMEOUT_S = 1.0  # rows do not wait for it: they give up by themselves
URL_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")  # others are ours to set, or make it unsafe
BREAKER_FAILURES_MAX = 3
BREAKER_OPEN_S = 1.0

CAUSES_MAX = 8

Said = TypeVar("Said")
Cause = TypeVar("Cause", bound=BaseException)


def connect(url: str, *, bytes_max: int, lookup_timeout_ms: int) -> RedisStore:
    """`url` as redis-py takes it: redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS with ?ssl_ca_certs=FILE and
    so on. Connects lazily. Raises StoreError where the URL is wrong; the error never shows it."""
    parts = _parse(url)
    try:
        reading = _client(url, lookup_timeout_ms / 1000)
        working = _client(url, TOOL_TIMEOUT_S)
        reading.connection_pool.make_connection()  # connects nothing, but finds what the class does not take
    except (ValueError, TypeError, redis.RedisError) as error:
        raise StoreError(
            f"store URL: not a Redis URL ({type(error).__name__}); expected redis://HOST:PORT/DB, or rediss:// for TLS"
        ) from None
    return RedisStore(reading, working, location_of(parts), bytes_max)


class RedisStore:
    """Thread-safe. `bytes_max` bounds the records held while writing."""

    core = None  # the records are elsewhere

    def __init__(self, reading: redis.Redis, working: redis.Redis, url: str, bytes_max: int) -> None:
        self.url = url
        self._reading = reading
        self._working = working
        self._bytes_max = bytes_max
        self._breaker = Breaker(failures_max=BREAKER_FAILURES_MAX, open_s=BREAKER_OPEN_S)

    @property
    def is_away(self) -> bool:
        return self._breaker.state is not BreakerState.CLOSED

    def fetch(self, keys: Sequence[bytes]) -> list[bytes | None] | None:
        """The records under these keys, in order; None: no answer in time, or none is expected. Never raises."""
        if not self._breaker.allows():
            return None
        try:
            records = get_records(self._reading, keys)
        except Exception as error:  # whatever it is: who was allowed must say how it ended, and rows wait
            if self._breaker.failed():
                log_event(log, logging.WARNING, "feature store away", url=self.url, error=_say(error), scores="with defaults")
            return None
        if self._breaker.succeeded():
            log_event(log, logging.INFO, "feature store is back", url=self.url)
        return records

    def writer(self, plan: _core.FeaturePlan) -> RedisWriter:
        return RedisWriter(self._working, plan, self.url, self._bytes_max)

    def records_of(self, plan: _core.FeaturePlan, entity_id: str) -> _core.EmbeddedStore:
        local = _core.EmbeddedStore(self._bytes_max)
        writer = _core.EventWriter(plan, local)
        records = [writer.record_of(view, entity_id) for view in plan.view_names]
        found = self._ask(lambda: get_records(self._working, [record.key for record in records]))
        put_records(writer, plan, records, found, self.url)
        return local

    def describe(self) -> str:
        try:
            self._working.ping()
        except Exception as error:
            log_event(log, logging.WARNING, "feature store away", url=self.url, error=_say(error), scores="with defaults")
            return "does not answer; scores take declared defaults until it does"
        return "answers"

    def check(self) -> None:
        """Raises StoreError unless the store answers."""
        self._ask(self._working.ping)

    def save(self, progress: Callable[[int, int], None] | None = None) -> bool:
        return False  # how durable its records are is the store's own configuration

    def close(self) -> None:
        self._reading.close()
        self._working.close()

    def __enter__(self) -> RedisStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: Callable[[], Said]) -> Said:
        try:
            return question()
        except Exception as error:  # redis-py raises TypeError and others of an answer that is not Redis's
            raise StoreError(f"{self.url}: {_say(error)}") from None


# --- implementation ---


def _client(url: str, timeout_s: float) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=max(timeout_s, CONNECT_TIMEOUT_S),
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        client_name="assay",
    )


def _parse(url: str) -> SplitResult:
    """Finds what redis-py would find out late, or take though it should not. Never shows the URL."""
    parts = split_store_url(url)
    if parts is None:
        raise StoreError(f"store URL: not a Redis URL; expected redis://HOST:PORT/DB, or rediss:// for TLS. {PASSWORD_MEND}")
    known = URL_OPTIONS if parts.scheme == "rediss" else ()
    for name, values in parse_qs(parts.query, keep_blank_values=True).items():
        if name not in known or not values[0]:
            raise StoreError(f"store URL: an option is not supported or empty; rediss:// takes {', '.join(URL_OPTIONS)}")
        if not Path(values[0]).exists():
            raise StoreError(f"store URL: {name}: there is no such file")
    return parts


def _say(error: Exception) -> str:
    """What went wrong, without what redis-py may quote: host names and commands are fine, credentials never are."""
    if isinstance(error, redis.AuthenticationError):
        return "the user or the password is wrong"
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, redis.BusyLoadingError):
        return "the server is loading its data"
    if isinstance(error, redis.ResponseError):
        return f"the server said {str(error).split(' ')[0][:32]}"
    if tls_error := _cause(error, ssl.SSLError):
        return f"no TLS connection ({tls_error.reason}): is it a port for TLS, and did ssl_ca_certs sign its certificate?"
    if isinstance(error, redis.ConnectionError | OSError):
        return f"nobody answers there ({type(error).__name__}): is Redis running, and is this its host and port?"
    return f"what answers there does not speak as Redis does ({type(error).__name__})"


def _cause(error: BaseException | None, kind: type[Cause]) -> Cause | None:
    """The first exception of `kind` among those that led to this one."""
    for _ in range(CAUSES_MAX):
        if error is None or isinstance(error, kind):
            return error
        error = error.__cause__ or error.__context__
    return None
