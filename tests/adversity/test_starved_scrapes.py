"""Clients of /metrics that say nothing, say it slowly or do not read: scrapes are answered beside them, and they must go."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from prometheus_client.core import Metric

from assay.observe import page_listener
from assay.observe.families import gauges
from assay.observe.metrics_server import MetricsServer, open_metrics
from tests.support.server import wait_until

SCRAPE_S_MAX = 5.0  # deploy/prometheus/prometheus.yml: scrape_timeout


def nothing() -> Iterable[Metric]:
    return ()


def much() -> Iterable[Metric]:
    """A page of megabytes: more than the sockets between the two ends hold."""
    yield gauges("large", "x", "name", {f"{number:08000}": 1.0 for number in range(1_000)})


@contextmanager
def served(families: object = nothing) -> Iterator[MetricsServer]:
    server = open_metrics("127.0.0.1:0", (families,), reuse_port=False)  # type: ignore[arg-type]
    assert server is not None
    try:
        yield server
    finally:
        server.close()


def scrape(server: MetricsServer) -> str:
    with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=SCRAPE_S_MAX) as answer:
        page: str = answer.read().decode()
        return page


def connect(server: MetricsServer, *, buffer_bytes: int | None = None) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    connection = socket.socket()
    if buffer_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    connection.settimeout(SCRAPE_S_MAX)
    connection.connect((host, int(port)))
    return connection


def is_sent_away(connection: socket.socket) -> bool:
    try:
        return connection.recv(1 << 16) == b""
    except ConnectionError:
        return True


def takes(connection: socket.socket, data: bytes) -> bool:
    with suppress(OSError):
        connection.sendall(data)
        return True
    return False


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time limit is reached: whoever is sent away is so for another reason."""
    monkeypatch.setattr(page_listener, "HEAD_S_MAX", 600.0)
    monkeypatch.setattr(page_listener, "ANSWER_S_MAX", 600.0)


@pytest.mark.usefixtures("patient")
def test_idle_connections_keep_no_scrape_waiting() -> None:
    with served() as server, ExitStack() as idle:
        for _ in range(20):
            idle.enter_context(connect(server))
        for _ in range(4):
            assert "process_cpu_seconds_total" in scrape(server)


@pytest.mark.usefixtures("patient")
def test_past_the_limit_the_oldest_idle_one_makes_way() -> None:
    with served() as server, ExitStack() as idle:
        oldest = idle.enter_context(connect(server))
        for _ in range(3 * page_listener.CONNECTIONS_MAX):
            idle.enter_context(connect(server))
        assert "process_cpu_seconds_total" in scrape(server)
        assert is_sent_away(oldest)
        assert server.drop_counts["crowded"] >= 2 * page_listener.CONNECTIONS_MAX
        assert server.drop_counts["late"] == 0


def test_one_that_says_nothing_or_trickles_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_listener, "HEAD_S_MAX", 0.2)
    with served() as server, connect(server) as idle, connect(server) as slow:
        slow.sendall(b"GET /metrics HT")
        assert "process_cpu_seconds_total" in scrape(server)
        wait_until(lambda: not takes(slow, b"T"), "the slow writer is sent away")
        assert is_sent_away(idle)
        assert server.drop_counts["late"] == 2


@pytest.mark.usefixtures("patient")
def test_a_head_without_an_end_is_sent_away() -> None:
    with served() as server, connect(server) as endless:
        wait_until(lambda: not takes(endless, b"x" * 4096), "the endless head is sent away")
        assert "process_cpu_seconds_total" in scrape(server)
        assert server.drop_counts["large"] == 1


def test_slow_readers_keep_no_scrape_waiting_and_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_listener, "ANSWER_S_MAX", 0.2)
    with served(much) as server, ExitStack() as open_ones:
        slow = [open_ones.enter_context(connect(server, buffer_bytes=4096)) for _ in range(3)]
        for connection in slow:
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        wait_until(lambda: server.drop_counts["late"] == 3, "they are sent away")


@pytest.mark.usefixtures("patient")
def test_slow_readers_make_way_too() -> None:
    with served(much) as server, ExitStack() as open_ones:
        for _ in range(3):
            slow = open_ones.enter_context(connect(server, buffer_bytes=4096))
            slow.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        for _ in range(2 * page_listener.CONNECTIONS_MAX):
            open_ones.enter_context(connect(server))
        assert 'large{name="' in scrape(server)


@pytest.mark.usefixtures("patient")
def test_closing_ends_what_is_open() -> None:
    with served() as server, connect(server) as idle:
        server.close()
        assert is_sent_away(idle)


def test_what_is_no_request_is_answered_so() -> None:
    with served() as server:
        for request, status in ((b"nonsense\r\n\r\n", b"400"), (b"POST /metrics HTTP/1.1\r\n\r\n", b"501")):
            with connect(server) as connection:
                connection.sendall(request)
                assert status in connection.recv(4096)
        assert "process_cpu_seconds_total" in scrape(server)


def test_a_source_that_fails_costs_its_scrape_alone() -> None:
    turns = iter((1, 0))

    def fails_once() -> Iterable[Metric]:
        if next(turns):
            raise RuntimeError("a source that fails")
        return ()

    with served(fails_once) as server:
        with connect(server) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert is_sent_away(connection)
        assert "process_cpu_seconds_total" in scrape(server)
