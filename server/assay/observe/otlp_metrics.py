"""Families of /metrics as OTLP messages: the same numbers under the same names, by OpenTelemetry's rules for Prometheus.

    counter -> monotonic sum, named as the family (no _total)     gauge -> gauge     info -> gauge of 1, NAME_info
    histogram -> histogram with explicit bounds, or exponential where its values are known finely enough

All of them are cumulative and begin at one start time. A name keeps its unit (_seconds), and says it in `unit` as well.

Imports OpenTelemetry's messages: only where metrics are exported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric
from prometheus_client.samples import Exemplar, Sample

from assay import __version__
from assay.observe.families import FineHistogramFamily
from assay.observe.latencies import middle_s

SCALE_MAX = 5  # 2.2 % to a bucket: as fine as the core's own
BUCKETS_MAX = 160  # of an exponential histogram; the scale follows from it, as in OpenTelemetry's SDKs


class MetricsMaker:
    """Makes messages of families, one thread's. `start_ns`: when counting began, nanoseconds since the epoch."""

    def __init__(self, resource: Resource, start_ns: int, *, is_exponential: bool) -> None:
        self._start_ns = start_ns
        self._is_exponential = is_exponential
        scope = ScopeMetrics(InstrumentationScope("assay", __version__), [], "")
        self._frame = encode_metrics(MetricsData([ResourceMetrics(resource, [scope], "")]))

    def request(self, families: Iterable[Metric], now_ns: int) -> ExportMetricsServiceRequest:
        """One message with all of them, as of `now_ns`. A family without samples is left out."""
        request = ExportMetricsServiceRequest()
        request.CopyFrom(self._frame)
        metrics = request.resource_metrics[0].scope_metrics[0].metrics
        for family in families:
            if family.samples:
                self._add(metrics.add(), family, now_ns)
        return request

    # --- implementation ---

    def _add(self, metric: metrics_pb2.Metric, family: Metric, now_ns: int) -> None:
        metric.name = f"{family.name}_info" if family.type == "info" else family.name
        metric.description = family.documentation
        metric.unit = _unit_of(family.name)
        if family.type == "histogram":
            self._add_histogram(metric, family, now_ns)
            return
        if family.type == "counter":
            metric.sum.aggregation_temporality = _CUMULATIVE
            metric.sum.is_monotonic = True
        points: Any = metric.sum.data_points if family.type == "counter" else metric.gauge.data_points
        for sample in family.samples:
            point = points.add(time_unix_nano=now_ns, attributes=_attributes(sample.labels))
            if family.type == "counter":
                point.start_time_unix_nano = self._start_ns
            point.as_double = sample.value

    def _add_histogram(self, metric: metrics_pb2.Metric, family: Metric, now_ns: int) -> None:
        fine = family.fine if self._is_exponential and isinstance(family, FineHistogramFamily) else None
        kind = metric.exponential_histogram if fine is not None else metric.histogram
        kind.aggregation_temporality = _CUMULATIVE
        for labels, group in groupby(family.samples, key=_labels_of):
            samples = list(group)
            buckets = [sample for sample in samples if sample.name.endswith("_bucket")]
            point: Any = kind.data_points.add(
                start_time_unix_nano=self._start_ns,
                time_unix_nano=now_ns,
                attributes=_attributes(dict(labels)),
                count=int(buckets[-1].value),
                sum=next(sample.value for sample in samples if sample.name.endswith("_sum")),
                exemplars=[_exemplar(sample.exemplar) for sample in buckets if sample.exemplar],
            )
            if fine is not None:
                _set_exponential(point, fine.get(tuple(value for _, value in labels), ()))
            else:
                point.explicit_bounds.extend(float(sample.labels["le"]) for sample in buckets[:-1])
                totals = [0, *(int(sample.value) for sample in buckets)]
                point.bucket_counts.extend(upper - lower for lower, upper in pairwise(totals))


# --- implementation ---

_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
_UNITS: Mapping[str, str] = {"seconds": "s", "bytes": "By", "celsius": "Cel", "ratio": "1"}


def _unit_of(name: str) -> str:
    return _UNITS.get(name.rpartition("_")[2], "")


def _labels_of(sample: Sample) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in sample.labels.items() if name != "le")


def _attributes(labels: Mapping[str, str]) -> list[common_pb2.KeyValue]:
    return [common_pb2.KeyValue(key=name, value=common_pb2.AnyValue(string_value=value)) for name, value in labels.items()]


def _exemplar(exemplar: Exemplar) -> metrics_pb2.Exemplar:
    return metrics_pb2.Exemplar(
        time_unix_nano=int(float(exemplar.timestamp or 0) * 1e9),
        as_double=exemplar.value,
        trace_id=bytes.fromhex(exemplar.labels["trace_id"]),
        span_id=bytes.fromhex(exemplar.labels["span_id"]),
    )


def _set_exponential(point: metrics_pb2.ExponentialHistogramDataPoint, fine: Sequence[tuple[int, int]]) -> None:
    """Every value goes where the middle of its fine bucket does: it is moved by less than 1.6 %."""
    middles = [(middle_s(index), count) for index, count in fine]
    point.zero_count = sum(count for middle, count in middles if middle == 0)
    logs = [(math.log2(middle), count) for middle, count in middles if middle > 0]
    if not logs:
        return
    scale = SCALE_MAX
    while _bucket(logs[-1][0], scale) - _bucket(logs[0][0], scale) >= BUCKETS_MAX:
        scale -= 1
    counts: Counter[int] = Counter()
    for log, count in logs:
        counts[_bucket(log, scale)] += count
    point.scale = scale
    point.positive.offset = min(counts)
    point.positive.bucket_counts.extend(counts[index] for index in range(min(counts), max(counts) + 1))


def _bucket(log2_s: float, scale: int) -> int:
    """The bucket (2^(i / 2^scale), 2^((i + 1) / 2^scale)] of a value, given its logarithm."""
    return math.ceil(math.ldexp(log2_s, scale)) - 1
