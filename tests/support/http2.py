"""HTTP/2 by hand: frames as a test wants them, where gRPC's own client would hide what the server says.

Header blocks go out without compression; those that come back are read by libnghttp2, which every build with the native transport has.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from google.rpc import error_details_pb2, status_pb2

from tests.support.wire import padded_base64

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, ACK = 1, 4, 8, 1  # flags
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4  # of SETTINGS
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 2, 8, 11
SCORE = "/assay.v1.ScoringService/Score"
FRAME_BYTES_MAX = 16_384

Headers = Sequence[tuple[str, str]]
