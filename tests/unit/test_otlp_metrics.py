"""Families as OTLP messages: kinds, names, units, and numbers against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.sdk.resources import Resource
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.samples import Exemplar

from assay._core import FINE_UPPER_NS, LATENCY_BOUNDS_NS, LatencyHistogram
from assay.observe.families import FineHistogramFamily, counter, counters, gauge
from assay.observe.otlp_metrics import BUCKETS_MAX, SCALE_MAX, MetricsMaker
from tests.support.otlp_sink import attributes_of

START_NS, NOW_NS = 1_000, 2_000
CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE


def metrics_of(*families: Metric, is_exponential: bool = False) -> list[metrics_pb2.Metric]:
    maker = MetricsMaker(Resource({"service.name": "assay"}), START_NS, is_exponential=is_exponential)
    (resource,) = maker.request(families, NOW_NS).resource_metrics
    assert attributes_of(resource.resource) == {"service.name": "assay"}
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "assay"
    return list(scope.metrics)


def latencies(values_ns: list[int]) -> LatencyHistogram:
    coarse = np.bincount(np.searchsorted(LATENCY_BOUNDS_NS, values_ns), minlength=len(LATENCY_BOUNDS_NS) + 1)
    places, counts = np.unique(np.searchsorted(FINE_UPPER_NS, values_ns), return_counts=True)
    fine = tuple((int(place), int(count)) for place, count in zip(places, counts, strict=True))
    return LatencyHistogram(tuple(coarse.tolist()), sum(values_ns), fine)


def family_of(values_ns: list[int], exemplars: list[Exemplar | None] | None = None) -> FineHistogramFamily:
    family = FineHistogramFamily("inference_latency_seconds", "Latency", ("model", "version"))
    family.add(("m", "1"), latencies(values_ns), exemplars or ())
    return family


def test_counters_gauges_and_infos() -> None:
    info = InfoMetricFamily("assay_build", "Build", {"version": "1"})
    rows, used, memory, build = metrics_of(
        counters("assay_rows", "Rows", "outcome", {"answered": 3, "failed": 1}),
        gauge("assay_slots_used", "Slots", 7),
        gauge("assay_store_bytes", "Memory", 0),
        counters("assay_failed_rows", "Nothing yet", "reason", {}),  # left out
        info,
    )
    assert (rows.name, rows.description, rows.unit) == ("assay_rows", "Rows", "")
    assert rows.sum.is_monotonic
    assert rows.sum.aggregation_temporality == CUMULATIVE
    assert [(attributes_of(point), point.as_double) for point in rows.sum.data_points] == [
        ({"outcome": "answered"}, 3),
        ({"outcome": "failed"}, 1),
    ]
    assert {(point.start_time_unix_nano, point.time_unix_nano) for point in rows.sum.data_points} == {(START_NS, NOW_NS)}
    assert (used.name, used.gauge.data_points[0].as_double) == ("assay_slots_used", 7)
    assert (memory.unit, memory.gauge.data_points[0].as_double) == ("By", 0)
    assert (build.name, attributes_of(build.gauge.data_points[0])) == ("assay_build_info", {"version": "1"})


def test_units_are_those_of_the_names() -> None:
    named = {"a_seconds": "s", "a_bytes": "By", "a_celsius": "Cel", "a_ratio": "1", "a_rows": ""}
    assert {metric.name: metric.unit for metric in metrics_of(*(counter(name, "", 1) for name in named))} == named


@given(st.lists(st.integers(0, 200_000_000_000), min_size=1, max_size=50))
def test_explicit_buckets_are_those_of_the_page(values_ns: list[int]) -> None:
    (metric,) = metrics_of(family_of(values_ns))
    assert metric.unit == "s"
    assert metric.histogram.aggregation_temporality == CUMULATIVE
    (point,) = metric.histogram.data_points
    assert attributes_of(point) == {"model": "m", "version": "1"}
    assert point.count == sum(point.bucket_counts) == len(values_ns)
    assert point.sum == pytest.approx(sum(values_ns) / 1e9)
    assert list(point.explicit_bounds) == [bound / 1e9 for bound in LATENCY_BOUNDS_NS]
    assert tuple(point.bucket_counts) == latencies(values_ns).counts


@given(st.lists(st.integers(0, 130_000_000_000) | st.integers(1_000_000, 1_100_000), min_size=1, max_size=200))
def test_exponential_buckets_hold_their_values(values_ns: list[int]) -> None:
    """By the definition: bucket i is (base^i, base^(i+1)], base = 2^(2^-scale). Values may be moved by the 1.6 % of theirs."""
    (metric,) = metrics_of(family_of(values_ns), is_exponential=True)
    (point,) = metric.exponential_histogram.data_points
    counts = point.positive.bucket_counts
    assert point.count == len(values_ns) == point.zero_count + sum(counts)
    assert point.zero_count == values_ns.count(0)
    assert len(counts) <= BUCKETS_MAX
    positive = sorted(value / 1e9 for value in values_ns if value > 0)
    if not positive:
        return
    base = 2 ** (2**-point.scale)
    found = [point.positive.offset + index for index, count in enumerate(counts) for _ in range(count)]
    for value, bucket in zip(positive, found, strict=True):
        assert base**bucket / 1.016 < value < base ** (bucket + 1) * 1.016
    span = math.log2(positive[-1] / positive[0])
    if span * 2**SCALE_MAX < BUCKETS_MAX - 4:
        assert point.scale == SCALE_MAX  # as fine as it may be


def test_exemplars_go_along() -> None:
    exemplar = Exemplar({"trace_id": f"{7:032x}", "span_id": f"{8:016x}"}, 0.001, 12.5)
    exemplars: list[Exemplar | None] = [None] * (len(LATENCY_BOUNDS_NS) + 1)
    exemplars[5] = exemplar
    for is_exponential in (False, True):
        (metric,) = metrics_of(family_of([1_000_000], exemplars), is_exponential=is_exponential)
        (point,) = (metric.exponential_histogram if is_exponential else metric.histogram).data_points
        (found,) = point.exemplars
        assert (int.from_bytes(found.trace_id, "big"), int.from_bytes(found.span_id, "big")) == (7, 8)
        assert (found.as_double, found.time_unix_nano) == (0.001, 12_500_000_000)
