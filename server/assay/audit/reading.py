"""Reads one writer's log from anywhere on, also while it is written: blocks in order, and what is wrong with it.

A log is its segments in order of their names. Of a segment counts what stands before the first sequence of the next one: what is
behind was torn, or written anew there. Every segment continues the chain of the one before.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from assay import _core
from assay.audit.segments import NO_CHAIN, LogDirectory, SegmentBlocks, SegmentFile, json_integer, open_segment


class Kind(enum.Enum):
    """What can be said of a log beside its blocks."""

    REMOVED = "removed"  # older segments made way; no damage
    TORN = "torn"  # bytes of a block that was never acknowledged; no damage
    VOID = "void"  # a block that was written anew in the next segment; no damage
    LOST = "lost"  # records that cannot be read, or are not there
    DOUBLED = "doubled"  # a block that stands there again
    CHANGED = "changed"  # the chain does not fit
    FOREIGN = "foreign"  # of another log


HARMLESS: Final = frozenset({Kind.REMOVED, Kind.TORN, Kind.VOID})


@dataclass(frozen=True)
class Finding:
    """`first` to `last`: the sequences that it is about; last 0: not known, or none."""

    kind: Kind
    path: Path
    offset: int
    first: int
    last: int
    text: str
    bytes: int = 0

    @property
    def is_damage(self) -> bool:
        return self.kind not in HARMLESS

    def document(self) -> dict[str, object]:
        return {
            "kind": self.kind.value,
            "is_damage": self.is_damage,
            "file": str(self.path),
            "offset": self.offset,
            "first_sequence": json_integer(self.first),
            "last_sequence": json_integer(self.last) or None,
            "bytes": self.bytes,
            "text": self.text,
        }


@dataclass(frozen=True)
class Place:
    """Between two blocks: the sequence of the next record, and the chain after the block before."""

    next_sequence: int
    chain: bytes


@dataclass(frozen=True)
class LogBlock:
    """A block, and the segment that it stands in."""

    block: _core.AuditBlock
    segment: int  # its first sequence
    chain_before: bytes
    log_id: bytes
    key_id: bytes

    @property
    def first_sequence(self) -> int:
        return self.block.first_sequence

    @property
    def end_sequence(self) -> int:
        """Of the record after its last."""
        return self.block.first_sequence + len(self.block.records)


Observe = Callable[[Finding], None]
Progress = Callable[[int, int], None]  # bytes that were read, and in all


@dataclass
class LogReader:
    """Blocks of one log, in order, from the first segment on or from start_at(). read() gives None where nothing more stands now;
    asked later it goes on. `observe` is told each finding once."""

    log: LogDirectory
    observe: Observe = lambda _: None
    checks_chain: bool = True
    bytes_read: int = 0  # of the segments that were ended
    _segment: SegmentBlocks | None = field(default=None, init=False)
    _expected: Place | None = field(default=None, init=False)  # None: whatever comes first
    _before_last: Place | None = field(default=None, init=False)
    _end: int | None = field(default=None, init=False)  # the first sequence of the next segment
    _next: SegmentFile | None = field(default=None, init=False)
    _left: Path | None = field(default=None, init=False)  # the segment before the present one
    _log_id: bytes = field(default=b"", init=False)  # of the first segment
    _doubtful: int = field(default=-1, init=False)  # offset of a block that has failed once
    _has_chain: bool = field(default=True, init=False)  # False: behind what cannot be read, so the next block is taken as it is
    _is_from_start: bool = field(default=True, init=False)
    _said: set[tuple[Kind, Path, int]] = field(default_factory=set, init=False)

    def start_at(self, file: SegmentFile) -> None:
        """The first block is that segment's first. Before the first read()."""
        self._next = file
        self._is_from_start = False

    def read(self) -> LogBlock | None:
        """Raises OSError."""
        while self._segment is not None or self._open_next():
            assert self._segment is not None
            before = Place(self._segment.next_sequence, self._segment.chain)
            block = self._next_block(self._segment)
            if block is not None:
                self._before_last = before
                self._expected = Place(self._segment.next_sequence, self._segment.chain)
                header = self._segment.header
                return LogBlock(block, header.first_sequence, before.chain, header.log_id, header.key_id)
            if self._end is not None:
                self._leave()
            elif not self._find_next():
                return None
        return None

    def __iter__(self) -> Iterator[LogBlock]:
        while (block := self.read()) is not None:
            yield block

    @property
    def place(self) -> Place | None:
        """Behind the last block that was read; None: nothing was read yet."""
        return self._expected

    @property
    def offset(self) -> int:
        """Bytes read so far, of all segments."""
        return self.bytes_read + (self._segment.offset if self._segment else 0)

    def end(self) -> None:
        """Nothing more is read: says what stands behind the last block."""
        if self._segment is not None and self._end is None:
            self._say_tail(self._segment)

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- segments

    def _open_next(self) -> bool:
        """The segment that follows, or the first. False: there is none yet."""
        while True:
            file, after = self._following()
            if file is None:
                return False
            self._next = None
            found = open_segment(file)
            if found is None:  # removed meanwhile: the next one is first
                continue
            self._end = after.first_sequence if after else None
            if isinstance(found, str):
                if self._skip_headless(file, found):
                    continue
                return False
            self._enter(found)
            return True

    def _following(self) -> tuple[SegmentFile | None, SegmentFile | None]:
        """The next segment and the one behind it."""
        files = self.log.segments()
        if self._next is not None:
            first = self._next.first_sequence
            later = [file for file in files if file.first_sequence > first]
            return self._next, later[0] if later else None
        wanted = self._expected.next_sequence if self._expected else 0
        later = [file for file in files if file.first_sequence >= wanted]
        return (later[0], later[1] if len(later) > 1 else None) if later else (None, None)

    def _skip_headless(self, file: SegmentFile, what: str) -> bool:
        """False: it is the newest, so nothing follows."""
        first, last = file.first_sequence, (self._end or 1) - 1
        self._say(Finding(Kind.LOST, file.path, 0, first, last, what, _bytes_of(file.path)))
        if self._end is None:
            return False
        self._expected = Place(self._end, b"")
        return True

    def _enter(self, segment: SegmentBlocks) -> None:
        header, path, expected = segment.header, segment.file.path, self._expected
        first = segment.file.first_sequence
        if header.first_sequence != first:
            self._say(Finding(Kind.CHANGED, path, 16, first, 0, f"its header says that it begins with {header.first_sequence}"))
        if expected is None:
            if first > 1 and self._is_from_start and not self.log.only:
                self._say(Finding(Kind.REMOVED, path, 0, 1, first - 1, "older segments are not here any more"))
        elif self._log_id and header.log_id != self._log_id:
            self._say(Finding(Kind.FOREIGN, path, 32, first, 0, f"of another log, {header.log_id.hex()}"))
        elif first > expected.next_sequence:
            kind, text = Kind.LOST, "a segment is missing"
            if self._has_made_way():
                kind, text = Kind.REMOVED, _OVERTAKEN
            self._say(Finding(kind, path, 0, expected.next_sequence, first - 1, text))
        elif expected.chain and header.chain != expected.chain:
            text = "its header does not continue the chain: this segment, or the one before, was changed or replaced"
            self._say(Finding(Kind.CHANGED, path, 64, first, 0, text))
        elif first == 1 and header.chain != NO_CHAIN:
            self._say(Finding(Kind.CHANGED, path, 64, first, 0, "a log begins with a chain of zeros"))
        self._log_id = self._log_id or header.log_id
        self._segment = segment
        self._expected = Place(segment.next_sequence, segment.chain)
        self._before_last = None

    def _has_made_way(self) -> bool:
        """Whether the segment that was read last is gone too: then the ring has overtaken the reader."""
        return self._left is not None and not self._left.exists()

    def _find_next(self) -> bool:
        """Whether a segment follows the present one. Then that one is read once more: something may have come since."""
        assert self._segment is not None
        if self.log.only:
            return False
        first = self._segment.file.first_sequence
        later = [file for file in self.log.segments() if file.first_sequence > first]
        if later:
            self._end = later[0].first_sequence
        return bool(later)

    def _leave(self) -> None:
        """The segment has ended, and the next one says where."""
        segment, end = self._segment, self._end
        assert segment is not None
        assert end is not None
        path = segment.file.path
        if segment.next_sequence < end:
            kind, text = Kind.LOST, _why_lost(segment.why)
            if segment.why == "OK" and not path.exists():
                kind, text = Kind.REMOVED, _OVERTAKEN
            self._say(Finding(kind, path, segment.offset, segment.next_sequence, end - 1, text))
            self._expected = Place(end, b"")
        elif segment.next_sequence > end:
            self._go_back(segment, end)
        else:
            self._say_tail(segment)
        self.bytes_read += segment.size_bytes
        self._left = path
        self.close()
        self._end = None

    def _go_back(self, segment: SegmentBlocks, end: int) -> None:
        """Blocks were given that the next segment has anew."""
        before, path = self._before_last, segment.file.path
        if before is not None and before.next_sequence == end:
            text = "the block was written anew in the next segment"
            self._say(Finding(Kind.VOID, path, segment.offset, end, segment.next_sequence - 1, text))
            self._expected = before
        else:
            text = "the next segment has other records of these sequences"
            self._say(Finding(Kind.DOUBLED, path, segment.offset, end, segment.next_sequence - 1, text))
            self._expected = Place(end, b"")

    # --- blocks

    def _next_block(self, segment: SegmentBlocks) -> _core.AuditBlock | None:
        """The next block that counts. What is damaged is said and passed over, where it is known to be damage."""
        while self._end is None or segment.next_sequence < self._end:
            block = segment.next_block(checks_chain=self.checks_chain and self._has_chain)
            if block is not None:
                self._has_chain = True
                return block
            if segment.why == "OK" and self._end is None:
                return None
            if segment.why == "SEGMENT_CHAIN":
                self._say_changed(segment)
                block = segment.next_block(checks_chain=False)
                if block is not None:
                    return block
                continue
            if not self._pass_over(segment):
                return None
        return None

    def _say_changed(self, segment: SegmentBlocks) -> None:
        text = "the chain does not fit: this block, or the one before, was changed or replaced"
        self._say(Finding(Kind.CHANGED, segment.file.path, segment.offset, segment.next_sequence, 0, text))

    def _pass_over(self, segment: SegmentBlocks) -> bool:
        """Goes to the next sound block. False: there is none, so it may be a block under way, or the torn end."""
        found = segment.find_sound(segment.offset, segment.next_sequence, self._end)
        if found is None:
            return False
        if (found.offset, found.first_sequence) == (segment.offset, segment.next_sequence):  # it has been finished meanwhile
            return True
        # A block under way may be read torn though the one behind it is whole: it was finished while this was read.
        if self._end is None and self._doubtful != segment.offset:
            self._doubtful = segment.offset
            return True
        offset, sequence = found.offset, found.first_sequence
        path, start, first = segment.file.path, segment.offset, segment.next_sequence
        if sequence > first:
            text = "zeros stand in their place" if segment.why == "OK" else _why_lost(segment.why)
            self._say(Finding(Kind.LOST, path, start, first, sequence - 1, text, offset - start))
        else:
            text = "bytes that do not belong here stand before a block"
            if segment.why == "SEGMENT_SEQUENCE":
                text = "a block stands here a second time, or one of another place"
            self._say(Finding(Kind.DOUBLED, path, start, first, 0, text, offset - start))
        segment.resume(offset, sequence, segment.chain)
        self._has_chain = sequence == first
        return True

    def _say_tail(self, segment: SegmentBlocks) -> None:
        """What stands behind the last block that counts."""
        end = segment.end_of_zeros()
        if end <= segment.offset:
            return
        path, offset, first = segment.file.path, segment.offset, segment.next_sequence
        sound = segment.find_sound(offset, first, None)
        if sound is None:
            text = "a block that is not finished: nobody was told that its records are written"
            self._say(Finding(Kind.TORN, path, offset, first, 0, text, end - offset))
        elif self._end is not None:
            self._say_anew(segment, sound, end)
        elif sound.offset > offset:
            last = sound.first_sequence - 1
            self._say(Finding(Kind.LOST, path, offset, first, last, "zeros stand in their place", end - offset))

    def _say_anew(self, segment: SegmentBlocks, sound: _core.AuditBlockPlace, end: int) -> None:
        """A block whose writing failed is written anew in the next segment: one, the last. More than that was acknowledged."""
        path, offset, first = segment.file.path, segment.offset, segment.next_sequence
        is_last = segment.find_sound(sound.end_offset, first, None) is None
        if is_last and (sound.offset, sound.first_sequence) == (offset, first):
            kind, text = Kind.VOID, "a block that was written anew in the next segment"
        else:
            kind, text = Kind.DOUBLED, "blocks of which the next segment has the sequences again, for other records"
        self._say(Finding(kind, path, offset, first, 0, text, end - offset))

    def _say(self, finding: Finding) -> None:
        known = (finding.kind, finding.path, finding.offset)
        if known not in self._said:
            self._said.add(known)
            self.observe(finding)


_OVERTAKEN: Final = "made way while they were read"


def _why_lost(why: str) -> str:
    return {
        "OK": "the segment ends before them",
        "SEGMENT_CHECKSUM": "damaged: their checksum is wrong, or their length",
        "SEGMENT_SEQUENCE": "a block is missing here, or stands in another place",
        "SEGMENT_CHAIN": "their chain does not fit",
    }.get(why, why)


def _bytes_of(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
