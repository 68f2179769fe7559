"""Whether and how calls are traced: our configuration first, else OpenTelemetry's standard variables. Imports no SDK.

On: tracing.endpoint, OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, or OTEL_TRACES_EXPORTER is otlp.
Off all the same: OTEL_SDK_DISABLED=true, OTEL_TRACES_EXPORTER=none, OTEL_TRACES_SAMPLER=always_off.
The exporter itself reads the other OTEL_EXPORTER_OTLP_* variables (headers, certificates, timeout, compression).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay.config import TracingConfig
from assay.errors import ConfigError
from assay.observe.otlp_settings import check_exporter_variables, chosen_exporters, is_disabled

SAMPLE_RATIO_DEFAULT = 0.01


@dataclass(frozen=True)
class TracingSettings:
    """What the core and the exporter are told."""

    is_on: bool = False
    endpoint: str | None = None  # None: the exporter asks the environment, then takes http://localhost:4317
    sample_ratio: float = 0.0
    follows_parent: bool = True
    slow_ns: int = 0


def tracing_settings(config: TracingConfig, environ: Mapping[str, str]) -> TracingSettings:
    """Raises ConfigError, with the variable's name, for what we cannot do."""
    if not _is_wanted(config, environ):
        return TracingSettings()
    check_exporter_variables("TRACES", environ)
    ratio, follows_parent = _sampler(config, environ)
    if ratio == 0.0 and not follows_parent:
        return TracingSettings()
    return TracingSettings(True, config.endpoint or None, ratio, follows_parent, config.slow_ms * 1_000_000)


# --- implementation ---

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

# Name of a standard sampler -> whether a caller's decision holds, and the ratio (None: OTEL_TRACES_SAMPLER_ARG, 1 without).
_SAMPLERS: Mapping[str, tuple[bool, float | None]] = {
    "always_on": (False, 1.0),
    "always_off": (False, 0.0),
    "traceidratio": (False, None),
    "parentbased_always_on": (True, 1.0),
    "parentbased_always_off": (True, 0.0),
    "parentbased_traceidratio": (True, None),
}


def _is_wanted(config: TracingConfig, environ: Mapping[str, str]) -> bool:
    if is_disabled(environ):
        return False
    exporters = chosen_exporters("OTEL_TRACES_EXPORTER", ("otlp", "none"), environ)
    if "none" in exporters:
        return False
    return bool(config.endpoint or "otlp" in exporters or any(environ.get(name) for name in _ENDPOINTS))


def _sampler(config: TracingConfig, environ: Mapping[str, str]) -> tuple[float, bool]:
    if config.sample_ratio is not None:
        return config.sample_ratio, True
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if not name:
        return SAMPLE_RATIO_DEFAULT, True
    if name not in _SAMPLERS:
        raise ConfigError(f"OTEL_TRACES_SAMPLER: expected one of {', '.join(_SAMPLERS)}")
    follows_parent, ratio = _SAMPLERS[name]
    return (_sampler_ratio(environ) if ratio is None else ratio), follows_parent


def _sampler_ratio(environ: Mapping[str, str]) -> float:
    text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise ConfigError("OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1")
    return ratio
