"""Rolling out as metric families: which versions are there and answer, and how shadows compare with their champions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from assay._core import SHADOW_DIFFERENCE_BOUNDS, ShadowStats
from assay.codes import decision_flips


@dataclass(frozen=True)
class LabelledVersion:
    """A version that has a label."""

    model: str
    version: str
    label: str


def rollout_families(
    states: Mapping[str, int],
    labelled: Iterable[LabelledVersion],
    canary_shares: Mapping[str, float],
    rollbacks: Mapping[str, int],
) -> Iterator[Metric]:
    """`rollbacks`: by who wanted them."""
    versions = GaugeMetricFamily("assay_model_versions", "Versions of all models, by state", labels=("state",))
    for state, count in states.items():
        versions.add_metric((state,), count)
    label = GaugeMetricFamily("assay_model_label", "1: the version has the label", labels=("model", "version", "label"))
    for one in labelled:
        label.add_metric((one.model, one.version, one.label), 1)
    share = GaugeMetricFamily("assay_canary_share", "Share of the entities that the challenger answers", labels=("model",))
    for model, value in canary_shares.items():
        share.add_metric((model,), value)
    back = CounterMetricFamily("assay_rollbacks", "Rollbacks, by who wanted them", labels=("by",))
    for by, count in rollbacks.items():
        back.add_metric((by,), count)
    yield from (versions, label, share, back)


def shadow_families(shadows: Iterable[ShadowStats]) -> Iterator[Metric]:
    """Since each shadow was set."""
    of = ("model", "version")
    rows = CounterMetricFamily("assay_shadow_rows", "Rows for the shadow, by what became of them", labels=("outcome", *of))
    flips = CounterMetricFamily("assay_shadow_flips", "Compared rows whose decision differs", labels=("champion", "shadow", *of))
    differences = HistogramMetricFamily(
        "assay_shadow_score_difference", "|score of the shadow - score of the champion|", labels=of
    )
    held = GaugeMetricFamily("assay_shadow_held_bytes", "Copies of requests that wait for the shadow", labels=of)
    bias = GaugeMetricFamily("assay_shadow_score_bias", "Mean of the shadow's score less the champion's", labels=of)
    for stats in shadows:
        which = (stats.model, stats.version)
        for outcome in ("compared", "failed", "shed"):
            rows.add_metric((outcome, *which), getattr(stats, f"{outcome}_rows"))
        for champion, shadow, count in decision_flips(stats.decisions):
            flips.add_metric((champion, shadow, *which), count)
        bounds = [*(f"{bound:g}" for bound in SHADOW_DIFFERENCE_BOUNDS), "+Inf"]
        buckets = list(zip(bounds, accumulate(stats.differences), strict=True))
        differences.add_metric(which, buckets, sum_value=None)
        held.add_metric(which, stats.held_bytes)
        if stats.compared_rows:
            bias.add_metric(which, stats.difference_sum / stats.compared_rows)
    yield from (rows, flips, differences, bias, held)
