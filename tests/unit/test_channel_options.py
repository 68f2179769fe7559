"""Every limit of the configuration reaches gRPC under its right name."""

from __future__ import annotations

from assay.config import Config, ConnectionConfig, EngineConfig, LimitsConfig
from assay.transport.health import WATCHES_MAX
from assay.transport.reflection import CALLS_MAX
from assay.transport.server import channel_options, concurrent_rpcs_max


def test_every_limit_is_passed_on() -> None:
    config = Config(
        reuse_port=True,
        limits=LimitsConfig(
            receive_message_bytes_max=2001, send_message_bytes_max=2002, metadata_bytes_max=2003, connection_streams_max=4
        ),
        connection=ConnectionConfig(
            ping_interval_s_min=5, keepalive_s=6, keepalive_timeout_s=7, idle_s_max=8, age_s_max=9, age_grace_s=11
        ),
    )
    assert dict(channel_options(config)) == {
        "grpc.so_reuseport": 1,
        "grpc.max_receive_message_length": 2001,
        "grpc.max_send_message_length": 2002,
        "grpc.max_metadata_size": 2003,
        "grpc.absolute_max_metadata_size": 2003,
        "grpc.max_concurrent_streams": 4,
        "grpc.http.overload_protection": 0,
        "grpc.server.max_pending_requests": concurrent_rpcs_max(config),
        "grpc.server.max_pending_requests_hard_limit": concurrent_rpcs_max(config),
        "grpc.http2.min_recv_ping_interval_without_data_ms": 5000,
        "grpc.http2.max_ping_strikes": 2,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.keepalive_time_ms": 6000,
        "grpc.keepalive_timeout_ms": 7000,
        "grpc.max_connection_idle_ms": 8000,
        "grpc.max_connection_age_ms": 9000,
        "grpc.max_connection_age_grace_ms": 11_000,
    }


def test_zero_turns_idle_and_age_off_and_ports_are_not_shared_by_default() -> None:
    options = dict(channel_options(Config(connection=ConnectionConfig(idle_s_max=0, age_s_max=0))))
    assert not {name for name in options if "connection_idle" in name or "connection_age" in name}
    assert options["grpc.so_reuseport"] == 0  # or a second server would silently take half of the connections


def test_grpcs_own_limit_is_never_the_first_to_be_hit() -> None:
    config = Config(engine=EngineConfig(slots=100, batch_call_rows_max=25), limits=LimitsConfig(streams_max=50))
    assert concurrent_rpcs_max(config) > 100 + 50 + WATCHES_MAX + CALLS_MAX  # what lasts must leave room for what is answered
