"""Logs that are read while another thread writes as quickly as it can: nothing is missed, nothing is called damage."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from assay.audit.reading import Finding, Kind, LogReader
from assay.audit.segments import LogDirectory
from assay.audit.verifying import verify_log
from tests.support.audit_logs import label, open_log, segments

RECORDS = 60_000
LEVELS = {"spool": 1, "fsync": 2}


class Writer:
    """Appends RECORDS records of all sizes, by the core's own thread; ends the log in order."""

    def __init__(self, directory: Path, **options: object) -> None:
        self.log = open_log(directory, threads=True, **options)
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    @property
    def is_writing(self) -> bool:
        return self._thread.is_alive()

    def _write(self) -> None:
        for number in range(RECORDS):
            while not self.log.append_record(label(f"t{number}", number % 977)):
                self.log.flush()
        self.log.close()

    def join(self) -> None:
        self._thread.join()


@pytest.mark.parametrize("level", LEVELS)
def test_a_reader_beside_the_writer_misses_nothing(tmp_path: Path, level: str) -> None:
    findings: list[Finding] = []
    writer = Writer(tmp_path / "writer-0", level=LEVELS[level], bytes_max=256 << 20)
    expected, blocks = 1, 0
    with LogReader(LogDirectory(tmp_path / "writer-0"), findings.append) as reader:
        is_last = False
        while True:
            for block in reader:
                assert block.first_sequence == expected
                expected, blocks = block.end_sequence, blocks + 1
            if is_last:
                break
            is_last = not writer.is_writing
    writer.join()
    assert expected == RECORDS + 3
    assert findings == []
    assert blocks > 1
    assert len(segments(tmp_path / "writer-0")) > 1


def test_a_reader_of_a_ring_misses_only_what_made_way(tmp_path: Path) -> None:
    findings: list[Finding] = []
    writer = Writer(tmp_path / "writer-0", bytes_max=4 << 20)
    seen: set[int] = set()
    with LogReader(LogDirectory(tmp_path / "writer-0"), findings.append) as reader:
        is_last = False
        while True:
            for block in reader:
                seen.update(range(block.first_sequence, block.end_sequence))
            if is_last:
                break
            is_last = not writer.is_writing
    writer.join()
    assert {found.kind for found in findings} <= {Kind.REMOVED}
    missed = {sequence for found in findings for sequence in range(found.first, found.last + 1)}
    assert seen | missed == set(range(1, RECORDS + 3))
    assert not seen & missed


def test_a_log_under_way_is_sound(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "writer-0", bytes_max=16 << 20)
    looks = 0
    while writer.is_writing:
        report = verify_log(LogDirectory(tmp_path / "writer-0"))
        assert report.is_sound, report.findings
        assert {found.kind for found in report.findings} <= {Kind.REMOVED, Kind.TORN}
        looks += 1
    writer.join()
    assert looks > 0
