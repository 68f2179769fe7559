"""A connection over which the core fetches records by itself."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from assay._core import Hops


@dataclass(frozen=True)
class Line:
    """To the one server that has all records, without TLS; nobody else's until it is ended, once, with what became of it."""

    socket: socket.socket
    timeout_s: float  # for one answer
    slow_s: float  # an answer that takes longer is of little use
    end: Callable[[Hops], None]


OpenLine = Callable[[], Line | None]
"""None: there is none to be had now, and fetch() must do. Never raises; may connect. Any thread."""
