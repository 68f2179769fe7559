"""Closed-loop gRPC load of distinct messages, which h2load cannot send: a small HTTP/2 client that frames them itself.

    python -m benchmarks.varied_load PORT METHOD MESSAGES --requests 6000 --clients 4 --in-flight 16

MESSAGES: a file written by write_messages(); they are sent in turn. Prints one JSON document. A process of its own, so that its
work is charged to nobody. It costs tens of microseconds a request: for servers that cost several times that. It checks that every
call had an answer; what the answers say is for the tests.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import grpc_frame

FRAME_BYTES_MAX = 16_384
WINDOW_MAX = (1 << 31) - 1
WINDOW_AT_START = 65_535
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
INITIAL_WINDOW_SIZE = 4  # the setting's number
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def write_messages(path: Path, messages: Sequence[bytes]) -> Path:
    """Each message behind its length."""
    path.write_bytes(b"".join(struct.pack(">I", len(message)) + message for message in messages))
    return path


def read_messages(path: Path) -> list[bytes]:
    data, at, messages = path.read_bytes(), 0, []
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        messages.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return messages


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Work:
    """What is still to be sent, and what has come of the rest. Shared by all connections."""

    def __init__(self, messages: Sequence[bytes], requests: int) -> None:
        self._bodies = [grpc_frame(message) for message in messages]
        self._requests = requests
        self._sent = 0
        self.latencies_us: list[int] = []
        self.failed = 0

    @property
    def is_done(self) -> bool:
        return len(self.latencies_us) + self.failed == self._requests

    def next_body(self) -> bytes | None:
        if self._sent == self._requests:
            return None
        self._sent += 1
        return self._bodies[(self._sent - 1) % len(self._bodies)]

    def ended(self, started_ns: int, *, is_answered: bool) -> None:
        if is_answered:
            self.latencies_us.append((time.perf_counter_ns() - started_ns) // 1000)
        else:
            self.failed += 1


class Connection:
    """One HTTP/2 connection that keeps `in_flight` calls open."""

    def __init__(self, port: int, method: str, in_flight: int, work: Work) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._work = work
        self._in_flight = in_flight
        self._received = bytearray()
        self._open: dict[int, tuple[int, bool]] = {}  # stream -> (start, whether data came)
        self._waiting_body: bytes | None = None  # for the window
        self._window = WINDOW_AT_START
        self._next_stream = 1
        # The first request puts its headers into the server's table, later ones name them by index (RFC 7541, 6.1 and 6.2.1).
        named = ((4, f"/{method}"), (1, "127.0.0.1"), (31, "application/grpc"))
        first = b"".join(bytes([0x40 | index, len(text)]) + text.encode() for index, text in named)
        self._headers = b"\x83\x86" + first + b"\x40\x02te\x08trailers"
        self._later_headers = b"\x83\x86" + bytes([0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62])
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, WINDOW_MAX)
        window = struct.pack(">I", WINDOW_MAX - WINDOW_AT_START)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, window))

    def fill(self) -> None:
        """Starts as many calls as may be open and the window lets through."""
        out = []
        while len(self._open) < self._in_flight:
            body = self._waiting_body or self._work.next_body()
            self._waiting_body = body
            if body is None or len(body) > self._window:
                break
            self._waiting_body = None
            out.append(self._request(body))
        if out:
            self.socket.sendall(b"".join(out))

    def receive(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise SystemExit("the server closed the connection")
        self._received += data
        at, received = 0, self._received
        while len(received) - at >= 9:
            size = int.from_bytes(received[at : at + 3], "big")
            if len(received) - at < 9 + size:
                break
            kind, flags, stream = struct.unpack_from(">BBI", received, at + 3)
            self._take(kind, flags, stream, bytes(received[at + 9 : at + 9 + size]) if kind > HEADERS else b"", size)
            at += 9 + size
        del received[:at]

    # --- implementation ---

    def _request(self, body: bytes) -> bytes:
        stream = self._next_stream
        self._next_stream += 2
        self._window -= len(body)
        self._open[stream] = (time.perf_counter_ns(), False)
        parts = [frame(HEADERS, END_HEADERS, stream, self._headers)]
        self._headers = self._later_headers
        for at in range(0, len(body), FRAME_BYTES_MAX):
            is_last = at + FRAME_BYTES_MAX >= len(body)
            parts.append(frame(DATA, END_STREAM if is_last else 0, stream, body[at : at + FRAME_BYTES_MAX]))
        return b"".join(parts)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, size: int) -> None:
        if kind == DATA and size > 5:
            self._open[stream] = (self._open[stream][0], True)
        elif kind == HEADERS and flags & END_STREAM:  # trailers; without data before them they say why
            started_ns, has_data = self._open.pop(stream)
            self._work.ended(started_ns, is_answered=has_data)
        elif kind == RST_STREAM and stream in self._open:
            self._work.ended(self._open.pop(stream)[0], is_answered=False)
        elif kind == SETTINGS and not flags & ACK:
            self.socket.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += struct.unpack(">I", payload)[0]
        elif kind == GOAWAY:
            raise SystemExit(f"the server ended the connection: {payload[8:].decode(errors='replace')}")


def run(port: int, method: str, messages: Sequence[bytes], requests: int, clients: int, in_flight: int) -> dict[str, object]:
    """Sends `requests` messages and waits for all answers."""
    work = Work(messages, requests)
    with selectors.DefaultSelector() as selector:
        connections = [Connection(port, method, in_flight, work) for _ in range(clients)]
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        start = time.perf_counter()
        for connection in connections:
            connection.fill()
        while not work.is_done:
            for key, _ in selector.select():
                key.data.receive()
                key.data.fill()
        wall_s = time.perf_counter() - start
        for connection in connections:
            connection.socket.close()
    return {"wall_s": wall_s, "succeeded": len(work.latencies_us), "failed": work.failed, "latencies_us": work.latencies_us}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.varied_load", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("method", help="for example assay.v1.ScoringService/Score")
    parser.add_argument("messages", type=Path)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--clients", type=int, default=1, help="connections")
    parser.add_argument("--in-flight", type=int, default=1, help="open calls of each connection")
    given = parser.parse_args()
    result = run(given.port, given.method, read_messages(given.messages), given.requests, given.clients, given.in_flight)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
