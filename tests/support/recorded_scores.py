"""What servers of tests have recorded: their audit log, written by the core, read back whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from assay import _core
from assay.v1 import audit_pb2

KEY = b"k" * 32
SEGMENTS = "*.audit"


def open_log(directory: Path, level: str = "spool", **options: Any) -> _core.AuditLog:
    """Of one directory, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    wanted = {"bytes_max": 64 << 20, "software": "test", **options}
    return _core.AuditLog(directory=str(directory), key=KEY, level=_core.AUDIT_LEVELS[level], **wanted)


@dataclass
class ReadLog:
    """All that a log's segments say, each up to where the next one begins."""

    records: list[tuple[int, audit_pb2.AuditRecord]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def scores(self) -> list[audit_pb2.ScoreRecord]:
        return [record.score for _, record in self.records if record.HasField("score")]

    def runtimes(self) -> list[str]:
        """What ran the model, of each score."""
        lineages = {record.lineage.number: record.lineage for _, record in self.records if record.HasField("lineage")}
        return [lineages[score.lineage].runtime for score in self.scores()]

    def ids(self) -> list[str]:
        return [score.transaction_id for score in self.scores()]


def read_log(directory: Path) -> ReadLog:
    """Checks every block and the chain from the first segment to the last."""
    log = ReadLog()
    paths = sorted(directory.glob(SEGMENTS))
    chain: bytes | None = None
    for path, following in zip_longest(paths, paths[1:]):
        segment = _core.AuditSegment(path.read_bytes())
        if chain is not None and segment.chain != chain:
            log.faults.append(f"{path.name}: does not go on where the segment before it ended")
        end = int(following.stem) if following else None
        while end is None or segment.next_sequence < end:
            block = segment.next_block()
            if block is None:
                break
            for index, record in enumerate(block.records):
                log.records.append((block.first_sequence + index, audit_pb2.AuditRecord.FromString(record)))
        if end is not None and segment.next_sequence != end:
            log.faults.append(f"{path.name}: {segment.why} at byte {segment.offset}")
        chain = segment.chain
    return log
