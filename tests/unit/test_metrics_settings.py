"""When metrics are sent by OTLP, and how: configuration and OpenTelemetry's variables."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from assay.config import MetricsExportConfig
from assay.errors import ConfigError
from assay.observe.metrics_settings import MetricsExportSettings, metrics_export_settings

ENDPOINT = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4317"}


def settings(environ: dict[str, str], **config: Any) -> MetricsExportSettings:
    return metrics_export_settings(MetricsExportConfig(**config), environ)


@pytest.mark.parametrize(
    ("environ", "config", "is_on"),
    [
        ({}, {}, False),
        ({}, {"endpoint": "http://c:4317"}, True),
        (ENDPOINT, {}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": ""}, {}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, {}, False),  # often a collector of traces alone
        ({"OTEL_METRICS_EXPORTER": "otlp"}, {}, True),
        ({"OTEL_METRICS_EXPORTER": " Prometheus, OTLP"}, {}, True),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, {}, False),
        ({"OTEL_METRICS_EXPORTER": "none", **ENDPOINT}, {}, False),
        ({"OTEL_SDK_DISABLED": "True", **ENDPOINT}, {"endpoint": "http://c:4317"}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc", **ENDPOINT}, {}, True),
    ],
)
def test_on_and_off(environ: dict[str, str], config: dict[str, Any], is_on: bool) -> None:
    assert settings(environ, **config).is_on is is_on


def test_how() -> None:
    found = settings({**ENDPOINT, "OTEL_METRIC_EXPORT_INTERVAL": "2500"})
    assert found == MetricsExportSettings(True, None, 2.5, False)  # the exporter itself reads the endpoint
    aggregation = {"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram"}
    found = settings({**ENDPOINT, **aggregation, "OTEL_METRIC_EXPORT_INTERVAL": "1"}, endpoint="http://own:1", interval_ms=100)
    assert found == MetricsExportSettings(True, "http://own:1", 0.1, True)
    assert settings(ENDPOINT).interval_s == 60


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_METRICS_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "token without a name"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "summary"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1m"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-5000"),
    ],
)
def test_what_we_cannot_do_is_an_error_with_the_variables_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: ") as caught:
        settings({**ENDPOINT, name: value})
    assert "token" not in str(caught.value)


@pytest.mark.parametrize("config", [{"endpoint": "collector:4317"}, {"endpoint": "http://u:p@c:1"}, {"interval_ms": 5}])
def test_configuration_that_is_wrong_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MetricsExportConfig(**config)
