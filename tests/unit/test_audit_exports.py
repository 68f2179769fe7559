"""Files of shipped records: what is missing is named, what came twice is not taken for more."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from assay.audit.exports import ExportedLog, check_export
from assay.errors import InputError


def line(sequence: object, log_id: str = "a", writer: str = "writer-0") -> str:
    return json.dumps({"type": "score", "writer": writer, "log_id": log_id, "sequence": sequence}) + "\n"


def test_ranges_say_what_a_set_says(rng: random.Random) -> None:
    for _ in range(200):
        sequences = [rng.randrange(1, 40) for _ in range(rng.randrange(1, 60))]
        log = ExportedLog("a", "writer-0")
        for sequence in sequences:
            log.add(sequence)
        there = set(sequences)
        assert (log.records, log.repeats) == (len(there), len(sequences) - len(there))
        assert (log.first, log.last) == (min(there), max(there))
        missing = {number for first, last in log.gaps for number in range(first, last + 1)}
        assert missing == set(range(min(there), max(there))) - there


def test_gaps_are_found_over_files_and_logs_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "2026-03-01T12.jsonl").write_text("".join(map(line, [1, 2, 3, 2, 3, 4])) + line(7, "b"))
    (tmp_path / "2026-03-01T13.jsonl").write_text("".join(map(line, [5, 8, 9])) + line(8, "b", "writer-1"))
    (tmp_path / "notes.txt").write_text("not ours")
    report = check_export(tmp_path)
    found = {log.log_id: log.document() for log in report.logs}
    assert (found["a"]["records"], found["a"]["repeats"], found["a"]["gaps"]) == (7, 2, [(6, 7)])
    assert found["a"]["missing_records"] == 2
    assert found["b"]["gaps"] == []
    assert not report.is_whole
    with (tmp_path / "2026-03-01T13.jsonl").open("a") as file:
        file.write(line(7) + line(6))
    assert check_export(tmp_path).is_whole
    assert check_export(tmp_path / "2026-03-01T12.jsonl").is_whole


@pytest.mark.parametrize("bad", ["{}\n", "[1]\n", "\n", "x\n", line(0), line("1"), line(1)[:-1], line(1)[:10]])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "2026-03-01T12.jsonl"
    path.write_text(line(1) + bad)
    report = check_export(tmp_path)
    assert report.unreadable == [(path, 2)]
    assert not report.is_whole


def test_where_no_files_are_it_says_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(InputError):
            check_export(path)
