"""The core's encoder against google.protobuf: what the engine answers is parsed by generated code, means what the row and its
folds say, and is byte for byte what google.protobuf would have written."""

from __future__ import annotations

import math
import os
import struct
from typing import Any

from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import _core
from assay.v1 import feature_pb2, scoring_pb2

NOW_S = 1_522_540_831
WINDOW_US = 86_400_000_000
SHA256 = "cd" * 32
SCALE = int(os.environ.get("ASSAY_TEST_SCALE", "1"))
THRESHOLDS = [(0.25, _core.DECISIONS["challenge"]), (0.75, _core.DECISIONS["decline"])]
INPUTS = ("ratio_in", "average_in", "count_in", "amount_in", "small_in", "online_in")


def make_plan() -> _core.FeaturePlan:
    """One input of every tensor type; each can be missing, and most of those are then imputed."""
    builder = _core.PlanBuilder("answers", "2", "ab" * 32)
    customer, terminal = builder.entity("customer_id"), builder.entity("terminal_id")
    dtypes, tensors, when_null = _core.DTYPES, _core.TENSOR_TYPES, _core.WHEN_NULL
    amount = builder.request_feature("amount", dtypes["int64"], required=False)
    small = builder.request_feature("small", dtypes["int64"], required=False, minimum=-100, maximum=100)
    ratio = builder.request_feature("ratio", dtypes["float64"], required=False)
    online = builder.request_feature("is_online", dtypes["bool"], required=False)
    views = [
        builder.window_view(
            name,
            entity,
            bytes([index]) * 32,
            delay_us=0,
            uses_labels=False,
            includes_current=False,
            exact_events_max=256,
            lateness_us=0,
        )
        for index, (name, entity) in enumerate((("customer", customer), ("terminal", terminal)))
    ]
    average = builder.aggregate(views[0], _core.AGGREGATES["avg"], builder.column_of_feature(views[0], amount), WINDOW_US)
    count = builder.aggregate(views[1], _core.AGGREGATES["count"], -1, WINDOW_US)
    nodes = {
        "ratio_in": builder.feature_node(ratio),
        "amount_in": builder.feature_node(amount),
        "small_in": builder.feature_node(small),
        "online_in": builder.feature_node(online),
        "average_in": builder.view_node(views[0], average, "average"),
        "count_in": builder.view_node(views[1], count, "count"),
    }
    doubles = builder.tensor("doubles", tensors["float64"], 1)
    floats = builder.tensor("floats", tensors["float32"], 2)
    int64s = builder.tensor("int64s", tensors["int64"], 1)
    int32s = builder.tensor("int32s", tensors["int32"], 1)
    bools = builder.tensor("bools", tensors["bool"], 1)
    places = {"ratio_in": (doubles, 0), "average_in": (floats, 0), "count_in": (floats, 1)}
    places |= {"amount_in": (int64s, 0), "small_in": (int32s, 0), "online_in": (bools, 0)}
    for name in INPUTS:
        tensor, element = places[name]
        rule, default = ("nan", 0.0) if name in ("ratio_in", "average_in") else ("default", 1.0)
        builder.model_input(name, nodes[name], tensor, element, when_null[rule], default)
    return builder.build()


class Bench:
    """An engine without threads whose model is a puppet, and a reader of the same store to say what the row must be."""

    def __init__(self) -> None:
        plan, store = make_plan(), _core.EmbeddedStore()
        self.reader = _core.FeatureReader(plan, store)
        self.writer = _core.EventWriter(plan, store)
        self.engine = _core.Engine(slots=64, batch_call_rows_max=16, clock=_core.ManualClock())
        self.queue = self.engine.open_queue()
        self.engine.add_lane(
            model="card",
            version="3",
            model_sha256=SHA256,
            reader=self.reader,
            runner=_core.PuppetModel(),
            threads=False,
            thresholds=THRESHOLDS,
            is_default=True,
        )
        for index, seconds in enumerate((-90_000, -60, 0, 60)):  # the last is newer than the requests: a negative age
            event = feature_pb2.Event(transaction_id=f"e{index}", entities={"customer_id": f"c{index}", "terminal_id": "t1"})
            event.event_time.FromMicroseconds((NOW_S + seconds) * 10**6 + index)
            event.features["amount"].int64_value = 1000 * (index + 1)
            self.writer.record_events(feature_pb2.RecordEventsRequest(events=[event]).SerializeToString())

    def answer(self, accepted: _core.Accepted | _core.Refusal) -> bytes:
        """The response message of the one call in flight."""
        assert isinstance(accepted, _core.Accepted), accepted
        self.engine.step("card", "3")
        ((token, payload),) = self.queue.drain()
        assert token == 7
        assert isinstance(payload, bytes), payload
        self.engine.check_idle()
        return payload

    def expected_row(self, request: scoring_pb2.ScoreRequest) -> _core.ReadRow:
        features: dict[str, Any] = {}
        for name, value in request.features.items():
            features[name] = getattr(value, value.WhichOneof("value") or "")
        time_us = request.event_time.seconds * 10**6 + request.event_time.nanos // 1000
        row = self.reader.read(request.transaction_id, time_us, dict(request.entities), features)
        assert isinstance(row, _core.ReadRow), row
        return row


BENCH = Bench()


def check_provenance(found: scoring_pb2.Provenance) -> None:
    assert found == scoring_pb2.Provenance(
        model="card", version="3", model_sha256=SHA256, feature_set="answers", feature_set_version="2", schema_hash="ab" * 32
    )


def check_inputs(response: scoring_pb2.ScoreResponse, row: _core.ReadRow) -> None:
    formats = {1: "f", 6: "i", 7: "q", 9: "?", 11: "d"}
    members = {1: "double_value", 6: "int64_value", 7: "int64_value", 9: "bool_value", 11: "double_value"}
    plan = BENCH.reader.plan
    assert [one.name for one in response.inputs] == list(INPUTS)
    for one, (tensor, element) in zip(response.inputs, plan.input_elements, strict=True):
        _, tensor_type, offset, _ = plan.segments[tensor]
        layout = "<" + formats[tensor_type]
        (want,) = struct.unpack_from(layout, row.row, offset + element * struct.calcsize(layout))
        assert one.value.WhichOneof("value") == members[tensor_type]
        got = getattr(one.value, members[tensor_type])
        assert got == want or (math.isnan(got) and math.isnan(want))


def check_response(
    response: scoring_pb2.ScoreResponse, request: scoring_pb2.ScoreRequest, *, inputs: bool, timings: bool
) -> None:
    row = BENCH.expected_row(request)
    score = _core.PuppetModel.score_of(row.row)
    assert response.transaction_id == request.transaction_id
    assert response.HasField("score")
    assert response.score == score
    decisions = [decision for minimum, decision in THRESHOLDS if score >= minimum]
    assert response.decision == (decisions[-1] if decisions else _core.DECISIONS["approve"])
    assert tuple(response.missing_features) == row.missing
    assert tuple(response.imputed_features) == row.imputed
    assert not response.degradations
    assert [age.view for age in response.view_ages] == [fold.view for fold in row.views]
    for age, fold in zip(response.view_ages, row.views, strict=True):
        assert age.HasField("age") == fold.found
        assert not fold.found or age.age.ToMicroseconds() == fold.age_us
    assert bool(response.inputs) == inputs
    if inputs:
        check_inputs(response, row)
    assert response.HasField("timings") == timings
    if timings:
        assert response.timings.batch_rows >= 1
        assert response.timings.HasField("total_duration")


FEATURES = st.fixed_dictionaries(
    {},
    optional={
        "amount": st.builds(scoring_pb2.FeatureValue, int64_value=st.integers(-(2**63), 2**63 - 1)),
        "small": st.builds(scoring_pb2.FeatureValue, int64_value=st.integers(-100, 100)),
        "ratio": st.builds(scoring_pb2.FeatureValue, double_value=st.floats(allow_nan=False, allow_infinity=False)),
        "is_online": st.builds(scoring_pb2.FeatureValue, bool_value=st.booleans()),
    },
)


@st.composite
def requests(draw: st.DrawFn) -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(
        transaction_id=draw(st.text(min_size=1, max_size=30)),
        entities={
            "customer_id": draw(st.sampled_from(["c0", "c1", "c2", "c3", "new"])),
            "terminal_id": draw(st.sampled_from(["t1", "new"])),
        },
        features=draw(FEATURES),
    )
    request.event_time.FromMicroseconds(NOW_S * 10**6 + draw(st.integers(-3, 3)))
    return request


@settings(max_examples=150 * SCALE)
@given(requests(), st.booleans(), st.booleans())
def test_score(request: scoring_pb2.ScoreRequest, inputs: bool, timings: bool) -> None:
    request.include_features, request.include_timings = inputs, timings
    payload = BENCH.answer(BENCH.engine.submit_score(request.SerializeToString(), 0, BENCH.queue, 7))
    response = scoring_pb2.ScoreResponse.FromString(payload)
    assert response.SerializeToString(deterministic=True) == payload
    check_response(response, request, inputs=inputs, timings=timings)
    check_provenance(response.provenance)


@settings(max_examples=50 * SCALE)
@given(st.lists(st.tuples(requests(), st.booleans()), min_size=1, max_size=8), st.booleans(), st.booleans())
def test_batch(rows: list[tuple[scoring_pb2.ScoreRequest, bool]], inputs: bool, timings: bool) -> None:
    """A bad row has a status of its own; the others are scored as if it were not there."""
    for request, is_good in rows:
        if not is_good:
            request.features["amount"].double_value = 1.0
    batch = scoring_pb2.ScoreBatchRequest(requests=[row for row, _ in rows], include_features=inputs, include_timings=timings)
    payload = BENCH.answer(BENCH.engine.submit_batch(batch.SerializeToString(), 0, BENCH.queue, 7))
    response = scoring_pb2.ScoreBatchResponse.FromString(payload)
    assert response.SerializeToString(deterministic=True) == payload
    check_provenance(response.provenance)
    for result, (request, is_good) in zip(response.results, rows, strict=True):
        assert result.transaction_id == request.transaction_id
        assert (result.HasField("response"), result.HasField("status")) == (is_good, not is_good)
        assert not result.response.HasField("provenance")
        if is_good:
            check_response(result.response, request, inputs=inputs, timings=timings)
        else:
            assert reasons(result.status) == [("WRONG_TYPE", 'features["amount"]')]


@settings(max_examples=50 * SCALE)
@given(requests(), st.booleans())
def test_stream(request: scoring_pb2.ScoreRequest, is_good: bool) -> None:
    if not is_good:
        request.features["amount"].double_value = 1.0
    message = scoring_pb2.ScoreStreamRequest(request=request)
    payload = BENCH.answer(BENCH.engine.submit_stream(message.SerializeToString(), 0, BENCH.queue, 7))
    response = scoring_pb2.ScoreStreamResponse.FromString(payload)
    assert response.SerializeToString(deterministic=True) == payload
    assert response.transaction_id == request.transaction_id
    assert response.HasField("response") == is_good
    if is_good:
        check_response(response.response, request, inputs=False, timings=False)
        check_provenance(response.response.provenance)
    else:
        assert reasons(response.status) == [("WRONG_TYPE", 'features["amount"]')]


def unpacked(status: status_pb2.Status) -> dict[str, Message]:
    """The details by their message's name."""
    found: dict[str, Message] = {}
    for detail in status.details:
        for message in (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()):
            if detail.Unpack(message):
                found[message.DESCRIPTOR.name] = message
    assert len(found) == len(status.details)
    return found


def reasons(status: status_pb2.Status) -> list[tuple[str, str]]:
    request = unpacked(status)["BadRequest"]
    assert isinstance(request, error_details_pb2.BadRequest)
    return [(violation.reason, violation.field) for violation in request.field_violations]


def test_a_status_for_every_code() -> None:
    for row in _core.CODE_TABLE[1:]:
        refusal = BENCH.engine.refuse(row.reason, "why: caf\u00e9")
        status = status_pb2.Status.FromString(refusal.rpc_status)
        assert status.SerializeToString(deterministic=True) == refusal.rpc_status
        assert (status.code, status.message) == (row.grpc_code, refusal.message)
        assert row.message in status.message
        assert "(why: caf\u00e9)" in status.message
        details = unpacked(status)
        info, retry = details["ErrorInfo"], details.get("RetryInfo")
        assert isinstance(info, error_details_pb2.ErrorInfo)
        assert (info.reason, info.domain) == (row.reason, "assay")
        assert (retry is not None) == (row.retry_ms > 0)
        if isinstance(retry, error_details_pb2.RetryInfo):
            assert retry.retry_delay.ToMilliseconds() == row.retry_ms
