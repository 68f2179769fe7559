"""A small HTTP listener for pages that one thread makes: whoever says nothing, says it slowly or does not read keeps nobody
waiting.

Bytes come and go on an event loop of the thread's own, and pages are made on that loop too: one at a time, and never on the loop
that answers scores. Everything has a limit: the time and the bytes of a request's head, the time of an answer, the connections
that are open at once. Past the last one the oldest makes way, one that has asked for nothing before one that is being answered.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from functools import partial

HEAD_S_MAX = 1.0  # from connecting to the end of the head
HEAD_BYTES_MAX = 16 << 10
ANSWER_S_MAX = 5.0  # until the system has the last byte of an answer
CONNECTIONS_MAX = 64
ACCEPTED_AT_ONCE_MAX = CONNECTIONS_MAX // 2  # so that one is read from before others can make it give way
WAITING_MAX = 1024  # that the system keeps until they are accepted: past it, a client tries again after a second

DROP_CAUSES = ("late", "crowded", "large")

MakeAnswer = Callable[[bytes], bytes]
"""From the head of a request to the whole answer, as bytes. Runs on the thread."""

log = logging.getLogger("assay.metrics")


class PageListener:
    """Answers from its making until close()."""

    def __init__(self, address: str, make_answer: MakeAnswer, *, reuse_port: bool) -> None:
        """Binds HOST:PORT. Raises OSError."""
        self.drop_counts = dict.fromkeys(DROP_CAUSES, 0)  # connections that were ended before their answer was out
        self._make_answer = make_answer
        self._socket = _bound(address, reuse_port)
        host, port = self._socket.getsockname()[:2]
        self.address = f"[{host}]:{port}" if self._socket.family == socket.AF_INET6 else f"{host}:{port}"  # with the real port
        self._open: dict[_Connection, None] = {}  # the oldest first
        self._loop = asyncio.SelectorEventLoop()
        self._is_ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="assay-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends what is open. Waits for the page that is being made, if there is one. Idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._is_ending.set)
            self._thread.join()

    # --- implementation. On the thread

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        make = partial(_Connection, self)
        server = await self._loop.create_server(make, sock=self._socket, backlog=ACCEPTED_AT_ONCE_MAX)
        self._socket.listen(WAITING_MAX)  # asyncio has one number for both
        await self._is_ending.wait()
        self._loop.remove_reader(self._socket)  # first: a connection that asyncio is accepting while the server closes is lost
        being_accepted = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*being_accepted, return_exceptions=True)
        server.close()
        for connection in list(self._open):
            connection.end()
        await asyncio.sleep(0)  # what was ended is closed by the loop

    def enter(self, connection: _Connection) -> None:
        """Takes one in, and sends another away where there is no room."""
        if len(self._open) >= CONNECTIONS_MAX:
            idle = (other for other in self._open if not other.is_answered)
            next(idle, next(iter(self._open))).drop("crowded")
        self._open[connection] = None

    def leave(self, connection: _Connection) -> None:
        self._open.pop(connection, None)

    def answer(self, head: bytes) -> bytes | None:
        """None: it failed."""
        try:
            return self._make_answer(head)
        except Exception:
            log.debug("a scrape failed", exc_info=True)
            return None


# --- implementation ---


class _Connection(asyncio.Protocol):
    """One request and its answer."""

    def __init__(self, listener: PageListener) -> None:
        self._listener = listener
        self._head = b""
        self.is_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._limit_to(HEAD_S_MAX)
        self._listener.enter(self)

    def data_received(self, data: bytes) -> None:
        if self.is_answered:  # one request is one connection
            return
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._answer()
        elif len(self._head) > HEAD_BYTES_MAX:
            self.drop("large")

    def connection_lost(self, _: Exception | None) -> None:
        self._limit.cancel()
        self._listener.leave(self)

    def drop(self, cause: str) -> None:
        """Sends it away, and counts it."""
        self._listener.drop_counts[cause] += 1
        self.end()

    def end(self) -> None:
        self._listener.leave(self)
        self._limit.cancel()
        self._transport.abort()

    def _answer(self) -> None:
        self._limit.cancel()
        self.is_answered = True
        answer = self._listener.answer(self._head)
        if answer is None:
            self.end()
            return
        self._limit_to(ANSWER_S_MAX)
        self._transport.write(answer)
        self._transport.close()  # once it is out

    def _limit_to(self, limit_s: float) -> None:
        self._limit = asyncio.get_running_loop().call_later(limit_s, self.drop, "late")


def _bound(address: str, reuse_port: bool) -> socket.socket:
    host, _, port = address.rpartition(":")
    family, kind, protocol, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(where)
        bound.listen(WAITING_MAX)
    except BaseException:
        bound.close()
        raise
    return bound
