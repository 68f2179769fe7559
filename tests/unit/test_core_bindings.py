"""The border of assay._core: what it converts, checks and owns. What the core does is tested by the rooms' own tests."""

from __future__ import annotations

import gc
import json
import re
import select
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from assay import _core
from assay.errors import CoreError
from assay.v1 import feature_pb2, scoring_pb2

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "ext" / "core"
DAY_US = 86_400_000_000
TIME_US = 1_522_540_831_000_000  # 2018-04-01T00:00:31Z
REASONS = {row.reason: row.number for row in _core.CODE_TABLE}


def start_builder() -> _core.PlanBuilder:
    return _core.PlanBuilder("tiny", "1.2.0", "ab" * 32)


def make_plan() -> _core.FeaturePlan:
    """amount (int64), channel (optional text), a window view and an attribute view; one float32 tensor of three elements."""
    builder = start_builder()
    customer = builder.entity("customer_id")
    amount = builder.request_feature("amount", _core.DTYPES["int64"], required=True, minimum=0, maximum=100_000)
    builder.request_feature("channel", _core.DTYPES["string"], required=False, default="web")
    window = builder.window_view(
        "spending",
        customer,
        bytes(range(32)),
        delay_us=0,
        uses_labels=False,
        includes_current=True,
        exact_events_max=256,
        lateness_us=0,
    )
    column = builder.column_of_feature(window, amount)
    count = builder.aggregate(window, _core.AGGREGATES["count"], -1, DAY_US)
    average = builder.aggregate(window, _core.AGGREGATES["avg"], column, DAY_US)
    profile = builder.attribute_view("profile", customer, bytes(32), max_age_us=0)
    builder.attribute(profile, "age", _core.DTYPES["float64"])
    builder.attribute(profile, "tier", _core.DTYPES["string"])
    tensor = builder.tensor("x", _core.TENSOR_TYPES["float32"], 3)
    nodes = [
        builder.view_node(window, count, "count"),
        builder.view_node(window, average, "average"),
        builder.view_node(profile, 0, "age"),
    ]
    error, default = _core.WHEN_NULL["error"], _core.WHEN_NULL["default"]
    for element, (name, node, when) in enumerate(zip(("n", "average", "age"), nodes, (error, error, default), strict=True)):
        builder.model_input(name, node, tensor, element, when, -1.0 if when == default else 0.0)
    return builder.build()


@pytest.fixture
def plan() -> _core.FeaturePlan:
    return make_plan()


@pytest.fixture
def store() -> _core.EmbeddedStore:
    return _core.EmbeddedStore()


def event_line(number: int, amount: object = 100, customer: str = "c1") -> bytes:
    event = {
        "transaction_id": str(number),
        "event_time": "2018-04-01T00:00:31Z",
        "entities": {"customer_id": customer},
        "features": {"amount": amount},
    }
    return json.dumps(event).encode() + b"\n"


def request(number: int = 1, amount: int = 100) -> bytes:
    message = scoring_pb2.ScoreRequest(transaction_id=str(number), entities={"customer_id": "c1"})
    message.event_time.FromMicroseconds(TIME_US)
    message.features["amount"].int64_value = amount
    return message.SerializeToString()


def floats(row: bytes) -> list[float]:
    return np.frombuffer(row, np.float32)[:3].tolist()


# --- tables


def test_code_table_is_the_cores() -> None:
    names = re.findall(
        r"^  k(\w+)(?: = 0)?,", (CORE / "base" / "status.h").read_text().split("enum class GrpcCode")[0], re.MULTILINE
    )
    assert names[-1] == "Count_"
    assert [row.number for row in _core.CODE_TABLE] == list(range(len(names) - 1))
    assert [row.reason.replace("_", "") for row in _core.CODE_TABLE] == [name.upper() for name in names[:-1]]
    assert all(0 <= row.grpc_code <= 16 and row.message for row in _core.CODE_TABLE if row.number)


def test_every_limit_is_exported() -> None:
    text = (CORE / "base" / "limits.h").read_text()
    names = re.findall(r"inline constexpr \w+ k(\w+) =", text)
    snake = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in names}
    assert set(_core.LIMITS) == snake
    assert len(names) > 20
    assert _core.LIMITS["id_bytes_max"] == 128


@pytest.mark.parametrize(
    ("table", "header", "enum", "left_out"),
    [
        (_core.DTYPES, "base/value.h", "Dtype", {"null"}),
        (_core.TENSOR_TYPES, "base/value.h", "TensorType", set()),
        (_core.AGGREGATES, "features/view.h", "AggregateOp", set()),
        (_core.OPERATIONS, "features/plan.h", "DerivedOp", set()),
        (_core.WHEN_NULL, "features/plan.h", "WhenNull", set()),
        (_core.DECISIONS, "wire/response.h", "Decision", {"unspecified"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_enum_tables_are_the_headers(table: dict[str, int], header: str, enum: str, left_out: set[str]) -> None:
    body = re.search(rf"enum class {enum} : uint8_t {{(.*?)}};", (CORE / header).read_text(), re.DOTALL)
    assert body is not None
    found = re.findall(r"\bk(\w+) = (\d+)", body[1])
    numbers = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): int(number) for name, number in found}
    assert table == {name: number for name, number in numbers.items() if name not in left_out}


def test_build_says_what_it_is() -> None:
    assert set(_core.BUILD) == {"compiler", "flags", "cpu"}
    assert _core.BUILD["compiler"]
    assert _core.BUILD["cpu"]


def test_hashes_give_the_published_answers() -> None:
    assert _core.xxh64(b"") == 0xEF46DB3751D8E999
    assert _core.xxh64(b"abc") == 0x44BC2CF5AD770999
    assert _core.crc32c(b"123456789") == 0xE3069283


# --- plans


def test_a_plan_shows_itself(plan: _core.FeaturePlan) -> None:
    assert (plan.feature_set, plan.version, plan.schema_hash) == ("tiny", "1.2.0", "ab" * 32)
    assert plan.entity_names == ("customer_id",)
    assert plan.feature_names == ("amount", "channel")
    assert plan.input_names == ("n", "average", "age")
    assert plan.view_names == ("spending", "profile")
    assert plan.segments == (("x", 1, 0, 3),)
    assert plan.input_elements == ((0, 0), (0, 1), (0, 2))
    assert plan.row_bytes == 16


def test_a_builder_builds_once() -> None:
    builder = start_builder()
    builder.feature_node(builder.request_feature("amount", _core.DTYPES["int64"], required=True))
    builder.model_input("amount", 0, 5, 0, _core.WHEN_NULL["error"])
    with pytest.raises(CoreError, match="amount") as caught:
        builder.build()
    assert caught.value.reason == "PLAN_INVALID"
    for late in (builder.build, builder.event_time_node, lambda: builder.entity("x"), lambda: builder.tensor("x", 1, 1)):
        with pytest.raises(RuntimeError, match="new PlanBuilder"):
            late()


def test_the_builder_checks_indices_numbers_and_types() -> None:
    builder = start_builder()
    builder.entity("customer_id")
    view = builder.attribute_view("profile", 0, bytes(32), max_age_us=0)
    with pytest.raises(ValueError, match="dtype: expected one of"):
        builder.request_feature("a", 0, required=True)
    with pytest.raises(ValueError, match="operation: expected one of"):
        builder.derived_node("d", 99, [])
    with pytest.raises(ValueError, match="view_hash has 31 bytes"):
        builder.attribute_view("profile", 0, bytes(31), max_age_us=0)
    with pytest.raises(ValueError, match="of the other kind"):
        builder.aggregate(view, 1, -1, DAY_US)
    with pytest.raises(IndexError, match="view 7 of 1"):
        builder.attribute(7, "age", 1)
    with pytest.raises(IndexError, match="feature 0 of 0"):
        builder.feature_node(0)
    with pytest.raises(OverflowError):
        builder.view_node(-1, 0, "x")
    with pytest.raises(TypeError):
        builder.entity(b"bytes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dtype", "value", "reason"),
    [("int64", 1.0, "WRONG_TYPE"), ("int64", True, "WRONG_TYPE"), ("float64", 1, "WRONG_TYPE"), ("string", 1, "WRONG_TYPE"),
     ("int64", 1 << 63, "INTEGER_OVERFLOW")],
)  # fmt: skip
def test_defaults_are_of_the_declared_type(dtype: str, value: _core.Scalar, reason: str) -> None:
    with pytest.raises(CoreError, match="feature 'a': default") as caught:
        start_builder().request_feature("a", _core.DTYPES[dtype], required=False, default=value)
    assert caught.value.reason == reason


def test_a_text_default_outlives_the_builder_and_its_text() -> None:
    """The default points into the plan, not into the str that it came from."""
    builder = start_builder()
    builder.entity("customer_id")
    text = "".join(["a", "p", "p"])  # short enough for std::string's own buffer
    channel = builder.request_feature("channel", _core.DTYPES["string"], required=False, default=text)
    for number in range(40):
        builder.request_feature(f"more_{number}", _core.DTYPES["bool"], required=False)
    word = builder.derived_node("word", _core.OPERATIONS["vocabulary"], [builder.feature_node(channel)], [0.0], ["", "app"])
    builder.model_input("word", word, builder.tensor("x", _core.TENSOR_TYPES["int64"], 1), 0, _core.WHEN_NULL["error"])
    plan = builder.build()
    del builder, text
    gc.collect()
    read = _core.FeatureReader(plan, _core.EmbeddedStore()).read("t", TIME_US, {"customer_id": "c"}, {})
    assert isinstance(read, _core.ReadRow)
    assert np.frombuffer(read.row, np.int64)[0] == 1


# --- decoding


def test_requests_decode(plan: _core.FeaturePlan) -> None:
    message = scoring_pb2.ScoreRequest.FromString(request(7))
    message.model, message.version, message.priority, message.include_timings = "m", "2", scoring_pb2.PRIORITY_BULK, True
    message.features["channel"].string_value = "mobilé"
    assert plan.decode_score_request(message.SerializeToString()) == _core.DecodedTransaction(
        "7", TIME_US, {"customer_id": "c1"}, {"amount": 100, "channel": "mobilé"}, None, "m", "2", 2, False, True
    )


def test_events_decode_the_same_from_both_formats(plan: _core.FeaturePlan) -> None:
    event = feature_pb2.Event(transaction_id="7", entities={"customer_id": "c1"}, is_fraud=False)
    event.event_time.FromMicroseconds(TIME_US)
    event.features["amount"].int64_value = 100
    line = json.loads(event_line(7))
    decoded = plan.decode_event_json(json.dumps({**line, "is_fraud": False}).encode())
    assert isinstance(decoded, _core.DecodedTransaction)
    assert decoded == plan.decode_event(event.SerializeToString())
    assert decoded.is_fraud is False
    unlabelled = plan.decode_event_json(event_line(7))
    assert isinstance(unlabelled, _core.DecodedTransaction)
    assert unlabelled.is_fraud is None


def test_a_refusal_is_a_google_rpc_status(plan: _core.FeaturePlan) -> None:
    message = scoring_pb2.ScoreRequest.FromString(request())
    message.features["amount"].double_value = 5716.0
    message.features["other"].bool_value = True
    refusal = plan.decode_score_request(message.SerializeToString())
    assert isinstance(refusal, _core.Refusal)
    status = status_pb2.Status.FromString(refusal.rpc_status)
    assert (status.code, status.message) == (refusal.grpc_code, refusal.message) == (3, refusal.message)
    assert refusal.code == REASONS["INVALID_REQUEST"]
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert {(item.field, item.reason) for item in bad.field_violations} == {
        ('features["amount"]', "WRONG_TYPE"),
        ('features["other"]', "UNKNOWN_FEATURE"),
    }
    assert "5716" not in refusal.message


def test_a_malformed_message_says_where(plan: _core.FeaturePlan) -> None:
    for decode in (plan.decode_score_request, plan.decode_event):
        refusal = decode(b"\x0a\x01x\xff")
        assert isinstance(refusal, _core.Refusal)
        assert refusal.code == REASONS["MALFORMED_MESSAGE"]
        info = error_details_pb2.ErrorInfo()
        assert status_pb2.Status.FromString(refusal.rpc_status).details[0].Unpack(info)
        assert info.metadata["byte_offset"] == "3"


@pytest.mark.parametrize("data", ["text", None, bytearray(b""), memoryview(b"")])
def test_only_bytes_are_decoded(plan: _core.FeaturePlan, data: object) -> None:
    with pytest.raises(TypeError):
        plan.decode_score_request(data)  # type: ignore[arg-type]


# --- reading and writing


def test_reading_follows_writing(plan: _core.FeaturePlan, store: _core.EmbeddedStore) -> None:
    writer, reader = _core.EventWriter(plan, store), _core.FeatureReader(plan, store)
    assert reader.plan is plan
    assert writer.write_json(event_line(1, 300)) == (0, None)
    assert writer.write_json(event_line(1, 300)) == (REASONS["EVENT_DUPLICATE"], None)
    assert writer.write_attributes("profile", "c1", TIME_US - 5, [41.5, None]) == 0
    read = reader.read("2", TIME_US, {"customer_id": "c1"}, {"amount": 100})
    assert isinstance(read, _core.ReadRow)
    assert floats(read.row) == [2.0, 200.0, 41.5]
    assert (read.missing, read.imputed) == ((), ())
    assert [fold.view for fold in read.views] == ["spending", "profile"]
    assert read.views[1] == _core.ViewFold("profile", True, False, False, False, 0, 5)


def test_missing_inputs_are_named(plan: _core.FeaturePlan, store: _core.EmbeddedStore) -> None:
    read = _core.FeatureReader(plan, store).read("2", TIME_US, {"customer_id": "c1"}, {"amount": 100})
    assert isinstance(read, _core.ReadRow)
    assert (read.missing, read.imputed) == (("age",), ("age",))
    assert floats(read.row) == [1.0, 100.0, -1.0]


@pytest.mark.parametrize(
    ("changes", "violations"),
    [
        ({"features": {"amount": 1.0}}, {('features["amount"]', "WRONG_TYPE")}),
        ({"features": {"amount": True}}, {('features["amount"]', "WRONG_TYPE")}),
        ({"features": {"amount": 1 << 64}}, {('features["amount"]', "INTEGER_OVERFLOW")}),
        ({"features": {"amount": 100_001}}, {('features["amount"]', "OUT_OF_RANGE")}),
        ({"features": {}}, {('features["amount"]', "MISSING_FEATURE")}),
        ({"features": {"amount": 1, "x": 1}}, {('features["x"]', "UNKNOWN_FEATURE")}),
        ({"entities": {}}, {('entities["customer_id"]', "MISSING_ENTITY")}),
        ({"entities": {"customer_id": "c", "x": "y"}}, {('entities["x"]', "UNKNOWN_ENTITY")}),
        ({"transaction_id": "x" * 129}, {("transaction_id", "TOO_LONG")}),
        ({"event_time_us": 1 << 62}, {("event_time", "BAD_TIMESTAMP")}),
    ],
)
def test_reading_checks_as_the_decoder_does(
    plan: _core.FeaturePlan, store: _core.EmbeddedStore, changes: dict[str, object], violations: set[tuple[str, str]]
) -> None:
    arguments = {"transaction_id": "1", "event_time_us": TIME_US, "entities": {"customer_id": "c"}, "features": {"amount": 1}}
    refusal = _core.FeatureReader(plan, store).read(**{**arguments, **changes})  # type: ignore[arg-type]
    assert isinstance(refusal, _core.Refusal)
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status_pb2.Status.FromString(refusal.rpc_status).details)
    assert {(item.field, item.reason) for item in bad.field_violations} == violations


def test_reading_refuses_other_types(plan: _core.FeaturePlan, store: _core.EmbeddedStore) -> None:
    reader = _core.FeatureReader(plan, store)
    with pytest.raises(TypeError, match="expected float, int, bool or str, not list"):
        reader.read("1", TIME_US, {"customer_id": "c"}, {"amount": []})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        reader.read("1", TIME_US, {"customer_id": 5}, {"amount": 1})  # type: ignore[dict-item]


def test_record_events_answers_each(plan: _core.FeaturePlan, store: _core.EmbeddedStore) -> None:
    message = feature_pb2.RecordEventsRequest()
    for number, amount in enumerate([1, 1, -5, 2]):
        event = message.events.add(transaction_id=str(number % 3), entities={"customer_id": "c1"})
        event.event_time.FromMicroseconds(TIME_US)
        event.features["amount"].int64_value = amount
    writer = _core.EventWriter(plan, store)
    outcomes = writer.record_events(message.SerializeToString())
    assert isinstance(outcomes, list)
    reasons = [_core.CODE_TABLE[code].reason for code, _, _ in outcomes]
    assert [transaction_id for _, transaction_id, _ in outcomes] == ["0", "1", "2", "0"]
    assert reasons == [_core.CODE_TABLE[0].reason, _core.CODE_TABLE[0].reason, "INVALID_REQUEST", "EVENT_DUPLICATE"]
    assert [refusal is None for _, _, refusal in outcomes] == [True, True, False, True]
    assert store.stats().event_count == 2
    assert isinstance(writer.record_events(b"\xff"), _core.Refusal)


def test_attributes_are_typed(plan: _core.FeaturePlan, store: _core.EmbeddedStore) -> None:
    writer = _core.EventWriter(plan, store)
    assert writer.write_attributes("profile", "c1", TIME_US, (1.5, "gold")) == 0
    assert writer.write_attributes("profile", "c1", TIME_US - 1, (1.5, "gold")) == REASONS["EVENT_TOO_LATE"]
    assert writer.write_attributes("profile", "x" * 129, TIME_US, (1.5, "gold")) == REASONS["TOO_LONG"]
    with pytest.raises(CoreError, match="attribute 'age': expected float64, not int"):
        writer.write_attributes("profile", "c1", TIME_US, (1, "gold"))
    with pytest.raises(ValueError, match="has 2 attributes, not 1"):
        writer.write_attributes("profile", "c1", TIME_US, (1.0,))
    with pytest.raises(ValueError, match="no attribute view 'spending'"):
        writer.write_attributes("spending", "c1", TIME_US, (1.0,))


# --- the store


def filled_store(plan: _core.FeaturePlan, events: int = 3) -> _core.EmbeddedStore:
    store = _core.EmbeddedStore()
    writer = _core.EventWriter(plan, store)
    for number in range(events):
        assert writer.write_json(event_line(number, customer=f"c{number}")) == (0, None)
    return store


def test_snapshots_report_progress_and_come_back(plan: _core.FeaturePlan, tmp_path: Path) -> None:
    path = str(tmp_path / "store.snapshot")
    saved: list[tuple[int, int]] = []
    loaded: list[tuple[int, int]] = []
    store = filled_store(plan)
    store.save(path, lambda done, total: saved.append((done, total)))
    again = _core.EmbeddedStore()
    again.load(path, lambda done, total: loaded.append((done, total)))
    assert again.stats().record_count == store.stats().record_count == 3
    for calls in (saved, loaded):
        assert calls
        assert calls[-1][0] == calls[-1][1]


def test_what_progress_raises_comes_out(plan: _core.FeaturePlan, tmp_path: Path) -> None:
    path = tmp_path / "store.snapshot"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled_store(plan).save(str(path), stop)
    assert path.is_file()


def test_a_snapshot_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CoreError) as caught:
        _core.EmbeddedStore().load(str(tmp_path / "absent"))
    assert caught.value.reason == "IO"
    assert caught.value.grpc_code == 14


def test_readers_and_writers_keep_plan_and_store_alive() -> None:
    reader = _core.FeatureReader(make_plan(), _core.EmbeddedStore())
    gc.collect()
    assert isinstance(reader.read("1", TIME_US, {"customer_id": "c"}, {"amount": 1}), _core.ReadRow)


# --- logs of events


def test_a_log_sorts_rejects_and_replays(plan: _core.FeaturePlan, store: _core.EmbeddedStore) -> None:
    log = _core.EventLog(plan)
    lines = [event_line(number) for number in (10, 9, 2)]
    log.append(lines[0] + b"\n" + event_line(3, amount=1.5))
    log.append(lines[1] + lines[2])
    with pytest.raises(ValueError, match="not sorted"):
        log.transaction_ids(0, 1)
    log.sort()
    assert log.transaction_ids(0, 3) == ["2", "9", "10"]
    assert (log.event_count, log.rejected_count) == (3, 1)
    (rejection,) = log.rejections()
    assert (rejection.line, rejection.offset_bytes, rejection.transaction_id) == (3, len(lines[0]) + 1, "3")
    assert [violation[:2] for violation in rejection.violations] == [("WRONG_TYPE", 'features["amount"]')]
    log.append(event_line(3, amount=2.5))
    assert [rejection.line for rejection in log.rejections(1)] == [6]
    assert log.rejections(2) == log.rejections(9) == []
    log.sort()
    reader, writer = _core.FeatureReader(plan, store), _core.EventWriter(plan, store)
    missing = np.full((3, 1), 255, np.uint64)
    rows, valid, times, report = log.replay(reader, writer, 0, 3, missing=missing)
    assert missing.tolist() == [[1 << plan.input_names.index("age")]] * 3
    for wrong in (missing[:2], missing.astype(np.int64), np.zeros(3, np.uint64)):
        with pytest.raises(ValueError, match=r"missing: expected uint64 of shape \(3, 1\)"):
            log.replay(reader, writer, 0, 3, missing=wrong)
    assert (rows.shape, rows.dtype, valid.dtype, times.dtype) == ((3, plan.row_bytes), np.uint8, np.bool_, np.int64)
    assert [floats(row.tobytes())[0] for row in rows] == [1.0, 2.0, 3.0]
    assert valid.all()
    assert times.tolist() == [TIME_US] * 3
    assert report == _core.IngestReport(3, 3, 0, 0, 0, 0)
    assert log.ingest(writer, 0, 3).duplicate_count == 3


def test_an_empty_range_is_a_range(plan: _core.FeaturePlan, store: _core.EmbeddedStore) -> None:
    log = _core.EventLog(plan)
    rows, valid, times, report = log.replay(_core.FeatureReader(plan, store), _core.EventWriter(plan, store), 0, 0)
    assert (rows.shape, valid.shape, times.shape) == ((0, plan.row_bytes), (0,), (0,))
    assert report.event_count == 0


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 3), (2, 1)])
def test_ranges_are_checked(plan: _core.FeaturePlan, store: _core.EmbeddedStore, start: int, stop: int) -> None:
    log = _core.EventLog(plan)
    log.append(event_line(1) + event_line(2))
    log.sort()
    with pytest.raises(ValueError, match="of 2"):
        log.ingest(_core.EventWriter(plan, store), start, stop)


def test_a_log_takes_only_its_own_plan(plan: _core.FeaturePlan, store: _core.EmbeddedStore) -> None:
    """Events hold positions of one plan; another plan's writer would read them as its own."""
    log, other = _core.EventLog(plan), make_plan()
    with pytest.raises(ValueError, match="share one FeaturePlan"):
        log.ingest(_core.EventWriter(other, store), 0, 0)
    with pytest.raises(ValueError, match="share one FeaturePlan"):
        log.replay(_core.FeatureReader(other, store), _core.EventWriter(plan, store), 0, 0)


def test_a_log_is_safe_between_threads(plan: _core.FeaturePlan) -> None:
    log = _core.EventLog(plan)
    threads = [
        threading.Thread(target=lambda base=base: [log.append(event_line(base + i)) for i in range(100)])
        for base in (0, 1000, 2000)
    ]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert log.rejections() == []
        assert log.event_count <= 300
    for thread in threads:
        thread.join()
    log.sort()
    assert len(set(log.transaction_ids(0, 300))) == 300


# --- the engine


class Served:
    """An engine with one puppet lane over an empty store."""

    def __init__(self, *, threads: bool = True, **lane: object) -> None:
        self.plan = make_plan()
        self.reader = _core.FeatureReader(self.plan, _core.EmbeddedStore())
        self.puppet = _core.PuppetModel()
        self.clock = None if threads else _core.ManualClock()
        self.engine = _core.Engine(slots=64, batch_call_rows_max=16, clock=self.clock)
        self.queue = self.engine.open_queue()
        # A minute: the time that a test takes is no part of it.
        options = {"model": "m", "version": "1", "model_sha256": "0" * 64, "batch_rows_max": 64}
        options |= {"timeout_ns_default": 60_000_000_000, **lane}
        self.engine.add_lane(reader=self.reader, runner=self.puppet, threads=threads, **options)  # type: ignore[arg-type]

    def submit(self, data: bytes, token: int = 0, deadline_ns: int = 0) -> bytes | _core.Accepted | _core.Refusal:
        return self.engine.submit_score(data, deadline_ns, self.queue, token)

    def wait(self) -> list[tuple[int, bytes | _core.Refusal]]:
        assert select.select([self.queue.fd], [], [], 10)[0]
        return self.queue.drain()

    def expected_score(self, amount: int) -> float:
        read = self.reader.read("1", TIME_US, {"customer_id": "c1"}, {"amount": amount})
        assert isinstance(read, _core.ReadRow)
        return _core.PuppetModel.score_of(read.row)


@pytest.fixture
def served() -> Iterator[Served]:
    value = Served()
    yield value
    value.puppet.release()
    value.engine.stop()
    value.queue.drain()
    value.engine.check_idle()


def test_a_score_comes_back_by_its_token(served: Served) -> None:
    accepted = served.submit(request(5, 250), token=2**64 - 1)
    assert type(accepted) is _core.Accepted
    assert accepted.call > 0
    assert accepted.deadline_ns > 0
    ((token, answer),) = served.wait()
    assert token == 2**64 - 1
    assert isinstance(answer, bytes)
    response = scoring_pb2.ScoreResponse.FromString(answer)
    assert response.transaction_id == "5"
    assert response.score == served.expected_score(250)
    assert served.queue.drain() == []


def test_batches_and_streams(served: Served) -> None:
    batch = scoring_pb2.ScoreBatchRequest(requests=[scoring_pb2.ScoreRequest.FromString(request(i, i)) for i in range(3)])
    assert isinstance(served.engine.submit_batch(batch.SerializeToString(), 0, served.queue, 1), _core.Accepted)
    ((token, answer),) = served.wait()
    assert token == 1
    assert isinstance(answer, bytes)
    scores = [result.response.score for result in scoring_pb2.ScoreBatchResponse.FromString(answer).results]
    assert scores == [served.expected_score(i) for i in range(3)]
    stream = scoring_pb2.ScoreStreamRequest(request=scoring_pb2.ScoreRequest.FromString(request(1, 9)))
    assert isinstance(served.engine.submit_stream(stream.SerializeToString(), 0, served.queue, 2), _core.Accepted)
    ((token, answer),) = served.wait()
    assert isinstance(answer, bytes)
    assert scoring_pb2.ScoreStreamResponse.FromString(answer).response.score == served.expected_score(9)


def test_a_row_run_inline_comes_back_at_once() -> None:
    served = Served(threads=False, inline_overrun_ns=1)
    answer = served.submit(request(5, 250))
    assert isinstance(answer, bytes)
    response = scoring_pb2.ScoreResponse.FromString(answer)
    assert (response.transaction_id, response.score) == ("5", served.expected_score(250))
    message = scoring_pb2.ScoreStreamRequest(request=scoring_pb2.ScoreRequest.FromString(request(6, 9))).SerializeToString()
    answer = served.engine.submit_stream(message, 0, served.queue, 2)
    assert isinstance(answer, bytes)
    assert scoring_pb2.ScoreStreamResponse.FromString(answer).response.score == served.expected_score(9)
    served.puppet.fail_next(1)
    refusal = served.submit(request())
    assert isinstance(refusal, _core.Refusal)
    assert _core.CODE_TABLE[refusal.code].reason == "MODEL_RUN_FAILED"
    assert served.queue.drain() == []
    stats = served.engine.stats()
    assert (stats.inline_rows, stats.inline_overruns, stats.answered_rows, stats.failed_rows) == (3, 0, 2, 1)
    served.engine.check_idle()


def test_refusals_are_values(served: Served) -> None:
    for submit in (served.engine.submit_score, served.engine.submit_batch, served.engine.submit_stream):
        refusal = submit(b"\xff", 0, served.queue, 1)
        assert type(refusal) is _core.Refusal
        assert refusal.grpc_code == 3
        assert status_pb2.Status.FromString(refusal.rpc_status).message == refusal.message
    served.puppet.fail_next(1000)
    served.submit(request(), token=7)
    ((token, answer),) = served.wait()
    assert token == 7
    assert isinstance(answer, _core.Refusal)
    assert _core.CODE_TABLE[answer.code].reason == "MODEL_RUN_FAILED"


def test_numbers_past_their_width_are_refused(served: Served) -> None:
    for deadline_ns, token in ((1 << 63, 0), (0, 1 << 64), (0, -1)):
        with pytest.raises(OverflowError):
            served.submit(request(), token, deadline_ns)
    with pytest.raises(OverflowError):
        served.engine.cancel(1 << 64)
    assert served.engine.cancel(12345) is False


def test_a_queue_belongs_to_its_engine(served: Served) -> None:
    other = _core.Engine(slots=8, batch_call_rows_max=2)
    for submit in (other.submit_score, other.submit_batch, other.submit_stream):
        with pytest.raises(ValueError, match="another engine"):
            submit(request(), 0, served.queue, 0)
    with pytest.raises(TypeError):
        served.engine.submit_score(request(), 0, None, 0)  # type: ignore[arg-type]


def test_a_manual_clock_drives_deadlines() -> None:
    served = Served(threads=False)
    assert served.clock is not None
    accepted = served.submit(request(), deadline_ns=served.clock.now_ns() + 1_000_000)
    assert isinstance(accepted, _core.Accepted)
    assert accepted.deadline_ns == served.clock.now_ns() + 1_000_000
    served.clock.advance_ns(2_000_000)
    assert served.engine.step("m", "1") == 0
    ((_, answer),) = served.queue.drain()
    assert isinstance(answer, _core.Refusal)
    assert answer.grpc_code == 4
    assert served.puppet.batches == []
    assert sum(served.engine.stats().expired_rows) == 1
    assert served.engine.wait_idle(0.0)
    served.engine.check_idle()


def test_steps_run_batches_without_threads() -> None:
    served = Served(threads=False)
    for number in range(5):
        served.submit(request(number), token=number)
    assert served.engine.wait_idle(0.0) is False
    assert served.engine.step("m", "1") == 5
    assert sorted(token for token, _ in served.queue.drain()) == [0, 1, 2, 3, 4]
    assert served.puppet.batches == [5]
    assert served.engine.stats().answered_rows == 5


def test_thresholds_decide() -> None:
    served = Served(threads=False, thresholds=[(0.0, _core.DECISIONS["decline"])])
    served.submit(request())
    served.engine.step("m", "1")
    ((_, answer),) = served.queue.drain()
    assert isinstance(answer, bytes)
    assert scoring_pb2.ScoreResponse.FromString(answer).decision == scoring_pb2.DECISION_DECLINE


def test_lanes_are_checked_and_removed(served: Served) -> None:
    lane = {"model": "m2", "version": "1", "model_sha256": "", "reader": served.reader, "runner": served.puppet}
    with pytest.raises(TypeError, match="expected OrtModel or PuppetModel, not str"):
        served.engine.add_lane(**{**lane, "runner": "x"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="runners and batch_rows_max"):
        served.engine.add_lane(**lane, runners=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold: decision"):
        served.engine.add_lane(**lane, thresholds=[(0.5, 9)])  # type: ignore[arg-type]
    with pytest.raises(CoreError):
        served.engine.add_lane(**{**lane, "model": "NOT A NAME"}, batch_rows_max=64)  # type: ignore[arg-type]
    served.engine.remove_lane("m", "1")
    with pytest.raises(CoreError):
        served.engine.remove_lane("m", "1")
    refusal = served.submit(request())
    assert isinstance(refusal, _core.Refusal)
    assert refusal.grpc_code in {5, 14}


def test_refuse_encodes_by_reason(served: Served) -> None:
    refusal = served.engine.refuse("DRAINING", "said by the transport")
    assert refusal.code == REASONS["DRAINING"]
    assert refusal.grpc_code == 14
    assert "said by the transport" in refusal.message
    with pytest.raises(ValueError, match="no reason 'NOPE'"):
        served.engine.refuse("NOPE")


@pytest.mark.parametrize(("slots", "rows"), [(0, 1), (8, 3), (8, 0), (1 << 20, 4097)])
def test_engine_limits(slots: int, rows: int) -> None:
    with pytest.raises(ValueError, match="slots"):
        _core.Engine(slots=slots, batch_call_rows_max=rows)


def test_a_queue_keeps_its_engine_alive() -> None:
    """Only the queue is left when the call finishes: its engine, lane and runner must still be there."""
    served = Served()
    served.puppet.hold()
    served.submit(request(), token=3)
    puppet, queue = served.puppet, served.queue
    del served
    gc.collect()
    puppet.release()
    assert select.select([queue.fd], [], [], 10)[0]
    ((token, answer),) = queue.drain()
    assert token == 3
    assert isinstance(answer, bytes)


def test_a_dropped_queue_is_still_pushed_to() -> None:
    """The engine owns the queue's memory: a runner that finishes after the Python object is gone writes to living memory."""
    served = Served()
    served.puppet.hold()
    served.submit(request())
    del served.queue
    gc.collect()
    served.puppet.release()
    served.engine.stop()
    assert served.engine.stats().answered_rows + served.engine.stats().cancelled_rows <= 1


def test_stop_is_idempotent_and_other_threads_run_meanwhile(served: Served) -> None:
    """wait_idle() releases the GIL: the thread that lets the puppet go on needs it."""
    served.puppet.hold()
    served.submit(request())
    release = threading.Timer(0.01, served.puppet.release)
    release.start()
    assert select.select([served.queue.fd], [], [], 10)[0]
    served.queue.drain()
    assert served.engine.wait_idle(10.0)
    release.join()
    served.engine.stop()
    served.engine.stop()
    refusal = served.submit(request())
    assert isinstance(refusal, _core.Refusal)
    assert refusal.grpc_code == 14


def test_a_process_that_forgets_to_stop_ends_cleanly() -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.unit.test_core_bindings import Served, request
served = Served()
for number in range(20):
    served.submit(request(number))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_nothing_is_left_behind() -> None:
    """Everything of a served engine goes with the last reference: no cycle, no registry."""

    class Marker:
        pass

    marker = Marker()
    alive = weakref.ref(marker)
    store = _core.EmbeddedStore()

    def progress(done: int, total: int, kept: Marker = marker) -> None:
        pass

    with pytest.raises(CoreError):
        store.save("/nonexistent/folder/file", progress)
    del marker, progress
    assert alive() is None


# --- the puppet


def test_the_puppet_counts_and_fails() -> None:
    served = Served(threads=False)
    read = served.reader.read("1", TIME_US, {"customer_id": "c1"}, {"amount": 13})
    assert isinstance(read, _core.ReadRow)
    served.puppet.poison(read.row)
    for number, amount in enumerate([12, 13, 14]):
        served.submit(request(number, amount), token=amount)
    while served.engine.step("m", "1"):
        pass
    answers = dict(served.queue.drain())
    assert isinstance(answers[13], _core.Refusal)
    assert isinstance(answers[12], bytes)
    assert isinstance(answers[14], bytes)
    assert served.puppet.batches[0] == 3
    with pytest.raises(ValueError, match="rows_max"):
        _core.PuppetModel(rows_max=0)
