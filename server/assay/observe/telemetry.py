"""Everything of this room in one server: what app.py starts before the listeners open and closes when all calls have ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from assay._core import Engine
from assay.config import Config
from assay.observe.calls import CallWatch, Tell, log_failures
from assay.observe.drift import DriftWatch
from assay.observe.tracing_settings import TracingSettings

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from assay.observe.metrics import Source
    from assay.observe.metrics_server import MetricsServer
    from assay.observe.trace_export import TraceExport

FLUSH_S = 5.0  # how long traces may take to leave when the server ends


class Telemetry:
    """Metrics, traces and the log of failures. Made with the engine; start(), then close()."""

    def __init__(self, config: Config, settings: TracingSettings, engine: Engine, drift: DriftWatch) -> None:
        self._config = config
        self._settings = settings
        self._engine = engine
        self._drift = drift
        self._metrics: MetricsServer | None = None
        self._export: TraceExport | None = None
        self._watch: CallWatch | None = None
        self._sources: list[Source] = []

    def start(self, sources: Sequence[Source] = ()) -> None:
        """Opens /metrics with the engine's families and those of `sources`. Raises ConfigError."""
        self._sources += sources
        if self._config.metrics_listen != "off":
            from assay.observe.metrics_server import open_metrics

            self._metrics = open_metrics(self._config.metrics_listen, (self._families,), reuse_port=self._config.reuse_port)
        tell: list[Tell] = [log_failures]
        if self._settings.is_on:
            from assay.observe.trace_export import TraceExport

            self._export = TraceExport(self._settings)
            tell.append(self._export.offer)
        self._watch = CallWatch(self._engine.drain_records, tell, [self._drift.poll])

    def add(self, source: Source) -> None:
        """One more source of /metrics, of a part that is made later. Any time."""
        self._sources.append(source)

    @property
    def metrics_address(self) -> str | None:
        """HOST:PORT of /metrics; None: there is none."""
        return self._metrics.address if self._metrics else None

    def close(self) -> None:
        """Tells what is left, at most for FLUSH_S, and ends. Idempotent; start() need not have succeeded."""
        if self._watch:
            self._watch.close()
        if self._export:
            self._export.close(FLUSH_S)
        if self._metrics:
            self._metrics.close()
        self._watch = self._export = self._metrics = None

    # --- implementation ---

    def _families(self) -> Iterable[Metric]:
        for source in (self._engine_families, self._drift_families, *self._sources, self._export_families):
            yield from source()

    def _engine_families(self) -> Iterable[Metric]:
        from assay.observe.metrics import engine_families

        return engine_families(self._engine.stats(), self._engine.metrics(), self._config.lane.queue_rows_max)

    def _drift_families(self) -> Iterable[Metric]:
        from assay.observe.drift_metrics import drift_families

        return drift_families(self._drift.reports())

    def _export_families(self) -> Iterable[Metric]:
        from assay.observe.metrics import export_families

        export = self._export
        dropped = {
            "core": self._engine.metrics().dropped_records,
            "queue": export.overflow_count if export else 0,
            "collector": export.unsent_count if export else 0,
        }
        return export_families(export.exported_count if export else 0, dropped)
