"""The core's decoder against google.protobuf (upb): the same messages accepted, the same values found, the same things wrong.

What a request means once it is parsed is written a second time here, slowly and from generated messages (`expected`), so a difference
in any trap of the format shows as another verdict. Left out: values where a map entry holds an unknown field. upb drops such an entry,
the specification keeps it, and so does the core.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assay import _core
from assay.v1 import feature_pb2, scoring_pb2
from tests.support import wire

SCALE = int(os.environ.get("ASSAY_TEST_SCALE", "1"))
REASONS = {row.number: row.reason for row in _core.CODE_TABLE}

ENTITIES = ("customer_id", "terminal_id")
AMOUNT_MAX = 10**9
Message = scoring_pb2.ScoreRequest | feature_pb2.Event


def make_plan() -> _core.FeaturePlan:
    """A feature of every type; amount_minor is required and stored by a view of customer_id."""
    builder = _core.PlanBuilder("decoder", "1", "ab" * 32)
    customer, _ = (builder.entity(name) for name in ENTITIES)
    dtypes = _core.DTYPES
    amount = builder.request_feature("amount_minor", dtypes["int64"], required=True, minimum=0, maximum=AMOUNT_MAX)
    builder.request_feature("ratio", dtypes["float64"], required=False, minimum=-1.0, maximum=1.0)
    builder.request_feature("is_online", dtypes["bool"], required=False)
    builder.request_feature("merchant", dtypes["string"], required=False)
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
    """Microseconds since 1970, floored; None: outside the years 1 to 9999, or nanos outside a second."""
    seconds, nanos = message.event_time.seconds, message.event_time.nanos
    if not (-62135596800 <= seconds <= 253402300799 and 0 <= nanos < 10**9):
        return None
    return (seconds * 10**9 + nanos) // 1000


def value_reason(name: str, value: scoring_pb2.FeatureValue) -> str | None:
    """Why a declared feature's value must be refused."""
    member = value.WhichOneof("value")
    if member is None:
        return "VALUE_UNSET"
    expected = {"amount_minor": "int64_value", "ratio": "double_value", "is_online": "bool_value", "merchant": "string_value"}
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


def id_reason(value: str) -> str | None:
    return None if 1 <= len(value.encode()) <= 128 else "TOO_LONG" if value else "MISSING"


def feature_violations(message: Message, is_event: bool) -> set[tuple[str, str]]:
    found = set()
    for name in message.features:
        if name not in PLAN.feature_names:
            found.add(("UNKNOWN_FEATURE", "features"))
        elif reason := value_reason(name, message.features[name]):
            found.add((reason, f'features["{name}"]'))
    # The view that stores amount_minor is one of customer_id: an event that does not name a customer may leave it out.
    needs_amount = not is_event or bool(message.entities.get("customer_id"))
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
    return frozenset(found)


def scalar(value: scoring_pb2.FeatureValue) -> object:
    found = getattr(value, value.WhichOneof("value") or "")
    return found + 0.0 if isinstance(found, float) else found


def values(message: Message) -> tuple[object, ...]:
    common = (
        message.transaction_id,
        time_us(message),
        dict(message.entities),
        {name: (type(scalar(value)), repr(scalar(value))) for name, value in message.features.items()},
    )
    if isinstance(message, feature_pb2.Event):
        is_fraud = message.is_fraud if message.HasField("is_fraud") else None
        return (*common, is_fraud, "", "", 0, False, False)
    return (*common, None, message.model, message.version, message.priority, message.include_features, message.include_timings)


def expected(data: bytes, message_type: type[Message]) -> Verdict:
    message = message_type()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return MALFORMED
    found = violations(message)
    return Verdict(None, found) if found else Verdict(values(message), frozenset())


# --- what is found ---


def any_detail[T](status: status_pb2.Status, detail_type: type[T]) -> T | None:
    raise NotImplementedError


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
