"""The connection: service config, keepalive, TLS. Everything that both clients hand to gRPC when they connect."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

import grpc

from assay import __version__
from assay.errors import ConfigError

# A file, or the PEM text itself.
Pem: TypeAlias = str | os.PathLike[str] | bytes

SCORING_SERVICE = "assay.v1.ScoringService"

KEEPALIVE_S = 30  # finds a dead connection between calls; servers send away who pings more often than every 10 s
KEEPALIVE_TIMEOUT_S = 5
RECONNECT_S_MIN, RECONNECT_S_MAX = 0.1, 2.0  # gRPC's own are 1 and 120: two minutes without scores after a restart
CONNECT_S_MAX = 5.0
ANSWER_BYTES_MAX = 16 << 20  # a server's limits.send_message_bytes_max; gRPC's own limit is 4 MiB


@dataclass(frozen=True, slots=True)
class Tls:
    """How to trust the server (`ca`; None: the authorities that gRPC ships) and how to be known to it (mTLS: `certificate` and
    `key`). Each is a path or PEM bytes. `server_name`: the name in the server's certificate, where the target's is another.
    Files are read once, when a client is made: after a renewal make a new one."""

    ca: Pem | None = None
    certificate: Pem | None = None
    key: Pem | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("tls: certificate and key go together; give both (mTLS) or neither")


def service_config() -> str:
    """service_config.json: balancing and retries, for clients in any language. It has no `timeout`: gRPC's C core counts that
    from the start of the process (grpc/grpc#40633), so that one of a second fails every call of an older process."""
    return (files("assay.client") / "service_config.json").read_text()


def channel_options(tls: Tls | None, *, retries: bool) -> list[tuple[str, str | int]]:
    """gRPC's names for all of it."""
    return [
        *connection_options(tls),
        ("grpc.service_config", service_config()),
        ("grpc.enable_retries", int(retries)),
    ]


def connection_options(tls: Tls | None) -> list[tuple[str, str | int]]:
    """The part that has nothing to do with what is called."""
    options: dict[str, str | int] = {
        "grpc.primary_user_agent": f"assay-client/{__version__}",
        "grpc.keepalive_time_ms": KEEPALIVE_S * 1000,
        "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_S * 1000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,  # without this, keepalive ends after two pings
        "grpc.initial_reconnect_backoff_ms": round(RECONNECT_S_MIN * 1000),
        "grpc.max_reconnect_backoff_ms": round(RECONNECT_S_MAX * 1000),
        "grpc.min_reconnect_backoff_ms": round(CONNECT_S_MAX * 1000),  # misnamed: how long one try to connect may take
        "grpc.max_receive_message_length": ANSWER_BYTES_MAX,
    }
    if tls is not None and tls.server_name is not None:
        options["grpc.ssl_target_name_override"] = tls.server_name
    return list(options.items())


def credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Raises ConfigError where a file cannot be read."""
    return grpc.ssl_channel_credentials(
        root_certificates=_read("ca", tls.ca),
        private_key=_read("key", tls.key),
        certificate_chain=_read("certificate", tls.certificate),
    )


def open_channel(target: str, tls: Tls | None, options: list[tuple[str, str | int]]) -> grpc.Channel:
    """For threads; plaintext without `tls`."""
    if tls is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials(tls), options)


# --- implementation ---


def _read(name: str, pem: Pem | None) -> bytes | None:
    if pem is None or isinstance(pem, bytes):
        return pem
    try:
        return Path(pem).read_bytes()
    except OSError as error:
        raise ConfigError(f"tls.{name}: {os.fspath(pem)}: {error.strerror}; give the path of a PEM file, or its bytes") from error
