"""The core's decoder against google.protobuf (upb): the same messages accepted, the same values found, the same things wrong.

What a request means once it is parsed is written a second time here, slowly and from generated messages (`expected`), so a
difference in any trap of the format shows as another verdict. Left out: values where a map entry holds an unknown field; upb
drops the entry there, while the specification keeps it, and so does the core.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from typing import NamedTuple

import pytest
from google.protobuf import timestamp_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import _core
from assay.v1 import feature_pb2, scoring_pb2
from tests.support import wire

SCALE = int(os.environ.get("ASSAY_TEST_SCALE", "1"))
REASONS = {row.number: row.reason for row in _core.CODE_TABLE}

ENTITIES = ("customer_id", "terminal_id")
AMOUNT_MAX = 10**9
ALTITUDE_MAX = 1e16  # past the integers that float64 holds all of
EXACT_INTEGER_MAX = 2**53
Message = scoring_pb2.ScoreRequest | feature_pb2.Event


def make_plan() -> _core.FeaturePlan:
    """A feature of every type, altitude accepts integers; amount_minor is required and stored by a view of customer_id."""
    builder = _core.PlanBuilder("decoder", "1", "ab" * 32)
    customer, _ = (builder.entity(name) for name in ENTITIES)
    dtypes = _core.DTYPES
    amount = builder.request_feature("amount_minor", dtypes["int64"], required=True, minimum=0, maximum=AMOUNT_MAX)
    builder.request_feature("ratio", dtypes["float64"], required=False, minimum=-1.0, maximum=1.0)
    builder.request_feature("is_online", dtypes["bool"], required=False)
    builder.request_feature("merchant", dtypes["string"], required=False)
    builder.request_feature("altitude", dtypes["float64"], required=False, accept_int=True, minimum=-ALTITUDE_MAX)
    view = builder.window_view(
        "customer",
        customer,
        bytes(range(32)),
        delay_us=0,
        uses_labels=False,
        includes_current=True,
        exact_events_max=256,
        lateness_us=0,
    )
    column = builder.column_of_feature(view, amount)
    average = builder.aggregate(view, _core.AGGREGATES["avg"], column, 86_400_000_000)
    node = builder.view_node(view, average, "average")
    tensor = builder.tensor("x", _core.TENSOR_TYPES["float64"], 1)
    builder.model_input("average", node, tensor, 0, _core.WHEN_NULL["nan"])
    return builder.build()


PLAN = make_plan()


# --- what should be found ---


class Verdict(NamedTuple):
    """Either the values, or the reasons and fields that are wrong (None: the bytes are not a message)."""

    values: tuple[object, ...] | None
    violations: frozenset[tuple[str, str]] | None


MALFORMED = Verdict(None, None)


def time_us(message: Message) -> int | None:
    return micros(message.event_time)


def micros(time: timestamp_pb2.Timestamp) -> int | None:
    """Microseconds since 1970, floored; None: outside the years 1 to 9999, or nanos outside a second."""
    seconds, nanos = time.seconds, time.nanos
    if not (-62135596800 <= seconds <= 253402300799 and 0 <= nanos < 10**9):
        return None
    return (seconds * 10**9 + nanos) // 1000


def value_reason(name: str, value: scoring_pb2.FeatureValue) -> str | None:
    """Why a declared feature's value must be refused."""
    member = value.WhichOneof("value")
    if member is None:
        return "VALUE_UNSET"
    expected = {"amount_minor": "int64_value", "ratio": "double_value", "is_online": "bool_value", "merchant": "string_value"}
    if name == "altitude":
        return altitude_reason(value, member)
    if member != expected[name]:
        return "WRONG_TYPE"
    if name == "ratio" and not math.isfinite(value.double_value):
        return "NOT_FINITE"
    if name == "ratio" and not -1 <= value.double_value <= 1:
        return "OUT_OF_RANGE"
    if name == "amount_minor" and not 0 <= value.int64_value <= AMOUNT_MAX:
        return "OUT_OF_RANGE"
    if name == "merchant" and len(value.string_value.encode()) > 256:
        return "TOO_LONG"
    return None


def altitude_reason(value: scoring_pb2.FeatureValue, member: str) -> str | None:
    """Of the float64 that accepts integers."""
    if member == "int64_value":
        return None if abs(value.int64_value) <= EXACT_INTEGER_MAX else "OUT_OF_RANGE"
    if member != "double_value":
        return "WRONG_TYPE"
    if not math.isfinite(value.double_value):
        return "NOT_FINITE"
    return None if value.double_value >= -ALTITUDE_MAX else "OUT_OF_RANGE"


def id_reason(value: str) -> str | None:
    return None if 1 <= len(value.encode()) <= 128 else "TOO_LONG" if value else "MISSING"


def feature_violations(message: Message, is_event: bool) -> set[tuple[str, str]]:
    found = set()
    for name in message.features:
        if name not in PLAN.feature_names:
            found.add(("UNKNOWN_FEATURE", "features"))
        elif reason := value_reason(name, message.features[name]):
            found.add((reason, f'features["{name}"]'))
    # The view that stores amount_minor is one of customer_id: an event that does not name a customer may leave it out, and a
    # label.
    needs_amount = not is_event or (bool(message.entities.get("customer_id")) and not message.is_label)
    if needs_amount and "amount_minor" not in message.features:
        found.add(("MISSING_FEATURE", 'features["amount_minor"]'))
    return found


def entity_violations(message: Message, is_event: bool) -> set[tuple[str, str]]:
    found = set()
    for name in message.entities:
        if name not in ENTITIES:
            found.add(("UNKNOWN_ENTITY", "entities"))
    for name in ENTITIES:
        if name in message.entities:
            if reason := id_reason(message.entities[name]):
                found.add((reason.replace("MISSING", "MISSING_ENTITY"), f'entities["{name}"]'))
        elif not is_event:
            found.add(("MISSING_ENTITY", f'entities["{name}"]'))
    if is_event and not any(name in message.entities for name in ENTITIES):
        found.add(("MISSING_ENTITY", "entities"))
    return found


def violations(message: Message) -> frozenset[tuple[str, str]]:
    is_event = isinstance(message, feature_pb2.Event)
    found = entity_violations(message, is_event) | feature_violations(message, is_event)
    if reason := id_reason(message.transaction_id):
        found.add((reason.replace("MISSING", "MISSING_FIELD"), "transaction_id"))
    if not message.HasField("event_time"):
        found.add(("MISSING_FIELD", "event_time"))
    elif time_us(message) is None:
        found.add(("BAD_TIMESTAMP", "event_time"))
    if isinstance(message, feature_pb2.Event):
        found |= label_violations(message)
    return frozenset(found)


def label_violations(event: feature_pb2.Event) -> set[tuple[str, str]]:
    label_us = micros(event.label_time)
    is_bad = event.HasField("label_time") and label_us is None
    is_early = event.HasField("label_time") and label_us is not None and label_us < (micros(event.event_time) or 0)
    found = {("BAD_TIMESTAMP", "label_time")} if is_bad or is_early else set()
    if (event.is_label or (event.HasField("label_time") and not is_bad)) and not event.HasField("is_fraud"):
        found.add(("MISSING_FIELD", "is_fraud"))
    if event.is_label and not event.HasField("label_time"):
        found.add(("MISSING_FIELD", "label_time"))
    return found


def scalar(name: str, value: scoring_pb2.FeatureValue) -> object:
    found = getattr(value, value.WhichOneof("value") or "")
    return float(found) + 0.0 if isinstance(found, float) or name == "altitude" else found


def values(message: Message) -> tuple[object, ...]:
    common = (
        message.transaction_id,
        time_us(message),
        dict(message.entities),
        {name: (type(scalar(name, value)), repr(scalar(name, value))) for name, value in message.features.items()},
    )
    if isinstance(message, feature_pb2.Event):
        is_fraud = message.is_fraud if message.HasField("is_fraud") else None
        label_time = micros(message.label_time) if message.HasField("label_time") else None
        return (*common, is_fraud, "", "", 0, False, False, message.is_label, label_time)
    asked = (message.model, message.version, message.priority, message.include_features, message.include_timings)
    return (*common, None, *asked, False, None)


def expected(data: bytes, message_type: type[Message]) -> Verdict:
    message = message_type()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return MALFORMED
    found = violations(message)
    return Verdict(None, found) if found else Verdict(values(message), frozenset())


# --- what is found ---


def bad_request(refusal: _core.Refusal) -> error_details_pb2.BadRequest:
    status = status_pb2.Status.FromString(refusal.rpc_status)
    found = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(found)
    return found


def actual(data: bytes, message_type: type[Message]) -> Verdict:
    decode = PLAN.decode_event if message_type is feature_pb2.Event else PLAN.decode_score_request
    result = decode(data)
    if isinstance(result, _core.Refusal):
        if REASONS[result.code] == "MALFORMED_MESSAGE":
            return MALFORMED
        listed = set()
        for violation in bad_request(result).field_violations:
            is_unknown = violation.reason.startswith("UNKNOWN_")
            listed.add((violation.reason, violation.field.partition("[")[0] if is_unknown else violation.field))
        return Verdict(None, frozenset(listed))
    features = {name: (type(value), repr(value)) for name, value in result.features.items()}
    return Verdict((*result[:3], features, *result[4:]), frozenset())


def has_odd_entry(data: bytes) -> bool:
    """A map entry holds a field other than its key and value: upb and the specification part ways."""
    known = {(1, wire.DELIMITED), (2, wire.DELIMITED)}
    entries = (one.payload for one in wire.fields(data) if one.wire_type == wire.DELIMITED and one.number in (3, 4))
    return any((one.number, one.wire_type) not in known for entry in entries for one in wire.fields(entry))


def check(data: bytes, message_type: type[Message]) -> Verdict:
    """Holds the core against the oracle and returns what both found."""
    want, got = expected(data, message_type), actual(data, message_type)
    assert (got == MALFORMED) == (want == MALFORMED), f"{message_type.__name__} {data.hex()}: {got} is not {want}"
    if want == MALFORMED or has_odd_entry(data):
        return want
    assert got == want, f"{message_type.__name__} {data.hex()}: {got} is not {want}"
    return want


def check_both(data: bytes) -> None:
    check(data, scoring_pb2.ScoreRequest)
    check(data, feature_pb2.Event)


# --- messages ---

INT64 = st.integers(-(2**63), 2**63 - 1)
SIZES = st.integers(1, 12)  # of a varint: up to 10 are good; of a tag or length: up to 5
FIELD_NUMBERS = st.one_of(st.integers(1, 12), st.sampled_from([13, 2047, 19000, 2**29 - 1]))
FEATURE_NAMES = st.sampled_from(
    ["amount_minor", "amount_minor", "ratio", "is_online", "merchant", "altitude", "altitude", "amuont", "", "caf\u00e9"]
)
ENTITY_NAMES = st.sampled_from(["customer_id", "customer_id", "terminal_id", "costumer_id", ""])
TEXTS = st.one_of(
    st.text(max_size=6).map(str.encode),
    st.sampled_from(
        [b"", b"a" * 128, b"a" * 129, b"a" * 256, b"a" * 257, b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\0"]
    ),
)
SECONDS = st.one_of(
    st.integers(0, 2 * 10**9), INT64, st.sampled_from([-62135596801, -62135596800, -1, 253402300799, 253402300800])
)
NANOS = st.one_of(st.integers(0, 10**9), INT64, st.sampled_from([-1, 999_999_999, 10**9, 2**32 + 7]))
DOUBLES = st.one_of(st.floats(), st.sampled_from([-0.0, 1.0, -1.0, math.nextafter(1, 2), math.nan, math.inf]))
EDGES = st.sampled_from([sign * (EXACT_INTEGER_MAX + step) for sign in (1, -1) for step in (-1, 0, 1, 2)])
INTEGERS = st.one_of(st.integers(-1, AMOUNT_MAX + 1), EDGES, INT64)


@st.composite
def odd_fields(draw: st.DrawFn) -> bytes:
    """A field of any number and wire type: unknown, or known with the wrong type, or not a field at all."""
    field, payload = draw(FIELD_NUMBERS), draw(st.binary(max_size=8))
    shapes = [
        wire.number(field, draw(INT64), tag_size=draw(SIZES), size=draw(SIZES)),
        wire.delimited(field, payload, tag_size=draw(SIZES), length_size=draw(SIZES)),
        wire.fixed64(field, 0.5),
        wire.fixed32(field, b"abcd"),
        wire.group(field, wire.number(3, 1) + wire.group(2, wire.delimited(1, payload))),
        wire.group(field, payload, end_field=draw(FIELD_NUMBERS)),
        wire.tag(field, draw(st.integers(0, 7))) + payload,
    ]
    return draw(st.sampled_from(shapes))


def joined(parts: st.SearchStrategy[bytes], max_size: int) -> st.SearchStrategy[bytes]:
    return st.lists(parts, max_size=max_size).map(b"".join)


VALUES = joined(
    st.one_of(
        DOUBLES.map(wire.double_value),
        INTEGERS.map(wire.int64_value),
        INTEGERS.map(wire.int64_value),
        INT64.map(wire.bool_value),
        TEXTS.map(wire.string_value),
        odd_fields(),
    ),
    max_size=2,
)


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """An entry of entities or features; key and value in any order, none, one or two of each."""
    is_feature = draw(st.booleans())
    names = st.one_of((FEATURE_NAMES if is_feature else ENTITY_NAMES).map(str.encode), TEXTS)
    keys = names.map(lambda name: wire.delimited(1, name))
    payloads = (VALUES if is_feature else TEXTS).map(lambda payload: wire.delimited(2, payload))
    entry = draw(st.one_of(st.tuples(keys, payloads).map(b"".join), joined(st.one_of(keys, payloads), 3)))
    return wire.delimited(4 if is_feature else 3, entry)


TIMES = st.one_of(
    st.builds(wire.timestamp, SECONDS, NANOS),
    joined(st.one_of(SECONDS.map(lambda s: wire.number(1, s)), NANOS.map(lambda n: wire.number(2, n)), odd_fields()), 3),
)
FIELDS = st.one_of(
    TEXTS.map(lambda text: wire.delimited(1, text)),
    TIMES.map(lambda time: wire.delimited(2, time)),
    entries(),
    entries(),
    st.tuples(st.integers(5, 6), TEXTS).map(lambda field: wire.delimited(*field)),
    st.tuples(st.sampled_from([5, 7, 9, 10, 11]), INT64).map(lambda field: wire.number(*field)),
    TIMES.map(lambda time: wire.delimited(8, time)),
    odd_fields(),
)
WHOLE = (
    wire.text(1, "tx-1")
    + wire.delimited(2, wire.timestamp(1_522_540_831, 1_500))
    + wire.entity("customer_id", "596")
    + wire.entity("terminal_id", "3156")
    + wire.feature("amount_minor", wire.int64_value(5716))
)
# Mostly on top of a whole transaction, so that not everything ends as "missing".
MESSAGES = st.one_of(joined(FIELDS, 4).map(WHOLE.__add__), joined(FIELDS, 8))


def generated(message_type: type[Message]) -> st.SearchStrategy[Message]:
    """Messages that generated code can make."""
    value = st.one_of(
        st.builds(scoring_pb2.FeatureValue, double_value=DOUBLES),
        st.builds(scoring_pb2.FeatureValue, int64_value=INTEGERS),
        st.builds(scoring_pb2.FeatureValue, bool_value=st.booleans()),
        st.builds(scoring_pb2.FeatureValue, string_value=st.text(max_size=9)),
        st.builds(scoring_pb2.FeatureValue),
    )
    common = {
        "transaction_id": st.text(max_size=9),
        "event_time": st.builds(timestamp_pb2.Timestamp, seconds=SECONDS, nanos=st.integers(-5, 10**9 + 5)),
        "entities": st.dictionaries(ENTITY_NAMES, st.text(max_size=9), max_size=4),
        "features": st.dictionaries(FEATURE_NAMES, value, max_size=6),
    }
    if message_type is feature_pb2.Event:
        label = {"is_fraud": st.none() | st.booleans(), "label_time": st.none() | common["event_time"], "is_label": st.booleans()}
        return st.builds(feature_pb2.Event, **common, **label)
    return st.builds(
        scoring_pb2.ScoreRequest,
        **common,
        model=st.text(max_size=5),
        version=st.text(max_size=5),
        priority=st.integers(-(2**31), 2**31 - 1),
        include_features=st.booleans(),
        include_timings=st.booleans(),
    )


@st.composite
def mutated(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    """A message with a few bytes flipped, inserted, deleted or overwritten, cut off, or joined to the rest of another one."""
    data = bytearray(draw(messages))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                data[at:at] = draw(st.binary(min_size=1, max_size=3))
            case 2:
                del data[at : at + draw(st.integers(1, 4))]
            case 3:
                del data[at:]
            case 4:
                other = draw(messages)
                data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


# --- tests ---


@settings(max_examples=300 * SCALE)
@given(st.one_of(generated(scoring_pb2.ScoreRequest), generated(feature_pb2.Event)))
def test_generated_messages(message: Message) -> None:
    assert check(message.SerializeToString(), type(message)) != MALFORMED


@settings(max_examples=600 * SCALE)
@given(MESSAGES)
def test_odd_messages(data: bytes) -> None:
    check_both(data)


@settings(max_examples=600 * SCALE)
@given(mutated(MESSAGES))
def test_mutated_messages(data: bytes) -> None:
    check_both(data)


@settings(max_examples=200 * SCALE)
@given(st.binary(max_size=64))
def test_any_bytes(data: bytes) -> None:
    check_both(data)


def test_many_mutated_messages() -> None:
    """The same without hypothesis, whose bookkeeping costs more than the decoder: many more messages, no shrinking."""
    seed = int(os.environ.get("ASSAY_TEST_SEED", time.time_ns() % 2**32))
    print(f"seed {seed}")
    rng = random.Random(seed)
    extra = [
        wire.feature("ratio", wire.double_value(0.5)),
        wire.feature("merchant", wire.string_value("caf\u00e9")),
        wire.feature("is_online", wire.bool_value(1)),
        wire.feature("altitude", wire.int64_value(EXACT_INTEGER_MAX)),
        wire.feature("altitude", wire.int64_value(-7)),
        wire.delimited(8, wire.timestamp(1, 5)),
        wire.number(7, 2),
        wire.number(5, 1),
        wire.text(5, "card"),
        wire.group(90, wire.number(1, 1)),
    ]
    accepted = valid = 0
    for _ in range(20_000 * SCALE):
        data = bytearray(WHOLE + b"".join(rng.sample(extra, rng.randrange(4))))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(4):
                case 0 if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    data.insert(at, rng.choice((0, 1, 2, 0x0A, 0x12, 0x7F, 0x80, 0xFF)))
                case 2:
                    del data[at : at + rng.randrange(1, 4)]
                case 3 if rng.random() < 0.2:
                    del data[at:]
        verdict = check(bytes(data), rng.choice((scoring_pb2.ScoreRequest, feature_pb2.Event)))
        accepted += verdict != MALFORMED
        valid += verdict.values is not None
    assert min(accepted, valid) > 1_000 * SCALE  # else the test would only compare refusals


AMOUNT = wire.text(1, "amount_minor")
VALUE_5 = wire.delimited(2, wire.int64_value(5))
NESTED = {depth: b"\x0b" * depth + b"\x0c" * depth for depth in (98, 99, 100, 101)}
TRAPS = {
    "empty": (b"", True),
    "whole": (WHOLE, True),
    "tag of 5 bytes": (WHOLE + wire.delimited(1, b"a", tag_size=5), True),
    "tag of 6 bytes": (WHOLE + wire.delimited(1, b"a", tag_size=6), False),
    "tag past 32 bits": (b"\x8a\x80\x80\x80\x10\x00", False),
    "length of 5 bytes": (WHOLE + wire.delimited(1, b"a", length_size=5), True),
    "length of 6 bytes": (WHOLE + wire.delimited(1, b"a", length_size=6), False),
    "length past 31 bits": (b"\x0a\x81\x80\x80\x80\x08a", False),
    "varint of 10 bytes": (WHOLE + wire.number(7, 1, size=10), True),
    "varint of 10 bytes with lost bits": (WHOLE + b"\x38" + b"\x81" * 9 + b"\x7f", True),
    "varint of 11 bytes": (WHOLE + wire.number(7, 1, size=11), False),
    "bool whose bits are all lost": (WHOLE + b"\x50" + b"\x80" * 9 + b"\x02", True),
    "bool past 32 bits": (WHOLE + wire.number(10, 1 << 63), True),
    "field 0": (WHOLE + b"\x00\x01", False),
    "field 0 in a submessage": (WHOLE + wire.delimited(2, b"\x00\x01"), False),
    "field 0 in a group": (WHOLE + wire.group(90, b"\x00\x01"), True),
    "wire type 6": (WHOLE + b"\x0e\x01", False),
    "stray end of a group": (WHOLE + b"\x0c", False),
    "another group's end": (WHOLE + wire.group(90, b"", end_field=91), False),
    "groups 100 deep": (WHOLE + NESTED[100], True),
    "groups 101 deep": (WHOLE + NESTED[101], False),
    "groups 99 deep in a Timestamp": (WHOLE + wire.delimited(2, NESTED[99]), True),
    "groups 100 deep in a Timestamp": (WHOLE + wire.delimited(2, NESTED[100]), False),
    "groups 98 deep in a value": (WHOLE + wire.feature("ratio", NESTED[98]), True),
    "groups 99 deep in a value": (WHOLE + wire.feature("ratio", NESTED[99]), False),
    "id with a wrong wire type": (WHOLE + wire.number(1, 5), True),
    "event_time with a wrong wire type": (wire.number(2, 5), True),
    "event_time merges": (WHOLE + wire.delimited(2, wire.number(2, 7_000)), True),
    "event_time is cut to int32 nanos": (WHOLE + wire.delimited(2, wire.number(2, 2**32 + 7_000)), True),
    "nanos of 64 bits": (WHOLE + wire.delimited(2, wire.number(2, -1)), True),
    "same id twice": (WHOLE + wire.text(1, "tx-2"), True),
    "same entity twice": (WHOLE + wire.entity("customer_id", "7"), True),
    "same feature twice": (WHOLE + wire.feature("amount_minor", wire.int64_value(7)), True),
    "same feature twice, wrong type first": (wire.feature("amount_minor", wire.double_value(7.0)) + WHOLE, True),
    "same feature twice, wrong type last": (WHOLE + wire.feature("amount_minor", wire.double_value(7.0)), True),
    "same unknown feature twice": (WHOLE + 2 * wire.feature("amuont", b""), True),
    "oneof twice": (WHOLE + wire.feature("amount_minor", wire.double_value(7.0) + wire.int64_value(8)), True),
    "oneof twice, wrong type last": (WHOLE + wire.feature("amount_minor", wire.int64_value(8) + wire.bool_value(1)), True),
    "values merge": (WHOLE + wire.delimited(4, AMOUNT + VALUE_5 + wire.delimited(2, b"")), True),
    "value before its key": (WHOLE + wire.delimited(4, VALUE_5 + AMOUNT), True),
    "entry without value": (WHOLE + wire.delimited(4, AMOUNT), True),
    "entry without key": (WHOLE + wire.delimited(4, VALUE_5), True),
    "empty entries": (WHOLE + wire.delimited(3, b"") + wire.delimited(4, b""), True),
    "value with a wrong wire type": (WHOLE + wire.feature("amount_minor", wire.number(1, 5)), True),
    "value with an unknown field": (WHOLE + wire.feature("amount_minor", wire.int64_value(5) + wire.number(9, 1)), True),
    "bad UTF-8 in an id": (WHOLE + wire.delimited(1, b"\xff"), False),
    "bad UTF-8 that is overwritten": (wire.delimited(1, b"\xff") + WHOLE, False),
    "bad UTF-8 in a key": (WHOLE + wire.feature(b"\xff", b""), False),
    "bad UTF-8 in an entity's key": (WHOLE + wire.entity(b"\xff", "1"), False),
    "bad UTF-8 in an entity's id": (WHOLE + wire.entity("customer_id", b"\xc3"), False),
    "bad UTF-8 in a value": (WHOLE + wire.feature("merchant", wire.string_value(b"\xed\xa0\x80")), False),
    "bad UTF-8 in an unknown field": (WHOLE + wire.delimited(99, b"\xff"), True),
    "NUL and noncharacters": (WHOLE + wire.text(1, "\0\uffff"), True),
    "malformed value of an unknown feature": (WHOLE + wire.feature("amuont", b"\x10"), False),
    "NaN": (WHOLE + wire.feature("ratio", wire.double_value(math.nan)), True),
    "integer for a float64": (WHOLE + wire.feature("ratio", wire.int64_value(1)), True),
    "integer for a float64 that accepts it": (WHOLE + wire.feature("altitude", wire.int64_value(1)), True),
    "integer past 2^53": (WHOLE + wire.feature("altitude", wire.int64_value(EXACT_INTEGER_MAX + 1)), True),
    "integer past 2^53 first": (
        WHOLE + wire.feature("altitude", wire.int64_value(2**62)) + wire.feature("altitude", wire.int64_value(3)),
        True,
    ),
    "bool where integers are accepted": (WHOLE + wire.feature("altitude", wire.bool_value(1)), True),
    "-0.0": (WHOLE + wire.feature("ratio", wire.double_value(-0.0)), True),
}


@pytest.mark.parametrize(("data", "is_message"), TRAPS.values(), ids=TRAPS.keys())
def test_traps(data: bytes, is_message: bool) -> None:
    assert (check(data, scoring_pb2.ScoreRequest) != MALFORMED) == is_message
    check(data, feature_pb2.Event)


@settings(max_examples=300 * SCALE)
@given(
    st.sampled_from(["amount_minor", "ratio", "altitude"]), st.one_of(INTEGERS, st.floats(allow_nan=False, allow_infinity=False))
)
def test_json_takes_the_numbers_that_protobuf_takes(name: str, number: int | float) -> None:
    """The same event in both formats: the same values, or the same reasons."""
    event = feature_pb2.Event(transaction_id="tx-1", entities={"customer_id": "596"})
    event.event_time.FromMicroseconds(1_522_540_831_000_000)
    event.features["amount_minor"].int64_value = 5716
    if isinstance(number, int):
        event.features[name].int64_value = number
    else:
        event.features[name].double_value = number
    features = {found: getattr(value, value.WhichOneof("value") or "") for found, value in event.features.items()}
    line = {
        "transaction_id": "tx-1",
        "event_time": "2018-04-01T00:00:31Z",
        "entities": {"customer_id": "596"},
        "features": features,
    }
    of_protobuf, of_json = PLAN.decode_event(event.SerializeToString()), PLAN.decode_event_json(json.dumps(line).encode())
    if isinstance(of_protobuf, _core.Refusal):
        assert isinstance(of_json, _core.Refusal)
        assert bad_request(of_json) == bad_request(of_protobuf)
    else:
        assert repr(of_json) == repr(of_protobuf)


def test_every_truncation() -> None:
    data = WHOLE + wire.feature("ratio", wire.double_value(0.5)) + wire.group(90, wire.delimited(1, b"x")) + wire.number(7, 300)
    for size in range(len(data) + 1):
        check_both(data[:size])


def test_an_entry_with_an_unknown_field_is_kept() -> None:
    """The one difference from upb, on purpose: a field from a newer client must not silently drop a feature."""
    entry = wire.delimited(4, AMOUNT + VALUE_5 + wire.number(9, 1))
    found = PLAN.decode_score_request(WHOLE + entry)
    assert isinstance(found, _core.DecodedTransaction)
    assert found.features["amount_minor"] == 5
    assert scoring_pb2.ScoreRequest.FromString(WHOLE + entry).features["amount_minor"].int64_value == 5716


def test_the_offset_is_the_bad_byte() -> None:
    refusal = PLAN.decode_score_request(WHOLE + wire.delimited(1, b"ab\xffcd"))
    assert isinstance(refusal, _core.Refusal)
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(refusal.rpc_status).details[0].Unpack(info)
    assert (info.reason, info.domain) == ("MALFORMED_MESSAGE", "assay")
    assert dict(info.metadata) == {"byte_offset": str(len(WHOLE) + 4)}


def test_map_entries_have_a_limit() -> None:
    """A limit of ours: protobuf has none."""
    most = _core.LIMITS["map_entries_max"]
    entry = wire.feature("amount_minor", wire.int64_value(5))
    check(WHOLE + entry * (most - 1), scoring_pb2.ScoreRequest)
    refusal = PLAN.decode_score_request(WHOLE + entry * most)
    assert isinstance(refusal, _core.Refusal)
    assert (REASONS[refusal.code], refusal.grpc_code) == ("INVALID_REQUEST", 3)
    assert "(features): more than 512 entries" in refusal.message
