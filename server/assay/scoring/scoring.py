"""The face of the native core: an engine, a lane for every verified model, a writer for every feature set."""

from __future__ import annotations

from assay._core import AuditLog, Card, Engine, FeatureReader
from assay.config import CudaConfig, EngineConfig, LaneConfig, SkewConfig, StoreConfig
from assay.features.served import ModelFeatures, ServedFeatures
from assay.features.store import RemoteStore, Store
from assay.features.store_writer import StoreWriter
from assay.models.device import CPU
from assay.models.drift_reference import drift_reference
from assay.models.verify import VerifiedModel
from assay.observe.drift import DriftWatch
from assay.observe.tracing_settings import TracingSettings
from assay.scoring.lookups import LookupThreads
from assay.scoring.near_cache import near_ages_ms

# What is measured at load is a warm run. After a pause caches are cold and the same run takes up to ten times as long; and a core
# may be away for a moment. Past this much more than the limit something is wrong.
_OVERRUN_NS = 1_000_000


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
        log_ratio: float = 0.0,
        logged_calls_max: int = 0,
        cuda: CudaConfig = CudaConfig(),  # noqa: B008 (frozen)
    ) -> None:
        self.engine = Engine(
            slots=engine.slots,
            batch_call_rows_max=engine.batch_call_rows_max,
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
            audit=audit,
        )
        self.features = ServedFeatures()
        self.drift = DriftWatch(self.engine.drift)
        self.cards: dict[int, Card] = {}  # by the index of the CUDA device; those that a model runs on
        self._cuda = cuda
        self._lookups: LookupThreads | None = None
        self._lane = lane
        self._software = software
        self._near_cache_max_age_ms = store.near_cache_max_age_ms
        self._lookup_thread_count = store.lookup_threads
        self._runners = runners
        self._writers: dict[str, StoreWriter] = {}

    @property
    def writers(self) -> tuple[StoreWriter, ...]:
        """One for each feature set that is served."""
        return tuple(self._writers.values())

    def start_lookups(self, store: RemoteStore) -> None:
        """For a remote store: who fetches its records, and what is written to it here is told to the near-cache. Once, before the
        first model."""
        store.tell_writes(self.engine.forget_records)
        self._lookups = LookupThreads(self.engine, store, self._lookup_thread_count)
        self._lookups.start()

    def add_model(self, model: VerifiedModel, store: Store, *, is_default: bool) -> None:
        """Starts a lane. Raises CoreError (PLAN_INVALID, MODEL_UNSUPPORTED)."""
        lane = self._lane
        reference = drift_reference(model.name, model.version, model.baseline, model.feature_set)
        ages_ms = () if store.core is not None else near_ages_ms(model.plan, self._near_cache_max_age_ms)
        self.engine.add_lane(
            model=model.name,
            version=model.version,
            model_sha256=model.bundle.model_sha256,
            reader=FeatureReader(model.plan, store.core, near_ages_ms=ages_ms),
            runner=model.model,
            runners=runner_count(model, lane, self._runners),
            score_output=model.score_output,
            score_column=model.score_column,
            thresholds=model.thresholds,
            batch_rows_max=model.batch_rows_max(lane.batch_rows_max),
            queue_rows_max=lane.queue_rows_max,
            queue_delay_ns_max=lane.queue_delay_us_max * 1000,
            timeout_ns_default=min(model.timeout_ns_default, lane.timeout_ms_max * 1_000_000),
            inline_overrun_ns=inline_overrun_ns(model, lane),
            runtime=f"{self._software}, {model.placement.device}",
            drift=None if reference is None else reference.edges,
            is_default=is_default,
            card=self._card(model),
            standby=model.standby,
            standby_runtime=f"{self._software}, {CPU}",
        )
        if reference is not None:
            self.drift.add(reference)
        features = ModelFeatures(model.name, model.version, model.bundle.model_sha256, model.feature_set, model.plan, store)
        self.features.add(features, is_default=is_default)
        # Models of one feature set share its events: recording them twice would only count duplicates.
        self._writers.setdefault(model.plan.schema_hash, store.writer(model.plan))

    def _card(self, model: VerifiedModel) -> Card | None:
        index = model.placement.device.cuda_index
        if index is None:
            return None
        return self.cards.setdefault(index, Card(hang_ns_max=self._cuda.hang_ms_max * 1_000_000))

    def close(self, timeout_s: float) -> None:
        """Lets accepted calls end, at most `timeout_s`, then ends all threads. Blocks. Idempotent."""
        self.engine.drain()
        self.engine.wait_idle(timeout_s)
        self.engine.stop()
        if self._lookups is not None:
            self._lookups.join(timeout_s=1.0)


def inline_overrun_ns(model: VerifiedModel, lane: LaneConfig) -> int:
    """How long a row may hold the thread that submits it; 0: runners run every row of this model.

    That thread answers others too: no row may be able to make the model's run long, and the run is measured. Where a delay is
    configured, rows are meant to wait for each other. A CUDA device may hang, or be busy with others: no thread that must answer
    may wait for one."""
    if model.placement.device != CPU:
        return 0
    limit_ns = lane.inline_run_us_max * 1000
    is_quick = model.has_fixed_work and model.row_run_ns <= limit_ns and limit_ns > 0 and lane.queue_delay_us_max == 0
    return limit_ns + _OVERRUN_NS if is_quick else 0


def runner_count(model: VerifiedModel, lane: LaneConfig, cpu_runners: int) -> int:
    """Threads of the model's lane. A card runs one batch after the other: a second runner would only keep batches small, so there
    is one unless the configuration names a number."""
    return cpu_runners if model.placement.device == CPU else lane.runners or 1
