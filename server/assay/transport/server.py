"""The listeners: grpc.aio servers with their limits, and the order in which they open and close.

Public: a TCP port, plaintext, TLS or mTLS. Admin: a Unix socket that only this user can open, and a TCP port with mTLS if wanted.
Health: a plaintext TCP port for probes, if wanted. All take their methods from the policy table.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import grpc

from assay._core import Engine, TransportStats
from assay.config import SOCKET_PATH_BYTES_MAX, Config
from assay.errors import ConfigError
from assay.explain.recorded_scores import RecordedScores
from assay.features.served import ServedFeatures
from assay.features.store_writer import EventWriters
from assay.observe.drift import DriftWatch
from assay.observe.status import State
from assay.private_file import weakness_of
from assay.scoring.rollout import Rollout
from assay.scoring.tensor_models import TensorModels
from assay.transport.access import Access
from assay.transport.drift_service import DriftService
from assay.transport.explain_service import ExplainService
from assay.transport.feature_looks import FeatureLooks
from assay.transport.feature_service import FeatureService, LabelLog
from assay.transport.health import HealthService
from assay.transport.inference_service import InferenceService
from assay.transport.model_service import ModelService
from assay.transport.native import NativePort, wants_native
from assay.transport.operations_service import OperationsService
from assay.transport.policy import Listener, MethodTable, answered_on, services_of
from assay.transport.reflection import REFLECTION_SERVICES, Descriptors, ReflectionService
from assay.transport.replies import Replies
from assay.transport.scoring_service import ScoringService
from assay.transport.security import Protection, Security, SecurityStats

if TYPE_CHECKING:
    from assay.observe.telemetry import Telemetry
    from assay.transport.grpc_types import Handler

HEALTH_MESSAGE_BYTES_MAX = 1024

log = logging.getLogger("assay")


@dataclass(frozen=True)
class Addresses:
    """Where the server answers, once it has started. HOST:PORT with the real port."""

    public: str
    admin: Path | None  # of the Unix socket
    protection: Protection = Protection.PLAINTEXT  # of the public port
    transport: str = "grpcio"  # what answers the public port: grpcio or native
    health: str | None = None
    admin_port: str | None = None


class _LateAborts(logging.Filter):
    """Drops gRPC's traceback of a call whose deadline passed just as it was answered: a line of a caller's making, and no news.
    (The other cause, an answer too large to be sent, never gets so far.)"""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or kind.__name__ != "ExecuteBatchError"


_grpc_log = logging.getLogger("grpc._cython.cygrpc")
_grpc_log.addFilter(_LateAborts())
# At level debug grpc.aio logs a server that was not stopped, from within its deallocation: a kept record keeps freed memory.
_grpc_log.setLevel(logging.INFO)


class Transport:
    """All services on all listeners. Made and used on one event loop; start() once, then drain() once."""

    def __init__(
        self,
        engine: Engine,
        writers: Callable[[], EventWriters],
        served: ServedFeatures,
        drift: DriftWatch,
        config: Config,
        telemetry: Telemetry,
        rollout: Rollout,
        labels: LabelLog | None = None,
        tensor_models: TensorModels | None = None,
        recorded: RecordedScores | None = None,
    ) -> None:
        """`writers`: of the feature sets that are served now. `labels`: where labels of recorded events are put on record.
        `tensor_models`: of the Open Inference Protocol. `recorded`: in the server's audit log, if it keeps one."""
        self._engine = engine
        self._board = telemetry.board
        self._config = config
        self._replies = Replies(engine, asyncio.get_running_loop())
        self._scoring = ScoringService(
            engine,
            self._replies,
            answer_bytes_max=config.limits.send_message_bytes_max,
            stream_messages_max=config.limits.stream_messages_max,
            streams_max=config.limits.streams_max,
            stream_age_s_max=config.connection.stream_age_s_max,
        )
        self._inference = InferenceService(
            engine,
            self._replies,
            tensor_models if tensor_models is not None else TensorModels(),
            lambda: self._board.state is State.SERVING,
            answer_bytes_max=config.limits.send_message_bytes_max,
        )
        self._explain = ExplainService(engine, self._replies, recorded, answer_bytes_max=config.limits.send_message_bytes_max)
        self._features = FeatureService(writers, engine, labels)
        self._looks = FeatureLooks(served, engine, answer_bytes_max=config.limits.send_message_bytes_max)
        self._drift = DriftService(drift, served, engine, answer_bytes_max=config.limits.send_message_bytes_max)
        self._security = Security(config, engine)
        self._operations = OperationsService(telemetry, engine, answer_bytes_max=config.limits.send_message_bytes_max)
        self._models = ModelService(rollout, engine, answer_bytes_max=config.limits.send_message_bytes_max)
        services = (self._scoring, self._inference, self._features, self._looks, self._drift, self._models, self._operations)
        handlers = {name: handler for service in services for name, handler in service.handlers().items()}
        descriptors = Descriptors()

        def port(listener: Listener, *, asks_for_roles: bool = True) -> _Port:
            access = self._security.access(listener, asks_for_roles=asks_for_roles)
            return _Port(listener, {**handlers, **self._explain.handlers(listener)}, access, descriptors, config)

        # In front of the public port's gRPC server, which then is behind a Unix socket and asks for no roles: that was done.
        self._native = NativePort(engine, config, self._security) if wants_native(config) else None
        self._public = port(Listener.PUBLIC, asks_for_roles=self._native is None)
        self._admin_port = None if config.admin_listen == "off" else port(Listener.ADMIN)
        # Who may open a Unix socket is for its mode to say, and a probe has no certificate to show.
        self._admin = None if config.admin_socket == "off" else port(Listener.ADMIN, asks_for_roles=False)
        self._health = None if config.health_listen == "off" else port(Listener.HEALTH, asks_for_roles=False)
        self._admin_path: Path | None = None
        self._forward_path: Path | None = None  # of the public port's gRPC server, if it is behind the native transport

    async def start(self, default_socket_dir: Path) -> Addresses:
        """Opens the listeners; health still says NOT_SERVING. Raises ConfigError where an address cannot be had."""
        config, security = self._config, self._security
        if self._native is not None:
            public = self._native.bind("listen", config.listen)
            self._forward_path = _forward_path(default_socket_dir, public)
            self._public.open_socket("transport", self._forward_path, mend="set XDG_RUNTIME_DIR, or transport to grpcio")
        else:
            public = self._public.open_port("listen", config.listen, security.credentials())
        health = admin_port = None
        if self._health is not None:
            health = self._health.open_port("health_listen", config.health_listen)
        if self._admin_port is not None:
            admin_port = self._admin_port.open_port("admin_listen", config.admin_listen, security.credentials())
        if self._admin is not None:
            self._admin_path = _admin_path(config, default_socket_dir, public)
            self._admin.open_socket("admin_socket", self._admin_path, mend="choose another path, or off")
        for port in reversed(self._ports()):
            await port.server.start()
        if self._native is not None and self._forward_path is not None:
            self._native.start(self._forward_path)
        security.start_watch()
        if security.protection is Protection.PLAINTEXT and not _is_loopback(config.listen):
            log.warning(
                "PLAINTEXT on %s: everybody who reaches this port can read transactions and ask for scores; set tls.certificate "
                "and tls.key, or listen on 127.0.0.1",
                public,
            )
        if self._native is None and (unused := config.native_transport.model_fields_set):
            why = "transport is grpcio" if config.transport == "grpcio" else "this build has no native transport (assay doctor)"
            log.warning("native_transport: %s without effect: %s", ", ".join(sorted(unused)), why)
        transport = "native" if self.is_native else "grpcio"
        return Addresses(public, self._admin_path, security.protection, transport, health, admin_port)

    def set_serving(self, is_serving: bool) -> None:
        """What health says, on all listeners."""
        self._board.state = State.SERVING if is_serving else State.NOT_SERVING
        for port in self._ports():
            port.health.set_serving(is_serving)

    async def drain(self, delay_s: float, grace_s: float) -> None:
        """NOT_SERVING; answer calls for `delay_s` more, so that balancers can look away; refuse new ones (GOAWAY); let those in
        flight finish within `grace_s`; close."""
        self.set_serving(False)
        self._board.state = State.DRAINING
        await asyncio.sleep(delay_s)
        self._scoring.drain()
        others = [port.stop(grace_s) for port in self._ports() if port not in (self._health, self._public)]
        await asyncio.gather(self._stop_public(grace_s), *others)
        if self._health is not None:
            await self._health.stop(grace_s)  # the last: a probe that is refused looks like a server that hangs
        self._security.close()
        for service in self._workers():
            await asyncio.to_thread(service.close)
        self._replies.close()
        for path in (self._admin_path, self._forward_path):
            if path is not None:
                path.unlink(missing_ok=True)

    async def _stop_public(self, grace_s: float) -> None:
        """The server behind the native transport goes after it: until clients have heard that they are to go, they may call."""
        started_s = time.monotonic()
        if self._native is not None:
            self._public.end_lasting_calls()
            await self._native.stop(grace_s)
        await self._public.stop(max(0.0, grace_s - (time.monotonic() - started_s)))

    @property
    def waiting_count(self) -> int:
        """Calls that wait for the core."""
        native = self.native_stats
        return self._replies.waiting_count + (native.waiting_calls if native is not None else 0)

    @property
    def native_stats(self) -> TransportStats | None:
        """Of the native transport, if it answers the public port."""
        return self._native.stats() if self._native is not None else None

    @property
    def open_streams(self) -> int:
        native = self.native_stats
        return self._scoring.open_streams + (native.open_streams if native is not None else 0)

    @property
    def event_counts(self) -> Mapping[str, int]:
        """Events that came by RecordEvents, by what became of them."""
        return self._features.counts

    @property
    def held_count(self) -> int:
        """Messages of events, looks at features, drift and status, searches of the audit log, steps and loads of models that are
        under way or wait."""
        return sum(service.held_count for service in self._workers())

    def security_stats(self) -> SecurityStats:
        return self._security.stats()

    async def settle(self) -> None:
        """What the native transport is told, and tells, every second: now. Tests."""
        if self._native is not None:
            await self._security.refresh()
            self._native.tell_denials()

    @property
    def is_native(self) -> bool:
        """Whether the native transport answers the public port."""
        return self._native is not None

    def method_tables(self) -> dict[Listener, MethodTable]:
        """What answers where."""
        return {port.listener: port.methods for port in self._ports()}

    def _workers(self) -> tuple[_Working, ...]:
        """The services that have threads."""
        return (self._explain, self._features, self._looks, self._drift, self._models, self._operations)

    def _ports(self) -> list[_Port]:
        return [port for port in (self._public, self._admin, self._admin_port, self._health) if port is not None]


# --- implementation ---


class _Working(Protocol):
    """A service that has threads."""

    @property
    def held_count(self) -> int: ...
    def close(self) -> None: ...


class _Port:
    """One listener: its server, its methods, its health."""

    def __init__(
        self, listener: Listener, handlers: Mapping[str, Handler], access: Access, descriptors: Descriptors, config: Config
    ) -> None:
        # Probes ask about the services of the public port.
        own = services_of(answered_on(Listener.PUBLIC if listener is Listener.HEALTH else listener, handlers))
        reflection = REFLECTION_SERVICES if config.reflection else ()
        self.listener = listener
        self.health = HealthService((*own, "grpc.health.v1.Health", *reflection))
        self._reflection = ReflectionService((*own, "grpc.health.v1.Health", *reflection), descriptors)
        standard = {**self.health.handlers(), **(self._reflection.handlers() if config.reflection else {})}
        self.methods = MethodTable(access.guard(answered_on(listener, {**handlers, **standard})), access.refusing)
        self.server = grpc.aio.server(
            handlers=(self.methods,),
            options=channel_options(_small_messages(config) if listener is Listener.HEALTH else config),
            maximum_concurrent_rpcs=concurrent_rpcs_max(config),
        )

    def open_port(self, key: str, address: str, credentials: grpc.ServerCredentials | None = None) -> str:
        """Binds HOST:PORT, which `key` of the configuration names, and returns it with the real port."""
        server = self.server
        try:
            port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(
                f"{key}: {address} cannot be bound: another process has it, or the host is not this machine's; choose "
                "another, for example --listen 127.0.0.1:50052 (make serve ARGS='--listen ...')"
            ) from error
        return f"{address.rpartition(':')[0]}:{port}"

    def open_socket(self, key: str, path: Path, *, mend: str) -> None:
        """Binds a Unix socket that only this user may open, for `key` of the configuration. A socket that nobody answers any more
        is replaced. Raises ConfigError, which says how to mend it."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if weakness := weakness_of(path.parent):
                raise ConfigError(f"{key}: {path.parent} {weakness}; it must be a directory of your own (mode 0700): {mend}")
            if obstacle := _remove_dead_socket(path):
                raise ConfigError(f"{key}: {path} {obstacle}; {mend}")
            # The mode must be right from the first moment: between bind and chmod anybody could connect.
            umask = os.umask(0o177)
            try:
                self.server.add_insecure_port(f"unix:{path}")
            finally:
                os.umask(umask)
        except OSError as error:
            raise ConfigError(f"{key}: {path}: {error.strerror}; {mend}") from error
        except RuntimeError as error:
            raise ConfigError(
                f"{key}: {path} cannot be bound (a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes); {mend}"
            ) from error

    def end_lasting_calls(self) -> None:
        """Those that would last as long as their client lets them: Watch, reflection."""
        self.health.close()
        self._reflection.close()

    async def stop(self, grace_s: float) -> None:
        """Ends calls that last by themselves, refuses new ones, and gives those in flight `grace_s`."""
        self.end_lasting_calls()
        await self.server.stop(grace_s)


def concurrent_rpcs_max(config: Config) -> int:
    """gRPC's own limit answers without details, so it must never be the first to be hit: the slots and streams_max come first."""
    return 2 * config.engine.slots + 2 * config.limits.streams_max + 1024


def _small_messages(config: Config) -> Config:
    """The same for the health listener, which anybody may reach: the name of a service is all that it reads."""
    limits = config.limits.model_copy(update={"receive_message_bytes_max": HEALTH_MESSAGE_BYTES_MAX})
    return config.model_copy(update={"limits": limits})


def channel_options(config: Config) -> list[tuple[str, int]]:
    """gRPC's names for our limits."""
    limits, connection = config.limits, config.connection
    calls_max = concurrent_rpcs_max(config)
    options = {
        "grpc.so_reuseport": int(config.reuse_port),
        "grpc.max_receive_message_length": limits.receive_message_bytes_max,
        "grpc.max_send_message_length": limits.send_message_bytes_max,
        "grpc.max_metadata_size": limits.metadata_bytes_max,
        "grpc.absolute_max_metadata_size": limits.metadata_bytes_max,
        "grpc.max_concurrent_streams": limits.connection_streams_max,
        # Else calls that have ended count until their last reference is gone, and every second call that waits at a client which
        # keeps to the limit is refused. Floods of resets are held by the limits on all calls, over all connections.
        "grpc.http.overload_protection": 0,
        # Calls that Python has not taken up yet. Past its own limits (1,000, at random; 3,000) gRPC would end them as CANCELLED,
        # which tells a client nothing and is not tried again.
        "grpc.server.max_pending_requests": calls_max,
        "grpc.server.max_pending_requests_hard_limit": calls_max,
        "grpc.http2.min_recv_ping_interval_without_data_ms": connection.ping_interval_s_min * 1000,
        "grpc.http2.max_ping_strikes": 2,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.keepalive_time_ms": connection.keepalive_s * 1000,
        "grpc.keepalive_timeout_ms": connection.keepalive_timeout_s * 1000,
    }
    if connection.idle_s_max:
        options["grpc.max_connection_idle_ms"] = connection.idle_s_max * 1000
    if connection.age_s_max:
        options["grpc.max_connection_age_ms"] = connection.age_s_max * 1000
        options["grpc.max_connection_age_grace_ms"] = connection.age_grace_s * 1000
    return list(options.items())


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def _admin_path(config: Config, default_dir: Path, public: str) -> Path:
    """auto: named after the port, and after the process too where several share the port."""
    if config.admin_socket != "auto":
        return Path(config.admin_socket)
    port = public.rpartition(":")[2]
    return default_dir / (f"admin-{port}-{os.getpid()}.sock" if config.reuse_port else f"admin-{port}.sock")


def _forward_path(default_dir: Path, public: str) -> Path:
    """Named after the process: a port may be another server's too, at another address."""
    return default_dir / f"forward-{public.rpartition(':')[2]}-{os.getpid()}.sock"


def _remove_dead_socket(path: Path) -> str | None:
    """Makes room at `path`; else what is in the way."""
    if not path.is_socket():
        return "exists and is not a socket" if path.exists() else None
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return None
    return "is where a running server answers"
