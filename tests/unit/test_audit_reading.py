"""Logs on disk are read as they were written, also while they are; damage of every kind is found, where it is."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from assay import _core
from assay.audit import segments as segment_files
from assay.audit.reading import Finding, Kind, LogBlock, LogReader
from assay.audit.segments import LogDirectory, SegmentBlocks, SegmentFile, first_sequence_of, log_directories
from assay.audit.verifying import Span, verify_log
from assay.errors import CoreError, InputError
from assay.v1 import audit_pb2
from tests.support.audit_logs import RawSegment, append, label, open_log, segments, spool_with_key, write_log

LOG_ID = b"log-of-the-tests"
RECORDS = 4_200  # 3.6 MB: four segments


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of several segments, as the core writes it."""
    directory = spool_with_key(tmp_path_factory.mktemp("spool"))
    write_log(directory, RECORDS)
    assert len(segments(directory)) >= 4
    return directory


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(written.parent, tmp_path / "spool")
    return tmp_path / "spool" / written.name


def read(directory: Path, observe: Callable[[Finding], None] = lambda _: None) -> list[LogBlock]:
    with LogReader(LogDirectory(directory), observe) as reader:
        blocks = list(reader)
        reader.end()
        return blocks


def sequences(blocks: list[LogBlock]) -> list[int]:
    return [sequence for block in blocks for sequence in range(block.first_sequence, block.end_sequence)]


def ids(blocks: list[LogBlock]) -> list[bytes]:
    return [record for block in blocks for record in block.block.records]


def findings_of(directory: Path) -> list[Finding]:
    report = verify_log(LogDirectory(directory))
    assert report.has_damage == any(finding.is_damage for finding in report.findings)
    return report.findings


def flip(path: Path, offset: int, bit: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bit]))


# --- what is well


def test_a_log_is_read_as_another_reader_reads_it(written: Path) -> None:
    findings: list[Finding] = []
    blocks = read(written, findings.append)
    raw = [RawSegment.parse(path.read_bytes()) for path in segments(written)]
    theirs = [(block.first_sequence, block.records, block.chain, block.offset) for segment in raw for block in segment.blocks]
    ours = [(block.first_sequence, block.block.records, block.block.chain, block.block.offset) for block in blocks]
    assert ours == theirs
    assert sequences(blocks) == list(range(1, RECORDS + 3))  # and two checkpoints
    assert findings == []


def test_segments_built_by_hand_are_read_and_continue_the_core_s_chain(tmp_path: Path) -> None:
    first = RawSegment(1, LOG_ID).add([label("a"), label("b")]).add([label("c")])
    second = first.next.add([label("d")])
    first.write(tmp_path)
    second.write(tmp_path)
    assert ids(read(tmp_path)) == [label(name) for name in "abcd"]
    assert findings_of(tmp_path) == []


def test_a_segment_larger_than_a_window_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "writer-0"
    write_log(directory, 1_200, padding=700)
    whole = read(directory)
    largest = max(len(record) for record in ids(whole)) * 10 + 100
    for window_bytes in (segment_files.BLOCK_BYTES_MAX, segment_files.BLOCK_BYTES_MAX + 8, largest // 8 * 8 + 262_144):
        monkeypatch.setattr(segment_files, "WINDOW_BYTES", window_bytes)
        assert read(directory) == whole


def test_the_largest_block_at_the_end_of_a_window_is_read(tmp_path: Path) -> None:
    segment = RawSegment(1, LOG_ID)
    record = label("big", 64_000)
    for _ in range(24):
        segment.add([record] * 4)  # 256,000 bytes each
    segment.write(tmp_path)
    assert ids(read(tmp_path)) == [record] * 96
    assert findings_of(tmp_path) == []


def test_a_log_whose_first_segments_are_gone_says_so_and_is_sound(log: Path) -> None:
    first, second = segments(log)[:2]
    first.unlink()
    (found,) = findings_of(log)
    assert (found.kind, found.first, found.last) == (Kind.REMOVED, 1, int(second.stem) - 1)
    assert not found.is_damage


def test_one_segment_can_be_read_alone(log: Path) -> None:
    path = segments(log)[1]
    (directory,) = log_directories(path)
    report = verify_log(directory)
    raw = RawSegment.parse(path.read_bytes())
    assert report.findings == []
    assert (report.first_sequence, report.records) == (raw.first_sequence, sum(len(block.records) for block in raw.blocks))


def test_what_is_read_by_one_record_more_or_less(log: Path) -> None:
    for first, last in ((1, 1), (15, 31), (int(segments(log)[1].stem), None), (None, 2_000), (2_999, 3_000), (99_999, None)):
        report = verify_log(LogDirectory(log), Span(first=first, last=last))
        expected = range(max(first or 1, 1), min(last or RECORDS + 2, RECORDS + 2) + 1)
        assert report.records == len(expected)
        assert report.is_sound
        assert report.findings == []


def test_a_span_of_times_reads_the_blocks_of_those_times(tmp_path: Path) -> None:
    segment = RawSegment(1, LOG_ID, made_us=10)
    for time_us in (10, 20, 20, 30):
        segment.add([label("a"), label("b")], time_us)
    segment.write(tmp_path)
    later = segment.next
    later.made_us = 40
    later.add([label("c")], 40).write(tmp_path)
    for first, last, records in (
        (None, None, 9),
        (20, 20, 4),
        (21, None, 3),
        (None, 19, 2),
        (40, 50, 1),
        (41, None, 0),
        (11, 19, 0),
    ):
        assert verify_log(LogDirectory(tmp_path), Span(first_us=first, last_us=last)).records == records


def test_the_log_s_checkpoints_are_counted_over_restarts(tmp_path: Path) -> None:
    directory = tmp_path / "writer-0"
    for _ in range(2):
        log = open_log(directory, bytes_max=4 << 20)
        append(log, (label(f"t{number}", 1_000) for number in range(7_000)))
        dropped = log.stats().ring_dropped
        assert dropped > 0
        log.close()
    report = verify_log(LogDirectory(directory))
    assert report.is_sound
    assert report.dropped["ring"] == dropped  # the first server's last checkpoint made way as well


# --- damage


def test_a_flipped_bit_anywhere_is_damage_or_a_torn_end(log: Path) -> None:
    """Every byte of a segment stands under a checksum, but for the zeros behind each block, which mean nothing."""
    paths = segments(log)
    random.seed(42)
    for path in (paths[0], paths[1], paths[-1]):
        raw = RawSegment.parse(path.read_bytes())
        last = raw.blocks[-1]
        offsets = [0, 9, 12, 17, 30, 40, 50, 60, 70, 100, 125, *(random.randrange(128, last.offset) for _ in range(12))]
        padding = {block.offset + block.size - byte for block in raw.blocks for byte in range(1, 8)}
        for offset in offsets:
            if offset in padding:
                continue
            flip(path, offset)
            findings = findings_of(log)
            assert any(found.is_damage and found.path == path and found.offset <= offset for found in findings), (path, offset)
            flip(path, offset)
    assert findings_of(log) == []


def test_a_damaged_block_costs_its_records_and_no_others(log: Path) -> None:
    for path in (segments(log)[0], segments(log)[-1]):
        block = RawSegment.parse(path.read_bytes()).blocks[5]
        flip(path, block.offset + 40)
        (found,) = findings_of(log)
        last = block.first_sequence + len(block.records) - 1
        assert (found.kind, found.offset, found.first, found.last) == (Kind.LOST, block.offset, block.first_sequence, last)
        assert sequences(read(log)) == [n for n in range(1, RECORDS + 3) if not block.first_sequence <= n <= last]
        flip(path, block.offset + 40)


def test_a_block_that_was_set_to_zeros_is_damage_even_in_the_newest_segment(log: Path) -> None:
    path = segments(log)[-1]
    block = RawSegment.parse(path.read_bytes()).blocks[5]
    with path.open("r+b") as file:
        file.seek(block.offset)
        file.write(bytes(block.size))
    (found,) = findings_of(log)
    assert (found.kind, found.offset, found.first) == (Kind.LOST, block.offset, block.first_sequence)


def test_a_segment_that_was_cut_lacks_its_last_records(log: Path) -> None:
    path, after = segments(log)[1:3]
    block = RawSegment.parse(path.read_bytes()).blocks[-3]
    for cut in (block.offset, block.offset + 3, block.offset + 100):
        os.truncate(path, cut)
        (found,) = findings_of(log)
        assert (found.kind, found.offset, found.first, found.last) == (
            Kind.LOST,
            block.offset,
            block.first_sequence,
            int(after.stem) - 1,
        )


def test_the_torn_end_of_the_newest_segment_is_no_damage(log: Path) -> None:
    path = segments(log)[-1]
    block = RawSegment.parse(path.read_bytes()).blocks[-1]
    for cut in (block.offset + 3, block.offset + 50, block.offset + block.size - 9):
        os.truncate(path, cut)
        (found,) = findings_of(log)
        assert (found.kind, found.offset, found.first) == (Kind.TORN, block.offset, block.first_sequence)
        assert not found.is_damage


def test_a_log_that_ends_before_what_was_shipped_was_cut(log: Path) -> None:
    report = verify_log(LogDirectory(log))
    (log / "shipped").write_text(f"{report.last_sequence} {report.log_id.hex()} {report.head.hex()}\n")
    assert findings_of(log) == []
    path = segments(log)[-1]
    os.truncate(path, RawSegment.parse(path.read_bytes()).blocks[-1].offset)
    (found,) = findings_of(log)
    assert (found.kind, found.last) == (Kind.LOST, report.last_sequence)


def test_a_segment_that_is_not_there_is_missed(log: Path) -> None:
    path, after = segments(log)[1:3]
    path.unlink()
    findings = findings_of(log)
    assert [(found.kind, found.first, found.last) for found in findings] == [(Kind.LOST, int(path.stem), int(after.stem) - 1)]


def test_swapped_segments_are_found(log: Path) -> None:
    one, other = segments(log)[1:3]
    one.rename(log / "kept")
    other.rename(one)
    (log / "kept").rename(other)
    kinds = {found.kind for found in findings_of(log)}
    assert Kind.CHANGED in kinds


def test_a_segment_of_another_log_is_foreign(log: Path, tmp_path: Path) -> None:
    path = segments(log)[1]
    theirs = RawSegment.parse(path.read_bytes())
    RawSegment(theirs.first_sequence, LOG_ID, blocks=theirs.blocks, chain=theirs.chain).write(log)
    assert [(found.kind, found.path, found.offset) for found in findings_of(log)] == [(Kind.FOREIGN, path, 32)]


def test_a_block_of_another_log_breaks_the_chain(log: Path, tmp_path: Path) -> None:
    path = segments(log)[1]
    mine = RawSegment.parse(path.read_bytes())
    victim = mine.blocks[4]
    other = RawSegment(victim.first_sequence, LOG_ID).add(victim.records, victim.written_us).encode()[128:]
    assert len(other) == victim.size  # the same records, in a well-formed block with the right checksum
    with path.open("r+b") as file:
        file.seek(victim.offset)
        file.write(other)
    findings = findings_of(log)
    assert [(found.kind, found.offset, found.first) for found in findings[:1]] == [
        (Kind.CHANGED, victim.offset, victim.first_sequence)
    ]
    assert sequences(read(log)) == list(range(1, RECORDS + 3)), "what can be read is read"


def test_a_record_changed_by_somebody_who_knows_the_format_is_found(log: Path) -> None:
    """Block, chain value and checksum are all made anew; the next block tells."""
    path = segments(log)[1]
    mine = RawSegment.parse(path.read_bytes())
    victim, after = mine.blocks[4:6]
    forged = [label("forged") + record[len(label("forged")) :] for record in victim.records]
    mine.blocks[4] = type(victim)(victim.first_sequence, victim.written_us, forged, b"", victim.offset, victim.size)
    data = mine.encode()[victim.offset : victim.offset + victim.size]
    with path.open("r+b") as file:
        file.seek(victim.offset)
        file.write(data)
    assert [(found.kind, found.offset) for found in findings_of(log)] == [(Kind.CHANGED, after.offset)]


def test_a_whole_segment_made_anew_is_found_by_the_next(log: Path) -> None:
    path, after = segments(log)[1:3]
    mine = RawSegment.parse(path.read_bytes())
    mine.blocks[0].records[0] = label("forged")
    mine.write(log)
    assert [(found.kind, found.path, found.offset) for found in findings_of(log)] == [(Kind.CHANGED, after, 64)]


def test_a_log_made_anew_to_its_end_is_found_by_a_head_that_was_kept(log: Path) -> None:
    head = verify_log(LogDirectory(log)).head
    last = segments(log)[-1]
    mine = RawSegment.parse(last.read_bytes())
    mine.blocks[1].records[0] = label("forged")
    last.unlink()
    mine.write(log)
    report = verify_log(LogDirectory(log), head=head)
    assert report.findings == []
    assert report.has_head is False
    assert not report.is_sound


def test_a_kept_head_is_found_wherever_it_stands(log: Path) -> None:
    raw = [RawSegment.parse(path.read_bytes()) for path in segments(log)]
    for head in (raw[0].blocks[0].chain, raw[1].blocks[3].chain, raw[2].chain, raw[-1].blocks[-1].chain):
        assert verify_log(LogDirectory(log), head=head).is_sound
    segments(log)[0].unlink()
    assert verify_log(LogDirectory(log), head=raw[1].chain).has_head, "the segment's header has it"
    assert not verify_log(LogDirectory(log), head=raw[0].blocks[0].chain).has_head


def test_removed_doubled_and_moved_blocks_are_found(tmp_path: Path) -> None:
    segment = RawSegment(1, LOG_ID)
    for number in range(6):
        segment.add([label(f"t{number}")])
    data, blocks = segment.encode(), segment.blocks
    parts = [data[block.offset : block.offset + block.size] for block in blocks]
    path = segment.write(tmp_path)
    for order, kind, first in (
        ([0, 1, 3, 4, 5], Kind.LOST, 3),
        ([0, 1, 2, 2, 3, 4, 5], Kind.DOUBLED, 4),
        ([0, 2, 1, 3, 4, 5], Kind.LOST, 2),
    ):
        path.write_bytes(data[:128] + b"".join(parts[place] for place in order))
        findings = findings_of(tmp_path)
        assert (findings[0].kind, findings[0].first) == (kind, first)
        assert findings[0].is_damage


def test_a_segment_without_a_header_costs_its_records_and_no_others(log: Path) -> None:
    path, after = segments(log)[1:3]
    flip(path, 20)
    (found,) = findings_of(log)
    assert (found.kind, found.offset, found.first, found.last) == (Kind.LOST, 0, int(path.stem), int(after.stem) - 1)
    flip(path, 20)
    flip(segments(log)[-1], 20)
    (found,) = findings_of(log)
    assert (found.kind, found.first) == (Kind.LOST, int(segments(log)[-1].stem))


def test_any_bytes_as_a_segment_are_answered(tmp_path: Path) -> None:
    segment = RawSegment(1, LOG_ID).add([label("a")] * 3).add([label("b")] * 3).encode()
    random.seed(7)
    for size in [*range(0, 140), *(random.randrange(len(segment)) for _ in range(50))]:
        (tmp_path / "00000000000000000001.audit").write_bytes(segment[:size])
        findings_of(tmp_path)
    for _ in range(300):
        data = bytearray(segment)
        for _ in range(random.randrange(1, 8)):
            data[random.randrange(len(data))] = random.randrange(256)
        (tmp_path / "00000000000000000001.audit").write_bytes(data)
        findings_of(tmp_path)


@pytest.mark.parametrize("what", ["a bit", "zeros"])
def test_damage_before_a_restart_stays_damage_and_costs_no_other_record(tmp_path: Path, what: str) -> None:
    """The log goes on behind its last sound block: no sequence is given twice, so that what is lost is missed."""
    log = open_log(tmp_path)
    append(log, (label(f"t{number}", 400) for number in range(1, 201)))
    del log  # as if it had been killed
    path = segments(tmp_path)[0]
    damaged = RawSegment.parse(path.read_bytes()).blocks[5]
    if what == "a bit":
        flip(path, damaged.offset + 200)
    else:
        with path.open("r+b") as file:
            file.seek(damaged.offset)
            file.write(bytes(100))
    lost = (damaged.first_sequence, damaged.first_sequence + 9)
    log = open_log(tmp_path)
    append(log, [label("later")])
    assert log.stats().lost_records == 10
    log.close()
    (found,) = findings_of(tmp_path)
    assert (found.kind, found.first, found.last) == (Kind.LOST, *lost)
    there = [audit_pb2.AuditRecord.FromString(record).label.transaction_id for record in ids(read(tmp_path))]
    assert [text for text in there if text] == [
        f"t{number}" for number in range(1, 201) if not lost[0] <= number + 1 <= lost[1]
    ] + ["later"]


def test_what_is_no_file_is_no_segment(log: Path, tmp_path: Path) -> None:
    """A pipe would be waited for, a link leads anywhere."""
    before = sequences(read(log))
    (log / "00000000000000900000.audit").mkdir()
    (log / "00000000000000900001.audit").symlink_to("nowhere")
    (log / "00000000000000900002.audit").symlink_to(segments(log)[0])
    os.mkfifo(log / "00000000000000900003.audit")
    assert sequences(read(log)) == before
    assert findings_of(log) == []


def test_a_segment_that_the_disk_does_not_give_costs_its_records_and_no_others(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, after = segments(log)[1:3]
    bad = path.stat().st_ino
    pread = os.pread

    def failing(handle: int, count: int, offset: int) -> bytes:
        if os.fstat(handle).st_ino == bad and offset + count > 300_000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(handle, count, offset)

    monkeypatch.setattr(os, "pread", failing)
    (found,) = findings_of(log)
    assert found.kind is Kind.LOST
    assert "Input/output error" in found.text
    assert found.last == int(after.stem) - 1
    assert found.first >= int(path.stem)


def test_what_may_be_read_another_time_is_not_given_up(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipper would pass it over for good."""
    path, bad = segments(log)[1], segments(log)[1].stat().st_ino
    whole = sequences(read(log))
    open_file, pread = os.open, os.pread

    def crowded(name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if str(name) == str(path):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return open_file(name, flags, mode, dir_fd=dir_fd)

    def starved(handle: int, count: int, offset: int) -> bytes:
        if os.fstat(handle).st_ino == bad and offset > 0:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return pread(handle, count, offset)

    for name, fault, text in (("open", crowded, "Too many open files"), ("pread", starved, "Cannot allocate memory")):
        with monkeypatch.context() as broken:
            broken.setattr(os, name, fault)
            with pytest.raises(OSError, match=text):
                read(log)
    assert sequences(read(log)) == whole


# --- what was written anew


def test_more_than_a_block_behind_the_end_was_not_written_anew(tmp_path: Path) -> None:
    """Somebody has hidden acknowledged records: the next segment has their sequences for others."""
    first = RawSegment(1, LOG_ID).add([label("a")])
    second = first.next.add([label("x")])
    first.add([label("b")]).add([label("c")])
    first.write(tmp_path)
    second.write(tmp_path)
    (found,) = findings_of(tmp_path)
    assert (found.kind, found.first, found.is_damage) == (Kind.DOUBLED, 2, True)


def test_a_block_that_was_written_anew_in_the_next_segment_does_not_count(tmp_path: Path) -> None:
    """A block whose fsync failed stands there whole, and its records once more in the next segment, behind a new lineage."""
    first = RawSegment(1, LOG_ID).add([label("a")])
    second = first.next.add([label("lineage"), label("b"), label("c")])
    first.add([label("b"), label("c")])
    first.write(tmp_path)
    second.write(tmp_path)
    assert ids(read(tmp_path)) == [label(name) for name in ("a", "lineage", "b", "c")]
    (found,) = findings_of(tmp_path)
    assert (found.kind, found.first, found.is_damage) == (Kind.VOID, 2, False)


def test_a_reader_that_had_the_block_already_goes_back(tmp_path: Path) -> None:
    first = RawSegment(1, LOG_ID).add([label("a")])
    second = first.next.add([label("lineage"), label("b")])
    first.add([label("b")]).write(tmp_path)
    findings: list[Finding] = []
    with LogReader(LogDirectory(tmp_path), findings.append) as reader:
        assert ids(list(reader)) == [label("a"), label("b")]
        second.write(tmp_path)
        assert ids(list(reader)) == [label("lineage"), label("b")]
    assert [(found.kind, found.first, found.last) for found in findings] == [(Kind.VOID, 2, 2)]


# --- while it is written


def test_a_reader_follows_a_log_over_its_segments_and_over_restarts(tmp_path: Path) -> None:
    log = open_log(tmp_path / "writer-0")
    findings: list[Finding] = []
    seen: list[int] = []
    with LogReader(LogDirectory(tmp_path / "writer-0"), findings.append) as reader:
        for round_number in range(60):
            append(log, (label(f"t{number}", SIZE) for number in range(60)), per_block=7)
            seen += sequences(list(reader))
            if round_number in (20, 40):
                log.close()
                log = open_log(tmp_path / "writer-0")
        log.close()
        seen += sequences(list(reader))
    assert len(segments(tmp_path / "writer-0")) >= 5
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == 3_600 + 2 * 3
    assert findings == []


SIZE = 900


def test_a_block_under_way_is_read_once_it_is_whole(tmp_path: Path) -> None:
    segment = RawSegment(1, LOG_ID).add([label("a")]).add([label("b", 5_000)]).add([label("c")])
    data = segment.encode()
    middle, last = segment.blocks[1:]
    path = segment.write(tmp_path)
    room = bytes(10_000)
    path.write_bytes(data[: middle.offset + 3_000] + room)
    findings: list[Finding] = []
    with LogReader(LogDirectory(tmp_path), findings.append) as reader:
        assert sequences(list(reader)) == [1]
        path.write_bytes(data[: last.offset] + room)
        assert sequences(list(reader)) == [2]
        path.write_bytes(data + room)
        assert sequences(list(reader)) == [3]
    assert findings == []


def test_a_ring_that_overtakes_its_reader_is_said_and_is_no_damage(tmp_path: Path) -> None:
    log = open_log(tmp_path / "writer-0", bytes_max=4 << 20)
    findings: list[Finding] = []
    with LogReader(LogDirectory(tmp_path / "writer-0"), findings.append) as reader:
        append(log, (label(f"t{number}", SIZE) for number in range(500)))
        seen = sequences([block for block in (reader.read() for _ in range(20)) if block])
        append(log, (label(f"t{number}", SIZE) for number in range(12_000)))
        log.close()
        seen += sequences(list(reader))
    (found,) = findings
    assert (found.kind, found.is_damage) == (Kind.REMOVED, False)
    assert seen == [*range(1, found.first), *range(found.last + 1, 12_000 + 500 + 3)], "all but what made way"


def test_a_segment_that_goes_between_the_listing_and_the_opening_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path / "writer-0", 2_500)
    paths = segments(tmp_path / "writer-0")
    listed = [SegmentFile(path, int(path.stem)) for path in paths]
    paths[0].unlink()
    answers = iter([listed])
    real = LogDirectory.segments
    monkeypatch.setattr(LogDirectory, "segments", lambda self: next(answers, None) or real(self))
    findings: list[Finding] = []
    assert sequences(read(tmp_path / "writer-0", findings.append))[0] == int(paths[1].stem)
    assert [found.kind for found in findings] == [Kind.REMOVED]


# --- names


def test_names_of_segments() -> None:
    for name, first in (
        ("00000000000000000001.audit", 1),
        ("18446744073709551615.audit", (1 << 64) - 1),
        ("18446744073709551616.audit", 0),
        ("00000000000000000000.audit", 0),
        ("0000000000000000001.audit", 0),
        ("00000000000000000001.audit.torn", 0),
        ("00000000000000000001", 0),
        ("spare", 0),
        ("²0000000000000000001.audit", 0),
    ):
        assert first_sequence_of(name) == first


def test_what_is_no_log_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(InputError):
            log_directories(path)
    assert log_directories(tmp_path) == []
    with pytest.raises(CoreError) as caught:
        SegmentBlocks(SegmentFile(tmp_path / "file", 1))
    assert caught.value.reason == "SEGMENT_MAGIC"


def test_keys_are_told_apart(log: Path) -> None:
    ours = verify_log(LogDirectory(log)).keys
    assert list(ours.values()) == [True]
    (log.parent / "key").write_bytes(bytes(32))
    assert verify_log(LogDirectory(log)).keys == dict.fromkeys(ours, False)
    (log.parent / "key").unlink()
    assert verify_log(LogDirectory(log)).keys == dict.fromkeys(ours)
    assert _core.audit_key_id(bytes(range(32))).hex() in ours
