"""HTTP/2 by hand: frames as a test wants them, where gRPC's own client would hide what the server says.

Header blocks go out without compression; those that come back are read by libnghttp2, which every build with the native transport
has.
"""

from __future__ import annotations

import base64
import ctypes
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from google.rpc import error_details_pb2, status_pb2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, ACK = 1, 4, 8, 1  # flags
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4  # of SETTINGS
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 2, 8, 11
PAYLOAD_BYTES_MAX = 16_384  # of a frame, until SETTINGS say more
SCORE = "/assay.v1.ScoringService/Score"

Headers = Sequence[tuple[str, str]]


def frame(kind: int, payload: bytes, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def call_headers(path: str = SCORE, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """What a gRPC client sends, with `more` behind it."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
    return [*fields, ("content-type", "application/grpc"), *more]


def headers_block(fields: Headers) -> bytes:
    """HPACK without compression: literal fields with new names, kept in no table."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def headers_frames(fields: Headers, flags: int = 0, stream: int = 1) -> bytes:
    """HEADERS, and CONTINUATION where one frame is too small."""
    block = headers_block(fields)
    pieces = [block[start : start + PAYLOAD_BYTES_MAX] for start in range(0, len(block), PAYLOAD_BYTES_MAX)] or [b""]
    frames = [frame(HEADERS if i == 0 else CONTINUATION, piece, 0, stream) for i, piece in enumerate(pieces)]
    frames[0] = frames[0][:4] + bytes([frames[0][4] | flags]) + frames[0][5:]
    frames[-1] = frames[-1][:4] + bytes([frames[-1][4] | END_HEADERS]) + frames[-1][5:]
    return b"".join(frames)


def data_frame(payload: bytes, flags: int = 0, stream: int = 1, padding: int | None = None) -> bytes:
    if padding is None:
        return frame(DATA, payload, flags, stream)
    return frame(DATA, bytes([padding]) + payload + bytes(padding), flags | PADDED, stream)


def message(payload: bytes, flag: int = 0) -> bytes:
    """A gRPC message."""
    return bytes([flag]) + struct.pack(">I", len(payload)) + payload


def goaway_error(payload: bytes) -> tuple[int, bytes]:
    """Error code and text of a GOAWAY."""
    _, error = struct.unpack(">II", payload[:8])
    return error, payload[8:]


@dataclass
class Answer:
    """What came back for one request."""

    headers: dict[str, str] = field(default_factory=dict)  # the first block's; the only one of trailers alone
    trailers: dict[str, str] = field(default_factory=dict)  # the last block's
    body: bytes = b""
    is_ended: bool = False  # by the server's END_STREAM
    reset: int | None = None  # the code
    goaway: int | None = None  # the code, if it said one that is an error

    @property
    def grpc_status(self) -> int | None:
        status = self.trailers.get("grpc-status")
        return int(status) if status is not None else None

    @property
    def reason(self) -> str:
        """ErrorInfo.reason; empty where there is none."""
        encoded = self.trailers.get("grpc-status-details-bin", "")
        status = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
        info = error_details_pb2.ErrorInfo()
        return next((str(info.reason) for detail in status.details if detail.Unpack(info)), "")


class RawConnection:
    """An HTTP/2 connection that sends what it is told to and shows every frame that comes back."""

    def __init__(self, target: str, settings: Sequence[tuple[int, int]] = ()) -> None:
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self._file = self._socket.makefile("rb")
        self._inflater: _Inflater | None = None
        self._socket.sendall(PREFACE)
        self.send(SETTINGS, b"".join(struct.pack(">HI", *setting) for setting in settings))

    def send(self, kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> None:
        self._socket.sendall(frame(kind, payload, flags, stream))

    def send_bytes(self, frames: bytes) -> None:
        self._socket.sendall(frames)

    def send_call(self, stream: int, payload: bytes, *, is_reset: bool) -> None:
        """A whole Score call and, in the same packet, its reset."""
        reset = frame(RST_STREAM, struct.pack(">I", CANCEL), 0, stream) if is_reset else b""
        self._socket.sendall(
            headers_frames(call_headers(), stream=stream) + data_frame(message(payload), END_STREAM, stream) + reset
        )

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """(type, payload) until the server closes."""
        for kind, _, _, payload in self.whole_frames():
            yield kind, payload

    def whole_frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(type, flags, stream, payload) until the server closes."""
        while len(head := self._file.read(9)) == 9:
            payload = self._file.read(int.from_bytes(head[:3], "big"))
            yield head[3], head[4], int.from_bytes(head[5:9], "big"), payload

    def wait_for(self, kind: int) -> bytes:
        """The payload of the next frame of this type. Fails at the connection's end, or after 20 silent seconds."""
        for found, payload in self.frames():
            if found == kind:
                return payload
        raise AssertionError(f"the server closed without a frame of type {kind}")

    def answer(self, stream: int = 1) -> Answer:
        """Reads until the server has ended or reset the stream, or the connection. SETTINGS and PING are answered meanwhile."""
        answer = Answer()
        try:
            for kind, flags, on, payload in self.whole_frames():
                if kind in (SETTINGS, PING) and not flags & ACK:
                    self.send(kind, payload if kind == PING else b"", ACK)
                elif kind == GOAWAY:
                    answer.goaway = goaway_error(payload)[0] or None
                elif kind == HEADERS:
                    assert flags & END_HEADERS
                    fields = self._inflate(payload)
                    if on == stream:
                        answer.headers = answer.headers or fields
                        answer.trailers = fields
                elif kind == DATA and on == stream:
                    answer.body += payload
                elif kind == RST_STREAM and on == stream:
                    answer.reset = int.from_bytes(payload, "big")
                    return answer
                if on == stream and kind in (HEADERS, DATA) and flags & END_STREAM:
                    answer.is_ended = True
                    return answer
        except ConnectionError:
            pass
        return answer

    def half_close(self) -> None:
        """No byte follows."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- implementation ---

    def _inflate(self, block: bytes) -> dict[str, str]:
        if self._inflater is None:
            self._inflater = _Inflater()
        return dict(self._inflater.inflate(block))


# --- implementation ---


def _text(text: str) -> bytes:
    raw = text.encode("latin-1")
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    length, rest = bytearray([127]), len(raw) - 127
    while rest >= 128:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*length, rest]) + raw


class _Field(ctypes.Structure):
    """nghttp2_nv."""

    _fields_ = (
        ("name", ctypes.POINTER(ctypes.c_char)),
        ("value", ctypes.POINTER(ctypes.c_char)),
        ("name_bytes", ctypes.c_size_t),
        ("value_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_uint8),
    )


class _Inflater:
    """nghttp2_hd_inflater: the table that header blocks of one connection share."""

    _FINAL, _EMIT = 1, 2

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libnghttp2.so.14")
        self._library.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
        self._inflater = ctypes.c_void_p()
        assert self._library.nghttp2_hd_inflate_new(ctypes.byref(self._inflater)) == 0

    def __del__(self) -> None:
        self._library.nghttp2_hd_inflate_del(self._inflater)

    def inflate(self, block: bytes) -> Iterator[tuple[str, str]]:
        found, flags = _Field(), ctypes.c_int(0)
        while not flags.value & self._FINAL:
            size = self._library.nghttp2_hd_inflate_hd2(
                self._inflater, ctypes.byref(found), ctypes.byref(flags), block, ctypes.c_size_t(len(block)), 1
            )
            assert size >= 0, "a header block that is not HPACK"
            block = block[size:]
            if flags.value & self._EMIT:
                yield found.name[: found.name_bytes].decode(), found.value[: found.value_bytes].decode("latin-1")
        self._library.nghttp2_hd_inflate_end_headers(self._inflater)
