"""Brings the records of all logs of a directory to a sink: each at least once, those of one log in order.

A log's place moves on, in the file `shipped` of its writer, only once the sink has said that it has everything before. Whoever is
killed begins again there, so a record may come twice: its log and sequence tell. While the sink is away, records stay in the
spool."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Protocol

import orjson

from assay.audit.place import SHIPPER_LOCK, try_lock, writer_directories
from assay.audit.reading import HARMLESS, Finding, Kind, LogBlock, LogReader
from assay.audit.records import Decoder, document
from assay.audit.segments import LogDirectory, SegmentFile
from assay.audit.shipped import Shipped, read_shipped_place, write_shipped
from assay.audit.sinks import ShippedRecord, Sink, SinkAwayError
from assay.errors import InputError
from assay.observe.logs import log_event

BATCH_RECORDS: Final = 4000  # a batch ends with the block that reaches one of these
BATCH_BYTES: Final = 4 << 20
IDLE_S: Final = 0.25  # between two looks at logs that have nothing new
BACK_OFF_S_MIN: Final = 0.25
BACK_OFF_S_MAX: Final = 10.0
REPORT_S: Final = 60.0
LOCK_S: Final = 1.0  # between two tries to become the shipper

log = logging.getLogger("assay.audit")


class Stop(Protocol):
    """A threading.Event."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float) -> bool: ...


@dataclass
class Counts:
    records: int = 0
    bytes: int = 0
    retries: int = 0


@dataclass
class Batch:
    """Whole blocks of one log."""

    records: list[ShippedRecord]
    shipped: Shipped  # what holds once they are in the sink


@dataclass
class LogShipping:
    """One writer's log, from where its sink has come on."""

    log: LogDirectory
    _reader: LogReader = field(init=False)
    _decoder: Decoder = field(init=False)
    _pending: LogBlock | None = field(default=None, init=False)  # the first block of the next batch

    def __post_init__(self) -> None:
        self._begin(read_shipped_place(self.log.path))

    def next_batch(self) -> Batch | None:
        """None: nothing new. The same records come again only by begin_again(). Raises OSError."""
        records: list[ShippedRecord] = []
        size = 0
        last: LogBlock | None = None
        while len(records) < BATCH_RECORDS and size < BATCH_BYTES:
            block = self._pending or self._reader.read()
            self._pending = None
            if block is None:
                break
            if last is not None and block.first_sequence != last.end_sequence and block.first_sequence <= last.first_sequence:
                self._pending = block  # records were written anew: they are confirmed by themselves
                break
            last = block
            for entry in self._decoder.entries(block):
                record = ShippedRecord(entry.key, entry.transaction_id, entry.written_us, orjson.dumps(document(entry)))
                records.append(record)
                size += len(record.json)
        if last is None:
            return None
        return Batch(records, Shipped(last.end_sequence - 1, last.log_id, last.block.chain))

    def close(self) -> None:
        self._reader.close()

    # --- implementation ---

    def _begin(self, shipped: Shipped) -> None:
        self._reader, self._decoder = LogReader(self.log, self._note), Decoder(self.log.name)
        files = self.log.segments()
        file = _segment_of(files, shipped.sequence)
        if shipped.sequence == 0 or file is None:
            return
        self._reader.start_at(file)
        while (block := self._reader.read()) is not None:
            if block.segment == file.first_sequence and block.log_id != shipped.log_id and shipped.log_id:
                break
            if block.first_sequence == shipped.sequence + 1:  # the one after, in the same segment or the next
                is_ours = shipped.chain in (b"", block.chain_before)
                if is_ours:
                    self._pending = block
                    return
                break
            if block.first_sequence > shipped.sequence:
                break
            self._decoder.learn(block)
        place = self._reader.place
        is_at_end = block is None and place is not None and place.next_sequence == shipped.sequence + 1
        if is_at_end and place is not None and shipped.chain in (b"", place.chain):
            return
        self._begin_anew(files, shipped)

    def _begin_anew(self, files: Sequence[SegmentFile], shipped: Shipped) -> None:
        """The log is another one than when the place was written: what was shipped then tells nothing."""
        log_event(
            log,
            logging.WARNING,
            "the log is not as it was when its records were shipped: all that stands there is shipped again",
            writer=self.log.name,
            shipped=shipped.sequence,
            segments=len(files),
        )
        self._reader.close()
        self._reader, self._decoder = LogReader(self.log, self._note), Decoder(self.log.name)

    def _note(self, finding: Finding) -> None:
        """What is damaged is said and passed over: what can be read must not wait for it."""
        level = logging.ERROR
        if finding.kind in HARMLESS:
            level = logging.WARNING if finding.kind is not Kind.TORN else logging.DEBUG
        log_event(
            log,
            level,
            "audit log: " + finding.text,
            kind=finding.kind.value,
            file=finding.path,
            offset=finding.offset,
            first_sequence=finding.first,
            last_sequence=finding.last or None,
        )


def _segment_of(files: Sequence[SegmentFile], sequence: int) -> SegmentFile | None:
    """That of the record, or of the one after it."""
    found = [file for file in files if file.first_sequence <= sequence + 1]
    if not found:
        return None
    return found[-1] if found[-1].first_sequence <= sequence or len(found) == 1 else found[-2]


class Shipper:
    """All logs of a directory, in turn. One thread."""

    def __init__(
        self,
        directory: Path,
        sink: Sink,
        stop: Stop,
        *,
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._directory = directory
        self._sink = sink
        self._stop = stop
        self._clock = clock
        self._share = share
        self._logs: dict[str, LogShipping] = {}
        self._try_at_s: dict[str, float] = {}  # of logs that could not be read
        self._counts = Counts()
        self._told = Counts()
        self._tell_at_s = clock() + REPORT_S

    @property
    def counts(self) -> Counts:
        return self._counts

    @property
    def unreadable(self) -> list[str]:
        """Writers whose logs could not be read when they were tried last."""
        return sorted(self._try_at_s)

    def run_once(self, give_up_s: float) -> None:
        """All that stands there and can be read. Raises SinkAwayError where the sink was away for so long, OSError."""
        while not self._stop.is_set() and self._ship_round(self._clock() + give_up_s):
            pass

    def run(self) -> None:
        """Until it is told to stop; a batch under way is ended first. Raises OSError where the spool cannot be used."""
        while not self._stop.is_set():
            if not self._ship_round(None):
                self._stop.wait(IDLE_S)
            self._tell()

    def close(self) -> None:
        for shipping in self._logs.values():
            shipping.close()
        self._sink.close()

    # --- implementation ---

    def _ship_round(self, give_up_at_s: float | None) -> bool:
        """A batch of each log. False: none has anything new."""
        has_new = False
        for path in writer_directories(self._directory):  # a server may have come, with a log of its own
            batch = self._next_batch(path)
            if batch is None:
                continue
            if not self._deliver(batch, give_up_at_s):
                return False  # told to stop meanwhile: the batch is read again by whoever comes next
            write_shipped(path, batch.shipped)
            self._counts.records += len(batch.records)
            self._counts.bytes += sum(len(record.json) for record in batch.records)
            has_new = True
            if self._stop.is_set():
                break
        return has_new

    def _next_batch(self, path: Path) -> Batch | None:
        """None: nothing new, or this log cannot be read. The others do not wait for it; it is tried again after a while."""
        if self._clock() < self._try_at_s.get(path.name, 0.0):
            return None
        try:
            if path.name not in self._logs:
                self._logs[path.name] = LogShipping(LogDirectory(path))
            batch = self._logs[path.name].next_batch()
        except Exception as error:  # whatever stands there
            text = "an audit log cannot be read: nothing of it is shipped until it can"
            log_event(log, logging.ERROR, text, writer=path, error=f"{type(error).__name__}: {error}")
            self._try_at_s[path.name] = self._clock() + BACK_OFF_S_MAX
            if (shipping := self._logs.pop(path.name, None)) is not None:
                shipping.close()
            return None
        self._try_at_s.pop(path.name, None)
        return batch

    def _deliver(self, batch: Batch, give_up_at_s: float | None) -> bool:
        """False: it was told to stop while the sink was away."""
        away_since_s: float | None = None
        attempt = 0
        while True:
            try:
                self._sink.deliver(batch.records)
            except SinkAwayError as error:
                now_s = self._clock()
                if away_since_s is None:
                    away_since_s = now_s
                    log_event(log, logging.WARNING, "the audit sink is away: records wait in the spool", reason=error)
                if give_up_at_s is not None and now_s >= give_up_at_s:
                    raise
                self._counts.retries += 1
                pause_s = min(BACK_OFF_S_MAX, BACK_OFF_S_MIN * 2**attempt) * (0.5 + self._share() / 2)
                attempt = min(attempt + 1, 10)
                if self._stop.wait(pause_s):
                    return False
                self._tell()
                continue
            if away_since_s is not None:
                log_event(log, logging.INFO, "the audit sink is back", after_s=round(self._clock() - away_since_s, 1))
            return True

    def _tell(self) -> None:
        """A line a minute in which something was shipped, or was not for want of the sink."""
        if self._clock() < self._tell_at_s:
            return
        self._tell_at_s = self._clock() + REPORT_S
        now, told = self._counts, self._told
        if now != told:
            log_event(
                log,
                logging.INFO,
                "audit records shipped",
                records=now.records - told.records,
                bytes=now.bytes - told.bytes,
                retries=now.retries - told.retries,
            )
        self._told = Counts(now.records, now.bytes, now.retries)


def become_shipper(directory: Path, stop: Stop, *, waits: bool) -> IO[bytes] | None:
    """The lock, which is held as long as it is kept; None: it was told to stop. Raises OSError, and InputError where another
    process ships already and `waits` is not set."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    has_said = False
    while not stop.is_set():
        lock = try_lock(directory / SHIPPER_LOCK)
        if lock is not None:
            return lock
        if not waits:
            raise InputError(f"{directory}: another process ships its records already")
        if not has_said:
            log_event(log, logging.INFO, "another process ships these audit records: waiting", directory=directory)
            has_said = True
        stop.wait(LOCK_S)
    return None
