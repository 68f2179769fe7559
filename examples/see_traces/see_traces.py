"""Shows the traces that a server sends, in a terminal: the smallest collector there is. For a first look, not for keeping.

python see_traces.py --listen 127.0.0.1:4317
assay serve --set tracing.endpoint=http://127.0.0.1:4317
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

BAR_COLUMNS = 40


class Viewer(trace_service_pb2_grpc.TraceServiceServicer):
    """Prints every server span with its stages. A batch of an exporter holds a call's spans together."""

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 (gRPC's name)
        spans = [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
        for span in spans:
            if span.kind == Span.SPAN_KIND_SERVER:
                show(span, [child for child in spans if child.parent_span_id == span.span_id])
        return trace_service_pb2.ExportTraceServiceResponse()


def show(server: Span, stages: Iterable[Span]) -> None:
    """One call: its name and time, then when each stage ran."""
    print(f"trace {server.trace_id.hex()}  {server.name}  {milliseconds(server):.3f} ms")
    for stage in sorted(stages, key=lambda span: span.start_time_unix_nano):
        print(f"  {stage.name:<9}{bar_of(stage, server)} {milliseconds(stage):9.3f} ms")
    sys.stdout.flush()


def bar_of(stage: Span, whole: Span) -> str:
    """Where in the whole call the stage lies."""
    scale = BAR_COLUMNS / max(1, whole.end_time_unix_nano - whole.start_time_unix_nano)
    begin = int((stage.start_time_unix_nano - whole.start_time_unix_nano) * scale)
    end = max(begin + 1, round((stage.end_time_unix_nano - whole.start_time_unix_nano) * scale))
    return (" " * begin + "█" * (end - begin))[:BAR_COLUMNS].ljust(BAR_COLUMNS)


def milliseconds(span: Span) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Shows the traces that a server sends.")
    parser.add_argument("--listen", default="127.0.0.1:4317", metavar="HOST:PORT", help="where to listen (OTLP over gRPC)")
    listen = parser.parse_args().listen
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Viewer(), server)
    try:
        server.add_insecure_port(listen)
    except RuntimeError:
        sys.exit(f"{listen} cannot be bound: another collector has it; choose another with --listen")
    server.start()
    print(f"waiting for traces on {listen}; Ctrl-C ends it", file=sys.stderr)
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:
        server.stop(0)


if __name__ == "__main__":
    main()
