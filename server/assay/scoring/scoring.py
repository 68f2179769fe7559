"""The face of the native core: an engine, a lane for every verified model, a writer for every feature set."""

from __future__ import annotations

from assay._core import EmbeddedStore, Engine, EventWriter, FeatureReader
from assay.config import EngineConfig, LaneConfig
from assay.models.manifest import MODEL_FILE
from assay.models.verify import VerifiedModel
from assay.observe.tracing_settings import TracingSettings

# What is measured at load is a warm run. After a pause caches are cold and the same run takes up to ten times as long; and a core
# may be away for a moment. Past this much more than the limit something is wrong.
_OVERRUN_NS = 1_000_000


class Scoring:
    """Owns the engine. `runners`: threads a lane."""

    def __init__(self, engine: EngineConfig, lane: LaneConfig, runners: int, tracing: TracingSettings) -> None:
        self.engine = Engine(
            slots=engine.slots,
            batch_call_rows_max=engine.batch_call_rows_max,
            tracing=tracing.is_on,
            sample_ratio=tracing.sample_ratio,
            follows_parent=tracing.follows_parent,
            slow_ns=tracing.slow_ns,
        )
        self._lane = lane
        self._runners = runners
        self._writers: dict[str, EventWriter] = {}

    @property
    def writers(self) -> tuple[EventWriter, ...]:
        """One for each feature set that is served."""
        return tuple(self._writers.values())

    def add_model(self, model: VerifiedModel, store: EmbeddedStore, *, is_default: bool) -> None:
        """Starts a lane. Raises CoreError (PLAN_INVALID, MODEL_UNSUPPORTED)."""
        lane = self._lane
        self.engine.add_lane(
            model=model.name,
            version=model.version,
            model_sha256=model.bundle.manifest.files[MODEL_FILE].sha256,
            reader=FeatureReader(model.plan, store),
            runner=model.model,
            runners=self._runners,
            score_output=model.score_output,
            score_column=model.score_column,
            thresholds=model.thresholds,
            batch_rows_max=lane.batch_rows_max,
            queue_rows_max=lane.queue_rows_max,
            queue_delay_ns_max=lane.queue_delay_us_max * 1000,
            timeout_ns_default=min(model.timeout_ns_default, lane.timeout_ms_max * 1_000_000),
            inline_overrun_ns=inline_overrun_ns(model, lane),
            is_default=is_default,
        )
        # Models of one feature set share its events: recording them twice would only count duplicates.
        self._writers.setdefault(model.plan.schema_hash, EventWriter(model.plan, store))

    def close(self, timeout_s: float) -> None:
        """Lets accepted calls end, at most `timeout_s`, then ends all threads. Blocks. Idempotent."""
        self.engine.drain()
        self.engine.wait_idle(timeout_s)
        self.engine.stop()


def inline_overrun_ns(model: VerifiedModel, lane: LaneConfig) -> int:
    """How long a row may hold the thread that submits it; 0: runners run every row of this model.

    That thread answers others too: no row may be able to make the model's run long, and the run is measured. Where a delay is
    configured, rows are meant to wait for each other."""
    limit_ns = lane.inline_run_us_max * 1000
    is_quick = model.has_fixed_work and model.row_run_ns <= limit_ns and limit_ns > 0 and lane.queue_delay_us_max == 0
    return limit_ns + _OVERRUN_NS if is_quick else 0
