"""Drift: what a model is given and what it says now, against the frozen bins of its baseline.

The core counts every scored row by those bins (ext/core/serving/drift_counts.h), and its counts only grow. Here a copy is kept
now and then; the difference of two copies is a window. docs/drift.md says what is measured and how to read it.

THE WINDOW ends now and begins WINDOW_S ago, or earlier, where fewer than SCORES_MIN rows were scored since: as late as it can so
that it holds them. Before the model has scored so many there is no window, and no value: PSI of fewer is noise.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from assay._core import DECISIONS, DriftCounts, DriftEdges
from assay.observe.stability import alert_band, alert_ratio, merge_tail, stability_index
from assay.observe.status import Check

WINDOW_S: Final = 600.0
SCORES_MIN: Final = 1_000  # of a window, and rows of a baseline
TICK_S: Final = 10.0  # between two copies
DRIFT_LINE: Final = 0.15  # above it a model is worth an alert: PredictionDrift of docs/observability.md
ALERT_LINE: Final = 2.0  # above it an alert rate is, where chance does not explain it: AlertRate of docs/drift.md

# Bins of the score that have less than this share of the baseline above their lower edge are the tail.
_TAIL_SHARE: Final = 0.05
# Copies older than the window may lie so many scores apart: the window is at most that much larger than it need be.
_APART_SCORES: Final = SCORES_MIN // 20
COPIES_MAX: Final = int(WINDOW_S / TICK_S) + 2 * SCORES_MIN // _APART_SCORES + 4


@dataclass(frozen=True)
class FrozenBins:
    """A baseline's: edges ascend, there is one count more, and nulls are apart."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    nulls: int


@dataclass(frozen=True)
class DriftReference:
    """What one model version is measured against."""

    model: str
    version: str
    rows: int
    score: FrozenBins
    inputs: Mapping[str, FrozenBins]  # in the order of the model's inputs
    alert_rates: Mapping[str, float]  # decision -> share of rows at or above its threshold
    clock_inputs: frozenset[str] = frozenset()  # made of the event's time alone

    @property
    def edges(self) -> DriftEdges:
        """As Engine.add_lane() takes them."""
        return DriftEdges([bins.edges for bins in self.inputs.values()], self.score.edges)


@dataclass(frozen=True)
class BinsDrift:
    """One input, or the score, in the window. `psi`: None while there is no window."""

    name: str
    reference: FrozenBins
    counts: tuple[int, ...]
    nulls: int  # values that were not finite: the model was given NaN
    imputed: int  # values that are a declared default
    psi: float | None
    follows_clock: bool = False  # made of the event's time alone: a few minutes never have a month's share of weekends


@dataclass(frozen=True)
class AlertDrift:
    """How often a decision's threshold was reached in the window, by how often it was in the baseline."""

    decision: str
    baseline_rate: float
    alerts: int  # scores at or above the threshold
    ratio: float | None = None  # None while there is no window, as the others
    ratio_low: float | None = None  # between these two chance alone explains it
    ratio_high: float | None = None


@dataclass(frozen=True)
class DriftReport:
    """One model version, now. Without a window the counts are all there are."""

    reference: DriftReference
    age_s: float  # of the window's begin
    scores: int  # in the window
    score: BinsDrift  # its psi is over all bins
    decile_psi: float | None  # over the score's bins with those of the tail as one
    inputs: tuple[BinsDrift, ...]
    alerts: tuple[AlertDrift, ...]
    imputed_total: Mapping[str, int]  # by input, since the model was loaded

    @property
    def prediction_drift(self) -> float | None:
        """The larger of the score's two; None while there is no window."""
        if self.score.psi is None or self.decile_psi is None:
            return None
        return max(self.score.psi, self.decile_psi)


class DriftWatch:
    """Keeps the copies and makes reports. Thread-safe; has no thread: somebody polls it, and a report polls too.

    `read`: Engine.drift. `clock`: seconds that never go back.
    """

    def __init__(self, read: Callable[[], Sequence[DriftCounts]], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, str], _Copies] = {}  # guarded, as what is in it
        self._polled_at = clock()

    def add(self, reference: DriftReference) -> None:
        """The lane of this model counts by `reference.edges`."""
        with self._lock:
            self._windows[reference.model, reference.version] = _Copies(reference, self._clock())

    def remove(self, model: str, version: str) -> None:
        """Its lane is gone."""
        with self._lock:
            self._windows.pop((model, version), None)

    def poll(self) -> None:
        """Keeps a copy if one is due. As cheap as the clock where none is."""
        with self._lock:
            if self._clock() - self._polled_at >= TICK_S:
                self._look()

    def reports(self) -> list[DriftReport]:
        """Of all models that have a baseline and are served."""
        with self._lock:
            found = self._look()
        return [_report(*one) for one in found]

    def report(self, model: str, version: str) -> DriftReport | None:
        """None: this model has no baseline, or is not served."""
        reports = self.reports()
        return next((one for one in reports if (one.reference.model, one.reference.version) == (model, version)), None)

    # --- implementation ---

    def _look(self) -> list[tuple[float, _Counts, _Counts]]:
        """(age of the window's begin, counts in the window, all counts) of each model."""
        now = self._clock()
        is_due = now - self._polled_at >= TICK_S
        if is_due:
            self._polled_at = now
        found = []
        for counts in self._read():
            copies = self._windows.get((counts.model, counts.version))
            if copies is None:
                continue
            total = _Counts.of(copies.reference, counts)
            began_at, before = copies.window_start(now, total)
            found.append((now - began_at, total - before, total))
            if is_due:
                copies.keep(now, total)
        return found


def drift_checks(reports: Iterable[DriftReport]) -> Iterator[Check]:
    """For the status: how far each model's scores are from its baseline's. Nothing while there is no window."""
    known = [(report.reference, report.prediction_drift) for report in reports]
    values = [(reference, value) for reference, value in known if value is not None]
    if values:
        text = ",".join(f"{value:.3f}" if len(values) == 1 else f"{one.model}={value:.3f}" for one, value in values)
        yield Check("drift", text, is_ok=all(value <= DRIFT_LINE for _, value in values))


# --- implementation ---


class _Counts:
    """All counters of one model in one array, so that two are subtracted at once: the score's bins; each input's, then its nulls;
    imputed by input; alerts by decision."""

    def __init__(self, reference: DriftReference, values: NDArray[np.int64]) -> None:
        self.reference = reference
        self.values = values

    @classmethod
    def of(cls, reference: DriftReference, counts: DriftCounts) -> _Counts:
        alerts = dict(counts.alerts)
        parts: list[Sequence[int]] = [counts.score]
        for bins, nulls in zip(counts.inputs, counts.nulls, strict=True):
            parts += [bins, (nulls,)]
        parts += [counts.imputed, [alerts.get(number, 0) for number in DECISIONS.values()]]
        return cls(reference, np.concatenate([np.asarray(part, np.int64) for part in parts]))

    @classmethod
    def zero(cls, reference: DriftReference) -> _Counts:
        inputs = sum(len(bins.counts) + 2 for bins in reference.inputs.values())
        return cls(reference, np.zeros(len(reference.score.counts) + inputs + len(DECISIONS), np.int64))

    def __sub__(self, other: _Counts) -> _Counts:
        return _Counts(self.reference, self.values - other.values)

    @property
    def score(self) -> NDArray[np.int64]:
        return self.values[: len(self.reference.score.counts)]

    @property
    def scores(self) -> int:
        return int(self.score.sum())

    @property
    def inputs(self) -> Iterator[tuple[str, FrozenBins, NDArray[np.int64]]]:
        """(name, its reference, counts with the nulls last)."""
        first = len(self.reference.score.counts)
        for name, bins in self.reference.inputs.items():
            end = first + len(bins.counts) + 1
            yield name, bins, self.values[first:end]
            first = end

    @property
    def imputed(self) -> dict[str, int]:
        first = len(self.values) - len(DECISIONS) - len(self.reference.inputs)
        return dict(zip(self.reference.inputs, self.values[first : -len(DECISIONS)].tolist(), strict=True))

    @property
    def alerts(self) -> dict[str, int]:
        return dict(zip(DECISIONS, self.values[-len(DECISIONS) :].tolist(), strict=True))


class _Copies:
    """Copies of one model's counts, oldest first: at most COPIES_MAX."""

    def __init__(self, reference: DriftReference, now: float) -> None:
        self.reference = reference
        self._kept: list[tuple[float, _Counts]] = [(now, _Counts.zero(reference))]

    def __len__(self) -> int:
        return len(self._kept)

    def window_start(self, now: float, total: _Counts) -> tuple[float, _Counts]:
        """The newest copy that is old enough and has enough scores since; else the oldest there is."""
        if total.scores < self._kept[-1][1].scores:  # another lane of this name: counting began anew
            self._kept = [(now, _Counts.zero(self.reference))]
        for at, copy in reversed(self._kept):
            if _is_window(now - at, total.scores - copy.scores):
                return at, copy
        return self._kept[0]

    def keep(self, now: float, total: _Counts) -> None:
        self._kept.append((now, total))
        while len(self._kept) > 1 and _is_window(now - self._kept[1][0], total.scores - self._kept[1][1].scores):
            self._kept.pop(0)
        # What is older than the window waits for scores alone: the less there are, the fewer copies are worth keeping.
        thinned = self._kept[:1]
        for (at, copy), (_, following) in zip(self._kept[1:], self._kept[2:], strict=False):
            if now - at < WINDOW_S or following.scores - thinned[-1][1].scores > _APART_SCORES:
                thinned.append((at, copy))
        self._kept = [*thinned, self._kept[-1]]


def _is_window(age_s: float, scores: int) -> bool:
    return age_s >= WINDOW_S and scores >= SCORES_MIN


def _report(age_s: float, window: _Counts, total: _Counts) -> DriftReport:
    reference, scores = window.reference, window.scores
    is_telling = scores >= SCORES_MIN and reference.rows >= SCORES_MIN
    imputed = window.imputed
    then, now = reference.score.counts, window.score.tolist()
    kept = merge_tail(then, _TAIL_SHARE)
    return DriftReport(
        reference=reference,
        age_s=age_s,
        scores=scores,
        score=BinsDrift("score", reference.score, tuple(now), 0, 0, stability_index(then, now) if is_telling else None),
        decile_psi=stability_index(_merged(then, kept), _merged(now, kept)) if is_telling else None,
        inputs=tuple(
            BinsDrift(
                name,
                bins,
                tuple(counts[:-1].tolist()),
                int(counts[-1]),
                imputed[name],
                stability_index((*bins.counts, bins.nulls), counts) if is_telling else None,
                name in reference.clock_inputs,
            )
            for name, bins, counts in window.inputs
        ),
        alerts=tuple(
            _alert(reference, decision, window.alerts[decision], scores, is_telling) for decision in reference.alert_rates
        ),
        imputed_total=total.imputed,
    )


def _alert(reference: DriftReference, decision: str, alerts: int, scores: int, is_telling: bool) -> AlertDrift:
    rate = reference.alert_rates[decision]
    if not is_telling:
        return AlertDrift(decision, rate, alerts)
    low, high = alert_band(rate, reference.rows, scores)
    return AlertDrift(decision, rate, alerts, alert_ratio(rate, reference.rows, alerts, scores), low, high)


def _merged(counts: Sequence[int], kept: int) -> list[int]:
    return [*counts[: kept - 1], sum(counts[kept - 1 :])]
