"""Records of the audit log as JSON say what google.protobuf's own JSON and NumPy say of the same bytes."""

from __future__ import annotations

import base64
import hashlib
import math
import string
from typing import Any

import numpy as np
import orjson
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from assay._core import AuditBlock
from assay.audit.reading import LogBlock
from assay.audit.records import TYPES, Decoder, Entry, document, line, names_of_bits, time_text
from assay.audit.replaying import decide, digest_of, pack_row
from assay.v1 import audit_pb2, scoring_pb2
from tests.support.audit_logs import KEY

DTYPES = {"float32": "<f4", "float64": "<f8", "int32": "<i4", "int64": "<i8", "bool": "?"}
TIMES_US = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)  # the years 0001 to 9999
NAMES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def lineages(draw: st.DrawFn) -> audit_pb2.LineageRecord:
    names = draw(st.lists(NAMES, min_size=1, max_size=70, unique=True))
    found = audit_pb2.LineageRecord(
        number=draw(st.integers(1, 1 << 31)), views=draw(st.lists(NAMES, max_size=4)), runtime="r, cpu"
    )
    offset = 0
    inputs = []
    for name in names:
        dtype = draw(st.sampled_from(sorted(DTYPES)))
        offset += -offset % draw(st.sampled_from((1, 8)))
        inputs.append(audit_pb2.AuditInput(name=name, type=dtype, offset_bytes=offset))
        offset += np.dtype(DTYPES[dtype]).itemsize
    found.inputs.extend(draw(st.permutations(inputs)))  # of several tensors: not in order of the row
    found.row_bytes = offset + -offset % 8
    for score, decision in zip(sorted(draw(st.lists(FINITE, max_size=3))), (2, 3, 4), strict=False):
        found.thresholds.add(decision=decision, score=score)
    found.provenance.model, found.provenance.version = draw(NAMES), "1"
    return found


@st.composite
def scores(draw: st.DrawFn, lineage: audit_pb2.LineageRecord) -> audit_pb2.ScoreRecord:
    bits = st.binary(min_size=16, max_size=16)
    found = audit_pb2.ScoreRecord(
        lineage=lineage.number,
        transaction_id=draw(st.text(max_size=20)),
        event_time_us=draw(TIMES_US),
        received_us=draw(TIMES_US),
        score=draw(FINITE),
        decision=draw(st.sampled_from(scoring_pb2.Decision.values())),
        missing=draw(st.one_of(st.just(b""), bits)),
        imputed=draw(st.one_of(st.just(b""), bits)),
        stage_ns=draw(st.lists(st.integers(0, 1 << 50), min_size=5, max_size=5)),
        batch_rows=draw(st.integers(0, 4096)),
        trace_id=draw(st.one_of(st.just(b""), bits)),
        priority=draw(st.sampled_from(scoring_pb2.Priority.values())),
        call=draw(st.sampled_from(audit_pb2.AuditCall.values())),
        is_tokenised=draw(st.booleans()),
    )
    if draw(st.booleans()):
        row = bytearray(draw(st.binary(min_size=lineage.row_bytes, max_size=lineage.row_bytes)))
        for item in lineage.inputs:
            if item.type == "bool":
                row[item.offset_bytes] &= 1
        found.row = bytes(row)
    else:
        found.row_digest = draw(bits)
    for view in range(len(lineage.views)):
        kind = draw(st.sampled_from(scoring_pb2.DegradationKind.values()))
        found.degradations.add(view=view, kind=kind, reason=draw(st.sampled_from(["", "RECORD_CHECKSUM"])), cache_age_us=view)
    return found


def entry_of(record: audit_pb2.AuditRecord, *before: audit_pb2.AuditRecord) -> Entry:
    data = [item.SerializeToString() for item in (*before, record)]
    block = LogBlock(AuditBlock(7, 1_700_000_000_000_001, 128, b"c" * 32, data), 1, b"b" * 32, b"l" * 16, b"k" * 8)
    return list(Decoder("writer-0").entries(block))[-1]


def word(text: str, prefix: str) -> str:
    assert text.startswith(prefix)
    return text.removeprefix(prefix).lower()


@given(st.data())
def test_a_score_says_what_protobuf_and_numpy_say(data: st.DataObject) -> None:
    lineage = data.draw(lineages())
    score = data.draw(scores(lineage))
    kind = data.draw(st.sampled_from(["score", "shadow"]))
    entry = entry_of(audit_pb2.AuditRecord(**{kind: score}), audit_pb2.AuditRecord(lineage=lineage))
    found: dict[str, Any] = orjson.loads(orjson.dumps(document(entry)))
    theirs = json_format.MessageToDict(score, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)

    assert (found["type"], found["sequence"], found["writer"]) == (kind, 8, "writer-0")
    for name in ("transaction_id", "is_tokenised", "batch_rows"):
        assert found[name] == theirs[name]
    assert found["score"] == score.score
    assert found["decision"] == word(theirs["decision"], "DECISION_")
    assert found["priority"] == word(theirs["priority"], "PRIORITY_")
    assert found["call"] == word(theirs["call"], "AUDIT_CALL_")
    for name in ("event_time", "received"):
        assert np.datetime64(found[name].removesuffix("Z"), "us").astype(np.int64) == int(theirs[f"{name}_us"])
    assert list(found["stages_ms"].values()) == [int(ns) / 1e6 for ns in theirs["stage_ns"]]
    assert [item["kind"] for item in found["degradations"]] == [
        word(item["kind"], "DEGRADATION_KIND_") for item in theirs["degradations"]
    ]
    assert [item["view"] for item in found["degradations"]] == list(lineage.views)
    for name in ("missing", "imputed"):
        bits = np.unpackbits(np.frombuffer(getattr(score, name), np.uint8), bitorder="little")
        assert found[name] == [item.name for item, bit in zip(lineage.inputs, bits, strict=False) if bit]
    assert base64.b64decode(found["row"] or "") == score.row
    assert bytes.fromhex(found["row_digest"] or "") == score.row_digest
    if not score.row:
        assert found["inputs"] is None
        return
    for item in lineage.inputs:
        (value,) = np.frombuffer(score.row, np.dtype(DTYPES[item.type]), 1, item.offset_bytes)
        shown = found["inputs"][item.name]
        if item.type.startswith("float") and not np.isfinite(value):
            assert shown == (None if np.isnan(value) else "Infinity" if value > 0 else "-Infinity")
        else:
            assert np.array(shown, value.dtype).tobytes() == value.tobytes(), "a number does not survive JSON"
    assert list(found["inputs"]) == [item.name for item in lineage.inputs]


@given(st.data())
def test_a_row_can_be_packed_from_its_inputs_again(data: st.DataObject) -> None:
    lineage = data.draw(lineages())
    score = data.draw(scores(lineage))
    inputs = {}
    row = bytearray(lineage.row_bytes)
    for item in lineage.inputs:
        dtype = np.dtype(DTYPES[item.type])
        raw = np.frombuffer(data.draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize)), dtype)
        value: Any = raw[0].item() if item.type != "bool" else bool(raw.view(np.uint8)[0] & 1)
        if isinstance(value, float) and math.isinf(value):
            value = 1.5
        inputs[item.name] = None if isinstance(value, float) and math.isnan(value) else value
        row[item.offset_bytes : item.offset_bytes + dtype.itemsize] = np.array(
            np.nan if inputs[item.name] is None else value, dtype
        ).tobytes()
    packed = pack_row(inputs, lineage)
    assert packed == bytes(row)
    words = score.missing or bytes((len(lineage.inputs) + 63) // 64 * 8)
    assert digest_of(packed, score, lineage, KEY) == hashlib.blake2b(packed + words, digest_size=16, key=KEY).digest()


@given(lineages(), FINITE)
def test_a_decision_is_that_of_the_highest_threshold_that_the_score_reaches(
    lineage: audit_pb2.LineageRecord, score: float
) -> None:
    reached = [item.decision for item in lineage.thresholds if score >= item.score]
    assert decide(score, lineage) == (reached[-1] if reached else scoring_pb2.DECISION_APPROVE)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_of_some_kind_or_none(data: bytes) -> None:
    block = LogBlock(AuditBlock(1, 2, 128, b"c" * 32, [data]), 1, b"b" * 32, b"l" * 16, b"k" * 8)
    (entry,) = Decoder("writer-0").entries(block)
    assert entry.type in ("", *TYPES)
    orjson.dumps(document(entry))
    assert "\n" not in line(entry) or "\n" in entry.transaction_id + "".join(entry.record.explanation.reason_codes)


@given(st.binary(max_size=16), st.integers(1, 70))
def test_bits_name_inputs(bits: bytes, count: int) -> None:
    lineage = audit_pb2.LineageRecord(inputs=[audit_pb2.AuditInput(name=str(number)) for number in range(count)])
    expected = [str(n) for n in range(count) if n // 8 < len(bits) and bits[n // 8] >> n % 8 & 1]
    assert names_of_bits(bits, lineage) == expected


@given(TIMES_US)
def test_times_have_microseconds_and_a_zone(time_us: int) -> None:
    text = time_text(time_us)
    assert text == str(np.datetime64(time_us, "us")) + "Z"
