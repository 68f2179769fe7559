"""Replays a file of events into the matrix that a model would have seen: the training set. The same C++ code as scoring.

Events are taken in (event_time, transaction_id) order; each is scored against the store as it is then, and applied after. Rows of
attributes come in between, at their own times (attribute_history.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from assay import _core
from assay.errors import InputError
from assay.features.attribute_history import HistoryCursor, TimedRow, read_history
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.ingest import check_report
from assay.features.line_blocks import read_blocks
from assay.features.local_store import BYTES_MAX_DEFAULT
from assay.features.logged_lines import LoggedLines
from assay.features.rejects import Rejects
from assay.features.rows import input_columns
from assay.features.sources import open_source

ROWS_PER_CHUNK = 65_536
READ_BYTES = 4 << 20

Progress = Callable[[int, int], None]  # done, total


@dataclass(frozen=True)
class ReplaySummary:
    event_count: int
    row_count: int  # written
    invalid_count: int  # events that a score would have refused (NULL_INPUT, OUT_OF_RANGE): applied, not written
    duplicate_count: int
    late_count: int  # too late for one view at least, whatever the others did
    rejected_count: int  # lines that are no event


def replay(
    feature_set: FeatureSet,
    events_path: Path,
    out_path: Path,
    progress: Progress | None = None,
    *,
    attributes: Mapping[str, Path] | None = None,
    rejects: Rejects | None = None,
    bytes_max: int = BYTES_MAX_DEFAULT,
) -> ReplaySummary:
    """Writes `out_path` (Parquet, replaced atomically): transaction_id, event_time, then the model inputs, typed as declared.

    `attributes`: a file for each attribute view, with its history. Memory: the files, the store's state and one chunk of rows.
    Without `rejects` a line that is no event (or no row) fails the whole replay: a training set with silent gaps is worse than
    none. Raises InputError, StoreError, FeatureSetError."""
    run = Replay.open(feature_set, events_path, progress, attributes=attributes, rejects=rejects, bytes_max=bytes_max)
    schema, invalid_count = _schema(feature_set), 0
    with _written_atomically(out_path, schema) as parquet:
        for chunk in run.chunks():
            invalid_count += int(len(chunk.valid) - np.count_nonzero(chunk.valid))
            parquet.write_table(_table(chunk, run.plan, schema))
    written = run.event_count - invalid_count
    return ReplaySummary(run.event_count, written, invalid_count, run.duplicate_count, run.late_count, _count(rejects))


@dataclass(frozen=True)
class ReplayedRows:
    """Events in order, as scores would have seen them."""

    transaction_ids: list[str]
    rows: NDArray[np.uint8]  # (n, row_bytes): input_columns() reads them
    valid: NDArray[np.bool_]  # (n,); False: a score would have been refused, and the row is zeros
    times_us: NDArray[np.int64]  # (n,)
    missing: NDArray[np.uint64]  # (n, ceil(inputs / 64)): bits of inputs whose source was null


class Replay:
    """Events of a file and an empty store: each is scored, then applied."""

    def __init__(
        self,
        plan: _core.FeaturePlan,
        log: _core.EventLog,
        history: list[TimedRow],
        bytes_max: int = BYTES_MAX_DEFAULT,
        report: Callable[[int], None] = lambda count: None,
    ) -> None:
        """`log` is sorted. `report` is told how many events are done."""
        self.plan = plan
        self._log = log
        store = _core.EmbeddedStore(bytes_max)
        self._reader = _core.FeatureReader(plan, store)
        self._writer = _core.EventWriter(plan, store, ahead_us_max=0)
        self._attributes = HistoryCursor(history, log, self._writer)
        self._report = report
        self._mask_words = -(-len(plan.input_names) // 64)
        self.event_count = log.event_count
        self.duplicate_count = self.late_count = 0

    @classmethod
    def open(
        cls,
        feature_set: FeatureSet,
        events_path: Path,
        progress: Progress | None = None,
        *,
        attributes: Mapping[str, Path] | None = None,
        rejects: Rejects | None = None,
        bytes_max: int = BYTES_MAX_DEFAULT,
    ) -> Replay:
        """Reads the files. As replay() says."""
        plan = compile_plan(feature_set)
        report = progress or (lambda done, total: None)
        size = events_path.stat().st_size if events_path.exists() else 0
        strict = rejects is None
        rejects = rejects or Rejects()
        history = read_history(feature_set, attributes or {}, rejects)
        if strict:
            files = ", ".join(str(path) for path in (attributes or {}).values())
            _check_rejects(rejects, f"{files}: {rejects.count} rows are no attributes of feature set {feature_set.name}")
        log = _read_log(plan, events_path, rejects, lambda done: report(done, 2 * size))
        if strict:
            _check_rejects(rejects, f"{events_path}: {rejects.count} lines are no events of feature set {feature_set.name}")
        log.sort()
        count = log.event_count
        return cls(plan, log, history, bytes_max, lambda done: report(size + size * done // count, 2 * size))

    def chunks(self) -> Iterator[ReplayedRows]:
        """All events, in order, at most ROWS_PER_CHUNK at a time. Once."""
        for start in range(0, self.event_count, ROWS_PER_CHUNK):
            stop = min(start + ROWS_PER_CHUNK, self.event_count)
            # Between two runs attributes change.
            parts = [self._run(first, last) for first, last in self._attributes.runs(start, stop)]
            yield ReplayedRows(
                self._log.transaction_ids(start, stop), *(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            )
            self._report(stop)

    # --- implementation ---

    def _run(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64], NDArray[np.uint64]]:
        missing = np.zeros((stop - start, self._mask_words), np.uint64)
        rows, valid, times, report = self._log.replay(self._reader, self._writer, start, stop, missing=missing)
        check_report(report)
        self.duplicate_count += report.duplicate_count
        self.late_count += report.late_count
        return rows, valid, times, missing


# --- implementation ---


def _count(rejects: Rejects | None) -> int:
    return 0 if rejects is None else rejects.count


def _check_rejects(rejects: Rejects, what: str) -> None:
    if rejects.count:
        raise InputError("\n".join([f"{what}:", *(f"  {reject.describe()}" for reject in rejects.examples)]))


def _read_log(plan: _core.FeaturePlan, path: Path, rejects: Rejects, progress: Callable[[int], None]) -> _core.EventLog:
    lines = LoggedLines(plan)
    with open_source(path) as file:
        for block in read_blocks(file, READ_BYTES):
            rejects.add_all(lines.append(block))
            progress(block.offset_bytes + len(block.data))
    return lines.log


def _table(chunk: ReplayedRows, plan: _core.FeaturePlan, schema: pa.Schema) -> pa.Table:
    """The valid rows."""
    ids = pa.array(chunk.transaction_ids, pa.string())
    event_times = pa.array(chunk.times_us).cast(pa.timestamp("us", tz="UTC"))
    inputs = [pa.array(column) for column in input_columns(plan, chunk.rows).values()]
    table = pa.Table.from_arrays([ids, event_times, *inputs], schema=schema)
    return table if chunk.valid.all() else table.filter(pa.array(chunk.valid))


def _schema(feature_set: FeatureSet) -> pa.Schema:
    types = {"float32": pa.float32(), "float64": pa.float64(), "int32": pa.int32(), "int64": pa.int64(), "bool": pa.bool_()}
    fields = [pa.field("transaction_id", pa.string()), pa.field("event_time", pa.timestamp("us", tz="UTC"))]
    fields += [pa.field(model_input.name, types[model_input.dtype]) for model_input in feature_set.model_inputs]
    metadata = {
        "assay.feature_set": feature_set.name,
        "assay.feature_set_version": feature_set.version,
        "assay.schema_hash": feature_set.schema_hash,
        "assay.feature_set_yaml": feature_set.yaml,  # so that rows of another feature set can be told in words
    }
    return pa.schema(fields, metadata=metadata)


@contextmanager
def _written_atomically(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet file that is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            with temporary.open("wb") as file:
                with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
                    yield writer
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or type(error).__name__}") from error
    finally:
        temporary.unlink(missing_ok=True)
