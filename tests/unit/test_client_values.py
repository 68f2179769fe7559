"""assay.client without a server: values to protobuf and back, what is refused before anything is sent, errors, options."""

from __future__ import annotations

import enum
import math
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

import assay.client
from assay.client import Decision, InvalidRequest, NoAnswer, Refused, Score, ScoreError, Tls, Transaction, Unavailable, Violation
from assay.client.calls import Calls
from assay.client.channel import KEEPALIVE_S, channel_options, credentials
from assay.client.decode import decode_score, decode_value
from assay.client.encode import INT64_MAX, INT64_MIN, encode_transaction
from assay.client.errors import decode_failure, decode_status
from assay.config import Config
from assay.errors import AssayError, ConfigError
from assay.v1 import scoring_pb2
from tests.support.clients import make_transaction
from tests.support.server import EVENT_TIME

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(st.booleans(), st.integers(INT64_MIN, INT64_MAX), st.floats(allow_nan=False, allow_infinity=False), TEXT)
ZONES = st.timezones() | st.just(UTC) | st.builds(lambda m: timezone(timedelta(minutes=m)), st.integers(-1000, 1000))
TIMES = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES)
SURROGATE = "\ud800"


def violations_of(transaction: Transaction) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        encode_transaction(transaction)
    error = caught.value
    assert (error.status, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert all(f"{item.field} {item.description}" in error.message for item in error.violations)
    return {item.field: item.reason for item in error.violations}


# --- in


@given(TEXT, TIMES, st.dictionaries(TEXT, TEXT, max_size=4), st.dictionaries(TEXT, VALUES, max_size=6))
def test_what_is_sent_is_what_was_given(name: str, time: datetime, entities: dict[str, str], features: dict[str, Any]) -> None:
    """Through the bytes: every value with its own type, the moment to the microsecond."""
    request = encode_transaction(Transaction(name, time, entities, features))
    read = scoring_pb2.ScoreRequest.FromString(request.SerializeToString())
    assert (read.transaction_id, dict(read.entities)) == (name, entities)
    # In UTC: Python takes two moments of an hour that comes twice (the end of summer time) for different ones in any other zone.
    assert read.event_time.ToDatetime(UTC) == time.astimezone(UTC)
    found = {key: decode_value(value) for key, value in read.features.items()}
    assert found == features
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in features.items()}
    assert all(math.copysign(1, found[key]) == math.copysign(1, value) for key, value in features.items() if value == 0.0)


def test_the_type_of_a_value_is_its_own() -> None:
    Unit = enum.IntEnum("Unit", ["CENT"])  # noqa: N806
    features = {"bool": True, "int": 1, "float": 1.0, "str": "1", "numpy": np.float64(1.0), "enum": Unit.CENT}
    request = encode_transaction(Transaction("t1", EVENT_TIME, {}, features))
    assert {name: value.WhichOneof("value") for name, value in request.features.items()} == {
        "bool": "bool_value",
        "int": "int64_value",
        "float": "double_value",
        "str": "string_value",
        "numpy": "double_value",  # it is a float
        "enum": "int64_value",
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "NOT_FINITE"),
        (math.inf, "NOT_FINITE"),
        (-math.inf, "NOT_FINITE"),
        (INT64_MAX + 1, "OUT_OF_RANGE"),
        (INT64_MIN - 1, "OUT_OF_RANGE"),
        (None, "VALUE_UNSET"),
        (Decimal("1.5"), "WRONG_TYPE"),
        (np.int64(1), "WRONG_TYPE"),
        (np.bool_(True), "WRONG_TYPE"),
        (b"x", "WRONG_TYPE"),
        ([1], "WRONG_TYPE"),
        (SURROGATE, "WRONG_TYPE"),
    ],
)
def test_a_value_that_cannot_be_sent_is_named(value: Any, reason: str) -> None:
    assert violations_of(make_transaction(ratio=value)) == {'features["ratio"]': reason}


def test_everything_that_is_wrong_comes_at_once() -> None:
    transaction = Transaction(5, EVENT_TIME.replace(tzinfo=None), {"customer_id": 596}, {"a": math.nan, SURROGATE: 1})  # type: ignore[arg-type,dict-item]
    assert violations_of(transaction) == {
        "transaction_id": "WRONG_TYPE",
        "event_time": "BAD_TIMESTAMP",
        'entities["customer_id"]': "WRONG_TYPE",
        'features["a"]': "NOT_FINITE",
        'features["\\ud800"]': "WRONG_TYPE",  # escaped: the error can be printed
    }


@pytest.mark.parametrize(
    ("time", "says"),
    [
        (datetime(2026, 1, 1), "tzinfo=UTC"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "0001"),
        (datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-1))), "9999"),
        ("2026-01-01T00:00:00Z", "datetime"),
        (1767225600.0, "datetime"),
    ],
)
def test_a_time_that_is_no_moment_is_refused_with_advice(time: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        encode_transaction(Transaction("t1", time, {}, {}))


def test_customers_data_stay_out_of_logs() -> None:
    text = repr(Transaction("t1", EVENT_TIME, {"customer_id": "596"}, {"amount_minor": 5716}))
    assert "t1" in text
    assert "596" not in text
    assert "5716" not in text
    assert "PRIVATE" not in repr(Tls(ca="ca.pem", certificate=b"own", key=b"PRIVATE"))
    with pytest.raises(InvalidRequest) as caught:
        encode_transaction(Transaction("t1", EVENT_TIME, {"customer_id": 596}, {"amount_minor": 2**70, "c": b"4111"}))  # type: ignore[dict-item]
    for secret in ("596", str(2**70), "4111"):
        assert secret not in str(caught.value)


# --- out


def test_every_decision_of_the_contract_is_known() -> None:
    assert {f"DECISION_{name}" for name in Decision} == set(scoring_pb2.Decision.keys())
    for name, number in scoring_pb2.Decision.items():
        assert f"DECISION_{decode_score(scoring_pb2.ScoreResponse(decision=number)).decision}" == name


def test_what_a_newer_server_may_send_is_no_error() -> None:
    response = scoring_pb2.ScoreResponse.FromString(
        scoring_pb2.ScoreResponse(transaction_id="t1", score=0.5).SerializeToString() + bytes([3 << 3, 99, 5 << 3 | 2, 2, 8, 98])
    )
    response.inputs.add(name="known").value.int64_value = 0
    response.inputs.add(name="of another kind")
    score = decode_score(response)
    assert score.inputs == {"known": 0}
    assert (score.decision, score.degradations[0].kind) == (Decision.UNSPECIFIED, "KIND_98")


def test_an_absent_score_is_not_zero() -> None:
    assert decode_score(scoring_pb2.ScoreResponse()).score is None
    assert decode_score(scoring_pb2.ScoreResponse(score=0.0)).score == 0.0


def test_degradations_ages_and_missing_inputs() -> None:
    response = scoring_pb2.ScoreResponse(
        degradations=[scoring_pb2.Degradation(kind=scoring_pb2.DEGRADATION_KIND_VIEW_STALE, subject="customer", detail="2 d")],
        view_ages=[scoring_pb2.ViewAge(view="customer", age=timedelta(seconds=-1.5)), scoring_pb2.ViewAge(view="terminal")],
        missing_features=["a", "b"],
        imputed_features=["b"],
    )
    score = decode_score(response)
    assert (score.degradations[0].kind, score.degradations[0].subject) == ("VIEW_STALE", "customer")
    assert score.view_ages == {"customer": timedelta(seconds=-1.5), "terminal": None}
    assert (score.missing, score.imputed) == ({"a", "b"}, {"b"})


def test_a_batch_with_another_number_of_rows_is_a_fault_of_the_server() -> None:
    """Matched by position, a missing row would give every later customer the score of another one."""
    rows = [make_transaction("t1"), make_transaction("t2")]
    response = scoring_pb2.ScoreBatchResponse(results=[scoring_pb2.ScoreResult(response=scoring_pb2.ScoreResponse(score=0.1))])
    with pytest.raises(NoAnswer, match="1 rows of 2"):
        Calls(1, None).batch(rows, {}).on_answer(response)
    answers = Calls(1, Decision.REVIEW).batch(rows, {}).on_answer(response)
    assert [isinstance(answer, Score) and answer.is_fallback for answer in answers] == [True, True]


# --- errors


def failure(code: grpc.StatusCode, message: str, *trailers: tuple[str, str | bytes]) -> Any:
    return SimpleNamespace(code=lambda: code, details=lambda: message, trailing_metadata=lambda: trailers)


def packed(*details: Any) -> status_pb2.Status:
    status = status_pb2.Status(code=14, message="m")
    for detail in details:
        wrapped = any_pb2.Any()
        wrapped.Pack(detail)
        status.details.append(wrapped)
    return status


def test_an_error_has_all_details_and_reads_well() -> None:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(20)
    info = error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="assay", metadata={"lane": "a"})
    status = packed(info, retry, error_details_pb2.Help())
    error = decode_failure(failure(grpc.StatusCode.UNAVAILABLE, "m", ("grpc-status-details-bin", status.SerializeToString())))
    assert isinstance(error, Unavailable)
    assert (error.reason, error.metadata, error.retry_delay) == ("QUEUE_FULL", {"lane": "a"}, timedelta(milliseconds=20))
    assert str(error) == "UNAVAILABLE QUEUE_FULL: m (try again in 0.02 s)"
    assert str(decode_status(status)) == str(error)


@pytest.mark.parametrize("details", [b"\xff", b"", packed(error_details_pb2.Help()).SerializeToString()])
def test_details_that_are_not_ours_are_as_if_absent(details: bytes) -> None:
    error = decode_failure(failure(grpc.StatusCode.INTERNAL, "m", ("grpc-status-details-bin", details)))
    assert (error.reason, error.violations, error.retry_delay) == ("", (), None)
    assert str(error) == "INTERNAL: m"
    broken = packed(error_details_pb2.ErrorInfo(reason="X"))
    broken.details[0].value = b"\xff"
    assert decode_status(broken).reason == ""
    long = error_details_pb2.RetryInfo()
    long.retry_delay.seconds = 2**62
    assert decode_status(packed(long)).retry_delay is None


def test_a_row_with_a_status_that_does_not_exist_is_an_error() -> None:
    assert decode_status(status_pb2.Status(code=77, message="m")).status is grpc.StatusCode.UNKNOWN


def test_errors_cross_processes() -> None:
    """An exception that cannot be unpickled hangs a pool of workers."""
    violation = Violation("event_time", "MISSING_FIELD", "is missing")
    for kind in (kind for kind in vars(assay.client).values() if isinstance(kind, type) and issubclass(kind, ScoreError)):
        error = kind(grpc.StatusCode.UNAVAILABLE, "m", "SHED", (violation,), timedelta(seconds=1), {"a": "b"})
        read = pickle.loads(pickle.dumps(error))
        assert type(read) is kind
        assert vars(read) == vars(error)
        assert isinstance(read, AssayError)


# --- options, TLS, keepalive


def test_pings_are_no_more_frequent_than_the_server_allows() -> None:
    assert Config().connection.ping_interval_s_min < KEEPALIVE_S
    assert dict(channel_options(None, retries=True))["grpc.keepalive_time_ms"] == KEEPALIVE_S * 1000


def test_every_answer_that_a_server_may_send_is_taken() -> None:
    options = dict(channel_options(None, retries=True))
    assert options["grpc.max_receive_message_length"] == Config().limits.send_message_bytes_max


def test_a_certificate_needs_its_key_and_files_must_be_there() -> None:
    with pytest.raises(ConfigError, match="go together"):
        Tls(certificate=b"own")
    with pytest.raises(ConfigError, match="go together"):
        Tls(key=b"own")
    with pytest.raises(ConfigError, match=r"tls.ca: no-such.pem: No such file"):
        credentials(Tls(ca="no-such.pem"))


# --- the package


def test_exported_names_are_exactly_the_public_ones() -> None:
    assert sorted(assay.client.__all__) == assay.client.__all__
    public = {name for name, value in vars(assay.client).items() if not name.startswith("_") and not hasattr(value, "__path__")}
    modules = {"aio", "calls", "channel", "client", "decode", "encode", "errors", "values"}
    assert set(assay.client.__all__) == public - modules
    assert Refused in vars(assay.client).values()


def test_a_client_machine_stays_light() -> None:
    """Neither the native core nor any library of the server is loaded."""
    code = (
        "import sys, assay.client\n"
        "rooms = {name for name in sys.modules if name.startswith('assay.')}\n"
        "rooms = {name.split('.')[1] for name in rooms} - {'client', 'errors', 'v1'}\n"
        "heavy = {'numpy', 'pydantic', 'onnx', 'onnxruntime', 'pyarrow', 'redis', 'typer', 'yaml', 'opentelemetry'}\n"
        "sys.exit(f'imported: {rooms} {heavy & set(sys.modules)}' if rooms or heavy & set(sys.modules) else 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
