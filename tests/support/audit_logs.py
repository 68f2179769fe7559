"""Audit logs for tests: written by the core, and segments built here byte by byte, as docs/audit-format.md has them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay import _core
from assay.v1 import audit_pb2

KEY = bytes(range(32))
HEADER_BYTES, BLOCK_HEADER_BYTES, CHAIN_BYTES = 128, 32, 32
SPOOL_BYTES = 16 << 20  # segments of 1 MiB
SCORE_BYTES = 800  # of padded(), roughly


def open_log(directory: Path, **options: Any) -> _core.AuditLog:
    """Without a thread: step() writes what was appended, as one block or few."""
    directory.mkdir(parents=True, exist_ok=True)
    defaults = {"key": KEY, "level": _core.AUDIT_LEVELS["spool"], "bytes_max": SPOOL_BYTES, "threads": False}
    return _core.AuditLog(directory=str(directory), **{**defaults, **options})


def spool_with_key(directory: Path) -> Path:
    """Of a spool directory: writer-0 in it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "key").write_bytes(KEY)
    (directory / "key").chmod(0o600)
    return directory / "writer-0"


def label(transaction_id: str, padding: int = 0) -> bytes:
    """A record of any size."""
    found = audit_pb2.LabelRecord(transaction_id=transaction_id, event_time_us=1, is_fraud=True)
    return audit_pb2.AuditRecord(label=found).SerializeToString() + _unknown_field(padding)


def append(log: _core.AuditLog, records: Iterable[bytes], per_block: int = 10) -> None:
    for number, record in enumerate(records, 1):
        assert log.append_record(record)
        if number % per_block == 0:
            log.step()
    log.step()


def write_log(directory: Path, count: int, *, padding: int = SCORE_BYTES, **options: Any) -> None:
    """A log that was ended in order: `count` labels t1, t2 ... between a checkpoint at the start and one at the end."""
    log = open_log(directory, **options)
    append(log, (label(f"t{number}", padding) for number in range(1, count + 1)))
    log.close()


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.audit"))


# --- segments, by hand


@dataclass(frozen=True)
class RawBlock:
    first_sequence: int
    written_us: int
    records: list[bytes]
    chain: bytes  # after it
    offset: int
    size: int


@dataclass
class RawSegment:
    """A segment taken apart, or to be built: its own reader and writer, which share nothing with the core's but CRC-32C."""

    first_sequence: int
    log_id: bytes
    key_id: bytes = bytes(8)
    chain: bytes = bytes(32)
    made_us: int = 0
    blocks: list[RawBlock] = field(default_factory=list)

    @classmethod
    def parse(cls, data: bytes) -> RawSegment:
        """Asserts that all of it is well."""
        magic, form, size, first, made_us, log_id, key_id, zero, chain, zeros, crc = struct.unpack_from(
            "<8sIIQq16s8s8s32s28sI", data
        )
        assert (magic, form, size, zero, zeros) == (b"ASAYAUD1", 1, HEADER_BYTES, bytes(8), bytes(28))
        assert crc == _core.crc32c(data[:124])
        found = cls(first, log_id, key_id, chain, made_us)
        offset, sequence = HEADER_BYTES, first
        while data[offset : offset + 4] == b"ABLK":
            block = _parse_block(data, offset, chain)
            assert block.first_sequence == sequence
            found.blocks.append(block)
            offset, sequence, chain = offset + block.size, sequence + len(block.records), block.chain
        assert not any(data[offset:]), "something stands behind the last block"
        return found

    def add(self, records: Sequence[bytes], written_us: int = 0) -> RawSegment:
        before = self.blocks[-1] if self.blocks else None
        sequence = before.first_sequence + len(before.records) if before else self.first_sequence
        chain = before.chain if before else self.chain
        offset = before.offset + before.size if before else HEADER_BYTES
        data, after = encode_block(sequence, records, written_us, chain)
        self.blocks.append(RawBlock(sequence, written_us, list(records), after, offset, len(data)))
        return self

    def encode(self) -> bytes:
        header = struct.pack(
            "<8sIIQq16s8s8s32s28s",
            b"ASAYAUD1",
            1,
            HEADER_BYTES,
            self.first_sequence,
            self.made_us,
            self.log_id,
            self.key_id,
            bytes(8),
            self.chain,
            bytes(28),
        )
        parts = [header + struct.pack("<I", _core.crc32c(header))]
        chain = self.chain
        for block in self.blocks:
            data, chain = encode_block(block.first_sequence, block.records, block.written_us, chain)
            parts.append(data)
        return b"".join(parts)

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.first_sequence:020d}.audit"
        path.write_bytes(self.encode())
        return path

    @property
    def next(self) -> RawSegment:
        """The one that follows, empty."""
        last = self.blocks[-1]
        return RawSegment(last.first_sequence + len(last.records), self.log_id, self.key_id, last.chain, self.made_us + 1)


def blake2bp(data: bytes) -> bytes:
    """The first 32 bytes of BLAKE2bp: four leaves over interleaved blocks of 128 bytes, and a root over what they give."""
    tree = {"digest_size": 64, "fanout": 4, "depth": 2, "inner_size": 64}
    leaves = []
    for lane in range(4):
        part = b"".join(data[at : at + 128] for at in range(128 * lane, len(data), 512))
        leaves.append(hashlib.blake2b(part, node_offset=lane, node_depth=0, last_node=lane == 3, **tree).digest())
    root = hashlib.blake2b(b"".join(leaves), node_offset=0, node_depth=1, last_node=True, **tree)
    return root.digest()[:CHAIN_BYTES]


def encode_block(sequence: int, records: Sequence[bytes], written_us: int, chain: bytes) -> tuple[bytes, bytes]:
    """(the block, the chain after it)."""
    payload = b"".join(_varint(len(record)) + record for record in records)
    body = struct.pack("<4sIQIIq", b"ABLK", len(payload), sequence, len(records), 0, written_us) + payload
    after = blake2bp(chain + body)
    data = body + after
    data += struct.pack("<I", _core.crc32c(data))
    return data + bytes(-len(data) % 8), after


# --- implementation ---


def _parse_block(data: bytes, offset: int, chain: bytes) -> RawBlock:
    _, payload_bytes, sequence, count, zero, written_us = struct.unpack_from("<4sIQIIq", data, offset)
    end = offset + BLOCK_HEADER_BYTES + payload_bytes
    records = list(_records(data[offset + BLOCK_HEADER_BYTES : end]))
    after = data[end : end + CHAIN_BYTES]
    assert zero == 0
    assert count == len(records)
    assert after == blake2bp(chain + data[offset:end])
    (crc,) = struct.unpack_from("<I", data, end + CHAIN_BYTES)
    assert crc == _core.crc32c(data[offset : end + CHAIN_BYTES])
    size = end + CHAIN_BYTES + 4 - offset
    return RawBlock(sequence, written_us, records, after, offset, size + -size % 8)


def _records(payload: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(payload):
        size = shift = 0
        while True:
            byte = payload[place]
            place += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield payload[place : place + size]
        place += size


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _unknown_field(size: int) -> bytes:
    """A field that no version knows: room."""
    return _varint(1000 << 3 | 2) + _varint(size) + b"x" * size if size else b""
