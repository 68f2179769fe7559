"""Everything of this room in one server: what app.py starts before the listeners open and closes when all calls have ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from assay._core import Engine
from assay.config import Config
from assay.observe.calls import CallWatch, Tell, log_failures
from assay.observe.log_control import LogControl
from assay.observe.logs import lost_line_count
from assay.observe.request_lines import RequestLines, only_traced
from assay.observe.status import Check, StatusBoard
from assay.observe.status_watch import StatusWatch
from assay.observe.tracing_settings import TracingSettings

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from assay.observe.metrics import Source
    from assay.observe.metrics_server import MetricsServer
    from assay.observe.trace_export import TraceExport

FLUSH_S = 5.0  # how long traces may take to leave when the server ends


class Telemetry:
    """Metrics, traces, the log of failures and of some calls, how the server is. Made with the engine; start(), then close()."""

    def __init__(self, config: Config, settings: TracingSettings, engine: Engine) -> None:
        self._config = config
        self._settings = settings
        self._engine = engine
        self._metrics: MetricsServer | None = None
        self._export: TraceExport | None = None
        self._watch: CallWatch | None = None
        self._sources: list[Source] = []
        self.board = StatusBoard(engine)
        self.log_control = LogControl(engine, settings.sample_ratio, config.log_requests)
        self._status = StatusWatch(self.board, self.log_control, config.status_interval_s)
        self.board.add(self._checks)

    def start(self, sources: Sequence[Source] = ()) -> None:
        """Opens /metrics with the engine's families and those of `sources`. Raises ConfigError."""
        self._sources += sources
        if self._config.metrics_listen != "off":
            from assay.observe.metrics_server import open_metrics

            self._metrics = open_metrics(self._config.metrics_listen, (self._families,), reuse_port=self._config.reuse_port)
        tell: list[Tell] = [log_failures, RequestLines(self._config.log_request_lines_per_s_max).tell]
        if self._settings.is_on:
            from assay.observe.trace_export import TraceExport

            self._export = TraceExport(self._settings)
            tell.append(only_traced(self._export.offer))
        self._status.start()
        self._watch = CallWatch(self._engine.drain_records, tell)

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

    def close(self) -> None:
        """Tells what is left, at most for FLUSH_S, and ends. Idempotent; start() need not have succeeded."""
        self._status.close()
        if self._watch:
            self._watch.close()
        if self._export:
            self._export.close(FLUSH_S)
        if self._metrics:
            self._metrics.close()
        self._watch = self._export = self._metrics = None

    # --- implementation ---

    def _checks(self) -> Iterable[Check]:
        if self._export is not None:
            taken = self._export.is_taken
            yield Check("traces", "taken" if taken else "the collector does not take them", is_ok=taken)

    def _families(self) -> Iterable[Metric]:
        for source in (self._engine_families, *self._sources, self._export_families, self._log_families):
            yield from source()

    def _log_families(self) -> Iterable[Metric]:
        from assay.observe.metrics import log_families

        return log_families(lost_line_count())

    def _engine_families(self) -> Iterable[Metric]:
        from assay.observe.metrics import engine_families

        return engine_families(self._engine.stats(), self._engine.metrics(), self._config.lane.queue_rows_max)

    def _export_families(self) -> Iterable[Metric]:
        from assay.observe.metrics import export_families

        export = self._export
        dropped = {
            "core": self._engine.metrics().dropped_records,
            "queue": export.overflow_count if export else 0,
            "collector": export.unsent_count if export else 0,
        }
        return export_families(export.exported_count if export else 0, dropped)
