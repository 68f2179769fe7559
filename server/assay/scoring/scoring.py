"""The face of the native core: an engine, a lane for every verified model, a writer for every feature set."""

from __future__ import annotations

import threading
from typing import Any

from assay._core import AuditLog, Card, Engine, FeatureReader
from assay.config import CudaConfig, EngineConfig, ExplainConfig, LaneConfig, SkewConfig, StoreConfig
from assay.features.served import ModelFeatures, ServedFeatures
from assay.features.store import RemoteStore, Store
from assay.features.store_writer import EventWriters, StoreWriter
from assay.models.card_memory import say_fit
from assay.models.device import CPU
from assay.models.drift_reference import drift_reference
from assay.models.plain import PlainModel
from assay.models.verify import VerifiedModel
from assay.observe.drift import DriftWatch
from assay.observe.tracing_settings import TracingSettings
from assay.scoring.lookups import LookupThreads
from assay.scoring.near_cache import near_ages_ms
from assay.scoring.tensor_models import TensorModel, TensorModels

# What is measured at load is a warm run. After a pause caches are cold and the same run takes up to ten times as long; and a core
# may be away for a moment. Past this much more than the limit something is wrong.
_OVERRUN_NS = 1_000_000
# A run of a shadow is short: on a machine that is busy it is taken off its core and put back again and again.
_SHADOW_BATCH_ROWS_MAX = 32
_SHADOW_TIMEOUT_NS = 10_000_000_000  # nobody waits for it, and it runs when nobody else does


class Scoring:
    """Owns the engine and, with a remote store, the look-up threads. `runners`: threads a lane. `audit`: where scores are
    recorded; who gave it closes it after close(). `software`: versions, for its records."""

    def __init__(
        self,
        engine: EngineConfig,
        lane: LaneConfig,
        store: StoreConfig,
        runners: int,
        tracing: TracingSettings,
        skew: SkewConfig,
        audit: AuditLog | None = None,
        software: str = "",
        *,
        answer_bytes_max: int = (1 << 64) - 1,
        log_ratio: float = 0.0,
        logged_calls_max: int = 0,
        cuda: CudaConfig = CudaConfig(),  # noqa: B008 (frozen)
        explain: ExplainConfig = ExplainConfig(),  # noqa: B008 (frozen)
    ) -> None:
        self.engine = Engine(
            slots=engine.slots,
            batch_call_rows_max=engine.batch_call_rows_max,
            answer_bytes_max=answer_bytes_max,
            lookup_timeout_ns_max=store.lookup_timeout_ms_max * 1_000_000,
            near_cache_bytes_max=store.near_cache_bytes_max,
            near_cache_stale_ns_max=store.near_cache_stale_s_max * 1_000_000_000,
            tracing=tracing.is_on,
            sample_ratio=tracing.sample_ratio,
            follows_parent=tracing.follows_parent,
            slow_ns=tracing.slow_ns,
            log_ratio=log_ratio,
            logged_calls_max=logged_calls_max,
            sample_one_in=skew.sample_one_in,
            sampled_rows_max=skew.rows_max,
            explain_threads=explain.threads,
            explain_queue_rows_max=explain.queue_rows_max,
            explain_inline_ns_max=explain.inline_ms_max * 1_000_000,
            audit=audit,
        )
        self.features = ServedFeatures()
        self.tensor_models = TensorModels()
        self.drift = DriftWatch(self.engine.drift)
        self.cards: dict[int, Card] = {}  # by the index of the CUDA device; those that a model runs on
        self._cuda = cuda
        self._lookups: LookupThreads | None = None
        self._lane = lane
        self._software = software
        self._near_cache_max_age_ms = store.near_cache_max_age_ms
        self._lookup_thread_count = store.lookup_threads
        self._runners = runners
        self._tables = threading.Lock()  # guards what follows, and the tables of features and tensors while they change
        self._writers: dict[tuple[str, str], tuple[str, StoreWriter]] = {}  # by model and version: of which feature set
        self._champions: dict[str, str] = {}

    @property
    def writers(self) -> EventWriters:
        """One for each feature set that is served. Those of champions decide what becomes of an event; versions that only try
        themselves have no say."""
        with self._tables:
            served = list(self._writers.items())
            champions = dict(self._champions)
        deciding = {schema: writer for (name, version), (schema, writer) in served if champions.get(name, version) == version}
        return EventWriters(
            tuple(deciding.values()), tuple({schema: one for _, (schema, one) in served if schema not in deciding}.values())
        )

    def start_lookups(self, store: RemoteStore) -> None:
        """For a remote store: who fetches its records, and what is written to it here is told to the near-cache. Once, before the
        first model."""
        store.tell_writes(self.engine.forget_records)
        self._lookups = LookupThreads(self.engine, store, self._lookup_thread_count)
        self._lookups.start()

    def add_model(self, model: VerifiedModel, store: Store, *, is_default: bool) -> None:
        """Starts a lane. Raises CoreError (PLAN_INVALID, MODEL_UNSUPPORTED), StoreError; then nothing was started."""
        reference = drift_reference(model.name, model.version, model.baseline, model.feature_set)
        writer = store.writer(model.plan)
        self.engine.add_lane(
            **self._lane_of(model, store),
            **self._run_of(model),
            drift=None if reference is None else reference.edges,
            is_default=is_default,
            card=self._card(model),
            standby=model.standby,
            standby_runtime=f"{self._software}, {CPU}",
            explained=model.explained,
        )
        if reference is not None:
            self.drift.add(reference)
        features = ModelFeatures(model.name, model.version, model.bundle.model_sha256, model.feature_set, model.plan, store)
        with self._tables:
            self._tell_tensors(model, is_default=is_default)
            self.features.add(model.name, model.version, features, is_default=is_default)
            self._writers[model.name, model.version] = (model.plan.schema_hash, writer)

    def add_shadow(self, model: VerifiedModel, store: Store, entity: str, share: float) -> None:
        """This version, which is loaded, scores what the champion has answered once more. On the CPU, if it is on a card: what
        goes wrong with a shadow must not take the card from its champion. Raises CoreError."""
        self.engine.add_lane(
            **self._lane_of(model, store),
            runner=model.standby or model.model,
            batch_rows_max=model.batch_rows_max(_SHADOW_BATCH_ROWS_MAX),
            queue_rows_max=4 * _SHADOW_BATCH_ROWS_MAX,
            timeout_ns_default=_SHADOW_TIMEOUT_NS,
            shadow=(entity, share),
        )

    def remove_model(self, name: str, version: str) -> None:
        """Ends a lane once its calls have ended; what it left in the store stays. Blocks. Raises CoreError."""
        with self._tables:
            self.features.remove(name, version)
            self.tensor_models.remove(name, version)
            self._writers.pop((name, version), None)
        self.engine.remove_lane(name, version)
        self.drift.remove(name, version)

    def set_route(self, name: str, champion: str, challenger: str, entity: str, canary_share: float) -> None:
        """Who answers from now on. Raises CoreError, as Engine.set_route()."""
        self.engine.set_route(name, champion, challenger, entity, canary_share)
        with self._tables:
            self._champions[name] = champion
            self.features.set_champion(name, champion, challenger)
            self.tensor_models.set_champion(name, champion, challenger)

    def _lane_of(self, model: VerifiedModel, store: Store) -> dict[str, Any]:
        """What a lane and a shadow of this model have in common, as Engine.add_lane() takes it."""
        ages_ms = () if store.core is not None else near_ages_ms(model.plan, self._near_cache_max_age_ms)
        return {
            "model": model.name,
            "version": model.version,
            "model_sha256": model.bundle.model_sha256,
            "reader": FeatureReader(model.plan, store.core, near_ages_ms=ages_ms),
            "score_output": model.score_output,
            "score_column": model.score_column,
            "thresholds": model.thresholds,
        }

    def add_plain(self, model: PlainModel, *, is_default: bool) -> None:
        """Starts the lane of a model without a feature set: ModelInfer alone. Raises CoreError (MODEL_UNSUPPORTED)."""
        self.engine.add_lane(
            model=model.name,
            version=model.version,
            model_sha256=model.model_sha256,
            reader=FeatureReader(model.plan, None),
            **self._run_of(model),
            is_default=is_default,
        )
        with self._tables:
            self._tell_tensors(model, is_default=is_default)

    def _run_of(self, model: VerifiedModel | PlainModel) -> dict[str, Any]:
        """How a lane that answers runs this model, as Engine.add_lane() takes it."""
        lane = self._lane
        return {
            "runner": model.model,
            "runners": runner_count(model, self._runners),
            "batch_rows_max": model.batch_rows_max(lane.batch_rows_max),
            "queue_rows_max": lane.queue_rows_max,
            "queue_delay_ns_max": lane.queue_delay_us_max * 1000,
            "timeout_ns_default": min(model.timeout_ns_default, lane.timeout_ms_max * 1_000_000),
            "inline_overrun_ns": inline_overrun_ns(model, lane),
            "runtime": f"{self._software}, {model.placement.device}",
        }

    def _tell_tensors(self, model: VerifiedModel | PlainModel, *, is_default: bool) -> None:
        lane = self._lane
        told = TensorModel.of(
            model.name,
            model.version,
            model.model,
            model.batch_rows_max(lane.batch_rows_max),
            lane.queue_delay_us_max,
            runner_count(model, self._runners),
            model.placement.device.cuda_index,
        )
        self.tensor_models.add(model.name, model.version, told, is_default=is_default)

    def _card(self, model: VerifiedModel) -> Card | None:
        index = model.placement.device.cuda_index
        if index is None:
            return None
        if model.card_fit is not None:
            say_fit(model.name, model.version, str(model.placement.device), model.card_fit)
        return self.cards.setdefault(index, Card(hang_ns_max=self._cuda.hang_ms_max * 1_000_000))

    def close(self, timeout_s: float) -> None:
        """Lets accepted calls end, at most `timeout_s`, then ends all threads. Blocks. Idempotent."""
        self.engine.drain()
        self.engine.wait_idle(timeout_s)
        self.engine.stop()
        if self._lookups is not None:
            self._lookups.join(timeout_s=1.0)


def inline_overrun_ns(model: VerifiedModel | PlainModel, lane: LaneConfig) -> int:
    """How long a row may hold the thread that submits it; 0: runners run every row of this model.

    That thread answers others too: no row may be able to make the model's run long, and the run is measured. Where a delay is
    configured, rows are meant to wait for each other. A CUDA device may hang, or be busy with others: no thread that must answer
    may wait for one."""
    if model.placement.device != CPU:
        return 0
    limit_ns = lane.inline_run_us_max * 1000
    is_quick = model.has_fixed_work and model.row_run_ns <= limit_ns and limit_ns > 0 and lane.queue_delay_us_max == 0
    return limit_ns + _OVERRUN_NS if is_quick else 0


def runner_count(model: VerifiedModel | PlainModel, cpu_runners: int) -> int:
    """Threads of the model's lane. A session has one stream on a card, which runs one batch after the other: a second runner
    would only keep batches small."""
    return cpu_runners if model.placement.device == CPU else 1
