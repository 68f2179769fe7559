"""Records of calls on their way to an OpenTelemetry collector, over OTLP and gRPC.

A thread of its own makes spans and sends them. It is behind a bounded list: while the collector is slow or gone, records are
dropped and counted, and nobody waits for it. The SDK is imported when one is made: a server that does not trace never loads it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from assay._core import CallRecord
from assay.errors import ConfigError
from assay.observe.logs import log_event
from assay.observe.tracing_settings import TracingSettings

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.sdk.trace.export import SpanExportResult

RECORDS_MAX = 4096  # that wait to be sent
SEND_RECORDS_MAX = 64  # in one message: two milliseconds of Python, in which the event loop may have to wait

log = logging.getLogger("assay.tracing")


class RequestExporter(Protocol):
    """Sends to a collector; one thread."""

    def export(self, request: ExportTraceServiceRequest) -> SpanExportResult: ...
    def shutdown(self) -> None:
        """Ends a call that hangs. Another thread's."""


class TraceExport:
    """Sends from its making until close(). `make_exporter` is for tests."""

    def __init__(self, settings: TracingSettings, make_exporter: Callable[[], RequestExporter] | None = None) -> None:
        """Raises ConfigError where the standard variables hold something that the SDK cannot use."""
        from assay.observe.spans import SpanMaker, make_resource

        try:
            self._exporter = make_exporter() if make_exporter else _otlp_exporter(settings)
        except (ValueError, RuntimeError, OSError) as error:
            raise ConfigError(
                f"tracing: the exporter cannot be made of tracing.endpoint and OTEL_EXPORTER_OTLP_*: {error}"
            ) from error
        if not log.isEnabledFor(logging.DEBUG):
            # It has a line for each message that is not taken; ours come when that begins and when it ends.
            logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)
        self._maker = SpanMaker(make_resource())
        self._waiting: deque[CallRecord] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_taken = True  # the last message was
        self.exported_count = 0
        self.overflow_count = 0  # dropped because too many waited
        self.unsent_count = 0  # dropped because the collector did not take them
        self._thread = threading.Thread(target=self._run, name="assay-traces", daemon=True)
        self._thread.start()

    @property
    def is_taken(self) -> bool:
        """Whether the collector took the last message."""
        return self._is_taken

    def offer(self, records: Sequence[CallRecord]) -> None:
        """Never waits: what does not fit is dropped."""
        with self._changed:
            taken = records[: RECORDS_MAX - len(self._waiting)]
            self._waiting.extend(taken)
            self.overflow_count += len(records) - len(taken)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Sends what waits, at most for `timeout_s`; the rest is dropped. Idempotent."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        self._exporter.shutdown()  # ends a call that hangs
        self._thread.join(_SHUTDOWN_S)
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
            self.unsent_count += left
        if left:
            log_event(log, logging.WARNING, "traces not sent in time", calls=left)

    # --- implementation ---

    def _run(self) -> None:
        while records := self._take():
            # Monotonic to wall clock, once for all of them.
            offset_ns = time.time_ns() - time.monotonic_ns()
            is_sent = self._send(records, offset_ns)
            self._say_if_changed(is_sent)
            with self._changed:
                self.exported_count += len(records) if is_sent else 0
                self.unsent_count += 0 if is_sent else len(records)

    def _take(self) -> list[CallRecord]:
        """The next records to send. None: it is closing and nothing is left."""
        with self._changed:
            while not self._waiting and not self._is_closing:
                self._changed.wait()
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), SEND_RECORDS_MAX))]

    def _send(self, records: Sequence[CallRecord], offset_ns: int) -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            return self._exporter.export(self._maker.request(records, offset_ns)) is SpanExportResult.SUCCESS
        except Exception:  # of the SDK or of gRPC: a trace that is lost is only counted
            log.debug("traces were not sent", exc_info=True)
            return False

    def _say_if_changed(self, is_sent: bool) -> None:
        if is_sent and not self._is_taken:
            log_event(log, logging.INFO, "the collector takes traces again", dropped_calls=self.unsent_count)
        if self._is_taken and not is_sent:
            log_event(log, logging.WARNING, "the collector does not take traces; log_level debug says why")
        self._is_taken = is_sent


# --- implementation ---

_SHUTDOWN_S = 1.0


def _otlp_exporter(settings: TracingSettings) -> RequestExporter:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    class Exporter(OTLPSpanExporter):
        """The SDK's (endpoint, headers, TLS, retries, all OTEL_EXPORTER_OTLP_*), for messages that are encoded already."""

        def _translate_data(self, data: Any) -> Any:
            return data

        def _count_data(self, data: Any) -> int:
            return len(data.resource_spans[0].scope_spans[0].spans)

    # insecure=None: http:// and https:// decide, as in the standard variables.
    exporter: RequestExporter = Exporter(endpoint=settings.endpoint)  # type: ignore[assignment]  # whose spans are the SDK's own
    return exporter
