"""Families of the Prometheus page, each from values that are there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar

from assay._core import LATENCY_BOUNDS_NS, LatencyHistogram

_FAMILY_PAUSE_S = 0.0002  # long enough for another thread to take the interpreter


def paced(families: Iterable[Metric]) -> Iterator[Metric]:
    """The same, with a stop behind each: making them takes milliseconds of Python, and calls wait for the interpreter."""
    for family in families:
        yield family
        time.sleep(_FAMILY_PAUSE_S)


def counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """One for each key, which is the value of `label`."""
    family = GaugeMetricFamily(name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """One for each key, which is the value of `label`."""
    family = CounterMetricFamily(name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


class FineHistogramFamily(HistogramMetricFamily):
    """Latencies by the bounds of /metrics; whoever can use more finds it in `fine`: by the values of the labels, the fine
    buckets of LatencyHistogram."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        super().__init__(name, text, labels=labels)
        self.fine: dict[tuple[str, ...], tuple[tuple[int, int], ...]] = {}

    def add(self, labels: tuple[str, ...], histogram: LatencyHistogram, exemplars: Sequence[Exemplar | None] = ()) -> None:
        """`exemplars`: one for each bucket, or none at all."""
        counted = buckets(_SECONDS, histogram.counts)
        if exemplars:
            with_exemplars = [(bound, count, exemplar) for (bound, count), exemplar in zip(counted, exemplars, strict=True)]
            self.add_metric(labels, with_exemplars, histogram.sum / 1e9)  # type: ignore[arg-type]  # a bucket may have none
        else:
            self.add_metric(labels, counted, histogram.sum / 1e9)
        self.fine[labels] = histogram.fine


def buckets(bounds: Sequence[str], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Of a histogram: `counts` of each bucket, the last one's bound is "+Inf"."""
    return list(zip(bounds, accumulate(counts), strict=True))


# --- implementation ---

_SECONDS = [*(repr(bound / 1e9) for bound in LATENCY_BOUNDS_NS), "+Inf"]
