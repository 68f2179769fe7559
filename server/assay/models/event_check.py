"""A look at a sample of events before they are ingested: what fields hold, what would be rejected, how far it is from the
training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay import _core
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.field_report import FieldReport, report_fields
from assay.features.line_blocks import LineBlock
from assay.features.logged_lines import LoggedLines
from assay.features.rows import input_columns
from assay.features.times import AHEAD_US_MAX
from assay.features.words import describe_values
from assay.models.baseline import Baseline, parse_baseline
from assay.models.bundle import Bundle
from assay.models.manifest import BASELINE_FILE
from assay.models.shift import VALUES_MIN, population_shift
from assay.models.verify import load_feature_set


@dataclass(frozen=True)
class EventCheck:
    event_count: int  # of lines that are events
    fields: dict[str, FieldReport]
    rejects: Counter[str]  # by reason
    places: Counter[str]  # fields that rejects name
    shifts: dict[str, float]  # PSI by model input, of those that a transaction has by itself; none of fewer rows than VALUES_MIN
    row_count: int  # of events whose inputs the shifts are of: a score would not refuse them


class EventChecker:
    """Looks at samples of events of one feature set. Nothing is written anywhere."""

    def __init__(self, feature_set: FeatureSet, baseline: Baseline | None) -> None:
        """Raises FeatureSetError."""
        self._set = feature_set
        self._plan = compile_plan(feature_set)
        self._baseline = baseline

    def check(self, lines: Sequence[bytes]) -> EventCheck:
        """`lines` without line breaks."""
        logged = LoggedLines(self._plan, ahead_us_max=AHEAD_US_MAX)
        found = logged.append(LineBlock(b"\n".join(lines) + b"\n", 1, 0, len(lines))) if lines else []
        shifts, row_count = ({}, 0) if self._baseline is None else _shifts(self._set, self._plan, logged.log, self._baseline)
        return EventCheck(
            event_count=logged.log.event_count,
            fields=report_fields(lines, self._set.request_features, self._set.entities),
            rejects=Counter(reject.reason for reject in found),
            places=Counter(violation.field for reject in found for violation in reject.violations),
            shifts=shifts,
            row_count=row_count,
        )


def training_data(bundle: Bundle) -> tuple[FeatureSet, Baseline]:
    """A bundle's feature set, and the distributions that its model was trained on. Raises BundleError and FeatureSetError."""
    feature_set = load_feature_set(bundle)
    return feature_set, parse_baseline(bundle.files[BASELINE_FILE], feature_set.input_names)


def inputs_without_views(feature_set: FeatureSet) -> list[str]:
    """Model inputs that are made of the transaction alone, whatever is stored."""
    stored = {name for view in feature_set.views.values() for name in describe_values(view)}

    def is_free(name: str) -> bool:
        if name in stored:
            return False
        derived = feature_set.derived.get(name)
        return derived is None or all(is_free(argument) for argument in derived.arguments)

    return [found.name for found in feature_set.inputs if is_free(found.value_name)]


# --- implementation ---


def _shifts(
    feature_set: FeatureSet, plan: _core.FeaturePlan, log: _core.EventLog, baseline: Baseline
) -> tuple[dict[str, float], int]:
    """PSI by input, and the number of rows. The core makes them, on an empty store: of inputs without views they are those that a
    score would see."""
    columns, row_count = _columns(plan, log)
    if row_count < VALUES_MIN:
        return {}, row_count
    names = [name for name in inputs_without_views(feature_set) if name in baseline.inputs]
    return {name: population_shift(baseline.inputs[name], columns[name]) for name in names}, row_count


def _columns(plan: _core.FeaturePlan, log: _core.EventLog) -> tuple[dict[str, NDArray[Any]], int]:
    log.sort()
    store = _core.EmbeddedStore()
    reader, writer = _core.FeatureReader(plan, store), _core.EventWriter(plan, store, ahead_us_max=0)
    rows, valid, _, _ = log.replay(reader, writer, 0, log.event_count)
    return input_columns(plan, np.ascontiguousarray(rows[valid])), int(np.count_nonzero(valid))
