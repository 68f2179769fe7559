"""Everything of this room in one server: what app.py starts before the listeners open and closes when all calls have ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from assay._core import Engine, EngineMetrics
from assay.config import Config
from assay.observe.calls import CallWatch, Tell, log_failures
from assay.observe.drift import DriftWatch, drift_checks
from assay.observe.log_control import LogControl
from assay.observe.logs import lost_line_count
from assay.observe.metrics_settings import MetricsExportSettings
from assay.observe.request_lines import RequestLines, only_traced
from assay.observe.status import Check, StatusBoard
from assay.observe.status_watch import StatusWatch
from assay.observe.tracing_settings import TracingSettings

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from assay.observe.exemplars import Exemplars
    from assay.observe.gpu import GpuWatch, Reading
    from assay.observe.metrics import Source
    from assay.observe.metrics_export import MetricsExport
    from assay.observe.metrics_server import MetricsServer
    from assay.observe.trace_export import TraceExport

FLUSH_S = 5.0  # how long traces may take to leave when the server ends


class Telemetry:
    """Metrics, traces, the log of failures and of some calls, how the server is. Made with the engine; start(), then close()."""

    def __init__(
        self,
        config: Config,
        settings: TracingSettings,
        engine: Engine,
        drift: DriftWatch,
        metrics_export: MetricsExportSettings = MetricsExportSettings(),  # noqa: B008 (frozen)
    ) -> None:
        self._config = config
        self._metrics_settings = metrics_export
        self._settings = settings
        self._engine = engine
        self._drift = drift
        self._metrics: MetricsServer | None = None
        self._export: TraceExport | None = None
        self._metrics_export: MetricsExport | None = None
        self._exemplars: Exemplars | None = None
        self._gpus: GpuWatch | None = None
        self._watch: CallWatch | None = None
        self._sources: list[Source] = []
        self.board = StatusBoard(engine)
        self.log_control = LogControl(engine, settings.sample_ratio, config.log_requests)
        self._status = StatusWatch(self.board, self.log_control, config.status_interval_s)
        self.board.add(self._checks)

    def start(self, sources: Sequence[Source] = ()) -> None:
        """Opens /metrics with the engine's families and those of `sources`. Raises ConfigError."""
        self._sources += sources
        has_metrics = self._config.metrics_listen != "off" or self._metrics_settings.is_on
        self._gpus = _watch_gpus()  # without a page too: cards that get hot rest
        if self._config.metrics_listen != "off":
            from assay.observe.latencies import latencies_document
            from assay.observe.metrics_server import open_metrics

            self._metrics = open_metrics(
                self._config.metrics_listen,
                (self._families,),
                latencies=lambda: latencies_document(self._engine.metrics()),
                reuse_port=self._config.reuse_port,
            )
        tell: list[Tell] = [log_failures, RequestLines(self._config.log_request_lines_per_s_max).tell]
        if self._settings.is_on:
            from assay.observe.trace_export import TraceExport

            self._export = TraceExport(self._settings)
            tell.append(only_traced(self._export.offer))
            if has_metrics:
                from assay.observe.exemplars import Exemplars

                self._exemplars = Exemplars()
                tell.append(only_traced(self._exemplars.offer))
        if self._metrics_settings.is_on:
            from assay.observe.metrics_export import MetricsExport

            self._metrics_export = MetricsExport(self._metrics_settings, self._families)
            self._metrics_export.start()
        self._status.start()
        self._watch = CallWatch(self._engine.drain_records, tell, [self._drift.poll])

    def add(self, source: Source) -> None:
        """One more source of /metrics, of a part that is made later. Any time."""
        self._sources.append(source)

    def tell_status(self) -> None:
        """Writes the status line soon. Never waits."""
        self._status.ask()

    def wake(self) -> None:
        """What `log_control` is to give up may have changed."""
        self._status.wake()

    @property
    def metrics_address(self) -> str | None:
        """HOST:PORT of /metrics; None: there is none."""
        return self._metrics.address if self._metrics else None

    def card_celsius(self, index: int) -> int | None:
        """How warm the CUDA device is. Of several cards: the warmest, for NVML counts them otherwise."""
        if self._gpus is None:
            return None
        known = [reading.temperature_celsius for reading in self._gpus.readings().values()]
        return max((celsius for celsius in known if celsius is not None), default=None)

    def end_metrics_export(self) -> None:
        """Sends metrics a last time, at most for FLUSH_S. To be called when all calls have ended and models are still there to
        tell of."""
        if self._metrics_export:
            self._metrics_export.close(FLUSH_S)

    def close(self) -> None:
        """Tells what is left, at most for FLUSH_S, and ends. Idempotent; start() need not have succeeded."""
        self._status.close()
        if self._watch:
            self._watch.close()
        if self._export:
            self._export.close(FLUSH_S)
        self.end_metrics_export()
        if self._metrics:
            self._metrics.close()
        if self._gpus:
            self._gpus.close()
        self._watch = self._export = self._metrics_export = self._metrics = self._gpus = None

    # --- implementation ---

    def _checks(self) -> Iterable[Check]:
        if self._export is not None:
            taken = self._export.is_taken
            yield Check("traces", "taken" if taken else "the collector does not take them", is_ok=taken)
        yield from drift_checks(self._drift.reports())
        if self._gpus is not None:
            yield from gpu_checks(self._gpus.readings())

    def _families(self) -> Iterable[Metric]:
        metrics = self._engine.metrics()
        yield from self._engine_families(metrics)
        for source in (self._drift_families, *self._sources, self._log_families, self._page_families):
            yield from source()
        yield from self._export_families(metrics)
        if self._gpus:
            yield from self._gpus.families()

    def _log_families(self) -> Iterable[Metric]:
        from assay.observe.metrics import log_families

        return log_families(lost_line_count())

    def _page_families(self) -> Iterable[Metric]:
        from assay.observe.metrics import page_families

        return page_families(self._metrics.drop_counts if self._metrics else {})

    def _engine_families(self, metrics: EngineMetrics) -> Iterable[Metric]:
        from assay.observe.metrics import engine_families

        return engine_families(self._engine.stats(), metrics, self._config.lane.queue_rows_max, self._exemplars)

    def _drift_families(self) -> Iterable[Metric]:
        from assay.observe.drift_metrics import drift_families

        return drift_families(self._drift.reports())

    def _export_families(self, metrics: EngineMetrics) -> Iterable[Metric]:
        from assay.observe.metrics import export_families, metrics_export_families

        export, sent = self._export, self._metrics_export
        yield from metrics_export_families({"taken": sent.taken_count if sent else 0, "lost": sent.lost_count if sent else 0})
        dropped = {
            "core": metrics.dropped_records,
            "queue": export.overflow_count if export else 0,
            "collector": export.unsent_count if export else 0,
        }
        yield from export_families(export.exported_count if export else 0, dropped)


# --- implementation ---


def gpu_checks(readings: Mapping[str, Reading]) -> Iterable[Check]:
    """How busy each card is, and whether the driver still answers for it."""
    for gpu, reading in readings.items():
        busy = reading.utilization_ratio
        value = "lost" if reading.is_lost else "there" if busy is None else f"{busy:.0%}"
        yield Check(f"gpu_{gpu}", value, is_ok=not reading.is_lost)


def _watch_gpus() -> GpuWatch | None:
    from assay.observe.gpu import GpuWatch, load_nvml

    nvml = load_nvml()
    return GpuWatch(nvml) if nvml is not None else None
