"""Protobuf bytes by hand: what generated code would never write (overlong varints, wrong wire types, groups, split messages)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, DELIMITED, START_GROUP, END_GROUP, FIXED32 = range(6)


def varint(value: int, size: int = 1) -> bytes:
    """`value` (any int64 or uint64) in at least `size` bytes. Sizes past the shortest make it overlong."""
    value &= (1 << 64) - 1
    out = bytearray()
    while True:
        is_last = value < 0x80 and len(out) + 1 >= size
        out.append((value & 0x7F) | (0 if is_last else 0x80))
        value >>= 7
        if is_last:
            return bytes(out)


def tag(number: int, wire_type: int, size: int = 1) -> bytes:
    return varint(number << 3 | wire_type, size)


def number(field: int, value: int, *, tag_size: int = 1, size: int = 1) -> bytes:
    return tag(field, VARINT, tag_size) + varint(value, size)


def delimited(field: int, payload: bytes, *, tag_size: int = 1, length_size: int = 1) -> bytes:
    return tag(field, DELIMITED, tag_size) + varint(len(payload), length_size) + payload


def text(field: int, value: str) -> bytes:
    return delimited(field, value.encode())


def fixed64(field: int, value: float) -> bytes:
    return tag(field, FIXED64) + struct.pack("<d", value)


def fixed32(field: int, payload: bytes) -> bytes:
    return tag(field, FIXED32) + payload


def group(field: int, content: bytes, *, end_field: int | None = None) -> bytes:
    return tag(field, START_GROUP) + content + tag(field if end_field is None else end_field, END_GROUP)


# --- assay.v1 ---


def timestamp(seconds: int, nanos: int = 0) -> bytes:
    """The payload of a Timestamp or a Duration, zeros written too."""
    return number(1, seconds) + number(2, nanos)


def double_value(value: float) -> bytes:
    """The payload of a FeatureValue, as the three below."""
    return fixed64(1, value)


def int64_value(value: int) -> bytes:
    return number(2, value)


def bool_value(value: int) -> bytes:
    return number(3, value)


def string_value(value: str | bytes) -> bytes:
    return delimited(4, value.encode() if isinstance(value, str) else value)


def entity(name: str | bytes, entity_id: str | bytes) -> bytes:
    """One entry of ScoreRequest.entities (and of Event.entities)."""
    return delimited(3, _entry(name, entity_id.encode() if isinstance(entity_id, str) else entity_id))


def feature(name: str | bytes, value: bytes) -> bytes:
    """One entry of ScoreRequest.features; `value` is the payload of a FeatureValue."""
    return delimited(4, _entry(name, value))


def _entry(name: str | bytes, value: bytes) -> bytes:
    return delimited(1, name.encode() if isinstance(name, str) else name) + delimited(2, value)


# --- reading ---


class Field(NamedTuple):
    number: int
    wire_type: int
    payload: bytes  # of a DELIMITED field, else empty


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message that google.protobuf accepted; groups are passed over."""
    at = 0
    open_groups = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        wire_type, payload = key & 7, b""
        if wire_type == VARINT:
            _, at = _read_varint(message, at)
        elif wire_type == DELIMITED:
            length, at = _read_varint(message, at)
            payload = message[at : at + length]
            at += length
        elif wire_type in (FIXED32, FIXED64):
            at += 4 if wire_type == FIXED32 else 8
        else:
            open_groups += 1 if wire_type == START_GROUP else -1
        if open_groups == 0:
            yield Field(key >> 3, wire_type, payload)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
