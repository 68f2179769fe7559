"""Training against serving: rows that a model was given, held against a replay of the events, input by input and bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.errors import FeatureSetError
from assay.features.feature_set import FeatureSet
from assay.features.replay import Progress, Replay, ReplayedRows
from assay.features.rows import input_columns
from assay.features.served_rows import RowSample, SampledRow


@dataclass(frozen=True)
class InputSkew:
    """One model input over all rows that were compared. A row is counted once at most."""

    name: str
    compared_count: int
    mismatch_count: int  # both have a value, or both are null, and the bits differ
    missing_count: int  # served null where the replay has a value
    extra_count: int  # served a value where the replay has null
    difference_max: float  # the largest, of the mismatches; 0 without one

    @property
    def skew(self) -> float:
        """The share of rows in which it is not what the replay says."""
        count = self.mismatch_count + self.missing_count + self.extra_count
        return count / self.compared_count if self.compared_count else 0.0


@dataclass(frozen=True)
class SkewReport:
    """Rows of a sample by what became of them, and what the comparison found."""

    row_count: int  # of these...
    compared_count: int
    degraded_count: int  # ...were made without a record, or with an old one: no replay need agree
    unknown_count: int  # ...are of transactions that the events do not have
    refused_count: int  # ...have an event that a score would refuse, so the replay has no row
    other_time_count: int  # of those compared, the ones whose event has another time
    inputs: tuple[InputSkew, ...]

    @property
    def is_telling(self) -> bool:
        """Whether enough rows were compared to say anything of all: half of them."""
        return self.compared_count > 0 and 2 * self.compared_count >= self.row_count

    @property
    def skew_max(self) -> float:
        return max((one.skew for one in self.inputs), default=0.0)


def check_skew(
    feature_set: FeatureSet,
    sample: RowSample,
    events_path: Path,
    progress: Progress | None = None,
    *,
    attributes: Mapping[str, Path] | None = None,
) -> SkewReport:
    """Replays the events and compares. Memory: as replay(), and the sample. Raises FeatureSetError where the model was given rows
    of another feature set; InputError, StoreError."""
    if sample.schema_hash != feature_set.schema_hash:
        raise FeatureSetError(
            f"model {sample.model} {sample.version} was given rows of feature set {sample.feature_set} "
            f"{sample.feature_set_version} with schema hash {sample.schema_hash}; {feature_set.name} {feature_set.version} has "
            f"{feature_set.schema_hash}: name the feature set of the model's bundle"
        )
    whole = [row for row in sample.rows if not row.is_degraded]
    run = Replay.open(feature_set, events_path, progress, attributes=attributes)
    found = _find(run, whole)
    compared = [(row, found[row.transaction_id]) for row in whole if row.transaction_id in found]
    valid = [(row, replayed) for row, replayed in compared if replayed.is_valid]
    return SkewReport(
        row_count=len(sample.rows),
        compared_count=len(valid),
        degraded_count=len(sample.rows) - len(whole),
        unknown_count=len(whole) - len(compared),
        refused_count=len(compared) - len(valid),
        other_time_count=sum(row.event_time_us != replayed.time_us for row, replayed in valid),
        inputs=tuple(_compare(run, sample.input_names, valid)),
    )


# --- implementation ---


@dataclass(frozen=True)
class _Replayed:
    row: NDArray[np.uint8]  # (row_bytes,)
    missing: NDArray[np.uint64]  # (ceil(inputs / 64),)
    time_us: int
    is_valid: bool


def _find(run: Replay, rows: list[SampledRow]) -> dict[str, _Replayed]:
    """The replayed rows of those transactions; where the events have one twice, the first."""
    wanted = {row.transaction_id for row in rows}
    found: dict[str, _Replayed] = {}
    for chunk in run.chunks():
        for index, transaction_id in enumerate(chunk.transaction_ids):
            if transaction_id in wanted and transaction_id not in found:
                found[transaction_id] = _replayed(chunk, index)
    return found


def _replayed(chunk: ReplayedRows, index: int) -> _Replayed:
    row, missing = chunk.rows[index].copy(), chunk.missing[index].copy()  # a view would keep the whole chunk
    return _Replayed(row, missing, int(chunk.times_us[index]), bool(chunk.valid[index]))


def _compare(run: Replay, names: tuple[str, ...], pairs: list[tuple[SampledRow, _Replayed]]) -> list[InputSkew]:
    if not pairs:
        return []
    columns = input_columns(run.plan, np.stack([replayed.row for _, replayed in pairs]))
    masks = np.stack([replayed.missing for _, replayed in pairs])
    missing = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little").astype(np.bool_)  # (n, inputs and padding)
    return [
        _compare_input(
            name,
            np.array([row.values[index] for row, _ in pairs]).astype(column.dtype),
            np.array([name in row.missing for row, _ in pairs]),
            column,
            missing[:, index],
        )
        for index, (name, column) in enumerate(zip(names, columns.values(), strict=True))
    ]


def _compare_input(
    name: str,
    served: NDArray[Any],
    served_null: NDArray[np.bool_],
    replayed: NDArray[Any],
    replayed_null: NDArray[np.bool_],
) -> InputSkew:
    """Each (n,)."""
    differs = (_bits(served) != _bits(replayed)) & (served_null == replayed_null)
    distances = np.abs(served[differs].astype(np.float64) - replayed[differs].astype(np.float64))
    return InputSkew(
        name=name,
        compared_count=len(served),
        mismatch_count=int(np.count_nonzero(differs)),
        missing_count=int(np.count_nonzero(served_null & ~replayed_null)),
        extra_count=int(np.count_nonzero(~served_null & replayed_null)),
        difference_max=float(np.fmax.reduce(distances, initial=0.0)),
    )


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """As unsigned integers: -0.0 is not 0.0, and NaN is NaN."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
