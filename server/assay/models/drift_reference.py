"""A model's baseline as the core counts by it and as drift is measured against it."""

from __future__ import annotations

from assay.features.clock_inputs import clock_inputs
from assay.features.feature_set import FeatureSet
from assay.models.baseline import Baseline, Histogram
from assay.observe.drift import DriftReference, FrozenBins


def drift_reference(model: str, version: str, baseline: Baseline | None, feature_set: FeatureSet) -> DriftReference | None:
    """None: the model has no baseline, and nothing is counted."""
    if baseline is None:
        return None
    return DriftReference(
        model=model,
        version=version,
        rows=baseline.rows,
        score=_bins(baseline.score),
        inputs={name: _bins(histogram) for name, histogram in baseline.inputs.items()},
        alert_rates=dict(baseline.alert_rates),
        clock_inputs=clock_inputs(feature_set),
    )


# --- implementation ---


def _bins(histogram: Histogram) -> FrozenBins:
    return FrozenBins(tuple(histogram.edges), tuple(histogram.counts), histogram.nulls)
