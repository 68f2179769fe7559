"""/metrics over HTTP: one thread that answers one scrape at a time. /latencies beside it has the core's latency histograms as
they are (latencies.py), for `assay top`.

A scrape makes some hundred lines in Python while calls wait for the interpreter; so it stops for a moment behind each family.
Nobody can make it more than one thread, nor hold that one longer than SCRAPE_S_MAX.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from socketserver import TCPServer
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import MetricsHandler
from prometheus_client.registry import Collector

from assay.errors import ConfigError
from assay.observe.families import paced
from assay.observe.logs import log_event
from assay.observe.metrics import Source

DEFAULT_ADDRESS = "127.0.0.1:9464"  # the port of OpenTelemetry's Prometheus exporters
SCRAPE_S_MAX = 5.0

Latencies = Callable[[], Any]
"""Makes what /latencies answers, fit for JSON."""

log = logging.getLogger("assay.metrics")


class MetricsServer:
    """Answers from its making until close()."""

    def __init__(
        self, address: str, sources: Sequence[Source], *, latencies: Latencies | None = None, reuse_port: bool = False
    ) -> None:
        """Binds HOST:PORT. Raises OSError. `latencies`: what /latencies answers; without, it answers as any other path does."""
        registry = CollectorRegistry()
        registry.register(_Page(sources))
        ProcessCollector(registry=registry)
        self._server = _Server(address, registry, latencies, reuse_port)
        self._thread = threading.Thread(target=self._server.serve_forever, name="assay-metrics", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT with the real port."""
        host, port = self._server.server_address[:2]
        return f"[{host!s}]:{port}" if self._server.address_family == socket.AF_INET6 else f"{host!s}:{port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def open_metrics(
    listen: str, sources: Sequence[Source], *, latencies: Latencies | None = None, reuse_port: bool
) -> MetricsServer | None:
    """What `metrics_listen` asks for. auto: a busy default port costs a line in the log, not the start. Raises ConfigError where
    an address was named and cannot be had."""
    if listen == "off":
        return None
    address = DEFAULT_ADDRESS if listen == "auto" else listen
    try:
        return MetricsServer(address, sources, latencies=latencies, reuse_port=reuse_port)
    except OSError as error:
        if listen == "auto":
            reason = error.strerror or str(error)
            log_event(
                log, logging.WARNING, "no metrics: the address is not free; set metrics_listen", address=address, reason=reason
            )
            return None
        raise ConfigError(
            f"metrics_listen: {listen} cannot be bound ({error.strerror or error}); choose another HOST:PORT, auto, or off"
        ) from error


# --- implementation ---


class _Page(Collector):
    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        for source in self._sources:
            yield from paced(source())


class _Server(TCPServer):
    allow_reuse_address = True

    def __init__(self, address: str, registry: Collector, latencies: Latencies | None, reuse_port: bool) -> None:
        host, _, port = address.rpartition(":")
        family, _, _, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self.allow_reuse_port = reuse_port
        of_us = {"registry": registry, "latencies": staticmethod(latencies) if latencies else None}
        super().__init__(where[:2], type("_Handler", (_Handler,), of_us))  # type: ignore[arg-type]

    def finish_request(self, request: Any, client_address: Any) -> None:
        # Each read and write has a limit; this is the limit of all of them together.
        limit = threading.Timer(SCRAPE_S_MAX, _end, (request,))
        limit.daemon = True
        limit.start()
        try:
            super().finish_request(request, client_address)
        finally:
            limit.cancel()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a scrape failed", exc_info=True)


class _Handler(MetricsHandler):
    server_version = "assay"
    sys_version = ""
    timeout = SCRAPE_S_MAX
    latencies: Latencies | None = None

    def do_GET(self) -> None:  # noqa: N802 (the name that the base class calls)
        if self.path != "/latencies" or self.latencies is None:
            super().do_GET()
            return
        document = orjson.dumps(self.latencies())
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)


def _end(request: socket.socket) -> None:
    with suppress(OSError):  # closed a moment ago
        request.shutdown(socket.SHUT_RDWR)
