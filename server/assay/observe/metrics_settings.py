"""Whether and how metrics are sent by OTLP: our configuration first, else OpenTelemetry's standard variables. Imports no SDK.

On: metrics_export.endpoint or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is set, or OTEL_METRICS_EXPORTER is otlp. An endpoint for
everything (OTEL_EXPORTER_OTLP_ENDPOINT) is used, but turns nothing on: it is often a collector of traces alone, and /metrics is
there anyway. Off all the same: OTEL_SDK_DISABLED=true, OTEL_METRICS_EXPORTER=none (that, or prometheus, says nothing about
/metrics). The exporter itself reads the other OTEL_EXPORTER_OTLP_* variables (headers, certificates, timeout, compression).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay.config import MetricsExportConfig
from assay.errors import ConfigError
from assay.observe.otlp_settings import check_exporter_variables, chosen_exporters, is_disabled

INTERVAL_MS_DEFAULT = 60_000
INTERVAL_MS_MIN = 100


@dataclass(frozen=True)
class MetricsExportSettings:
    """What the exporter is told."""

    is_on: bool = False
    endpoint: str | None = None  # None: the exporter asks the environment, then takes http://localhost:4317
    interval_s: float = INTERVAL_MS_DEFAULT / 1e3
    is_exponential: bool = False  # latencies as exponential histograms


def metrics_export_settings(config: MetricsExportConfig, environ: Mapping[str, str]) -> MetricsExportSettings:
    """Raises ConfigError, with the variable's name, for what we cannot do."""
    if not _is_wanted(config, environ):
        return MetricsExportSettings()
    check_exporter_variables("METRICS", environ)
    temporality = environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip().lower()
    if temporality not in ("", "cumulative"):
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: expected cumulative; our counters count since the start"
        )
    aggregation = environ.get("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "").strip().lower()
    if aggregation not in ("", *_AGGREGATIONS):
        raise ConfigError(f"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION: expected {' or '.join(_AGGREGATIONS)}")
    return MetricsExportSettings(True, config.endpoint or None, _interval_s(config, environ), aggregation == _AGGREGATIONS[1])


# --- implementation ---

_AGGREGATIONS = ("explicit_bucket_histogram", "base2_exponential_bucket_histogram")


def _is_wanted(config: MetricsExportConfig, environ: Mapping[str, str]) -> bool:
    if is_disabled(environ):
        return False
    exporters = chosen_exporters("OTEL_METRICS_EXPORTER", ("otlp", "none", "prometheus"), environ)
    if "none" in exporters:
        return False
    return bool(config.endpoint or "otlp" in exporters or environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"))


def _interval_s(config: MetricsExportConfig, environ: Mapping[str, str]) -> float:
    if config.interval_ms is not None:
        return config.interval_ms / 1e3
    text = environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip()
    if not text:
        return INTERVAL_MS_DEFAULT / 1e3
    if not text.isascii() or not text.isdecimal() or not INTERVAL_MS_MIN <= int(text) <= 86_400_000:
        raise ConfigError(f"OTEL_METRIC_EXPORT_INTERVAL: expected milliseconds, from {INTERVAL_MS_MIN} to 86400000")
    return int(text) / 1e3
