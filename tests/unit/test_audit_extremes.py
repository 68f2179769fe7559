"""Whatever numbers stand in a record that the log's reader takes, each sink can be given it: one odd record must not stop all
that come after it."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hiredis
import orjson
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from assay.audit import kafka_sink, redis_sink
from assay.audit.exports import check_export
from assay.audit.jsonl_sink import JsonlSink
from assay.audit.kafka_sink import KafkaSink
from assay.audit.redis_sink import RedisSink
from assay.audit.segments import LogDirectory
from assay.audit.shipped import read_shipped
from assay.audit.shipping import Shipper
from assay.audit.verifying import verify_log
from assay.features.redis_servers import Part
from assay.store_url import parse_store_url
from assay.v1 import audit_pb2
from tests.support.audit_logs import RawSegment, label, spool_with_key

LOG_ID = b"log-of-the-tests"
KINDS = [field.name for field in audit_pb2.AuditRecord.DESCRIPTOR.oneofs_by_name["kind"].fields]
F = FieldDescriptor
BOUNDS = {
    F.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    F.CPPTYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
    F.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    F.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    F.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    F.CPPTYPE_DOUBLE: (float("-inf"), float("nan")),
    F.CPPTYPE_FLOAT: (float("-inf"), float("nan")),
    F.CPPTYPE_STRING: ("", "\0\N{DELETE}\N{LINE SEPARATOR}\U0010ffff"),
    F.CPPTYPE_BOOL: (False, True),
}
BYTES = (b"", b"\xff" * 300)
TIMES_US = (-(1 << 63), -(1 << 62), -1, 0, 1 << 62, (1 << 63) - 1)


def filled(message: Message, end: int) -> None:
    """Every field of it, and of what it holds, at one end of what it can be; those that repeat ten times."""
    for field in message.DESCRIPTOR.fields:
        if field.cpp_type == F.CPPTYPE_MESSAGE:
            for _ in range(10 if field.is_repeated else 1):
                inner = getattr(message, field.name)
                filled(inner.add() if field.is_repeated else inner, end)
            continue
        value: Any = (BYTES if field.type == F.TYPE_BYTES else BOUNDS[field.cpp_type])[end]
        if field.is_repeated:
            getattr(message, field.name).extend([value] * 10)
        else:
            setattr(message, field.name, value)


def extreme(kind: str, end: int) -> bytes:
    record = audit_pb2.AuditRecord()
    getattr(record, kind).SetInParent()
    filled(getattr(record, kind), end)
    return record.SerializeToString()


class Producer:
    """Of Kafka: what it was given."""

    def __init__(self, _: Any) -> None:
        self.json: list[bytes] = []

    def deliver(self, messages: Sequence[Any]) -> None:
        for topic, key, value, headers in messages:
            assert (topic, bool(key), headers[0][0]) == ("t", True, "assay_id")
            self.json.append(value)

    def close(self) -> None: ...


class Servers:
    """Of Redis: one."""

    def split(self, keys: Sequence[bytes]) -> list[Part]:
        client: Any = object()
        return [Part("here", client, list(keys), [0])]

    def close(self) -> None: ...


def into_files(spool: Path, _: pytest.MonkeyPatch) -> list[bytes]:
    ship(spool, JsonlSink(spool / "out"))
    return [line for path in sorted((spool / "out").glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def into_redis(spool: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    found = []

    def answers(_: Part, commands: Sequence[Any]) -> list[Any]:
        for command in commands:
            assert hiredis.pack_command(command)
            found.extend([command[-1]] if command[0] == "XADD" else [])
        return [b"" for _ in commands]

    monkeypatch.setattr(redis_sink, "_answers", answers)
    url = parse_store_url("redis://here?stream=s")
    assert url is not None
    servers: Any = Servers()
    ship(spool, RedisSink(servers, b"s", url))
    return found


def into_kafka(spool: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    monkeypatch.setattr(kafka_sink, "MessageProducer", Producer)
    connection: Any = None
    sink = KafkaSink(connection, "t")
    producer: Any = sink._producer
    ship(spool, sink)
    found: list[bytes] = producer.json
    return found


def ship(spool: Path, sink: Any) -> None:
    shipper = Shipper(spool, sink, threading.Event())
    shipper.run_once(give_up_s=0)
    shipper.close()


SINKS = pytest.mark.parametrize("into", [into_files, into_redis, into_kafka])
Into = Callable[[Path, pytest.MonkeyPatch], list[bytes]]


@SINKS
@pytest.mark.parametrize("end", [0, 1], ids=["least", "most"])
def test_every_number_of_every_record(into: Into, end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The lineage first and last: scores refer to it by its number, which is at its end too.
    kinds = ["lineage", *KINDS]
    RawSegment(1, LOG_ID).add([extreme(kind, end) for kind in kinds]).write(spool_with_key(tmp_path))
    documents = [json.loads(line) for line in into(tmp_path, monkeypatch)]
    assert [document["type"] for document in documents] == kinds
    assert read_shipped(tmp_path / "writer-0") == len(kinds)


def test_numbers_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = {"int64": "<q", "float64": "<d", "int32": "<i"}
    values = [("int64", -(1 << 63)), ("int64", (1 << 63) - 1), ("float64", 1.7976931348623157e308), ("int32", -(1 << 31))]
    lineage, row = audit_pb2.LineageRecord(number=3), b""
    for place, (form, value) in enumerate(values):
        lineage.inputs.add(name=f"i{place}", type=form, offset_bytes=len(row))
        row += struct.pack(forms[form], value)
    lineage.row_bytes = len(row)
    score = audit_pb2.ScoreRecord(lineage=3, row=row)
    records = [audit_pb2.AuditRecord(lineage=lineage), audit_pb2.AuditRecord(score=score)]
    RawSegment(1, LOG_ID).add([record.SerializeToString() for record in records]).write(spool_with_key(tmp_path))
    found = json.loads(into_files(tmp_path, monkeypatch)[1])
    assert list(found["inputs"].values()) == [value for _, value in values]


@SINKS
def test_times_that_are_none(into: Into, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = RawSegment(1, LOG_ID)
    for written_us in TIMES_US:
        segment.add([label("a")], written_us)
    segment.write(spool_with_key(tmp_path))
    found = into(tmp_path, monkeypatch)
    assert sorted(json.loads(line)["sequence"] for line in found) == list(range(1, len(TIMES_US) + 1))


def test_files_of_times_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = RawSegment(1, LOG_ID)
    for written_us in (*TIMES_US, -62_135_596_800_000_000, 253_402_300_799_999_999):
        segment.add([label("a")], written_us)
    segment.write(spool_with_key(tmp_path))
    into_files(tmp_path, monkeypatch)
    names = {path.name for path in (tmp_path / "out").glob("*.jsonl")}
    first_and_last = {"0001-01-01T00.jsonl", "9999-12-31T23.jsonl"}
    assert names == {"no-date.jsonl", "1969-12-31T23.jsonl", "1970-01-01T00.jsonl"} | first_and_last
    assert check_export(tmp_path / "out").is_whole


@SINKS
@pytest.mark.parametrize("first", [(1 << 63) - 2, (1 << 64) - 3, (1 << 64) - 2, (1 << 64) - 1])
def test_sequences_at_the_end_of_what_a_log_counts(
    into: Into, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RawSegment(first, LOG_ID).add([label("a"), label("b"), label("c")]).write(spool_with_key(tmp_path))
    found = into(tmp_path, monkeypatch)
    assert [int(json.loads(line)["sequence"]) for line in found] == [first, first + 1, first + 2]


@pytest.mark.parametrize("first", [(1 << 64) - 3, (1 << 64) - 1])
def test_a_report_of_such_sequences_is_json(first: int, tmp_path: Path) -> None:
    log = spool_with_key(tmp_path)
    path = RawSegment(first, LOG_ID).add([label("a")] * 3).write(log)
    report = verify_log(LogDirectory(log))
    assert json.loads(orjson.dumps(report.document()))["records"] == report.records > 0
    path.write_bytes(path.read_bytes()[:-3])  # and of a finding about one
    assert json.loads(orjson.dumps(verify_log(LogDirectory(log)).document()))["findings"]


@pytest.mark.parametrize("first", [(1 << 64) - 3, (1 << 64) - 2])
def test_sequences_beyond_what_a_log_counts_are_found_in_files(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No log that assay writes comes so far: somebody made this one."""
    RawSegment(first, LOG_ID).add([label("a"), label("b"), label("c")]).write(spool_with_key(tmp_path))
    into_files(tmp_path, monkeypatch)
    with (tmp_path / "out" / "1970-01-01T00.jsonl").open("a") as file:
        file.write(f'{{"writer":"writer-0","log_id":"{LOG_ID.hex()}","sequence":"{first + 4}"}}\n')
    report = check_export(tmp_path / "out")
    (log,) = report.logs
    assert (log.records, log.first, log.last, log.gaps) == (4, first, first + 4, [(first + 3, first + 3)])
    assert json.loads(orjson.dumps(report.document()))["logs"][0]["last_sequence"] == str(first + 4)
