"""Looks for records: those of a transaction, one of a number, the newest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from assay import _core
from assay.audit.place import read_key
from assay.audit.reading import LogReader, Observe, Progress
from assay.audit.records import Decoder, Entry
from assay.audit.segments import LogDirectory, SegmentBlocks, SegmentFile, open_segment, spool_of
from assay.errors import ConfigError, InputError

_ENTRIES_AT_ONCE: Final = 8  # less than a millisecond


def id_in_log(transaction_id: str, log: LogDirectory) -> str:
    """As the log has it: with tokens in place of card numbers. Raises InputError where that takes a key that cannot be read."""
    try:
        return _core.tokenised(transaction_id, read_key(spool_of(log.path)))
    except ConfigError as error:
        if _core.tokenised(transaction_id, b"any") != transaction_id:
            raise InputError(
                f"the transaction's id looks like a card number, and logs have a token in its place: {error}"
            ) from None
        return transaction_id


def find_transaction(
    logs: Sequence[LogDirectory],
    transaction_id: str,
    observe: Observe,
    progress: Progress = lambda *_: None,
    go_on: Callable[[], None] = lambda: None,
    newest: int | None = None,
) -> list[Entry]:
    """All records about it, oldest first. Reads newest segments first. `go_on` is called before each segment, after each block,
    and after a few records of it that have the id's bytes: what it raises ends the search. `newest`: once a log has given so
    many, older segments of it are not read, and no segment gives more: whoever scores repeats ids at will. Raises InputError,
    OSError."""
    wanted = {log: id_in_log(transaction_id, log) for log in logs}
    found: dict[LogDirectory, list[Entry]] = {log: [] for log in logs}
    segments = _newest_first(logs)
    for done, (log, file) in enumerate(segments):
        progress(done, len(segments))
        go_on()
        needle = wanted[log].encode()
        is_full = newest is not None and len(found[log]) >= newest
        if not is_full and _contains(file, needle):
            entries = entries_of_segment(log, file, observe, needle, go_on)
            found[log] += deque((entry for entry in entries if entry.transaction_id == wanted[log]), maxlen=newest)
    return in_order([entry for entries in found.values() for entry in entries])


def find_sequence(logs: Sequence[LogDirectory], sequence: int, observe: Observe) -> list[Entry]:
    """The record of this number: of each log at most one. Raises OSError."""
    found = []
    for log in logs:
        files = [file for file in log.segments() if file.first_sequence <= sequence]
        if files:
            found += [entry for entry in entries_of_segment(log, files[-1], observe) if entry.sequence == sequence]
    return in_order(found)


def entries_of_segment(
    log: LogDirectory,
    file: SegmentFile,
    observe: Observe,
    needle: bytes | None = None,
    go_on: Callable[[], None] = lambda: None,
) -> Iterator[Entry]:
    """The records of one segment that count; with `needle` those that contain it. `go_on` is called after a few of them, and
    after each block."""
    decoder = Decoder(log.name)
    with LogReader(log, observe, checks_chain=False) as reader:
        reader.start_at(file)
        for block in reader:
            if block.segment != file.first_sequence:
                break
            entries = decoder.entries(block) if needle is None else decoder.entries_with(block, needle)
            for count, entry in enumerate(entries, 1):
                yield entry
                if count % _ENTRIES_AT_ONCE == 0:
                    go_on()
            go_on()


def all_scores(logs: Sequence[LogDirectory], observe: Observe, progress: Progress = lambda *_: None) -> Iterator[Entry]:
    """Of every log, oldest first, those in shadow too. Raises OSError."""
    totals = [sum(file.path.stat().st_size for file in log.segments() if file.path.exists()) for log in logs]
    done = 0
    for log, total in zip(logs, totals, strict=True):
        decoder = Decoder(log.name)
        with LogReader(log, observe, checks_chain=False) as reader:
            for block in reader:
                yield from (entry for entry in decoder.entries(block) if entry.score is not None)
                progress(done + reader.offset, sum(totals))
        done += total


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """As they were written; those of one log in the log's order."""
    return sorted(entries, key=lambda entry: (entry.written_us, entry.writer, entry.sequence))


@dataclass
class Tail:
    """The newest records that `accepts` takes, and those that come after them."""

    logs: Callable[[], Sequence[LogDirectory]]  # asked again and again: a writer may come
    accepts: Callable[[Entry], bool]
    observe: Observe

    def __post_init__(self) -> None:
        self._followed: dict[str, tuple[LogReader, Decoder]] = {}

    def newest(self, count: int) -> list[Entry]:
        """Oldest first; then come() gives what follows. Raises OSError."""
        found: list[Entry] = []
        for log in self.logs():
            found += self._newest_of(log, count)
        return in_order(found)[-count:] if count else []

    def come(self) -> list[Entry]:
        """What has come since the last call. Raises OSError."""
        found: list[Entry] = []
        for log in self.logs():
            if log.name not in self._followed:
                self._followed[log.name] = (LogReader(log, self.observe, checks_chain=False), Decoder(log.name))
            found += self._read(log.name)
        return in_order(found)

    def close(self) -> None:
        for reader, _ in self._followed.values():
            reader.close()

    # --- implementation ---

    def _newest_of(self, log: LogDirectory, count: int) -> list[Entry]:
        files = log.segments()
        if not files:
            return []
        reader, decoder = LogReader(log, self.observe, checks_chain=False), Decoder(log.name)
        self._followed[log.name] = (reader, decoder)
        reader.start_at(files[-1])
        found = deque(self._read(log.name), maxlen=count)
        for file in reversed(files[:-1]):
            if len(found) >= count:
                break
            older = deque(filter(self.accepts, entries_of_segment(log, file, self.observe)), maxlen=count - len(found))
            found.extendleft(reversed(older))
        return list(found)

    def _read(self, name: str) -> Iterator[Entry]:
        reader, decoder = self._followed[name]
        for block in reader:
            yield from filter(self.accepts, decoder.entries(block))


# --- implementation ---


def _newest_first(logs: Sequence[LogDirectory]) -> list[tuple[LogDirectory, SegmentFile]]:
    dated: list[tuple[int, LogDirectory, SegmentFile]] = []
    for log in logs:
        for file in log.segments():
            segment = open_segment(file)
            made_us = 0
            if isinstance(segment, SegmentBlocks):
                made_us = segment.header.made_us
                segment.close()
            dated.append((made_us, log, file))
    dated.sort(key=lambda item: (item[0], item[2].first_sequence), reverse=True)
    return [(log, file) for _, log, file in dated]


def _contains(file: SegmentFile, needle: bytes) -> bool:
    segment = open_segment(file)
    if not isinstance(segment, SegmentBlocks):
        return False
    with segment:
        return segment.contains(needle)
