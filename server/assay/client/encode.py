"""Plain values -> protobuf. Refuses what a message cannot carry truthfully, with the server's words for it and all at once;
what a feature set declares is the server's to judge."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime

import grpc

from assay.client.errors import InvalidRequest, Violation
from assay.client.values import Transaction, Value
from assay.v1.scoring_pb2 import FeatureValue, ScoreRequest

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def encode_transaction(transaction: Transaction) -> ScoreRequest:
    """Raises InvalidRequest."""
    violations = tuple(_violations_of(transaction))
    if violations:
        listed = "; ".join(f"{item.field} {item.description}" for item in violations)
        raise InvalidRequest(grpc.StatusCode.INVALID_ARGUMENT, f"not sent: {listed}", "INVALID_REQUEST", violations)
    request = ScoreRequest(transaction_id=transaction.transaction_id, entities=transaction.entities)
    request.event_time.FromDatetime(transaction.event_time)
    for name, value in transaction.features.items():
        request.features[name].CopyFrom(_feature_value(value))
    return request


def problem_of(value: object) -> tuple[str, str] | None:
    """(reason, description) of what keeps a feature's value from being sent."""
    match value:
        case bool():
            return None
        case int():
            if not INT64_MIN <= value <= INT64_MAX:
                return "OUT_OF_RANGE", "is an int past int64; expected one that fits"
        case float():
            if not math.isfinite(value):
                return "NOT_FINITE", "is NaN or infinite; leave an unknown value out, the feature set says what null means"
        case str():
            return _problem_of_text(value)
        case None:
            return "VALUE_UNSET", "is None; leave an unknown value out, the feature set says what null means"
        case _:
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            return "WRONG_TYPE", f"is {kind}; expected bool, int, float or str. Convert it (NumPy's values: with .item())"
    return None


# --- implementation ---


def _feature_value(value: Value) -> FeatureValue:
    match value:
        case bool():  # before int, which it also is
            return FeatureValue(bool_value=value)
        case int():
            return FeatureValue(int64_value=value)
        case float():
            return FeatureValue(double_value=value)
        case str():
            return FeatureValue(string_value=value)


def _violations_of(transaction: Transaction) -> Iterator[Violation]:
    if problem := _problem_of_text(transaction.transaction_id):
        yield Violation("transaction_id", *problem)
    if problem := _problem_of_time(transaction.event_time):
        yield Violation("event_time", *problem)
    for name, text in transaction.entities.items():
        if problem := _problem_of_text(name) or _problem_of_text(text):
            yield Violation(_field("entities", name), *problem)
    for name, value in transaction.features.items():
        if problem := _problem_of_text(name) or problem_of(value):
            yield Violation(_field("features", name), *problem)


def _field(map_name: str, key: str) -> str:
    """As the server names it; what UTF-8 cannot carry is escaped, so that the error can be printed."""
    return f'{map_name}["{key}"]'.encode(errors="backslashreplace").decode()


def _problem_of_text(value: object) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return "WRONG_TYPE", f"is {type(value).__qualname__}; expected str"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "WRONG_TYPE", "is a str with half a surrogate pair; expected text that UTF-8 can carry"
    return None


def _problem_of_time(value: object) -> tuple[str, str] | None:
    if not isinstance(value, datetime):
        return "WRONG_TYPE", f"is {type(value).__qualname__}; expected datetime with a time zone"
    if value.utcoffset() is None:
        return "BAD_TIMESTAMP", "has no time zone; for UTC say datetime(..., tzinfo=UTC) or .replace(tzinfo=UTC)"
    try:
        value.utctimetuple()
    except OverflowError:
        return "BAD_TIMESTAMP", "is outside the years 0001 to 9999 in UTC"
    return None
