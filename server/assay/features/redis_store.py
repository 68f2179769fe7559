"""Row records in Redis or Valkey: one string a record, under the key of ext/core/features/record_key.h.

Reading is one question for all rows of a batch, on a look-up thread: one MGET, or in a cluster one pipeline of GETs for each
node. One server that answers well is asked by the core itself (open_line()). It has little time: rows go on without their records
when it is over (ext/core/serving/lookups.h), so nothing here is tried twice, and each server has a breaker that spares the wait
while it is down. Writing is redis_writer.py.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import redis

from assay import _core
from assay.codes import NUMBERS
from assay.errors import StoreError
from assay.features.breaker import Breaker, BreakerLimits, BreakerState
from assay.features.line import Line
from assay.features.records import Records
from assay.features.redis_errors import say
from assay.features.redis_reading import Answer, ask
from assay.features.redis_servers import REDIRECTIONS, Part, RedisServers, options_problem, servers_of
from assay.features.redis_writer import RedisWriter, get_records, take_records
from assay.features.store_writer import ALL_VIEWS, WriterOptions
from assay.observe.logs import log_event
from assay.store_url import PASSWORD_MEND, StoreUrl, parse_store_url

log = logging.getLogger("assay.store")

TOOL_TIMEOUT_S = 5.0  # of what nobody waits for in a call: writing, looking
CONNECT_TIMEOUT_S = 0.25  # of a look-up thread, at least; rows do not wait for it: they give up by themselves
SLOW_SHARE = 0.5  # of the time that a look-up may take: an answer that took longer is of little use
FORMS = (
    "redis://HOST:PORT/DB, redis+unix:///PATH, redis+sentinel://HOST,HOST/SERVICE or redis+cluster://HOST,HOST; rediss for TLS"
)

MAP = "map of slots"  # what stands for a server in what is said of a cluster that does not say who holds what
_SCORES_WITHOUT = "take what the near-cache has, else declared defaults"

Said = TypeVar("Said")


def connect(url: str, *, bytes_max: int, lookup_timeout_ms: int) -> RedisStore:
    """`url` as store_url.py has it. Connects lazily. Raises StoreError where the URL is wrong; the error never shows it."""
    parsed = _parse(url)
    lookup_timeout_s = lookup_timeout_ms / 1000
    try:
        reading = servers_of(parsed, lookup_timeout_s, max(lookup_timeout_s, CONNECT_TIMEOUT_S))
        working = servers_of(parsed, TOOL_TIMEOUT_S, TOOL_TIMEOUT_S)
    except (ValueError, TypeError, redis.RedisError) as error:
        raise StoreError(f"store URL: not a Redis URL ({type(error).__name__}); expected {FORMS}") from None
    return RedisStore(reading, working, parsed.location, bytes_max, lookup_timeout_s)


class RedisStore:
    """Thread-safe. `bytes_max` bounds the records held while writing."""

    core = None  # the records are elsewhere

    def __init__(
        self,
        reading: RedisServers,
        working: RedisServers,
        url: str,
        bytes_max: int,
        lookup_timeout_s: float,
        limits: BreakerLimits | None = None,
    ) -> None:
        self.url = url
        self._reading = reading
        self._working = working
        self._bytes_max = bytes_max
        self._forget: Callable[[Sequence[bytes]], None] = lambda _: None
        self._lookup_timeout_s = lookup_timeout_s
        self._breakers = _Breakers(url, limits or BreakerLimits(), slow_s=SLOW_SHARE * lookup_timeout_s)

    @property
    def is_away(self) -> bool:
        return self._breakers.are_open((MAP, *self._reading.names))

    def fetch(self, keys: Sequence[bytes]) -> list[bytes | int | None] | None:
        """The records under these keys, in order; a number says why there is none of this one. None: no answer at all. Never
        raises."""
        parts = self._split(keys)
        asked = [part for part in parts if self._breakers.allow(part.server)]
        records: list[bytes | int | None] = [NUMBERS["STORE_UNAVAILABLE"]] * len(keys)
        # Those in doubt after the others have answered: they may have to be connected to first, which takes its time.
        sure: list[Part] = []
        doubtful: list[Part] = []
        for part in asked:  # one look at each breaker: it may change meanwhile
            (doubtful if self._breakers.is_in_doubt(part.server) else sure).append(part)
        answers = [answer for some in (sure, doubtful) for answer in ask(self._reading, some, self._lookup_timeout_s)]
        for answer in answers:
            self._breakers.note(answer)
            for place, record in zip(answer.part.places, answer.records, strict=False):
                if not isinstance(record, redis.ResponseError):
                    records[place] = record
        if len(asked) < len(parts) or any(answer.error is not None for answer in answers):
            self._reading.forget_slots()  # another node may have taken them over
        return records if any(answer.records for answer in answers) else None

    def open_line(self) -> Line | None:
        """None but for one server, without TLS, whose last answer was well. Never raises."""
        only = self._reading.only
        if only is None or only.client is None or self._breakers.is_in_doubt(only.server):
            return None
        try:
            pool = only.client.connection_pool
            connection: Any = pool.get_connection()
        except Exception:  # fetch() comes next, and says it
            return None
        if isinstance(connection._sock, ssl.SSLSocket):  # whose keys only Python has
            pool.release(connection)
            return None

        def end(hops: _core.Hops) -> None:
            if hops.end in ("timeout", "odd"):  # an answer may be under way that nobody would read
                connection.disconnect()
            pool.release(connection)
            self._breakers.note_hops(only.server, hops)

        return Line(connection._sock, self._lookup_timeout_s, self._breakers.slow_s, end)

    def writer(self, plan: _core.FeaturePlan, options: WriterOptions = ALL_VIEWS) -> RedisWriter:
        return RedisWriter(self._working, plan, self.url, self._bytes_max, self._forget, options)

    def tell_writes(self, forget: Callable[[Sequence[bytes]], None]) -> None:
        self._forget = forget

    def records_of(self, plan: _core.FeaturePlan, entities: Mapping[str, str]) -> Records:
        local = _core.EmbeddedStore(self._bytes_max)
        writer = _core.EventWriter(plan, local)
        records = [
            writer.record_of(view, entities[entity])
            for view, entity in zip(plan.view_names, plan.view_entities, strict=True)
            if entity in entities
        ]
        found = self._ask(lambda: get_records(self._working, [record.key for record in records])) if records else []
        rejected = take_records(writer, plan, records, found, self.url)
        return Records(local, {plan.view_names[record.view_index]: error for record, error in rejected})

    def describe(self) -> str:
        try:
            self._working.ping()
        except Exception as error:
            log_event(log, logging.WARNING, "feature store away", url=self.url, error=say(error), scores=_SCORES_WITHOUT)
            return f"does not answer; until it does, scores {_SCORES_WITHOUT}"
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

    def _split(self, keys: Sequence[bytes]) -> list[Part]:
        """Nothing, where nobody says which node has what."""
        if not self._breakers.allow(MAP):
            return []
        try:
            parts = self._reading.split(keys)
        except Exception as error:  # redis-py raises TypeError and others of an answer that is not Redis's
            self._breakers.failed(MAP, error)
            return []
        self._breakers.succeeded(MAP)
        return parts

    def _ask(self, question: Callable[[], Said]) -> Said:
        try:
            return question()
        except Exception as error:  # redis-py raises TypeError and others of an answer that is not Redis's
            raise StoreError(f"{self.url}: {say(error)}") from None


# --- implementation ---


class _Breakers:
    """One for each server, and the lines in the log about them. Thread-safe."""

    def __init__(self, url: str, limits: BreakerLimits, slow_s: float) -> None:
        self._url = url
        self._limits = limits
        self.slow_s = slow_s
        self._lock = threading.Lock()
        self._by_server: dict[str, Breaker] = {}

    def are_open(self, servers: Collection[str]) -> bool:
        """Whether that of any of them is. Those of servers that have gone are dropped."""
        with self._lock:
            self._by_server = {server: breaker for server, breaker in self._by_server.items() if server in servers}
            return any(breaker.state is not BreakerState.CLOSED for breaker in self._by_server.values())

    def allow(self, server: str) -> bool:
        """Who is told yes must say how it ended: note(), succeeded() or failed()."""
        return self._of(server).allows()

    def is_in_doubt(self, server: str) -> bool:
        return self._of(server).is_in_doubt

    def note(self, answer: Answer) -> None:
        # That a slot is elsewhere, or on its way there, is no fault of who says so.
        refusals = (one for one in answer.records if isinstance(one, redis.ResponseError) and not isinstance(one, REDIRECTIONS))
        refusal = next(refusals, None)
        if error := answer.error or refusal:
            self.failed(answer.part.server, error)
        else:
            self.succeeded(answer.part.server, is_slow=answer.waited_s > self.slow_s)

    def note_hops(self, server: str, hops: _core.Hops) -> None:
        """What was odd is asked again, and noted then."""
        is_slow = hops.end == "slow"
        for _ in range(min(hops.hop_count - is_slow, self._limits.window_calls)):  # a breaker remembers no more
            self.succeeded(server)
        if is_slow:
            self.succeeded(server, is_slow=True)
        elif hops.end == "timeout":
            self.failed(server, redis.TimeoutError("no answer in time"))

    def succeeded(self, server: str, *, is_slow: bool = False) -> None:
        breaker = self._of(server)
        if breaker.succeeded(is_slow=is_slow):
            if breaker.state is BreakerState.CLOSED:
                log_event(log, logging.INFO, "feature store is back", url=self._url, server=server)
            else:
                self._say_away(server, f"answers take more than {self.slow_s * 1000:.0f} ms")

    def failed(self, server: str, error: Exception) -> None:
        if self._of(server).failed():
            self._say_away(server, say(error))

    def _of(self, server: str) -> Breaker:
        with self._lock:
            breaker = self._by_server.get(server)
            if breaker is None:
                breaker = self._by_server[server] = Breaker(self._limits)
            return breaker

    def _say_away(self, server: str, why: str) -> None:
        log_event(log, logging.WARNING, "feature store away", url=self._url, server=server, error=why, scores=_SCORES_WITHOUT)


def _parse(url: str) -> StoreUrl:
    """Never shows the URL."""
    parsed = parse_store_url(url)
    if parsed is None:
        raise StoreError(f"store URL: not a Redis URL; expected {FORMS}. {PASSWORD_MEND}")
    if problem := options_problem(parsed):
        raise StoreError(f"store URL: {problem}")
    return parsed
