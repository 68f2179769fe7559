"""The public port on the native transport: sockets and settings. What happens on it is in the core (ext/core/transport)."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Mapping
from pathlib import Path

from assay._core import HAS_NATIVE_TRANSPORT, Engine, NativeTransport, TransportStats
from assay.config import Config, NativeTransportConfig
from assay.errors import ConfigError
from assay.observe.logs import log_event
from assay.transport.certificates import Pem
from assay.transport.policy import Listener
from assay.transport.roles import Roles
from assay.transport.security import Security

_BACKLOG = 1024
# A connection takes one, and both ends of a Unix socket while calls of it are forwarded. Shells allow 1,024 in all.
_DESCRIPTORS_EACH = 3
_DESCRIPTORS_OF_THREAD = 264  # 256 sockets that linger, and what it waits on
_DESCRIPTORS_KEPT = 1024  # for everything else
DENIALS_INTERVAL_S = 1.0

log = logging.getLogger("assay")


def wants_native(config: Config) -> bool:
    """Whether it is to answer the public port: auto takes it where this build has it. Raises ConfigError where it is named and is
    not there."""
    if config.transport == "auto":
        return HAS_NATIVE_TRANSPORT
    if config.transport == "native" and not HAS_NATIVE_TRANSPORT:
        raise ConfigError(
            "transport: this build has no native transport; install pkg-config, libnghttp2-dev, libssl-dev and zlib1g-dev and "
            "build again, or choose grpcio"
        )
    return config.transport == "native"


class NativePort:
    """A TCP port in front of a gRPC server on a Unix socket. bind(), then start(), then stop(); each once."""

    def __init__(self, engine: Engine, config: Config, security: Security) -> None:
        self._engine = engine
        self._security = security
        self._config = config
        self._socket: socket.socket | None = None
        self._transport: NativeTransport | None = None

    def bind(self, key: str, address: str) -> str:
        """Takes HOST:PORT, which `key` of the configuration names, and returns it with the real port. Raises ConfigError."""
        host, _, port = address.rpartition(":")
        try:
            self._socket = _bind(host.strip("[]"), int(port), reuse_port=self._config.reuse_port)
        except OSError as error:
            raise ConfigError(
                f"{key}: {address} cannot be bound: {error.strerror or error}; choose another, for example --listen "
                "127.0.0.1:50052 (make serve ARGS='--listen ...')"
            ) from error
        return f"{host}:{self._socket.getsockname()[1]}"

    def start(self, forward_path: Path) -> None:
        """Begins to answer. Methods that are not its own go to the gRPC server on `forward_path`."""
        assert self._socket is not None
        limits, connection, native = self._config.limits, self._config.connection, self._config.native_transport
        self._transport = NativeTransport(
            self._engine,
            str(forward_path),
            io_threads=self._config.io_thread_count,
            receive_message_bytes_max=limits.receive_message_bytes_max,
            send_message_bytes_max=limits.send_message_bytes_max,
            metadata_bytes_max=limits.metadata_bytes_max,
            connections_max=_possible_connections(native, self._config.io_thread_count),
            connection_streams_max=limits.connection_streams_max,
            forwarded_streams_max=native.forwarded_streams_max,
            streams_max=limits.streams_max,
            stream_messages_max=limits.stream_messages_max,
            held_bytes_max=native.held_bytes_max,
            stream_age_s_max=connection.stream_age_s_max,
            ping_interval_s_min=connection.ping_interval_s_min,
            keepalive_s=connection.keepalive_s,
            keepalive_timeout_s=connection.keepalive_timeout_s,
            idle_s_max=connection.idle_s_max,
            age_s_max=connection.age_s_max,
            age_grace_s=connection.age_grace_s,
        )
        self._security.follow(self._protect)
        self._denials = self._security.count_elsewhere(self._denied_calls)
        self._teller = asyncio.create_task(self._tell_denials())
        self._transport.start(self._socket.detach())

    async def stop(self, grace_s: float) -> None:
        """No more connections; those there are asked to go, and cut after `grace_s`."""
        if self._transport is None:
            return
        self._teller.cancel()
        self._transport.drain(grace_s)
        await asyncio.to_thread(self._transport.wait_closed, grace_s)
        await asyncio.to_thread(self._transport.stop)
        self.tell_denials()

    def tell_denials(self) -> None:
        """Logs what was refused since the last time."""
        assert self._transport is not None
        for reason, method, principal in self._transport.drain_denials():
            self._denials.tell(Listener.PUBLIC, _text(method), _text(principal), reason)

    def stats(self) -> TransportStats | None:
        """None: not started."""
        return self._transport.stats() if self._transport is not None else None

    # --- implementation ---

    async def _tell_denials(self) -> None:
        while True:
            await asyncio.sleep(DENIALS_INTERVAL_S)
            self.tell_denials()

    def _denied_calls(self) -> Mapping[str, int]:
        assert self._transport is not None
        return self._transport.stats().denied_calls

    def _protect(self, pem: Pem, roles: Roles | None) -> None:
        assert self._transport is not None
        self._transport.protect(pem.certificate, pem.key, pem.client_ca, roles)


# --- implementation ---


def _possible_connections(native: NativeTransportConfig, io_threads: int) -> int:
    """`connections_max`, or what there are descriptors for: else clients could take what the rest of the server needs to open a
    file or reach a store."""
    others = io_threads * _DESCRIPTORS_OF_THREAD + _DESCRIPTORS_KEPT
    wanted = native.connections_max * _DESCRIPTORS_EACH + others
    allowed = _allow_descriptors(wanted)
    if allowed >= wanted:
        return native.connections_max
    possible = max(1, (allowed - others) // _DESCRIPTORS_EACH)
    if "connections_max" in native.model_fields_set:  # the default is what there is room for
        log_event(
            log,
            logging.WARNING,
            "fewer connections than native_transport.connections_max: raise the limit of open files",
            connections=possible,
            connections_max=native.connections_max,
            open_files=allowed,
            open_files_wanted=wanted,
        )
    return possible


def _allow_descriptors(wanted: int) -> int:
    """How many there may be, once `wanted` are allowed if the hard limit has room for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(hard, wanted)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _bind(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # [::] is everybody, as with gRPC
        listening.bind(where)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
