"""Whether rows of training data are what a feature set says they are, and how far they are from what the last model learned.

The rows are those of `assay features replay`, or of your own pipeline: a column for every model input. What the request itself
brings (request features) is held against its type and range wherever the file has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from assay.features.clock_inputs import clock_inputs
from assay.features.definitions import ModelInput, RequestFeature
from assay.features.feature_set import FeatureSet
from assay.models.baseline import Baseline, Histogram
from assay.models.data_file import ColumnPart, DataFile, open_data
from assay.models.shift import LARGE_PSI, VALUES_MIN, count_bins, shift_of_counts

CHECKS: Final = ("schema", "nulls", "range", "shift")
NULL_RISE_MAX_DEFAULT: Final = 0.05
CheckName = Literal["schema", "nulls", "range", "shift"]


@dataclass(frozen=True)
class DataLimits:
    """What may be, beyond what the feature set says."""

    psi_max: float = LARGE_PSI
    null_rise_max: float = NULL_RISE_MAX_DEFAULT  # how much larger an input's share of nulls may be than in the baseline


@dataclass(frozen=True)
class DataProblem:
    """One thing that is wrong. `column` may be empty: it is of the whole file."""

    check: CheckName
    column: str
    reason: str
    mend: str


@dataclass(frozen=True)
class ColumnReport:
    """What one column holds. None: there is nothing to tell (no value; no baseline, or too few rows for it)."""

    name: str
    is_input: bool  # else a request feature that is no input
    nulls: int
    minimum: float | None
    maximum: float | None
    baseline_null_share: float | None
    psi: float | None
    follows_clock: bool  # made of the event's time alone: its PSI says which days these are, and has no limit


@dataclass(frozen=True)
class DataReport:
    rows: int
    columns: tuple[ColumnReport, ...]
    unread: tuple[str, ...]  # columns of the file that are not looked at
    baseline_rows: int | None
    problems: tuple[DataProblem, ...]


def check_data(path: Path, feature_set: FeatureSet, baseline: Baseline | None, limits: DataLimits) -> DataReport:
    """Reads the whole file once. Raises InputError where it cannot be read."""
    file = open_data(path)
    columns = _columns(feature_set, baseline, file)
    problems = _schema_problems(feature_set, file)
    rows = 0
    for part in file.parts([column.name for column in columns]) if columns else ():
        for column in columns:
            column.take(part[column.name], rows)
        rows += len(next(iter(part.values())).values)
    if rows == 0 and columns:
        problems.append(DataProblem("schema", "", "no rows", "give rows of the training"))
    if baseline is not None and 0 < rows < VALUES_MIN:
        mend = "give more rows, or --feature-set instead of --bundle: then nothing is compared"
        problems.append(DataProblem("shift", "", f"{rows:,} rows, and of fewer than {VALUES_MIN:,} PSI is noise", mend))
    is_compared = baseline is not None and min(rows, baseline.rows) >= VALUES_MIN
    reports = tuple(column.report(rows, is_compared=is_compared) for column in columns)
    for column, report in zip(columns, reports, strict=True):
        problems += column.problems(report, rows, limits)
    looked_at = {column.name for column in columns}
    return DataReport(
        rows=rows,
        columns=reports,
        unread=tuple(name for name in file.types if name not in looked_at),
        baseline_rows=None if baseline is None else baseline.rows,
        problems=tuple(sorted(problems, key=lambda problem: CHECKS.index(problem.check))),
    )


# --- implementation ---


@dataclass
class _Column:
    """Counts one column, part by part."""

    name: str
    model_input: ModelInput | None
    feature: RequestFeature | None  # that it holds as it was sent
    histogram: Histogram | None  # of the baseline
    follows_clock: bool
    nulls: int = 0
    misfits: int = 0
    first_misfit: int = 0  # row, from 1
    infinities: int = 0
    fractions: int = 0
    outside: int = 0
    lowest: float = np.inf
    highest: float = -np.inf
    bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def take(self, part: ColumnPart, rows_before: int) -> None:
        if part.misfits and not self.misfits:
            self.first_misfit = rows_before + part.first_misfit + 1
        self.misfits += part.misfits
        dtype = np.dtype(self.model_input.dtype if self.model_input else np.float64)
        values = part.values
        if dtype.kind == "f":  # as the model gets them: bins are of such values
            with np.errstate(over="ignore"):
                values = values.astype(dtype).astype(np.float64)
        present = values[~np.isnan(values)]
        self.nulls += len(values) - len(present) - part.misfits
        finite = present[np.isfinite(present)]
        self.infinities += len(present) - len(finite)
        if len(finite):
            self.lowest, self.highest = min(self.lowest, float(finite.min())), max(self.highest, float(finite.max()))
        if self._wants_integers:
            self.fractions += int(np.count_nonzero(finite != np.floor(finite)))
        self.outside += int(np.count_nonzero((finite < self._minimum) | (finite > self._maximum)))
        if self.histogram is not None:
            found = count_bins(self.histogram, values)
            self.bins = found if not len(self.bins) else self.bins + found

    def report(self, rows: int, *, is_compared: bool) -> ColumnReport:
        then, has_values = self.histogram, self.lowest <= self.highest
        return ColumnReport(
            name=self.name,
            is_input=self.model_input is not None,
            nulls=self.nulls,
            minimum=self.lowest if has_values else None,
            maximum=self.highest if has_values else None,
            baseline_null_share=then.nulls / then.rows if then is not None and then.rows else None,
            psi=shift_of_counts(then, self.bins) if then is not None and is_compared and rows else None,
            follows_clock=self.follows_clock,
        )

    def problems(self, report: ColumnReport, rows: int, limits: DataLimits) -> list[DataProblem]:
        return [
            DataProblem(check, self.name, reason, mend)
            for check, is_wrong, reason, mend in (*self._value_problems(), *self._distribution_problems(report, rows, limits))
            if is_wrong
        ]

    @property
    def _wants_integers(self) -> bool:
        integers = self.model_input is not None and np.dtype(self.model_input.dtype).kind in "ib"
        return integers or (self.feature is not None and self.feature.dtype in ("int64", "bool"))

    @property
    def _minimum(self) -> float:
        given = None if self.feature is None else self.feature.minimum
        return -np.inf if given is None else self._as_held(given)

    @property
    def _maximum(self) -> float:
        given = None if self.feature is None else self.feature.maximum
        return np.inf if given is None else self._as_held(given)

    def _as_held(self, limit: float) -> float:
        """A limit such as 0.1 in the type of the column, else float32(0.1) would be past it."""
        return float(np.dtype(self.model_input.dtype).type(limit)) if self.model_input is not None else float(limit)

    def _value_problems(self) -> tuple[tuple[CheckName, bool, str, str], ...]:
        what = "a bool" if self.feature is not None and self.feature.dtype == "bool" else "an integer"
        return (
            (
                "schema",
                self.misfits > 0,
                f"{self.misfits:,} cells are no numbers, the first in row {self.first_misfit:,}",
                "write numbers, true, false, or nothing for null (pandas: to_csv(na_rep=''))",
            ),
            (
                "schema",
                self.fractions > 0,
                f"{self.fractions:,} values have a fraction, and the feature set says that it is {what}",
                "find who made a float of it; a server would refuse such requests",
            ),
            (
                "range",
                self.infinities > 0,
                f"{self.infinities:,} values are infinite, or past the model's {self._dtype_name}",
                "clip them where they are made; a server would refuse such requests",
            ),
            (
                "range",
                self.outside > 0,
                f"{self.outside:,} values are outside {self._minimum:g} to {self._maximum:g}: they go from {self.lowest:g} to "
                f"{self.highest:g}",
                "mend the source (another unit?), or the range in the feature set; a server would refuse such requests",
            ),
        )

    @property
    def _dtype_name(self) -> str:
        return "float64" if self.model_input is None else self.model_input.dtype

    def _distribution_problems(
        self, report: ColumnReport, rows: int, limits: DataLimits
    ) -> tuple[tuple[CheckName, bool, str, str], ...]:
        share = self.nulls / max(rows, 1)
        rise = share - (report.baseline_null_share or 0.0)
        is_refused = self._refuses_null and self.nulls > 0
        is_risen = not is_refused and report.baseline_null_share is not None and rise > limits.null_rise_max
        psi = 0.0 if report.psi is None else report.psi
        return (
            (
                "nulls",
                is_refused,
                f"{self.nulls:,} nulls ({share:.2%}), and the feature set knows no null there",
                "find out why the value is missing; if it may be, say what null means: when_null, default or required",
            ),
            (
                "nulls",
                is_risen,
                f"{share:.2%} null, {report.baseline_null_share or 0.0:.2%} in the baseline",
                "a producer or a store lost it; if that is how it is now, --null-rise-max allows it",
            ),
            (
                "shift",
                psi > limits.psi_max and not self.follows_clock,
                f"PSI {psi:.3f}, the limit is {limits.psi_max:g}: another population than the model learned from",
                "look for another unit, a default or a lost source; if the world has changed, --psi-max allows it",
            ),
        )

    @property
    def _refuses_null(self) -> bool:
        if self.model_input is not None:  # rows of a replay have the defaults in
            return self.model_input.when_null != "nan"
        return self.feature is not None and self.feature.is_required


def _columns(feature_set: FeatureSet, baseline: Baseline | None, file: DataFile) -> list[_Column]:
    """What is looked at: model inputs, and request features of numbers that the file has under their own names."""
    clock = clock_inputs(feature_set)
    known = {} if baseline is None else baseline.inputs
    columns = [
        _Column(found.name, found, feature_set.request_features.get(found.value_name), known.get(found.name), found.name in clock)
        for found in feature_set.model_inputs
    ]
    taken = {column.name for column in columns}
    columns += [
        _Column(name, None, feature, None, follows_clock=False)
        for name, feature in feature_set.request_features.items()
        if name not in taken and feature.dtype != "string"
    ]
    return [column for column in columns if column.name in file.numeric]


def _schema_problems(feature_set: FeatureSet, file: DataFile) -> list[DataProblem]:
    mend = "replay the events with this feature set: assay features replay (raw events are checked by assay ingest --check)"
    found = [
        DataProblem("schema", name, "the file has no such column", mend)
        for name in feature_set.input_names
        if name not in file.types
    ]
    wanted = [*feature_set.input_names, *(name for name, one in feature_set.request_features.items() if one.dtype != "string")]
    for name in dict.fromkeys(wanted):
        if name in file.types and name not in file.numeric:
            reason = f"it is {file.types[name]}, expected numbers"
            found.append(DataProblem("schema", name, reason, "write it as numbers or booleans"))
    return found
