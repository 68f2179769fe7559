"""Events and attributes into Redis: bring the records, apply, put back what changed if nobody else changed it meanwhile.

The core applies events to records in this process, by the same code as in the embedded store: state is a function of the set of
events. A record is put back by compare-and-set: a script on the server replaces it only if its header (times, counts, checksum)
is still the one that was read. Where another writer was first, that record is read again and the events are applied again; those
that are in it already change nothing. So writers need no lock, and a writer that died half-way left whole records.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import redis
from redis.exceptions import ClusterError

from assay import _core
from assay.errors import RecordError, StoreError
from assay.features.redis_errors import say
from assay.features.redis_reading import ask
from assay.features.redis_servers import REDIRECTIONS, Part, RedisServers
from assay.features.store_writer import AttributeWrite

HOP_KEYS: Final = 512  # records of one MGET, and of one pipeline of scripts
SLICE_EVENTS: Final = 16_384  # applied together; their records are held in this process meanwhile
TRIES_MAX: Final = 50
PAUSE_S_MAX: Final = 0.05  # between two tries, at random, so that writers do not meet again

# KEYS[1] the record. ARGV[1] the header it was made from ("" if there was none), ARGV[2] the new record, ARGV[3] how long it is
# of use, in milliseconds (0: for ever), ARGV[4] bytes of a header. Says 1 if it was put there.
PUT_SCRIPT: Final = """
if redis.call('GETRANGE', KEYS[1], 0, ARGV[4] - 1) ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
HEADER_BYTES: Final = 128  # docs/row-record.md
GET_TIMEOUT_S: Final = 5.0
VIEW_HASH: Final = slice(16, 24)  # of a header: the view hash's first bytes

_OK = 0
_REASONS = {row.number: row.reason for row in _core.CODE_TABLE}
_NUMBERS = {row.reason: row.number for row in _core.CODE_TABLE}
_STORE_FULL = _NUMBERS["STORE_FULL"]
_NO_NEWS = (_NUMBERS["EVENT_DUPLICATE"], _NUMBERS["EVENT_TOO_LATE"])  # what a second try says of what the first one wrote

Outcome = TypeVar("Outcome")
EventOutcome = tuple[int, str, _core.Refusal | None]


class RedisWriter:
    """One plan's way into one Redis. Thread-safe: every call works on records of its own. `forget` is told the keys of what was
    written, or may have been."""

    def __init__(
        self,
        servers: RedisServers,
        plan: _core.FeaturePlan,
        url: str,
        bytes_max: int,
        forget: Callable[[Sequence[bytes]], None],
    ) -> None:
        self._servers = servers
        self._plan = plan
        self._url = url
        self._bytes_max = bytes_max
        self._forget = forget

    def record_events(self, message: bytes) -> list[EventOutcome] | _core.Refusal:
        def apply(writer: _core.EventWriter) -> list[EventOutcome] | _core.Refusal:
            return writer.record_events(message)

        return self._write(lambda writer: writer.records_of_events(message), apply, _later_outcomes)

    def ingest(self, log: _core.EventLog, start: int, stop: int) -> _core.IngestReport:
        reports = [self._ingest_slice(log, first, min(first + SLICE_EVENTS, stop)) for first in range(start, stop, SLICE_EVENTS)]
        return _sum_of(reports)

    def write_labels(self, lines: Sequence[bytes]) -> list[int]:
        def apply(writer: _core.EventWriter) -> list[int]:
            return [writer.write_label(line) for line in lines]

        def records(writer: _core.EventWriter) -> list[_core.RecordRef]:
            return list({found.key: found for line in lines for found in writer.records_of_label(line)}.values())

        return self._write(records, apply, _later_codes)

    def write_attributes(self, view: str, rows: Sequence[AttributeWrite]) -> list[int]:
        def apply(writer: _core.EventWriter) -> list[int]:
            return [writer.write_attributes(view, *row) for row in rows]

        def records(writer: _core.EventWriter) -> list[_core.RecordRef]:
            return list({(found := writer.record_of(view, row.entity_id)).key: found for row in rows}.values())

        return self._write(records, apply, _later_codes)

    # --- implementation ---

    def _ingest_slice(self, log: _core.EventLog, start: int, stop: int) -> _core.IngestReport:
        def apply(writer: _core.EventWriter) -> _core.IngestReport:
            return log.ingest(writer, start, stop)

        return self._write(lambda writer: log.records(writer, start, stop), apply, _later_report)

    def _write(
        self,
        records_of: Callable[[_core.EventWriter], list[_core.RecordRef]],
        apply: Callable[[_core.EventWriter], Outcome],
        later: Callable[[Outcome, Outcome], Outcome],
    ) -> Outcome:
        """`later(first, again)`: what became of the events when a second try was needed."""
        outcome: Outcome | None = None
        try:
            for attempt in range(TRIES_MAX):
                if attempt > 0:
                    time.sleep(random.uniform(0, min(PAUSE_S_MAX, 0.001 * 2**attempt)))
                writer = _core.EventWriter(self._plan, _core.EmbeddedStore(self._bytes_max))
                records = records_of(writer)
                before = self._get(records)
                put_records(writer, self._plan, records, before, self._url)
                again = apply(writer)
                outcome = again if outcome is None else later(outcome, again)
                if self._put_back(writer, records, before):
                    return outcome
        except (redis.RedisError, OSError) as error:
            raise StoreError(f"{self._url}: writing failed: {say(error)}; records written so far are whole") from None
        raise StoreError(f"{self._url}: other writers changed the same records {TRIES_MAX} times meanwhile; try again")

    def _get(self, records: Sequence[_core.RecordRef]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for hop in _hops(records):
            found += get_records(self._servers, [record.key for record in hop])
        return found

    def _put_back(self, writer: _core.EventWriter, records: Sequence[_core.RecordRef], before: Sequence[bytes | None]) -> bool:
        """False: another writer was first at some record, or its slot moves."""
        is_whole = True
        for hop in _hops(list(zip(records, before, strict=True))):
            changed = [
                (record, (known or b"")[:HEADER_BYTES], sealed)
                for record, known in hop
                if (sealed := writer.take_changed_record(record, known)) is not None
            ]
            keys = [record.key for record, _, _ in changed]
            try:
                for part in self._servers.split(keys):
                    is_whole &= self._put_part(part, [changed[place] for place in part.places])
            finally:  # also where nobody knows whether the store has it
                self._forget(keys)
        return is_whole

    def _put_part(self, part: Part, changed: Sequence[tuple[_core.RecordRef, bytes, bytes]]) -> bool:
        if part.client is None:
            raise ClusterError("no server has these slots")
        put = part.client.register_script(PUT_SCRIPT)
        with part.client.pipeline(transaction=False) as pipeline:
            for record, header, sealed in changed:
                put(keys=[record.key], args=[header, sealed, self._use_ms(record), HEADER_BYTES], client=pipeline)
            said = _answer(lambda: pipeline.execute(raise_on_error=False))
        if any(isinstance(one, REDIRECTIONS) for one in said):
            self._servers.forget_slots()
        refusal = next((one for one in said if isinstance(one, Exception) and not isinstance(one, REDIRECTIONS)), None)
        if refusal is not None:
            raise refusal
        if not all(one in (0, 1) for one in said if not isinstance(one, Exception)):
            raise redis.InvalidResponse("not what the script says")
        return all(one == 1 for one in said)

    def _use_ms(self, record: _core.RecordRef) -> int:
        """How long a record is of use if nothing more happens; 0: for ever (attributes)."""
        return self._plan.view_horizons_us[record.view_index] // 1000


def get_records(servers: RedisServers, keys: Sequence[bytes]) -> list[bytes | None]:
    """None where there is no record. Raises redis.RedisError or OSError."""
    found: list[bytes | None] = [None] * len(keys)
    for answer in ask(servers, _answer(lambda: servers.split(keys)), GET_TIMEOUT_S):
        if answer.error is not None:
            raise _as_redis_error(answer.error)
        for place, record in zip(answer.part.places, answer.records, strict=True):
            if isinstance(record, redis.ResponseError):
                raise record
            found[place] = record
    return found


def put_records(
    writer: _core.EventWriter,
    plan: _core.FeaturePlan,
    records: Sequence[_core.RecordRef],
    found: Sequence[bytes | None],
    url: str,
) -> None:
    """Brings records of a remote store into the writer's. Raises RecordError for one that cannot be trusted, StoreError where
    they do not fit."""
    for _, error in take_records(writer, plan, records, found, url):
        raise error


def take_records(
    writer: _core.EventWriter,
    plan: _core.FeaturePlan,
    records: Sequence[_core.RecordRef],
    found: Sequence[bytes | None],
    url: str,
) -> list[tuple[_core.RecordRef, RecordError]]:
    """The same, but leaves out those that cannot be trusted and says why. Raises StoreError where they do not fit."""
    rejected = []
    for record, sealed in zip(records, found, strict=True):
        code = _OK if sealed is None else writer.put_record(record, sealed)
        if code == _STORE_FULL:
            raise StoreError(
                f"{url}: {len(records):,} records do not fit into the memory that this process may hold them in; raise "
                "store.bytes_max (--store-bytes-max), or write fewer events at a time"
            )
        if sealed is not None and code != _OK:
            rejected.append((record, _record_error(plan, record, sealed, _REASONS[code], url)))
    return rejected


# --- implementation ---

Item = TypeVar("Item")


def _answer(ask: Callable[[], Any]) -> Any:
    """What the store says. Raises redis.RedisError or OSError."""
    try:
        return ask()
    except Exception as error:
        raise _as_redis_error(error) from error


def _as_redis_error(error: Exception) -> Exception:
    """redis-py raises TypeError and others over an answer that is not Redis's."""
    if isinstance(error, redis.RedisError | OSError):
        return error
    return redis.InvalidResponse(f"not what Redis answers ({type(error).__name__})")


def _record_error(plan: _core.FeaturePlan, record: _core.RecordRef, sealed: bytes, reason: str, url: str) -> RecordError:
    """Not the key: it holds the entity's id, and this text goes to logs."""
    return RecordError(
        reason,
        f"{url}: a record of view {plan.view_names[record.view_index]} cannot be trusted ({reason}"
        f"{_view_hashes(record, sealed) if reason == 'RECORD_VIEW' else ''}); the xxh64 of its key is "
        f"{_core.xxh64(record.key):016x}. Delete it (docs/stores.md) and load the entity's events again",
    )


def _view_hashes(record: _core.RecordRef, sealed: bytes) -> str:
    """Both view hashes as far as a key and a header have them."""
    return f": made for view hash {sealed[VIEW_HASH].hex()}, this feature set's begins {record.key[-8:].decode()}"


def _hops(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + HOP_KEYS] for start in range(0, len(items), HOP_KEYS)]


# On a second try, what the first one wrote shows as a repeat, or, where its windows have passed it since, as too late: it was
# recorded. Whatever else is said is news.


def _later_code(first: int, again: int) -> int:
    return first if again in _NO_NEWS else again


def _later_codes(first: list[int], again: list[int]) -> list[int]:
    return [_later_code(*pair) for pair in zip(first, again, strict=True)]


def _later_outcomes(
    first: list[EventOutcome] | _core.Refusal, again: list[EventOutcome] | _core.Refusal
) -> list[EventOutcome] | _core.Refusal:
    if isinstance(first, _core.Refusal) or isinstance(again, _core.Refusal):
        return again
    return [one if other[0] in _NO_NEWS else other for one, other in zip(first, again, strict=True)]


def _later_report(first: _core.IngestReport, again: _core.IngestReport) -> _core.IngestReport:
    return first._replace(refused_count=again.refused_count, refused_code=again.refused_code)


def _sum_of(reports: Sequence[_core.IngestReport]) -> _core.IngestReport:
    return _core.IngestReport(
        event_count=sum(report.event_count for report in reports),
        recorded_count=sum(report.recorded_count for report in reports),
        duplicate_count=sum(report.duplicate_count for report in reports),
        late_count=sum(report.late_count for report in reports),
        refused_count=sum(report.refused_count for report in reports),
        refused_code=next((report.refused_code for report in reports if report.refused_code), _OK),
    )
