"""Whether files of shipped records are whole: every sequence of every log at least once."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from assay.audit.reading import Progress
from assay.audit.segments import json_integer
from assay.errors import InputError

LINE_BYTES_MAX: Final = 4 << 20
GAPS_MAX: Final = 1000  # of one log that are named


@dataclass
class ExportedLog:
    """What the files have of one log. Sequences are kept as ranges: they come in order, but for what came twice."""

    log_id: str
    writer: str
    records: int = 0  # each counted once
    repeats: int = 0
    _starts: list[int] = field(default_factory=list)  # of the ranges, ascending
    _ends: list[int] = field(default_factory=list)  # behind each range's last

    def add(self, sequence: int) -> None:
        place = bisect.bisect_right(self._starts, sequence) - 1
        if place >= 0 and sequence < self._ends[place]:
            self.repeats += 1
            return
        self.records += 1
        joins_before = place >= 0 and self._ends[place] == sequence
        joins_after = place + 1 < len(self._starts) and self._starts[place + 1] == sequence + 1
        if joins_before and joins_after:
            self._ends[place] = self._ends.pop(place + 1)
            del self._starts[place + 1]
        elif joins_before:
            self._ends[place] += 1
        elif joins_after:
            self._starts[place + 1] = sequence
        else:
            self._starts.insert(place + 1, sequence)
            self._ends.insert(place + 1, sequence + 1)

    @property
    def first(self) -> int:
        return self._starts[0]

    @property
    def last(self) -> int:
        return self._ends[-1] - 1

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """(first, last) of what is missing between."""
        return [(end, start - 1) for end, start in zip(self._ends, self._starts[1:], strict=False)]

    def document(self) -> dict[str, Any]:
        gaps = self.gaps
        return {
            "log_id": self.log_id,
            "writer": self.writer,
            "records": self.records,
            "repeats": self.repeats,
            "first_sequence": json_integer(self.first),
            "last_sequence": json_integer(self.last),
            "missing_records": json_integer(sum(last - first + 1 for first, last in gaps)),
            "gaps": [(json_integer(first), json_integer(last)) for first, last in gaps[:GAPS_MAX]],
        }


@dataclass
class ExportReport:
    logs: list[ExportedLog]
    files: int
    unreadable: list[tuple[Path, int]]  # (file, line) of the first ones that are no records
    unreadable_lines: int

    @property
    def is_whole(self) -> bool:
        return not self.unreadable_lines and not any(log.gaps for log in self.logs)

    def document(self) -> dict[str, Any]:
        return {
            "is_whole": self.is_whole,
            "files": self.files,
            "logs": [log.document() for log in self.logs],
            "unreadable_lines": self.unreadable_lines,
            "unreadable": [{"file": str(path), "line": line} for path, line in self.unreadable],
        }


def check_export(path: Path, progress: Progress = lambda *_: None) -> ExportReport:
    """All *.jsonl of a directory, or one file. Raises InputError where there is none, OSError."""
    paths = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not paths or not paths[0].is_file():
        raise InputError(f"{path}: expected a file of JSON lines, or a directory with *.jsonl")
    logs: dict[str, ExportedLog] = {}
    report = ExportReport([], len(paths), [], 0)
    total = sum(found.stat().st_size for found in paths)
    done = 0
    for found in paths:
        for number, line in enumerate(_lines(found), 1):
            done += len(line)
            record = _record(line)
            if record is None:
                report.unreadable_lines += 1
                report.unreadable += [(found, number)] if len(report.unreadable) < GAPS_MAX else []
                continue
            log_id, writer, sequence = record
            logs.setdefault(log_id, ExportedLog(log_id, writer)).add(sequence)
            if number % 1000 == 0:
                progress(done, total)
    report.logs = sorted(logs.values(), key=lambda log: (log.writer, log.log_id))
    return report


# --- implementation ---


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES_MAX):
            yield line


def _record(line: bytes) -> tuple[str, str, int] | None:
    """(log id, writer, sequence). None: not a whole line, or no record."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = orjson.loads(line)
        log_id, writer, sequence = found["log_id"], found["writer"], _sequence(found["sequence"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    is_record = isinstance(log_id, str) and isinstance(writer, str) and isinstance(sequence, int) and sequence > 0
    return (log_id, writer, sequence) if is_record else None


def _sequence(found: Any) -> Any:
    """Behind what a log counts it is text: docs/audit-format.md."""
    return int(found) if isinstance(found, str) and re.fullmatch("1[0-9]{19}", found) else found
