"""The composition root: builds everything from Config, and owns the order of start and drain.

START  library -> bundles, each proved -> store (snapshot or demo history) -> audit log -> engine and lanes -> /metrics, traces
       -> listeners -> health: SERVING.
DRAIN  SIGTERM or SIGINT -> health says NOT_SERVING -> lame duck (delay) -> no new calls (GOAWAY) -> calls in flight end (grace)
       -> engine stops -> snapshot is written -> audit log is synced -> traces leave -> exit 0.

       A second signal ends the process at once, without a snapshot.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import platform
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay import __version__
from assay._core import BUILD, OrtRuntime
from assay.app_metrics import (
    audit_source,
    build_source,
    feature_source,
    rollout_source,
    security_source,
    store_source,
    transport_source,
)
from assay.app_status import (
    audit_checks,
    certificate_checks,
    device_checks,
    identity,
    model_identities,
    rollout_checks,
    say_last_end,
    store_checks,
)
from assay.audit.opening import OpenAudit, check_sink, open_audit
from assay.config import Config, runtime_dir
from assay.demo import history as demo_history
from assay.demo import paths as demo_paths
from assay.errors import BundleError
from assay.explain.recorded_scores import RecordedScores
from assay.features.local_store import LocalStore
from assay.features.store import RemoteStore, Store, is_remote, open_remote_store, open_store
from assay.models.device import DeviceWish
from assay.models.first_bundles import FirstBundle, first_bundles, within
from assay.models.ort_library import find_library
from assay.models.plain import PlainModel, is_plain, verify_plain
from assay.models.repository import Repository
from assay.models.route import Route
from assay.models.verify import VerifiedModel, verify_bundle
from assay.observe.black_box import BlackBox, open_box
from assay.observe.card_watch import CardWatch
from assay.observe.logs import log_event
from assay.observe.metrics_settings import metrics_export_settings
from assay.observe.telemetry import Telemetry
from assay.observe.tracing_settings import tracing_settings
from assay.scoring.near_cache import check_views
from assay.scoring.rollout import Rollout
from assay.scoring.scoring import Scoring
from assay.transport.server import Addresses, Transport

log = logging.getLogger("assay")

EXIT_CARD_DEAD = 75  # EX_TEMPFAIL: start me again

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total) while the server builds itself."""


@dataclass(frozen=True)
class App:
    """Everything of one server process. build() then run() then close()."""

    config: Config
    store: Store
    rollout: Rollout
    plain_models: tuple[PlainModel, ...]
    default_model: str
    scoring: Scoring
    audit: OpenAudit | None
    telemetry: Telemetry
    runtime_version: str  # of ONNX Runtime
    black_box: BlackBox

    @classmethod
    def build(cls, config: Config, progress: Progress | None = None) -> App:
        """Loads and proves everything, opens no port. Blocks for seconds. Raises AssayError."""
        box = open_box(config, platform.python_version())
        try:
            return cls._build(config, box, progress or (lambda *_: None))
        except BaseException:
            box.close()
            raise

    @classmethod
    def _build(cls, config: Config, box: BlackBox, observe: Progress) -> App:
        tracing = tracing_settings(config.tracing, os.environ)
        metrics_export = metrics_export_settings(config.metrics_export, os.environ)
        check_sink(config.audit, is_demo=config.is_demo)
        runtime = OrtRuntime(str(find_library()))
        repository = Repository(config.rollout.repository) if config.rollout.repository is not None else None
        routes = repository.routes() if repository is not None else {}
        first = _first_bundles(config, repository, routes)
        wish = DeviceWish.parse(config.device, config.cuda.memory_bytes_max, config.cuda.memory_reserve_bytes)
        models: list[VerifiedModel | PlainModel] = []

        def prove(path: Path) -> VerifiedModel:
            return verify_bundle(path, runtime, wish=wish, batch_rows_max=config.lane.batch_rows_max)

        for index, bundle in enumerate(first):
            observe("proving bundles", index, len(first))
            if is_plain(bundle.path):
                models.append(verify_plain(bundle.path, runtime, wish=wish, batch_rows_max=config.lane.batch_rows_max))
                continue
            try:
                models.append(prove(bundle.path))
            except BundleError as error:
                if bundle.is_needed:
                    raise
                log_event(log, logging.ERROR, "a version that was not chosen was refused", path=str(bundle.path), why=str(error))
        _say_fallbacks(models)
        check_views([model.plan for model in models], config.store.near_cache_max_age_ms)
        remote = _open_remote_store(config)
        store = remote if remote is not None else _open_local_store(config, observe)
        software = f"assay {__version__}, ONNX Runtime {runtime.version}, {BUILD['cpu']}"
        audit = None
        try:
            audit = open_audit(config.audit, is_demo=config.is_demo, software=software)
            scoring = Scoring(
                config.engine,
                config.lane,
                config.store,
                config.runner_count,
                tracing,
                config.skew,
                audit.log if audit else None,
                software,
                answer_bytes_max=config.limits.send_message_bytes_max,
                log_ratio=config.log_requests,
                logged_calls_max=config.log_request_lines_per_s_max,
                cuda=config.cuda,
                explain=config.explain,
            )
            if remote is not None:
                scoring.start_lookups(remote)
            rollout = Rollout(scoring, store, prove, config.rollout, repository)
            rollout.add_first([model for model in models if isinstance(model, VerifiedModel)], routes, models[0].name)
            plain = tuple(model for model in models if isinstance(model, PlainModel))
            for model in plain:
                scoring.add_plain(model, is_default=model is models[0])
        except BaseException:
            if audit is not None:
                audit.close()
            store.close()
            raise
        telemetry = Telemetry(config, tracing, scoring.engine, scoring.drift, metrics_export)
        telemetry.board.identity = identity(models, runtime)
        box.complete(runtime.version)
        app = cls(config, store, rollout, plain, models[0].name, scoring, audit, telemetry, runtime.version, box)
        telemetry.board.find_models = lambda: model_identities(app.models)
        return app

    @property
    def models(self) -> tuple[VerifiedModel | PlainModel, ...]:
        """That are loaded now, the default first."""
        return tuple(sorted((*self.rollout.models, *self.plain_models), key=lambda model: model.name != self.default_model))

    def run(self, on_ready: Callable[[Addresses], None]) -> None:
        """Serves until a signal; returns when everything is drained and saved. `on_ready` is called once health says SERVING."""
        self.telemetry.start(
            [
                lambda: build_source(self.models, self.runtime_version),
                lambda: store_source(self.store),
                lambda: feature_source(model.plan for model in self.models),
                lambda: audit_source(self.audit),
                lambda: rollout_source(self.rollout),
            ]
        )
        if self.audit is not None:
            self.audit.start_shipping({"ASSAY_LOG_LEVEL": self.config.log_level, "ASSAY_LOG_FORMAT": self.config.log_format})
        checks = (
            lambda: device_checks(self.models),
            lambda: rollout_checks(self.rollout.status()),
            lambda: store_checks(self.store),
            lambda: audit_checks(self.audit),
            self.black_box.checks,
        )
        for source in checks:
            self.telemetry.board.add(source)
        say_last_end(self.black_box)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            is_card_dead = runner.run(self._serve(on_ready))
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the loop has given it back, and it would end what is left to do
        self._save()
        if self.audit is not None:
            self.audit.close()
        self.telemetry.close()
        if is_card_dead:
            # At once: a run that hangs in the driver would keep an orderly exit waiting for ever.
            self.store.close()
            self.black_box.close()
            logging.shutdown()
            os._exit(EXIT_CARD_DEAD)

    def close(self) -> None:
        """Ends threads and gives the store's lock back. Idempotent; run() need not have been called."""
        self.rollout.close()
        self.scoring.close(timeout_s=0.0)
        if self.audit is not None:
            self.audit.close()
        self.telemetry.close()
        self.store.close()
        self.black_box.close()

    # --- implementation ---

    async def _serve(self, on_ready: Callable[[Addresses], None]) -> bool:
        """Returns whether a dead card ended it."""
        signals = _Signals(asyncio.get_running_loop(), self.black_box)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.telemetry.tell_status)
        scoring = self.scoring
        audit, rollout = self.audit, self.rollout
        labels = audit.label_records() if audit is not None else None
        recorded = RecordedScores(audit.writer.path.parent, lambda: rollout.models) if audit is not None else None
        transport = Transport(
            scoring.engine,
            lambda: scoring.writers,
            scoring.features,
            scoring.drift,
            self.config,
            self.telemetry,
            self.rollout,
            labels,
            scoring.tensor_models,
            recorded,
        )
        self.telemetry.board.add(lambda: certificate_checks(transport.security_stats()))
        self.telemetry.add(lambda: transport_source(transport, self.config.limits.streams_max))
        self.telemetry.add(lambda: security_source(transport.security_stats()))
        addresses = await transport.start(runtime_dir())
        # What was built so far lives as long as the process: the garbage collector need not walk it while calls wait.
        gc.collect()
        gc.freeze()
        transport.set_serving(True)
        cards = self._watch_cards(asyncio.get_running_loop(), signals, transport)
        self.black_box.complete(self.runtime_version)  # once more: the loop and the listeners have loaded libraries
        log_event(
            log,
            logging.INFO,
            "serving",
            listen=addresses.public,
            protection=addresses.protection.value,
            transport=addresses.transport,
            health=addresses.health or "off",
            admin=str(addresses.admin or "off"),
            admin_port=addresses.admin_port or "off",
            metrics=self.telemetry.metrics_address or "off",
            models=len(self.models),
        )
        self.rollout.start()
        on_ready(addresses)
        received = await signals.first
        cards.close()
        # After Ctrl-C a person waits, and no balancer has to look away first.
        delay_s = 0.0 if received is signal.SIGINT else self.config.drain.delay_s
        grace_s = self.config.drain.grace_s
        why = "a card is dead" if received is None else received.name
        log_event(log, logging.INFO, "draining", signal=why, delay_s=delay_s, grace_s=grace_s)
        started = time.monotonic()
        await transport.drain(delay_s, grace_s)
        await asyncio.to_thread(self.rollout.close)
        await asyncio.to_thread(self.telemetry.end_metrics_export)
        await asyncio.to_thread(self.scoring.close, grace_s)
        answered_rows = self.scoring.engine.stats().answered_rows
        log_event(log, logging.INFO, "drained", duration_s=_seconds_since(started), answered_rows=answered_rows)
        return received is None

    def _watch_cards(self, loop: asyncio.AbstractEventLoop, signals: _Signals, transport: Transport) -> CardWatch:
        cuda = self.config.cuda

        def on_dead() -> None:
            if cuda.exit_when_dead:
                loop.call_soon_threadsafe(signals.end)

        def follow_heat(is_hot: bool) -> None:
            if not signals.first.done():  # a server that ends serves no more
                transport.set_serving(not is_hot)

        def on_heat(is_hot: bool) -> None:
            loop.call_soon_threadsafe(follow_heat, is_hot)

        watch = CardWatch(
            self.scoring.cards,
            self.telemetry.card_celsius,
            hot_celsius=cuda.hot_celsius,
            cool_celsius=cuda.cool_celsius,
            on_dead=on_dead,
            on_heat=on_heat,
        )
        self.telemetry.board.add(watch.checks)
        self.telemetry.add(watch.families)
        watch.start()
        return watch

    def _save(self) -> None:
        started = time.monotonic()
        if self.store.save():
            log_event(log, logging.INFO, "snapshot written", duration_s=_seconds_since(started))


# --- implementation ---


def _first_bundles(config: Config, repository: Repository | None, routes: Mapping[str, Route]) -> list[FirstBundle]:
    """The default model's first."""
    if repository is not None:
        first = first_bundles(repository, routes, config.rollout.default_model)
    else:
        first = [FirstBundle(path, is_needed=True) for path in config.models or (demo_paths.bundle_path(),)]
    first, left_out = within(first, config.rollout.loaded_max)
    for bundle in left_out:
        log_event(log, logging.ERROR, "rollout.loaded_max leaves no room for a version", path=str(bundle.path))
    return first


def _seconds_since(started: float) -> float:
    return round(time.monotonic() - started, 3)


class _Signals:
    """The first SIGTERM or SIGINT asks for a drain, the second ends the process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, black_box: BlackBox) -> None:
        self._black_box = black_box
        self.first: asyncio.Future[signal.Signals | None] = loop.create_future()  # None: end()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received, number)

    def end(self) -> None:
        """Drains without a signal."""
        if not self.first.done():
            self.first.set_result(None)

    def _received(self, number: signal.Signals) -> None:
        if not self.first.done():
            self.first.set_result(number)
            return
        log_event(log, logging.WARNING, "stopped at once by a second signal; nothing was saved", signal=number.name)
        self._black_box.close()
        os._exit(128 + number)


def _say_fallbacks(models: Sequence[VerifiedModel | PlainModel]) -> None:
    """One line for everything that should have run on a CUDA device and does not. Where nothing is wrong (no card, a model that
    has no use for one) the status line of the model says it, and no log does."""
    kept = [(model, model.placement.obstacle) for model in models if model.placement.obstacle is not None]
    if missed := {obstacle: None for _, obstacle in kept if not obstacle.is_expected}:
        names = ", ".join(f"{model.name} {model.version}" for model, obstacle in kept if not obstacle.is_expected)
        why = "; ".join(f"{obstacle.reason}: {obstacle.mend}" for obstacle in missed)
        log_event(log, logging.WARNING, "on the CPU instead of CUDA", device="auto", models=names, why=why)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _open_remote_store(config: Config) -> RemoteStore | None:
    """The configured store, if it is elsewhere."""
    url = config.store.url.get_secret_value()
    if not is_remote(url):
        return None
    return open_remote_store(url, config.store.bytes_max, lookup_timeout_ms=config.store.lookup_timeout_ms_max)


def _open_local_store(config: Config, observe: Progress) -> Store:
    """The configured store; for the demo without a store of its own, one that holds the demo's history."""
    url = config.store.url.get_secret_value()
    if config.is_demo and url == "embedded:":
        history = demo_history.demo_store(
            lambda done, total: observe("demo history", done, total), bytes_max=config.store.bytes_max
        )
        return LocalStore(history, url, None, None)
    return open_store(url, config.store.bytes_max, progress=lambda done, total: observe("loading the snapshot", done, total))
