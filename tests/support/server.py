"""Servers for tests: LocalServer in this process (a PuppetModel or any runner), ServeProcess as users run it.

Both listen on free ports of loopback and sockets in a temporary directory. What must be waited for is polled, with a limit.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from assay import _core
from assay.config import Config
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.local_store import LocalStore
from assay.features.served import ModelFeatures
from assay.features.store import RemoteStore
from assay.features.store_writer import EventWriters, LocalWriter, StoreWriter
from assay.models.verify import VerifiedModel
from assay.observe.metrics_settings import metrics_export_settings
from assay.observe.telemetry import Telemetry
from assay.observe.tracing_settings import tracing_settings
from assay.scoring.near_cache import near_ages_ms
from assay.scoring.rollout import Rollout
from assay.scoring.scoring import Scoring
from assay.transport.feature_service import LabelLog
from assay.transport.policy import Listener, MethodTable
from assay.transport.security import SecurityStats
from assay.transport.server import Addresses, Transport
from assay.v1 import feature_pb2, scoring_pb2

WAIT_S = 20.0

FEATURE_SET = """
name: tiny
version: "1"
entities: [customer_id]
request_features:
  amount_minor: {dtype: int64, minimum: 0, maximum: 100000000}
  ratio: {dtype: float64, required: false, default: 0.5}
  is_abroad: {dtype: bool, required: false, default: false}
  channel: {dtype: string, required: false, default: web}
views:
  customer:
    entity: customer_id
    current: include
    aggregates:
      tx_count_1d: {op: count, window: 1d}
      amount_minor_sum_1d: {op: sum, of: amount_minor, window: 1d}
derived:
  amount: {op: scale, of: amount_minor, divide_by: 100}
  amount_sum_1d: {op: scale, of: amount_minor_sum_1d, divide_by: 100}
inputs: [amount, ratio, tx_count_1d, amount_sum_1d]
"""
EVENT_TIME = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Polls until `condition` holds; fails after WAIT_S. For what no event tells us, such as a counter of the core."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S:g} s in vain: {what}"
        time.sleep(0.002)


# What servers answer with unless a test says otherwise; the fixture `transport` sets it.
default_transport = "auto"

# Lane options of LocalServer under which rows are run by the event loop; no run of a puppet is too long for it.
INLINE: dict[str, Any] = {"inline_overrun_ns": 3_600_000_000_000}


class LocalServer:
    """The transport over a real engine in this process. `config` overrides fields of Config; `remote` is asked for records
    instead of `store`. `feature_set` (YAML) is what it serves; `plan`, if it is compiled otherwise. `audit`: where scores are
    recorded; close() closes it. `recorded`: a RecordedScores, or what stands in for one.

    engine, store, plan and puppet are there to look at and to turn; channel() and admin_channel() to call."""

    def __init__(
        self,
        *,
        runner: Any = None,
        feature_set: str = FEATURE_SET,
        plan: _core.FeaturePlan | None = None,
        lane: dict[str, Any] | None = None,
        remote: RemoteStore | None = None,
        audit: _core.AuditLog | None = None,
        labels: LabelLog | None = None,
        recorded: Any = None,
        **config: Any,
    ) -> None:
        self.config = Config(
            **{"listen": "127.0.0.1:0", "metrics_listen": "off", "transport": default_transport, "log_requests": 0.0, **config}
        )
        definition = FeatureSet.parse(feature_set)
        self.plan = plan or compile_plan(definition)
        self.store = _core.EmbeddedStore()
        behind = remote or LocalStore(self.store, "embedded:", None, None)
        served = ModelFeatures("puppet", "1", "0" * 64, definition, self.plan, behind)
        store = self.config.store
        ages_ms = near_ages_ms(self.plan, store.near_cache_max_age_ms) if remote else ()
        self.reader = _core.FeatureReader(self.plan, None if remote else self.store, near_ages_ms=ages_ms)
        self.puppet = _core.PuppetModel()
        tracing = tracing_settings(self.config.tracing, {})
        self.audit = audit
        self._labels = labels
        self._recorded = recorded
        self._scoring = Scoring(
            self.config.engine,
            self.config.lane,
            store,
            1,
            tracing,
            self.config.skew,
            audit,
            log_ratio=self.config.log_requests,
            logged_calls_max=self.config.log_request_lines_per_s_max,
        )
        self._scoring.features.add("puppet", "1", served, is_default=True)
        self.engine = self._scoring.engine
        if remote is not None:
            self._scoring.start_lookups(remote)
        self._writer: StoreWriter = remote.writer(self.plan) if remote else LocalWriter(self.plan, self.store)
        options = {"model": "puppet", "version": "1", "model_sha256": "0" * 64, "batch_rows_max": 16, "thresholds": [(0.5, 4)]}
        # Of no model: the puppet is no bundle.
        self._rollout = Rollout(self._scoring, behind, _prove_none, self.config.rollout, None)
        self.engine.add_lane(**{**options, **(lane or {})}, reader=self.reader, runner=runner or self.puppet)
        self.telemetry = Telemetry(
            self.config, tracing, self.engine, self._scoring.drift, metrics_export_settings(self.config.metrics_export, {})
        )
        self.telemetry.start()
        self._directory = Path(tempfile.mkdtemp(prefix="assay-test-"))
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._channels: list[grpc.Channel] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="local-server")
        self._thread.start()
        assert self._started.wait(WAIT_S)
        if self._failure is not None:
            self._thread.join()
            self.telemetry.close()
            raise self._failure

    def channel(self, *options: tuple[str, Any], credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
        """A channel to the public port; retries are off, so that nothing is hidden."""
        return self.channel_to(self.addresses.public, *options, credentials=credentials)

    def admin_channel(self) -> grpc.Channel:
        return self._keep(grpc.insecure_channel(f"unix:{self.addresses.admin}"))

    def channel_to(
        self, target: str | None, *options: tuple[str, Any], credentials: grpc.ChannelCredentials | None = None
    ) -> grpc.Channel:
        """A channel to any port, with a connection of its own."""
        assert target is not None, "the server has no such port"
        wanted = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1), *options]
        if credentials is None:
            return self._keep(grpc.insecure_channel(target, options=wanted))
        return self._keep(grpc.secure_channel(target, credentials, options=wanted))

    def security_stats(self) -> SecurityStats:
        return self._transport.security_stats()

    @property
    def is_native(self) -> bool:
        """Whether the native transport answers the public port."""
        return self._transport.is_native

    @property
    def native_stats(self) -> _core.TransportStats:
        """Of the native transport, which must answer the public port."""
        stats = self._transport.native_stats
        assert stats is not None
        return stats

    def settle(self) -> None:
        """Has the native transport told, and tell, what it otherwise is and does every second. The other has no need of it."""
        asyncio.run_coroutine_threadsafe(self._transport.settle(), self._loop).result(WAIT_S)

    def event_counts(self) -> dict[str, int]:
        return dict(self._transport.event_counts)

    def held_count(self) -> int:
        """Messages of events and looks at features that are under way or wait."""
        return self._transport.held_count

    def waiting_count(self) -> int:
        """Calls (and messages of streams) that wait for the core."""
        return self._transport.waiting_count

    def method_tables(self) -> dict[Listener, MethodTable]:
        return self._transport.method_tables()

    def start_drain(self, delay_s: float = 0.0, grace_s: float = 10.0) -> Callable[[], None]:
        """Begins to drain; the function that comes back waits for its end."""
        self._is_drained = True
        drained = asyncio.run_coroutine_threadsafe(self._transport.drain(delay_s, grace_s), self._loop)
        return lambda: drained.result(WAIT_S)

    def close(self) -> None:
        """Drains, checks that nothing is left in the core, and ends."""
        self.puppet.release()
        for channel in self._channels:
            channel.close()
        if not self._is_drained:
            self.start_drain()()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(WAIT_S)
        assert self.engine.wait_idle(WAIT_S), "slots are still in use after the last call ended"
        self.engine.check_idle()
        self.telemetry.end_metrics_export()
        self._scoring.close(WAIT_S)
        if self.audit is not None:
            self.audit.close()
        self.telemetry.close()
        shutil.rmtree(self._directory)

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- implementation ---

    addresses: Addresses
    _transport: Transport
    _is_drained = False

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        try:
            self._transport = Transport(
                self.engine,
                lambda: EventWriters((self._writer,)),
                self._scoring.features,
                self._scoring.drift,
                self.config,
                self.telemetry,
                self._rollout,
                self._labels,
                recorded=self._recorded,
            )
            self.addresses = await self._transport.start(self._directory)
            self._transport.set_serving(True)
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._started.set()
        await self._end.wait()

    def _keep(self, channel: grpc.Channel) -> grpc.Channel:
        self._channels.append(channel)
        return channel


def _prove_none(path: Path) -> VerifiedModel:
    raise AssertionError(f"nobody loads models here: {path}")


class ServeProcess:
    """`assay serve --json` in a process of its own, in `cwd`. `arguments` go to it as they are; stderr is kept. Metrics
    are off unless they say where: the default port may be another server's. So is the audit log's sink."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="assay-test-"))
        self._stderr = (self._directory / "stderr").open("w+")
        command = [sys.executable, "-m", "assay", "serve", "--json", "--listen", "127.0.0.1:0"]
        command += [
            "--admin-socket",
            str(self._directory / "admin.sock"),
            "--set",
            f"transport={default_transport}",
            "--set",
            "metrics_listen=off",
            "--set",
            "audit.sink=none",
            "--set",
            f"black_box={self._directory / 'black-box.bin'}",
        ]
        command += arguments
        environment = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._stderr, text=True, env=environment, cwd=cwd)
        try:
            self.ready = self._read_ready()
        except BaseException:
            self.close()
            raise

    @property
    def target(self) -> str:
        return str(self.ready["listen"])

    @property
    def admin_target(self) -> str:
        return f"unix:{self.ready['admin_socket']}"

    @property
    def black_box(self) -> Path:
        return self._directory / "black-box.bin"

    def stderr(self) -> str:
        return Path(self._stderr.name).read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._stderr.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> ServeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_ready(self) -> dict[str, Any]:
        """The JSON document that --json prints; the pipe's end says that the server died."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line == "}\n":
                value: dict[str, Any] = json.loads("".join(lines))
                return value
        raise AssertionError(f"the server ended with {self.process.wait()}:\n{self.stderr()}")


@contextmanager
def held(server: LocalServer) -> Iterator[None]:
    """Runs of the puppet hang inside."""
    server.puppet.hold()
    try:
        yield
    finally:
        server.puppet.release()


def make_request(
    transaction_id: str = "t1", customer_id: str = "c1", amount_minor: int = 5716, **fields: Any
) -> scoring_pb2.ScoreRequest:
    """A request that LocalServer's feature set takes. `fields`: further fields of ScoreRequest."""
    request = scoring_pb2.ScoreRequest(transaction_id=transaction_id, entities={"customer_id": customer_id}, **fields)
    request.event_time.FromDatetime(EVENT_TIME)
    request.features["amount_minor"].int64_value = amount_minor
    return request


def make_event(
    transaction_id: str, customer_id: str = "c1", amount_minor: int = 1000, seconds_before: int = 60
) -> feature_pb2.Event:
    """An event a little before the time of make_request()."""
    event = feature_pb2.Event(transaction_id=transaction_id, entities={"customer_id": customer_id})
    event.event_time.FromSeconds(int(EVENT_TIME.timestamp()) - seconds_before)
    event.features["amount_minor"].int64_value = amount_minor
    return event


def status_of(error: Any) -> status_pb2.Status:
    """The google.rpc.Status of an RPC's error, which must agree with the gRPC status."""
    found = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    assert len(found) == 1, "an error without google.rpc.Status"
    status = status_pb2.Status.FromString(found[0])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    return status


def reason_of(status: status_pb2.Status) -> str:
    """ErrorInfo.reason; the domain must be ours."""
    info = _detail(status, error_details_pb2.ErrorInfo())
    assert info.domain == "assay"
    return str(info.reason)


def metadata_of(status: status_pb2.Status) -> dict[str, str]:
    return dict(_detail(status, error_details_pb2.ErrorInfo()).metadata)


def violations_of(status: status_pb2.Status) -> dict[str, str]:
    """Field -> reason of BadRequest's violations."""
    return {item.field: item.reason for item in _detail(status, error_details_pb2.BadRequest()).field_violations}


def retry_s_of(status: status_pb2.Status) -> float:
    delay = _detail(status, error_details_pb2.RetryInfo()).retry_delay
    return float(delay.seconds + delay.nanos * 1e-9)


def _detail(status: status_pb2.Status, wanted: Any) -> Any:
    found = [detail for detail in status.details if detail.Unpack(wanted)]
    assert len(found) == 1, f"{type(wanted).__name__} stands {len(found)} times in the details"
    return wanted
