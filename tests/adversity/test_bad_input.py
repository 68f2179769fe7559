"""Bad input gives a clear error that names the field, and loses nothing: the same connection scores on."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError

from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.server import INLINE, LocalServer, make_request, metadata_of, reason_of, status_of, violations_of

pytestmark = pytest.mark.usefixtures("transport")

SEED = int(os.environ.get("ASSAY_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
CARD_NUMBER = "4111111111111111"


@pytest.fixture(scope="module", params=[{}, INLINE], ids=["runners", "inline"])
def server(request: pytest.FixtureRequest, transport: str) -> Iterator[LocalServer]:
    limits = {"receive_message_bytes_max": 256 << 10, "metadata_bytes_max": 8 << 10}
    with LocalServer(limits=limits, lane=request.param) as server:
        yield server


@pytest.fixture
def stub(server: LocalServer) -> Iterator[Any]:
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    yield stub
    # Whatever was refused, the connection and the server go on, and no slot is lost.
    assert stub.Score(make_request("after"), timeout=10).HasField("score")
    assert server.engine.wait_idle(10)


def refusal(call: Callable[[], Any], code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is code, caught.value
    return status_of(caught.value)


def changed(**changes: Any) -> scoring_pb2.ScoreRequest:
    """make_request() with features changed: None takes one away, a dict becomes a FeatureValue."""
    request = make_request()
    for name, value in changes.items():
        if value is None:
            del request.features[name]
        else:
            request.features[name].CopyFrom(scoring_pb2.FeatureValue(**value))
    return request


@pytest.mark.parametrize(
    ("features", "field", "reason"),
    [
        ({"amount_minor": {"double_value": 57.16}}, "amount_minor", "WRONG_TYPE"),
        ({"amount_minor": {"string_value": "5716"}}, "amount_minor", "WRONG_TYPE"),
        ({"amount_minor": {"bool_value": True}}, "amount_minor", "WRONG_TYPE"),
        ({"ratio": {"int64_value": 1}}, "ratio", "WRONG_TYPE"),
        ({"is_abroad": {"int64_value": 1}}, "is_abroad", "WRONG_TYPE"),
        ({"channel": {"int64_value": 1}}, "channel", "WRONG_TYPE"),
        ({"ratio": {"double_value": math.nan}}, "ratio", "NOT_FINITE"),
        ({"ratio": {"double_value": math.inf}}, "ratio", "NOT_FINITE"),
        ({"ratio": {"double_value": -math.inf}}, "ratio", "NOT_FINITE"),
        ({"amount_minor": None}, "amount_minor", "MISSING_FEATURE"),
        ({"amount_minor": {}}, "amount_minor", "VALUE_UNSET"),
        ({"amount_minor": {"int64_value": -1}}, "amount_minor", "OUT_OF_RANGE"),
        ({"amount_minor": {"int64_value": 100_000_001}}, "amount_minor", "OUT_OF_RANGE"),
        ({"amout_minor": {"int64_value": 1}}, "amout_minor", "UNKNOWN_FEATURE"),
        ({"tx_count_1d": {"int64_value": 1}}, "tx_count_1d", "UNKNOWN_FEATURE"),
        ({"channel": {"string_value": "x" * 257}}, "channel", "TOO_LONG"),
    ],
)
def test_a_wrong_feature_is_named(stub: Any, features: dict[str, Any], field: str, reason: str) -> None:
    status = refusal(lambda: stub.Score(changed(**features), timeout=10))
    assert reason_of(status) == "INVALID_REQUEST"
    assert violations_of(status) == {f'features["{field}"]': reason}
    assert field in status.message


def test_ends_of_ranges_and_lengths_are_taken(stub: Any) -> None:
    for value in (0, 100_000_000):
        stub.Score(changed(amount_minor={"int64_value": value}), timeout=10)
    stub.Score(changed(channel={"string_value": "x" * 256}), timeout=10)
    stub.Score(make_request("x" * 128, "y" * 128), timeout=10)


def test_all_violations_come_in_one_answer(stub: Any) -> None:
    request = changed(amount_minor=None, ratio={"double_value": math.nan}, nonsense={"bool_value": True})
    request.ClearField("transaction_id")
    request.ClearField("event_time")
    request.entities.clear()
    request.entities["customer"] = "1"
    request.priority = 9  # type: ignore[assignment]
    request.timeout.FromSeconds(-1)
    request.explain.when = 9  # type: ignore[assignment]
    assert violations_of(refusal(lambda: stub.Score(request, timeout=10))) == {
        "transaction_id": "MISSING_FIELD",
        "event_time": "MISSING_FIELD",
        'entities["customer_id"]': "MISSING_ENTITY",
        'entities["customer"]': "UNKNOWN_ENTITY",
        'features["amount_minor"]': "MISSING_FEATURE",
        'features["ratio"]': "NOT_FINITE",
        'features["nonsense"]': "UNKNOWN_FEATURE",
        "priority": "BAD_PRIORITY",
        "timeout": "BAD_DURATION",
        "explain": "EXPLAIN_UNSUPPORTED",
        "explain.when": "BAD_EXPLAIN",
    }


def test_ids_and_times_at_their_limits(stub: Any) -> None:
    assert violations_of(refusal(lambda: stub.Score(make_request("x" * 129), timeout=10))) == {"transaction_id": "TOO_LONG"}
    status = refusal(lambda: stub.Score(make_request("t", "y" * 129), timeout=10))
    assert violations_of(status) == {'entities["customer_id"]': "TOO_LONG"}
    late = make_request()
    late.event_time.seconds = 253_402_300_800  # year 10000
    assert violations_of(refusal(lambda: stub.Score(late, timeout=10))) == {"event_time": "BAD_TIMESTAMP"}
    late.event_time.seconds, late.event_time.nanos = 0, 1_000_000_000
    assert violations_of(refusal(lambda: stub.Score(late, timeout=10))) == {"event_time": "BAD_TIMESTAMP"}


def test_no_value_ever_comes_back(stub: Any) -> None:
    """A card number in the wrong field must not reach a log: neither as value nor as name."""
    requests = [
        changed(amount_minor={"string_value": CARD_NUMBER}),
        changed(**{CARD_NUMBER: {"bool_value": True}}),
        changed(amount_minor={"int64_value": int(CARD_NUMBER)}),
        make_request("t", f"{CARD_NUMBER}" * 20),
    ]
    for request in requests:
        status = refusal(lambda request=request: stub.Score(request, timeout=10))  # type: ignore[misc]
        assert CARD_NUMBER.encode() not in status.SerializeToString()


@pytest.mark.parametrize(
    ("data", "offset"),
    [(b"\xff", 0), (b"\x0a\x05abc", 0), (b"\x0a\x01a\x12", 3), (b"\x0a\x01a\x07", 3), (b"\x0a\x02\xc3\x28", 0)],
)
def test_garbage_names_the_byte(server: LocalServer, stub: Any, data: bytes, offset: int) -> None:
    raw = server.channel().unary_unary("/assay.v1.ScoringService/Score")
    status = refusal(lambda: raw(data, timeout=10))
    assert reason_of(status) == "MALFORMED_MESSAGE"
    # The first byte of the field that is wrong, or of what is wrong in it.
    assert offset <= int(metadata_of(status)["byte_offset"]) <= len(data)


def test_random_bytes_are_answered_each(server: LocalServer, stub: Any) -> None:
    print(f"ASSAY_TEST_SEED={SEED}")
    stream = random.Random(SEED)
    whole = make_request().SerializeToString()
    calls = []
    raws = [server.channel().unary_unary(f"/assay.v1.ScoringService/{method}") for method in ("Score", "ScoreBatch")]
    for _ in range(600):
        data = bytearray(whole) if stream.random() < 0.7 else bytearray(stream.randbytes(stream.randrange(200)))
        for _ in range(stream.randrange(1, 4)):
            if data:
                data[stream.randrange(len(data))] = stream.randrange(256)
        calls.append(stream.choice(raws).future(bytes(data[: stream.randrange(len(data) + 1)]), timeout=20))
    refused = 0
    for call in calls:
        error = call.exception(timeout=20)
        if error is not None:
            assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), error
            assert reason_of(status_of(error))
            refused += 1
    assert refused > 100


def test_a_stream_of_random_bytes_is_answered_message_by_message(server: LocalServer, stub: Any) -> None:
    print(f"ASSAY_TEST_SEED={SEED}")
    stream = random.Random(SEED + 1)
    good = scoring_pb2.ScoreStreamRequest(request=make_request("good")).SerializeToString()
    messages = [good if i % 10 == 0 else stream.randbytes(stream.randrange(1, 100)) for i in range(300)]
    raw = server.channel().stream_stream(
        "/assay.v1.ScoringService/ScoreStream", response_deserializer=scoring_pb2.ScoreStreamResponse.FromString
    )
    answers = list(raw(iter(messages), timeout=20))
    assert len(answers) == len(messages)
    assert sum(answer.HasField("response") for answer in answers if answer.transaction_id == "good") == 30
    for answer in answers:
        assert answer.HasField("status") != answer.HasField("response")


def test_an_oversized_message_is_refused_before_it_is_read(server: LocalServer, stub: Any) -> None:
    raw = server.channel().unary_unary("/assay.v1.ScoringService/Score")
    before = server.engine.stats()
    for size, code in ((256 << 10, grpc.StatusCode.INVALID_ARGUMENT), ((256 << 10) + 1, grpc.StatusCode.RESOURCE_EXHAUSTED)):
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"\xff" * size, timeout=10)
        assert caught.value.code() is code
    # What gRPC's own server refuses by itself is not counted.
    assert server.engine.stats().refused_calls == before.refused_calls + (2 if server.is_native else 1)


def test_oversized_metadata_is_refused(server: LocalServer, stub: Any) -> None:
    assert stub.Score(make_request(), metadata=[("x-note", "a" * 4096)], timeout=10).HasField("score")
    with pytest.raises(grpc.RpcError) as caught:
        stub.Score(make_request(), metadata=[("x-note", "a" * (16 << 10))], timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_gzip_bomb_is_refused(server: LocalServer, stub: Any) -> None:
    raw = server.channel().unary_unary("/assay.v1.ScoringService/Score")
    with pytest.raises(grpc.RpcError) as caught:
        raw(b"\0" * (32 << 20), timeout=20, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_compressed_requests_are_scored(server: LocalServer, stub: Any) -> None:
    assert stub.Score(make_request(), timeout=10, compression=grpc.Compression.Gzip).HasField("score")


def test_an_unknown_method_is_unimplemented(server: LocalServer, stub: Any) -> None:
    for method in ("/assay.v1.ScoringService/Scores", "/no.such.Service/Method", "/", "/assay.v1.ScoringService/"):
        with pytest.raises(grpc.RpcError) as caught:
            server.channel().unary_unary(method)(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_unary_with_no_message_is_no_answer_and_loses_nothing(server: LocalServer, stub: Any) -> None:
    """grpcio gives such a call to nobody: it ends at the client's deadline."""
    streaming = server.channel().stream_unary("/assay.v1.ScoringService/Score")
    with pytest.raises(grpc.RpcError):
        streaming(iter(()), timeout=0.2)


def test_the_same_bytes_are_decoded_as_google_protobuf_would(server: LocalServer, stub: Any) -> None:
    """Unknown fields, repeated scalars (last wins) and any order of fields are no errors."""
    parts = [make_request("first"), scoring_pb2.ScoreRequest(transaction_id="last", include_timings=True)]
    data = b"".join(part.SerializeToString() for part in reversed(parts)) + b"\x0a\x04last" + b"\xfa\x01\x02hi"
    try:
        merged = scoring_pb2.ScoreRequest.FromString(data)
    except DecodeError:
        pytest.fail("the message itself is wrong")
    answer = server.channel().unary_unary(
        "/assay.v1.ScoringService/Score", response_deserializer=scoring_pb2.ScoreResponse.FromString
    )(data, timeout=10)
    assert answer.transaction_id == merged.transaction_id == "last"
    assert answer.HasField("timings")
