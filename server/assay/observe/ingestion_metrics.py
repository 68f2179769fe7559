"""The metrics of `assay ingest --kafka`. docs/ingestion.md has the table of all of them; a test compares it with a live page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from assay.observe.families import buckets, counters, gauge


def message_families(
    outcomes: Mapping[tuple[str, str], int],
    rejects: Mapping[str, int],
    wrong_types: Mapping[str, int],
    accepted_ints: Mapping[str, int],
) -> Iterator[Metric]:
    """`outcomes` by (topic, outcome), `rejects` by reason, `wrong_types` by field, `accepted_ints` by feature."""
    family = CounterMetricFamily("assay_ingested_messages", "Messages by what became of them", labels=("topic", "outcome"))
    for labels, count in outcomes.items():
        family.add_metric(labels, count)
    yield family
    yield counters("assay_ingestion_rejects", "Messages that were rejected, by reason", "reason", rejects)
    yield counters("assay_ingestion_wrong_types", "Rejected messages in which a field had another type", "field", wrong_types)
    yield counters(
        "assay_ingestion_accepted_ints", "Events with an integer for a float64 that accepts those", "feature", accepted_ints
    )


def flush_families(bounds_s: Sequence[float], counts: Sequence[int], sum_s: float) -> Iterator[Metric]:
    """`counts` of the buckets up to each bound, and past the last."""
    family = HistogramMetricFamily("assay_ingestion_flush_seconds", "Time to write what was held")
    bounds = [*map(repr, bounds_s), "+Inf"]
    family.add_metric((), buckets(bounds, counts), sum_s)
    yield family


def position_families(
    lags: Mapping[tuple[str, int], int],
    held_messages: int,
    held_bytes: int,
    *,
    is_away: bool,
    paused_partitions: int,
    waiting_labels: int,
) -> Iterator[Metric]:
    """`lags` by (topic, partition): messages that were not read yet."""
    family = GaugeMetricFamily(
        "assay_ingestion_lag_messages", "Messages of a partition that were not read yet", labels=("topic", "partition")
    )
    for (topic, partition), lag in lags.items():
        family.add_metric((topic, str(partition)), lag)
    yield family
    yield gauge("assay_ingestion_held_messages", "Messages that were read and are not written yet", held_messages)
    yield gauge("assay_ingestion_held_bytes", "Their keys and values", held_bytes)
    yield gauge("assay_ingestion_away", "1 while the store, or where rejects go, takes nothing", float(is_away))
    yield gauge("assay_ingestion_paused_partitions", "Partitions that are not read meanwhile", paused_partitions)
    yield gauge("assay_ingestion_waiting_labels", "Labels whose event is not in the store yet", waiting_labels)


def observed_families(
    samples: int, null_shares: Mapping[str, float], type_shares: Mapping[tuple[str, str], float], shifts: Mapping[str, float]
) -> Iterator[Metric]:
    """`null_shares` by feature, `type_shares` by (feature, type), `shifts` by model input."""
    yield CounterMetricFamily("assay_ingestion_samples", "Samples of events that were looked at", value=samples)
    yield _gauges("assay_ingestion_null_share", "Share of events without a value", ("feature",), null_shares)
    text = "Share of a type among the values that are not null"
    yield _gauges("assay_ingestion_type_share", text, ("feature", "type"), type_shares)
    text = "How far the values of a model input are from those of the training data (PSI)"
    yield _gauges("assay_ingestion_population_shift", text, ("input",), shifts)


def dropped_family(count: int) -> Metric:
    return CounterMetricFamily("assay_ingestion_dropped_records", "Metadata records that their topic did not take", value=count)


# --- implementation ---


def _gauges(name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
    """One for each key, which is the value of the label, or a tuple of those of several."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key if isinstance(key, tuple) else (key,), value)
    return family
