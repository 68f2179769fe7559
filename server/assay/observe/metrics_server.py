"""/metrics over HTTP: one thread that makes one page at a time. /latencies beside it has the core's latency histograms as they
are (latencies.py), for `assay top`.

A scrape makes some hundred lines in Python while calls wait for the interpreter; so it stops for a moment behind each family.
Nobody can make it more than one thread, nor keep that one from others: page_listener.py.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from assay.observe.page_listener import PageListener

DEFAULT_ADDRESS = "127.0.0.1:9464"  # the port of OpenTelemetry's Prometheus exporters

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
        of_us = {"registry": registry, "latencies": staticmethod(latencies) if latencies else None}
        self._handler: type[_Handler] = type("_Handler", (_Handler,), of_us)
        self._listener = PageListener(address, self._answer, reuse_port=reuse_port)

    @property
    def address(self) -> str:
        """HOST:PORT with the real port."""
        return self._listener.address

    @property
    def drop_counts(self) -> Mapping[str, int]:
        """Connections that were ended before their answer was out, by cause: late, crowded, large."""
        return self._listener.drop_counts

    def close(self) -> None:
        self._listener.close()

    # --- implementation ---

    def _answer(self, head: bytes) -> bytes:
        return self._handler(head).wfile.getvalue()


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


class _Handler(MetricsHandler):
    """One request: from bytes to bytes."""

    server_version = "assay"
    sys_version = ""
    latencies: Latencies | None = None
    wfile: io.BytesIO

    def __init__(self, head: bytes) -> None:
        self._head = head
        super().__init__(None, ("", 0), None)  # type: ignore[arg-type]  # no socket and no server: all is in memory

    def setup(self) -> None:
        self.rfile, self.wfile = io.BytesIO(self._head), io.BytesIO()

    def finish(self) -> None:
        """Whoever made it takes what was written."""

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
