"""An OpenTelemetry collector for tests: takes OTLP over gRPC and keeps spans and metrics.

Can be told to hang (it takes a call and does not answer) or to refuse.
"""

from __future__ import annotations

import threading
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.server import WAIT_S, wait_until


class OtlpSink(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens on a free port of loopback from its making until close()."""

    def __init__(self, port: int = 0) -> None:
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refuses = False
        self._spans: list[trace_pb2.Span] = []
        self._metrics: list[dict[str, metrics_pb2.Metric]] = []
        self._lock = threading.Lock()
        self._may_answer = threading.Event()
        self._may_answer.set()
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_MetricsService(self), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        self._answer(context)
        with self._lock:
            for resource in request.resource_spans:
                self.resources.append(attributes_of(resource.resource))
                for scope in resource.scope_spans:
                    self._spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    def take_metrics(self, request: Any, context: Any) -> Any:
        self._answer(context)
        with self._lock:
            for resource in request.resource_metrics:
                self.resources.append(attributes_of(resource.resource))
                self._metrics.append({metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics})
        return metrics_service_pb2.ExportMetricsServiceResponse()

    def _answer(self, context: Any) -> None:
        """As it was told to."""
        self._may_answer.wait()
        if self.refuses:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "told to refuse")
        with self._lock:
            self.headers.append(dict(context.invocation_metadata()))

    @property
    def metrics(self) -> list[dict[str, metrics_pb2.Metric]]:
        """Of each message so far the metrics, by name."""
        with self._lock:
            return list(self._metrics)

    @property
    def spans(self) -> list[trace_pb2.Span]:
        with self._lock:
            return list(self._spans)

    def servers(self) -> list[trace_pb2.Span]:
        """The server spans so far."""
        return [span for span in self.spans if span.kind == trace_pb2.Span.SPAN_KIND_SERVER]

    def wait_servers(self, count: int) -> list[trace_pb2.Span]:
        """Waits until that many server spans have come."""
        wait_until(lambda: len(self.servers()) >= count, f"{count} server spans at the collector")
        return self.servers()

    def children(self, of: trace_pb2.Span) -> dict[str, trace_pb2.Span]:
        return {span.name: span for span in self.spans if span.parent_span_id == of.span_id}

    def hang(self) -> None:
        self._may_answer.clear()

    def go_on(self) -> None:
        self._may_answer.set()

    def close(self) -> None:
        self._may_answer.set()
        self._server.stop(0).wait(WAIT_S)

    def __enter__(self) -> OtlpSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _MetricsService(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, sink: OtlpSink) -> None:
        self._sink = sink

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        return self._sink.take_metrics(request, context)


def attributes_of(holder: Any) -> dict[str, Any]:
    """Attributes of a span or a resource as plain values."""
    return {item.key: _plain(item.value) for item in holder.attributes}


def _plain(value: common_pb2.AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [_plain(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)
