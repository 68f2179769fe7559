"""One look of `assay top` as a document: what --json prints and top_view.py draws. A part that the page has not is left out."""

from __future__ import annotations

from typing import Any

from assay.cli.top_page import Interval, Page, Percentiles, served

STAGES = ("decode", "look_up", "queue", "assemble", "infer", "explain", "commit", "respond")
DRIFTED_INPUTS_MAX = 5


def look(interval: Interval) -> dict[str, Any]:
    """Rates are a second, latencies milliseconds, sizes bytes or rows, as the keys say."""
    page = interval.after
    found = {
        "interval_s": round(interval.length_s, 3),
        "server": _server(page),
        "rows_per_s": interval.rates_by("outcome", "assay_rows_total"),
        "failed_rows_per_s": interval.rates_by("reason", "assay_failed_rows_total"),
        "refused_calls_per_s": interval.rates_by("reason", "assay_refused_calls_total"),
        "denied_calls_per_s": interval.rates_by("reason", "assay_denied_calls_total"),
        "degraded_rows_per_s": interval.rates_by("cause", "assay_degraded_rows_total"),
        "models": [_model(interval, model, version) for model, version in served(page)],
        "queue": _levels(page, _QUEUE),
        "store": _store(interval),
        "drift": [drift for model, version in served(page) if (drift := _drift(page, model, version))],
        "audit": _audit(interval),
        "gpus": [_gpu(page, gpu) for gpu in sorted(page.by("gpu", "assay_gpu_lost"))],
    }
    return {key: value for key, value in found.items() if value or key not in ("store", "drift", "audit", "gpus")}


# --- implementation ---

_QUEUE = {
    "queued_rows": "assay_queued_rows",
    "queue_limit_rows": "assay_queue_limit_rows",
    "slots_used": "assay_slots_used",
    "slots": "assay_slots",
    "open_streams": "assay_open_streams",
    "open_connections": "assay_open_connections",
}
_STORE = {
    "records": "assay_store_records",
    "bytes": "assay_store_bytes",
    "limit_bytes": "assay_store_limit_bytes",
    "is_away": "assay_store_away",
    "looking_up_rows": "assay_looking_up_rows",
}
_AUDIT = {
    "spool_bytes": "assay_audit_spool_bytes",
    "spool_limit_bytes": "assay_audit_spool_limit_bytes",
    "unshipped_records": "assay_audit_unshipped_records",
    "oldest_unshipped_s": "assay_audit_oldest_unshipped_seconds",
}
_GPU = {
    "utilization_ratio": "assay_gpu_utilization_ratio",
    "memory_used_bytes": "assay_gpu_memory_used_bytes",
    "memory_limit_bytes": "assay_gpu_memory_limit_bytes",
    "temperature_celsius": "assay_gpu_temperature_celsius",
    "slowdown_temperature_celsius": "assay_gpu_slowdown_temperature_celsius",
    "xid_errors": "assay_gpu_xid_errors_total",
}


def _levels(page: Page, names: dict[str, str], **wanted: str) -> dict[str, float]:
    return {key: value for key, name in names.items() if (value := page.value(name, **wanted)) is not None}


def _server(page: Page) -> dict[str, Any]:
    build: dict[str, str] = next((dict(labels) for labels in page.of("assay_build_info")), {})
    return {"version": build.get("version", ""), **_levels(page, {"started_s": "process_start_time_seconds"})}


def _model(interval: Interval, model: str, version: str) -> dict[str, Any]:
    of = {"model": model, "version": version}
    total = interval.percentiles("inference_latency_seconds", **of)
    priorities = interval.after.by("priority", "inference_latency_seconds_count", **of)
    batches = interval.percentiles("assay_batch_rows", **of)
    return {
        **of,
        "scores_per_s": total.count / interval.length_s,
        "total_ms": _milliseconds(total),
        "priorities_ms": {
            priority: _milliseconds(interval.percentiles("inference_latency_seconds", **of, priority=priority))
            for priority in priorities
        },
        "stages_ms": {stage: _milliseconds(interval.percentiles("assay_stage_seconds", **of, stage=stage)) for stage in STAGES},
        "batch_rows": {"mean": batches.mean, "p50": batches.p50, "p99": batches.p99},
        "queue_oldest_age_ms": 1e3 * (interval.after.value("assay_queue_oldest_age_seconds", **of) or 0.0),
    }


def _milliseconds(of: Percentiles) -> dict[str, float | None]:
    parts = {"mean": of.mean, "p50": of.p50, "p99": of.p99, "p99_9": of.p999}
    return {"count": of.count, **{key: None if value is None else value * 1e3 for key, value in parts.items()}}


def _store(interval: Interval) -> dict[str, Any]:
    store: dict[str, Any] = _levels(interval.after, _STORE)
    hits, misses = interval.rate("assay_near_cache_hits_total") or 0.0, interval.rate("assay_near_cache_misses_total") or 0.0
    if hits + misses > 0:
        store["near_cache_hit_ratio"] = hits / (hits + misses)
    events = interval.rates_by("outcome", "assay_store_events_total") or interval.rates_by("outcome", "assay_events_total")
    return {**store, "events_per_s": events} if events else store


def _drift(page: Page, model: str, version: str) -> dict[str, Any]:
    of = {"model": model, "version": version}
    names = {"prediction_score": "model_prediction_drift_score", "window_scores": "assay_drift_window_scores"}
    found: dict[str, Any] = _levels(page, names, **of)
    inputs = page.by("feature", "assay_input_drift_score", **of)
    if inputs:
        worst = sorted(inputs.items(), key=lambda item: -item[1])[:DRIFTED_INPUTS_MAX]
        found["worst_inputs"] = dict(worst)
    ratios = page.by("decision", "assay_alert_rate_ratio", **of)
    if ratios:
        low, high = (
            page.by("decision", "assay_alert_rate_ratio_low", **of),
            page.by("decision", "assay_alert_rate_ratio_high", **of),
        )
        found["alert_rate_ratio"] = {
            decision: {"ratio": ratio, "low": low.get(decision), "high": high.get(decision)} for decision, ratio in ratios.items()
        }
    return {**of, **found} if found else {}


def _audit(interval: Interval) -> dict[str, Any]:
    page = interval.after
    found: dict[str, Any] = _levels(page, _AUDIT)
    states = [state for state, value in page.by("state", "assay_audit_state").items() if value]
    if states:
        found["state"] = states[0]
    if not found:
        return {}
    return {
        **found,
        "records_per_s": interval.rate("assay_audit_records_total"),
        "dropped_records_per_s": interval.rates_by("cause", "assay_audit_dropped_records_total"),
        "failures_per_s": interval.rates_by("operation", "assay_audit_failures_total"),
    }


def _gpu(page: Page, gpu: str) -> dict[str, Any]:
    throttled = page.by("reason", "assay_gpu_throttled", gpu=gpu)
    return {
        "gpu": gpu,
        "is_lost": bool(page.value("assay_gpu_lost", gpu=gpu)),
        **_levels(page, _GPU, gpu=gpu),
        "throttled_by": [reason for reason, value in throttled.items() if value],
    }
