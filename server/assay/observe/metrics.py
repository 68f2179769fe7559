"""Metrics as Prometheus families, made from the core's own numbers when somebody asks: nothing is counted here.

docs/observability.md has the table of all of them; a test compares it with a live page. Labels are bounded: models, versions,
stages, reasons of the core's table. Never anything that a client chose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from assay._core import (
    BATCH_ROWS_BOUNDS,
    STAGES,
    EngineMetrics,
    EngineStats,
    ExplainStats,
    LaneMetrics,
    NearCacheStats,
    StoreStats,
    TransportStats,
)
from assay.observe.exemplars import Exemplars
from assay.observe.families import FineHistogramFamily, buckets, counter, counters, gauge
from assay.observe.latencies import PRIORITY_NAMES

Source = Callable[[], Iterable[Metric]]
"""Makes the families of one part of the server, from one look at it."""


@dataclass(frozen=True)
class ServedModel:
    """What stands in assay_model_info."""

    model: str
    version: str
    sha256: str
    feature_set: str
    schema_hash: str
    device: str


@dataclass(frozen=True)
class FileStats:
    """How often a watched file was taken anew, and how often it was not good enough."""

    reloads: int
    rejections: int


def engine_families(
    stats: EngineStats, metrics: EngineMetrics, queue_rows_max: int, exemplars: Exemplars | None = None
) -> Iterator[Metric]:
    """Stages, rows, batches and limits of the engine."""
    yield from _lane_families(metrics, exemplars)
    outcomes = {
        "answered": stats.answered_rows,
        "failed": stats.failed_rows,
        "expired": metrics.expired_rows,
        "shed": stats.shed_rows,
        "cancelled": stats.cancelled_rows,
    }
    checks = dict(zip(_DEADLINE_CHECKS, stats.expired_rows, strict=True))
    yield counter("assay_accepted_rows", "Rows that were taken in", stats.accepted_rows)
    yield counters("assay_rows", "Accepted rows by how they ended", "outcome", outcomes)
    yield counters("assay_failed_rows", "Accepted rows that failed, by reason", "reason", metrics.failed_rows)
    yield counters("assay_refused_calls", "Calls that were refused whole, by reason", "reason", metrics.refused_calls)
    yield counters("assay_expired_rows", "Rows past their deadline, by the check that saw it", "check", checks)
    yield counters("assay_degraded_rows", "Answered rows with a degradation, by cause", "cause", metrics.degraded_rows)
    yield counter("assay_skew_sampled_rows", "Rows kept to be held against a replay", stats.sampled_rows)
    yield counter("assay_skew_dropped_rows", "Of those, the ones given up for newer rows", stats.dropped_sampled_rows)
    yield counter("assay_defaulted_deadlines", "Calls that came without a deadline", stats.defaulted_deadlines)
    yield counter("assay_retried_batches", "Batches that failed and were run again in halves", stats.retried_batches)
    yield counter("assay_inline_rows", "Rows run by the thread that took their call", stats.inline_rows)
    yield counter("assay_inline_overruns", "Inline runs that took too long", stats.inline_overruns)
    yield gauge("assay_queued_rows", "Rows that wait for a runner", stats.queued_rows)
    yield gauge("assay_queue_limit_rows", "Rows that may wait for the runners of one model", queue_rows_max)
    yield gauge("assay_slots", "Rows that may be in flight", stats.slots)
    yield gauge("assay_slots_used", "Rows in flight", stats.slots_used)
    yield gauge("assay_slots_used_max", "Most rows that were ever in flight", stats.slots_used_max)
    yield counter("assay_lookup_batches", "Look-ups of batches of rows in a remote store", stats.lookup_batches)
    yield gauge("assay_looking_up_rows", "Rows that wait for their records from a remote store", stats.looking_up_rows)
    yield counter("assay_lookup_given_up_rows", "Rows that stopped waiting for their records", stats.lookup_given_up_rows)
    yield counter(
        "assay_lookup_unavailable_records", "Records that a remote store did not give in time", stats.lookup_unavailable_records
    )
    yield counter("assay_lookup_rejected_records", "Records of a remote store that failed a check", stats.lookup_rejected_records)
    yield from near_cache_families(stats.near_cache)
    yield from _explanation_families(stats.explain, metrics.lanes)
    yield counter("assay_refused_traceparents", "Headers that were no W3C trace context", metrics.refused_traceparents)


def _explanation_families(stats: ExplainStats, lanes: Sequence[LaneMetrics]) -> Iterator[Metric]:
    """Of the models whose scores can be explained."""
    of = ("model", "version")
    found = CounterMetricFamily(
        "assay_explanations", "Explanations that were asked for, by what became of them", labels=("status", *of)
    )
    resting = GaugeMetricFamily(
        "assay_explanations_suspended", "1 while a model's scores are not explained: they did not add up", labels=of
    )
    for lane in lanes:
        if lane.explanations is None:
            continue
        resting.add_metric((lane.model, lane.version), float(lane.is_explaining_suspended))
        for status, count in lane.explanations.items():
            if status not in ("none", "later"):  # one that comes later is counted when it has come
                found.add_metric((status, lane.model, lane.version), count)
    yield found
    yield resting
    yield gauge("assay_explaining_rows", "Rows that wait for an explanation, or are being explained", stats.queued_rows)
    asked = "Rows, none of them a client's, that were scored so that scores of models that must be asked can be explained"
    yield counter("assay_explanation_asked_rows", asked, stats.asked_rows)
    yield gauge("assay_explainer_threads", "Threads that explain scores", stats.threads)
    yield gauge("assay_explainers_suspended", "1 while nothing is explained: the threads did not come back", stats.is_suspended)


def near_cache_families(stats: NearCacheStats) -> Iterator[Metric]:
    """Records of a remote store that are kept for a while."""
    yield counter("assay_near_cache_hits", "Records that need not be fetched", stats.hits)
    yield counter("assay_near_cache_misses", "Records that had to be fetched, though their view is kept", stats.misses)
    yield counter(
        "assay_near_cache_stale_records", "Records used past their age, because the store gave nothing", stats.stale_records
    )
    yield counter("assay_near_cache_joined_rows", "Rows that waited for what another batch was fetching", stats.joined_rows)
    yield counter("assay_near_cache_evictions", "Records that gave way to others", stats.evictions)
    yield gauge("assay_near_cache_records", "Records that are kept", stats.records)
    yield gauge("assay_near_cache_bytes", "Memory of the near-cache", stats.bytes)
    yield gauge("assay_near_cache_limit_bytes", "Most memory that the near-cache may take", stats.bytes_max)


def store_families(stats: StoreStats) -> Iterator[Metric]:
    """The embedded store."""
    events = {
        "recorded": stats.event_count,
        "duplicate": stats.duplicate_count,
        "too_late": stats.late_count,
        "store_full": stats.full_count,
    }
    yield gauge("assay_store_records", "Row records in the store", stats.record_count)
    yield gauge("assay_store_bytes", "Memory of the store", stats.bytes)
    yield gauge("assay_store_limit_bytes", "Most memory that the store may take", stats.bytes_max)
    yield counters("assay_store_events", "Events that came to the store, by what became of them", "outcome", events)
    yield counter("assay_store_tiled_events", "Events moved from a record's exact entries to its tiles", stats.tiled_event_count)
    yield counter("assay_store_rejected_records", "Records that failed a check when read", stats.rejected_record_count)


def transport_families(open_streams: int, streams_max: int, events: Mapping[str, int]) -> Iterator[Metric]:
    """Streams and events."""
    yield gauge("assay_open_streams", "ScoreStream calls that are open", open_streams)
    yield gauge("assay_stream_limit", "ScoreStream calls that may be open", streams_max)
    yield counters("assay_events", "Events that came by RecordEvents, by what became of them", "outcome", events)


def feature_families(accepted_ints: Mapping[str, int]) -> Iterator[Metric]:
    """What requests and events carry."""
    text = "Values that came as an integer and were taken for a float64, by feature that accepts those"
    yield counters("assay_accepted_ints", text, "feature", accepted_ints)


def listener_families(stats: TransportStats) -> Iterator[Metric]:
    """The native transport's listener."""
    yield gauge("assay_open_connections", "Connections of clients that are open", stats.open_connections)
    yield counter("assay_accepted_connections", "Connections that were taken", stats.accepted_connections)
    yield counters("assay_closed_connections", "Connections that ended, by why", "reason", stats.closed_connections)
    yield gauge("assay_lingering_sockets", "Closed for writing, read until clients close them", stats.lingering_sockets)
    yield counter("assay_cut_sockets", "Of those that the server closed in the end", stats.cut_sockets)
    yield gauge("assay_open_forwarded_calls", "Calls that the gRPC server behind answers", stats.open_forwarded_calls)
    yield counter(
        "assay_accept_rests", "Times that accepting rested: too many were open, or no descriptor was left", stats.accept_rests
    )
    yield gauge("assay_held_bytes", "Held by requests that are not whole and answers that are not read", stats.held_bytes)


def remote_store_families(is_away: bool) -> Iterator[Metric]:
    """A store elsewhere."""
    yield gauge("assay_store_away", "1 while the remote store is taken for down and is not asked", float(is_away))


def security_families(
    denied_calls: Mapping[str, int], certificate_expires_at: datetime | None, files: Mapping[str, FileStats]
) -> Iterator[Metric]:
    """The doors: calls that the policy refused, and the files that it goes by."""
    yield counters("assay_denied_calls", "Calls that the policy refused, by reason", "reason", denied_calls)
    if certificate_expires_at is not None:
        expiry = certificate_expires_at.timestamp()
        yield gauge("assay_certificate_expiry_timestamp_seconds", "When the server's certificate expires", expiry)
    reloads = {name: stats.reloads for name, stats in files.items()}
    rejections = {name: stats.rejections for name, stats in files.items()}
    yield counters("assay_file_reloads", "Files of TLS and roles that were taken anew", "file", reloads)
    yield counters("assay_file_rejections", "States of such files that were not good enough to use", "file", rejections)


def build_families(build: Mapping[str, str], models: Sequence[ServedModel]) -> Iterator[Metric]:
    """What runs here."""
    yield InfoMetricFamily("assay_build", "What this server is made of", dict(build))
    names = ("model", "version", "sha256", "feature_set", "schema_hash", "device")
    family = InfoMetricFamily("assay_model", "Models that are served", labels=names)
    for model in models:
        family.add_metric([getattr(model, name) for name in names], {})
    yield family


def export_families(exported: int, dropped: Mapping[str, int]) -> Iterator[Metric]:
    """Records of calls on their way out of the process."""
    yield counter("assay_call_records_exported", "Calls whose spans the collector took", exported)
    yield counters("assay_call_records_dropped", "Records of calls that were dropped, by where", "at", dropped)


def metrics_export_families(exports: Mapping[str, int]) -> Iterator[Metric]:
    """Metrics on their way out by OTLP."""
    yield counters("assay_metric_exports", "Times that metrics were sent by OTLP, by what became of them", "outcome", exports)


def log_families(lost_lines: int) -> Iterator[Metric]:
    """The log itself."""
    yield counter("assay_lost_log_lines", "Log lines that could not be written", lost_lines)


def page_families(drop_counts: Mapping[str, int]) -> Iterator[Metric]:
    """The listener of /metrics."""
    text = "Connections to the metrics page that were ended before their answer was out, by cause"
    yield counters("assay_metrics_dropped_connections", text, "cause", drop_counts)


# --- implementation ---

_DEADLINE_CHECKS = ("admission", "after_look_up", "forming", "before_run", "before_encoding")

_ROWS = [*(repr(float(bound)) for bound in BATCH_ROWS_BOUNDS), "+Inf"]


def _lane_families(metrics: EngineMetrics, exemplars: Exemplars | None) -> Iterator[Metric]:
    inference = FineHistogramFamily(
        "inference_latency_seconds",
        "Time of an answered row from its receipt to its answer",
        labels=("model", "version", "priority"),
    )
    stages = FineHistogramFamily(
        "assay_stage_seconds", "Time of an answered row in each stage", labels=("stage", "model", "version")
    )
    batches = HistogramMetricFamily("assay_batch_rows", "Rows of a run of the model", labels=("model", "version"))
    ages = GaugeMetricFamily(
        "assay_queue_oldest_age_seconds", "How long the row that waits longest has waited", labels=("model", "version")
    )
    for lane in metrics.lanes:
        of = (lane.model, lane.version)
        for priority, histogram in zip(PRIORITY_NAMES, lane.inference, strict=True):
            key = (*of, priority)
            if priority != "shadow" or histogram.fine:  # no client's: it shows once there is one
                inference.add(key, histogram, exemplars.of(key) if exemplars else ())
        ages.add_metric(of, lane.oldest_queued_ns / 1e9)
        batches.add_metric(of, buckets(_ROWS, lane.batch_rows.counts), lane.batch_rows.sum)
        for (stage, _, _), histogram in zip(STAGES, lane.stages, strict=True):
            stages.add((stage, *of), histogram)
    if exemplars:
        exemplars.keep({(lane.model, lane.version) for lane in metrics.lanes})
    yield inference
    yield stages
    yield batches
    yield ages
