"""Private names of libraries that we use, for want of public ones: an upgrade that takes one away fails here, by name."""

from __future__ import annotations

import pytest
import redis


@pytest.mark.parametrize("kind", [redis.Connection, redis.SSLConnection, redis.UnixDomainSocketConnection])
def test_the_socket_of_a_redis_connection(kind: type[redis.Connection]) -> None:
    """features/redis_commands.py: the core sends and receives on it."""
    assert hasattr(kind(), "_sock")


@pytest.mark.parametrize("name", ["_translate_data", "_count_data"])
def test_what_an_otlp_exporter_makes_of_spans(name: str) -> None:
    """observe/trace_export.py: our messages are encoded already."""
    exporter = pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc.trace_exporter").OTLPSpanExporter
    assert hasattr(exporter, name)
