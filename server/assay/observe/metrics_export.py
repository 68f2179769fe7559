"""Metrics on their way to an OpenTelemetry collector, over OTLP and gRPC.

A thread of its own looks at all families once an interval and sends what it saw. One message is on its way at a time; while the
collector is slow or gone, looks are left out and counted, and nobody waits for it: counters count since the start, so the next
one that arrives has everything. The SDK is imported when one is made.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric

from assay.errors import ConfigError
from assay.observe.families import paced
from assay.observe.logs import log_event
from assay.observe.metrics_settings import MetricsExportSettings

if TYPE_CHECKING:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.sdk.metrics.export import MetricExportResult

log = logging.getLogger("assay.metrics")


class RequestExporter(Protocol):
    """Sends to a collector; one thread."""

    def export(self, request: ExportMetricsServiceRequest) -> MetricExportResult: ...
    def shutdown(self) -> None:
        """Ends a call that hangs. Another thread's."""


class MetricsExport:
    """Sends from start() until close(). `make_exporter` is for tests."""

    def __init__(
        self,
        settings: MetricsExportSettings,
        families: Callable[[], Iterable[Metric]],
        make_exporter: Callable[[], RequestExporter] | None = None,
    ) -> None:
        """Raises ConfigError where the standard variables hold something that the SDK cannot use."""
        from assay.observe.otlp_metrics import MetricsMaker
        from assay.observe.spans import make_resource

        try:
            self._exporter = make_exporter() if make_exporter else _otlp_exporter(settings)
        except (ValueError, RuntimeError, OSError) as error:
            raise ConfigError(
                f"metrics_export: the exporter cannot be made of metrics_export.endpoint and OTEL_EXPORTER_OTLP_*: {error}"
            ) from error
        if not log.isEnabledFor(logging.DEBUG):
            # It has a line for each message that is not taken; ours come when that begins and when it ends.
            logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)
        self._families = families
        self._process = ProcessCollector(registry=None)
        self._interval_s = settings.interval_s
        self._maker = MetricsMaker(make_resource(), time.time_ns(), is_exponential=settings.is_exponential)
        self._is_closing = threading.Event()
        self._is_taken = True  # the last message was
        self._is_shut = False
        self.taken_count = 0
        self.lost_count = 0  # not taken by the collector
        self._thread = threading.Thread(target=self._run, name="assay-metrics-export", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Sends a last time, at most for `timeout_s`. Idempotent; start() need not have been called."""
        self._is_closing.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if not self._is_shut:
            self._is_shut = True
            self._exporter.shutdown()  # ends a call that hangs
        if self._thread.ident is not None:
            self._thread.join(_SHUTDOWN_S)

    # --- implementation ---

    def _run(self) -> None:
        while not self._is_closing.wait(self._interval_s):
            self._send()
        self._send()

    def _send(self) -> None:
        is_sent = self._is_sent()
        if is_sent and not self._is_taken:
            log_event(log, logging.INFO, "the collector takes metrics again", lost_exports=self.lost_count)
        if self._is_taken and not is_sent:
            log_event(log, logging.WARNING, "the collector does not take metrics; log_level debug says why")
        self._is_taken = is_sent
        self.taken_count += is_sent
        self.lost_count += not is_sent

    def _is_sent(self) -> bool:
        from opentelemetry.sdk.metrics.export import MetricExportResult

        try:
            families = paced(chain(self._families(), self._process.collect()))
            return self._exporter.export(self._maker.request(families, time.time_ns())) is MetricExportResult.SUCCESS
        except Exception:  # of a source, of the SDK or of gRPC: a look that is lost is only counted
            log.debug("metrics were not sent", exc_info=True)
            return False


# --- implementation ---

_SHUTDOWN_S = 1.0


def _otlp_exporter(settings: MetricsExportSettings) -> RequestExporter:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    class Exporter(OTLPMetricExporter):
        """The SDK's (endpoint, headers, TLS, retries, all OTEL_EXPORTER_OTLP_*), for messages that are encoded already."""

        def _translate_data(self, data: Any) -> Any:
            return data

        def _count_data(self, data: Any) -> int:
            return len(data.resource_metrics[0].scope_metrics[0].metrics)

    # insecure=None: http:// and https:// decide, as in the standard variables.
    exporter: RequestExporter = Exporter(endpoint=settings.endpoint)  # type: ignore[assignment]  # whose metrics are the SDK's own
    return exporter
