"""Events and attributes into Redis: bring the records, apply, put back what changed if nobody else changed it meanwhile.

The core applies events to records in this process, by the same code as in the embedded store: state is a function of the set of
events. A record is put back by compare-and-set: a script on the server replaces it only if its header (times, counts, checksum)
is still the one that was read. Where another writer was first, that record is read again and the events are applied again; those
that are in it already change nothing. So writers need no lock, and a writer that died half-way left whole records.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import redis
from redis.exceptions import AskError, ClusterError, MovedError, NoScriptError

from assay import _core
from assay.codes import NUMBERS
from assay.errors import RecordError, StoreError, StoreFullError
from assay.features.redis_commands import AnswersTooLargeError, Command, answers
from assay.features.redis_errors import is_wrong_type, say
from assay.features.redis_reading import ask
from assay.features.redis_servers import REDIRECTIONS, Part, RedisServers, address_of
from assay.features.store_writer import ALL_VIEWS, PLACED_EVENTS_MAX, AttributeWrite, LabelWrite, WriterOptions

HOP_KEYS: Final = 512  # records of one MGET, and of one pipeline of scripts

TRIES_MAX: Final = 50
PAUSE_S_MAX: Final = 0.05  # between two tries, at random, so that writers do not meet again

# KEYS[1] the record. ARGV[1] the header it was made from ("" if there was none), ARGV[2] the new record, ARGV[3] how long it is
# of use, in milliseconds (0: for ever), ARGV[4] bytes of a header. Says 1 if it was put there.
PUT_SCRIPT: Final = """
if redis.call('GETRANGE', KEYS[1], 0, ARGV[4] - 1) ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
_PUT_SHA = hashlib.sha1(PUT_SCRIPT.encode(), usedforsecurity=False).hexdigest()  # as Redis names a script
HEADER_BYTES: Final = 128  # docs/row-record.md
ANSWER_TIMEOUT_S: Final = 5.0
VIEW_HASH: Final = slice(16, 24)  # of a header: the view hash's first bytes

_OK = 0

Outcome = TypeVar("Outcome")
EventOutcome = tuple[int, str, _core.Refusal | None]


class _Change(NamedTuple):
    place: int
    record: _core.RecordRef
    header: bytes  # of what it was made from
    sealed: bytes


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
        options: WriterOptions = ALL_VIEWS,
    ) -> None:
        self._servers = servers
        self._plan = plan
        # How long a record is of use if nothing more happens, by view; 0: for ever (attributes).
        self._use_ms = [horizon_us // 1000 for horizon_us in plan.view_horizons_us]
        self._url = url
        self._bytes_max = bytes_max
        self._forget = forget
        self._options = options

    def record_events(self, message: bytes) -> list[EventOutcome] | _core.Refusal:
        return self._write(lambda writer: writer.records_of_events(message), lambda writer: writer.record_events(message))

    def ingest(self, log: _core.EventLog, start: int, stop: int) -> _core.IngestReport:
        slices = range(start, stop, PLACED_EVENTS_MAX)  # the records of one are held in this process meanwhile
        reports = [self._ingest_slice(log, first, min(first + PLACED_EVENTS_MAX, stop)) for first in slices]
        return _sum_of(reports)

    def write_labels(self, labels: Sequence[LabelWrite]) -> list[int]:
        def apply(writer: _core.EventWriter) -> list[int]:
            return [writer.write_label(label.line, label.place) for label in labels]

        def records(writer: _core.EventWriter) -> list[_core.RecordRef]:
            return list({found.key: found for label in labels for found in writer.records_of_label(label.line)}.values())

        return self._write(records, apply)

    def write_attributes(self, view: str, rows: Sequence[AttributeWrite]) -> list[int]:
        def apply(writer: _core.EventWriter) -> list[int]:
            return [writer.write_attributes(view, *row) for row in rows]

        def records(writer: _core.EventWriter) -> list[_core.RecordRef]:
            return list({(found := writer.record_of(view, row.entity_id)).key: found for row in rows}.values())

        return self._write(records, apply)

    # --- implementation ---

    def _ingest_slice(self, log: _core.EventLog, start: int, stop: int) -> _core.IngestReport:
        def apply(writer: _core.EventWriter) -> _core.IngestReport:
            report = log.ingest(writer, start, stop)
            if report.refused_code == NUMBERS["STORE_FULL"]:  # before any of it is put, so that its parts are counted once
                raise _room_error(self._url, "these events")
            return report

        return self._write(lambda writer: log.records(writer, start, stop), apply)

    def _write(
        self, records_of: Callable[[_core.EventWriter], list[_core.RecordRef]], apply: Callable[[_core.EventWriter], Outcome]
    ) -> Outcome:
        """A try after the first reads and puts those records alone that were not put before. The others are as they were before
        they were changed: so the last try says of every event what became of it in every record."""
        try:
            writer = self._new_writer()
            records = records_of(writer)
            before: list[bytes | None] = [None] * len(records)
            waiting: Sequence[int] = range(len(records))  # places in `records` of what is still to be put
            for attempt in range(TRIES_MAX):
                if attempt > 0:
                    time.sleep(random.uniform(0, min(PAUSE_S_MAX, 0.001 * 2**attempt)))
                    writer = self._new_writer()
                for place, found in zip(waiting, self._get([records[place] for place in waiting]), strict=True):
                    before[place] = found
                put_records(writer, self._plan, records, before, self._url)
                outcome = apply(writer)
                waiting = self._put_back(writer, records, before, waiting)
                if not waiting:
                    return outcome
        except (redis.RedisError, OSError) as error:
            raise StoreError(f"{self._url}: writing failed: {say(error)}; records written so far are whole") from None
        raise StoreError(f"{self._url}: other writers changed the same records {TRIES_MAX} times meanwhile; try again")

    def _new_writer(self) -> _core.EventWriter:
        return self._options.core_writer(self._plan, _core.EmbeddedStore(self._bytes_max))

    def _get(self, records: Sequence[_core.RecordRef]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for hop in _hops(records):
            found += get_records(self._servers, [record.key for record in hop])
        return found

    def _put_back(
        self,
        writer: _core.EventWriter,
        records: Sequence[_core.RecordRef],
        before: Sequence[bytes | None],
        waiting: Sequence[int],
    ) -> list[int]:
        """The places of what changed and was not put: another writer was first at the record, or its slot moves."""
        lost = []
        for hop in _hops(waiting):
            changed = [
                _Change(place, records[place], (before[place] or b"")[:HEADER_BYTES], sealed)
                for place in hop
                if (sealed := writer.take_changed_record(records[place], before[place])) is not None
            ]
            keys = [change.record.key for change in changed]
            try:
                for part in _answer(partial(self._servers.split, keys)):
                    put = self._put_part(part, [changed[place] for place in part.places])
                    lost += [changed[place].place for place, is_put in zip(part.places, put, strict=True) if not is_put]
            finally:  # also where nobody knows whether the store has it
                self._forget(keys)
        return lost

    def _put_part(self, part: Part, changes: Sequence[_Change]) -> list[bool]:
        """Which of them were put."""
        if part.client is None:
            raise ClusterError("no server has these slots")
        said = _answer(partial(_run_script, part.client, [self._script_of(change) for change in changes]))
        for place, one in enumerate(said):
            if isinstance(one, AskError) and not isinstance(one, MovedError):
                said[place] = _answer(partial(self._put_where_it_goes, part, changes[place], one))
        if any(isinstance(one, REDIRECTIONS) for one in said):
            self._servers.forget_slots()
        for one in said:
            if isinstance(one, Exception) and not isinstance(one, REDIRECTIONS):
                raise one
        if not all(type(one) is int and one in (0, 1) for one in said if not isinstance(one, Exception)):
            raise redis.InvalidResponse("not what the script says")
        return [one == 1 for one in said]

    def _put_where_it_goes(self, part: Part, change: _Change, ask: AskError) -> Any:
        """What the node says to which the record's slot is on its way: it takes a command for it behind ASKING alone."""
        target = self._servers.at(address_of(ask, part))
        commands: list[Command] = [("ASKING",), self._script_of(change)]
        _, said = answers(target, commands, ANSWER_TIMEOUT_S)
        if isinstance(said, NoScriptError):
            target.script_load(PUT_SCRIPT)
            _, said = answers(target, commands, ANSWER_TIMEOUT_S)
        return said

    def _script_of(self, change: _Change) -> Command:
        use_ms = self._use_ms[change.record.view_index]
        return ("EVALSHA", _PUT_SHA, 1, change.record.key, change.header, change.sealed, use_ms, HEADER_BYTES)


def get_records(servers: RedisServers, keys: Sequence[bytes]) -> list[bytes | None]:
    """None where there is no record; no bytes (which no check lets pass) where the key holds something other than a string; the
    beginning of what is longer than any record. Raises redis.RedisError or OSError."""
    try:
        return _get_together(servers, keys)
    except AnswersTooLargeError:
        if len(keys) == 1:
            raise
    middle = len(keys) // 2
    return [*get_records(servers, keys[:middle]), *get_records(servers, keys[middle:])]


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
        if code == NUMBERS["STORE_FULL"]:
            raise _room_error(url, f"{len(records):,} records")
        if sealed is not None and code != _OK:
            rejected.append((record, _record_error(plan, record, sealed, _core.CODE_TABLE[code].reason, url)))
    return rejected


# --- implementation ---

Item = TypeVar("Item")


def _get_together(servers: RedisServers, keys: Sequence[bytes]) -> list[bytes | None]:
    found: list[bytes | None] = [None] * len(keys)
    for answer in ask(servers, _answer(lambda: servers.split(keys)), ANSWER_TIMEOUT_S, to_write=True):
        if answer.error is not None:
            raise _as_redis_error(answer.error)
        for place, record in zip(answer.part.places, answer.records, strict=True):
            if isinstance(record, redis.ResponseError) and not is_wrong_type(record):
                raise record
            found[place] = b"" if isinstance(record, redis.ResponseError) else record
    return found


def _answer(ask: Callable[[], Any]) -> Any:
    """What the store says. Raises redis.RedisError or OSError."""
    try:
        return ask()
    except Exception as error:
        known = _as_redis_error(error)
        if known is error:
            raise  # with the cause that it has
        raise known from error


def _run_script(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """What the server says of each. It is given the script where it does not have it."""
    said = answers(client, commands, ANSWER_TIMEOUT_S)
    unknown = [place for place, one in enumerate(said) if isinstance(one, NoScriptError)]
    if unknown:
        client.script_load(PUT_SCRIPT)
        for place, one in zip(unknown, answers(client, [commands[place] for place in unknown], ANSWER_TIMEOUT_S), strict=True):
            said[place] = one
    return said


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


def _room_error(url: str, what: str) -> StoreFullError:
    return StoreFullError(
        f"{url}: {what} do not fit into the memory that this process may hold them in; raise store.bytes_max "
        "(--store-bytes-max), or write fewer events at a time"
    )


def _view_hashes(record: _core.RecordRef, sealed: bytes) -> str:
    """Both view hashes as far as a key and a header have them."""
    return f": made for view hash {sealed[VIEW_HASH].hex()}, this feature set's begins {record.key[-8:].decode()}"


def _hops(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + HOP_KEYS] for start in range(0, len(items), HOP_KEYS)]


def _sum_of(reports: Sequence[_core.IngestReport]) -> _core.IngestReport:
    return _core.IngestReport(
        event_count=sum(report.event_count for report in reports),
        recorded_count=sum(report.recorded_count for report in reports),
        duplicate_count=sum(report.duplicate_count for report in reports),
        late_count=sum(report.late_count for report in reports),
        refused_count=sum(report.refused_count for report in reports),
        refused_code=next((report.refused_code for report in reports if report.refused_code), _OK),
    )
