"""When tracing is on, and how it samples: configuration and OpenTelemetry's variables."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.util.re import parse_env_headers
from pydantic import ValidationError

from assay.config import TracingConfig
from assay.errors import ConfigError
from assay.observe.tracing_settings import TracingSettings, tracing_settings

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}


def settings(environ: dict[str, str], **config: Any) -> TracingSettings:
    return tracing_settings(TracingConfig(**config), environ)


@pytest.mark.parametrize(
    ("environ", "config", "is_on"),
    [
        ({}, {}, False),
        ({}, {"endpoint": "http://c:4317"}, True),
        (ENDPOINT, {}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {}, False),  # empty is unset, says the specification
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c:4317"}, {}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, {}, True),
        ({"OTEL_TRACES_EXPORTER": "none", **ENDPOINT}, {}, False),
        ({"OTEL_SDK_DISABLED": "True", **ENDPOINT}, {"endpoint": "http://c:4317"}, False),
        ({"OTEL_SDK_DISABLED": "false", **ENDPOINT}, {}, True),
        ({"OTEL_TRACES_SAMPLER": "always_off", **ENDPOINT}, {}, False),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **ENDPOINT}, {}, True),
    ],
)
def test_on_and_off(environ: dict[str, str], config: dict[str, Any], is_on: bool) -> None:
    assert settings(environ, **config).is_on is is_on


@pytest.mark.parametrize(
    ("sampler", "argument", "ratio", "follows_parent"),
    [
        ("", "", 0.01, True),
        ("always_on", "", 1.0, False),
        ("traceidratio", "0.25", 0.25, False),
        ("traceidratio", "", 1.0, False),
        ("parentbased_always_on", "0.5", 1.0, True),
        ("parentbased_always_off", "", 0.0, True),
        ("parentbased_traceidratio", "0.5", 0.5, True),
        (" ParentBased_TraceIdRatio ", "1", 1.0, True),
    ],
)
def test_the_standard_samplers(sampler: str, argument: str, ratio: float, follows_parent: bool) -> None:
    found = settings({**ENDPOINT, "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument})
    assert (found.sample_ratio, found.follows_parent) == (ratio, follows_parent)


def test_configuration_wins() -> None:
    found = settings({**ENDPOINT, "OTEL_TRACES_SAMPLER": "always_off"}, endpoint="http://own:1", sample_ratio=0.5, slow_ms=7)
    assert found == TracingSettings(True, "http://own:1", 0.5, True, 7_000_000)
    assert settings(ENDPOINT).endpoint is None  # the exporter reads it


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"),
        ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER"),
        ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"}, "OTEL_TRACES_SAMPLER_ARG"),
    ],
)
def test_what_we_cannot_do_is_an_error_with_the_variables_name(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: "):
        settings(environ)


@pytest.mark.parametrize("endpoint", ["collector:4317", "ftp://c:1", "http://", "http://c:1/v1/traces", "http://u:secret@c:1"])
def test_a_wrong_endpoint_is_refused_without_its_secrets(endpoint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TracingConfig(endpoint=endpoint)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["Authorization Bearer TOKSECRET", "a=b,TOKSECRET", "=TOKSECRET", 'a="TOKSECRET"'])
def test_headers_that_cannot_be_read_are_refused_without_showing_them(value: str) -> None:
    """OpenTelemetry writes them into the log, and they may be a token."""
    config = TracingConfig(endpoint="http://127.0.0.1:4317")
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_HEADERS: expected name=value") as caught:
        tracing_settings(config, {"OTEL_EXPORTER_OTLP_HEADERS": value})
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("value", ["authorization=Bearer%20TOKEN, x-tenant=a", "Authorization=Bearer abc==", "a\t= b ,", ""])
def test_headers_that_the_sdk_reads_are_taken(value: str, caplog: pytest.LogCaptureFixture) -> None:
    config = TracingConfig(endpoint="http://127.0.0.1:4317")
    assert tracing_settings(config, {"OTEL_EXPORTER_OTLP_HEADERS": value}).is_on
    parse_env_headers(value, liberal=True)
    assert not caplog.records
