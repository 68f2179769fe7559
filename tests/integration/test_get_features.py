"""FeatureService.GetFeatures and DescribeFeatureSet: what a model would see is what its score saw; bounded; changes nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from assay import _core
from assay.cli.features import app
from assay.features.feature_set import FeatureSet
from assay.features.local_store import LocalStore
from assay.features.records import Records
from assay.features.store import open_remote_store
from assay.transport.worker import HELD_ITEMS_MAX
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2_grpc
from tests.conftest import SCALE
from tests.support.redis_server import redis_server
from tests.support.server import (
    EVENT_TIME,
    WAIT_S,
    LocalServer,
    make_event,
    make_request,
    reason_of,
    status_of,
    violations_of,
    wait_until,
)

SHOP = """
name: shop
version: "7"
description: What the tests look at.
entities: [customer_id, terminal_id]
request_features:
  amount_minor: {dtype: int64, minimum: 0}
  ratio: {dtype: float64, required: false, default: 0.5}
views:
  customer:
    entity: customer_id
    current: include
    aggregates:
      count_1d: {op: count, window: 1d}
      average_7d: {op: avg, of: amount_minor, window: 7d}
      seen_at: {op: last, of: event_time, window: 7d}
  terminal:
    entity: terminal_id
    labels: true
    delay: 7d
    aggregates:
      risk_30d: {op: rate_true, of: is_fraud, window: 30d}
  profile:
    kind: attributes
    entity: customer_id
    max_age: 1d
    attributes: {tier: string, orders: int64}
derived:
  amount: {op: scale, of: amount_minor, divide_by: 100}
  is_gold: {op: equals, of: tier, value: gold}
inputs:
  - amount
  - ratio
  - count_1d
  - {name: average_7d, when_null: nan}
  - {name: risk_30d, when_null: {default: 0.25}}
  - {name: orders, when_null: {default: -1}, dtype: float64}
  - {name: is_gold, when_null: {default: 0}, add_is_missing: true}
"""
TIME_US = int(EVENT_TIME.timestamp()) * 1_000_000
DAY_US = 86_400_000_000


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(feature_set=SHOP) as server:
        yield server


def ask(server: LocalServer, request: feature_pb2.GetFeaturesRequest, timeout: float = WAIT_S) -> Any:
    return feature_pb2_grpc.FeatureServiceStub(server.admin_channel()).GetFeatures(request, timeout=timeout)


def refusal_of(server: LocalServer, request: feature_pb2.GetFeaturesRequest) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, request)
    return status_of(caught.value)


def question(amount_minor: int | None = None, **entities: str) -> feature_pb2.GetFeaturesRequest:
    request = feature_pb2.GetFeaturesRequest(entities=entities)
    request.event_time.FromDatetime(EVENT_TIME)
    if amount_minor is not None:
        request.features["amount_minor"].int64_value = amount_minor
    return request


def record(server: LocalServer, *events: feature_pb2.Event) -> None:
    request = feature_pb2.RecordEventsRequest(events=events)
    answer = feature_pb2_grpc.FeatureServiceStub(server.admin_channel()).RecordEvents(iter([request]), timeout=WAIT_S)
    assert answer.rejected_count == 0, answer


def shop_event(number: int, rng: random.Random) -> feature_pb2.Event:
    event = make_event(f"e{number}", rng.choice(["c1", "c2"]), rng.randrange(10_000), rng.randrange(40 * 86_400))
    event.entities["terminal_id"] = rng.choice(["m1", "m2"])
    if rng.random() < 0.5:
        event.is_fraud = rng.random() < 0.3
    return event


def test_views_of_the_named_entities_are_shown_and_what_a_row_needs_is_said(server: LocalServer) -> None:
    record(server, make_event("e1", amount_minor=100), make_event("e2", amount_minor=201, seconds_before=30))
    server_writer = _core.EventWriter(server.plan, server.store)
    assert server_writer.write_attributes("profile", "c1", TIME_US - 2 * DAY_US, [None, "gold"]) == 0  # orders, tier
    answer = ask(server, question(customer_id="c1"))
    assert [(view.view, view.entity, view.is_found, view.is_stale) for view in answer.views] == [
        ("customer", "customer_id", True, False),
        ("profile", "customer_id", True, True),
    ]
    customer, profile = answer.views
    assert (customer.age.ToMicroseconds(), customer.newest_time.ToMicroseconds()) == (30_000_000, TIME_US - 30_000_000)
    assert {value.name: (value.definition, value.dtype, value.is_null) for value in customer.values} == {
        "count_1d": ("count over 1d", "int64", False),
        "average_7d": ("avg of amount_minor over 7d", "float64", False),
        "seen_at": ("last of event_time over 7d", "time", False),
    }
    count, average, seen_at = customer.values
    assert count.value.int64_value == 2
    assert average.value.double_value == 150.5
    assert seen_at.value.int64_value == TIME_US - 30_000_000
    orders, tier = profile.values
    assert (orders.name, orders.is_null, orders.HasField("value")) == ("orders", True, False)
    assert (tier.name, tier.is_null, tier.HasField("value")) == ("tier", False, False)  # a text is there, and not shown
    assert "gold" not in str(answer)
    assert list(answer.needed) == ['entities["terminal_id"]', 'features["amount_minor"]']
    assert (list(answer.inputs), answer.HasField("refusal")) == ([], False)
    made_by = answer.provenance
    assert (made_by.model, made_by.version, made_by.feature_set, made_by.feature_set_version) == ("puppet", "1", "shop", "7")
    assert made_by.schema_hash == FeatureSet.parse(SHOP).schema_hash


def test_the_row_is_the_one_that_a_score_has(server: LocalServer) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    for number in range(60 * SCALE):
        record(server, shop_event(number, rng))
        # One that was recorded already is asked about now and then: it must not be counted twice.
        asked = f"e{rng.randrange(2 * number + 1)}"
        score = make_request(asked, rng.choice(["c1", "c2", "nobody"]), rng.randrange(10_000), include_features=True)
        score.entities["terminal_id"] = rng.choice(["m1", "m2", "nowhere"])
        look = feature_pb2.GetFeaturesRequest(
            event_time=score.event_time, entities=score.entities, features=score.features, transaction_id=asked
        )
        scored, seen = stub.Score(score, timeout=WAIT_S), ask(server, look)
        assert str(list(seen.inputs)) == str(list(scored.inputs))  # as text: NaN is NaN
        assert list(seen.missing_features) == list(scored.missing_features)
        assert list(seen.imputed_features) == list(scored.imputed_features)
        assert list(seen.needed) == []
        ages = {age.view: age.age.ToMicroseconds() for age in scored.view_ages if age.HasField("age")}
        assert {view.view: view.age.ToMicroseconds() for view in seen.views if view.HasField("age")} == ages


def test_looking_changes_nothing(server: LocalServer) -> None:
    record(server, make_event("e1"))
    before = server.store.stats()
    ask(server, question(500, customer_id="c1", terminal_id="m1"))
    assert server.store.stats() == before
    assert server.event_counts()["recorded"] == 1


def test_what_a_score_would_be_refused_for_stands_beside_the_views() -> None:
    strict = SHOP.replace("{name: average_7d, when_null: nan}", "average_7d").replace("current: include", "current: exclude")
    with LocalServer(feature_set=strict) as server:
        answer = ask(server, question(500, customer_id="c1", terminal_id="m1"))
        assert [view.is_found for view in answer.views] == [False, False, False]
        assert list(answer.inputs) == []
        assert violations_of(answer.refusal) == {'inputs["average_7d"]': "NULL_INPUT"}


def test_a_wrong_question_is_refused_with_every_violation(server: LocalServer) -> None:
    wrong = question(customer_id="c1" * 65, nobody_id="x")
    wrong.features["amount_minor"].double_value = 5.0
    wrong.features["ratio"].SetInParent()
    wrong.ClearField("event_time")
    found = refusal_of(server, wrong)
    assert reason_of(found) == "INVALID_REQUEST"
    assert violations_of(found) == {
        "event_time": "MISSING_FIELD",
        'entities["customer_id"]': "TOO_LONG",
        'entities["nobody_id"]': "UNKNOWN_ENTITY",
        'features["amount_minor"]': "WRONG_TYPE",
        'features["ratio"]': "VALUE_UNSET",
    }
    assert reason_of(refusal_of(server, question())) == "MISSING_ENTITY"
    for names, reason in (({"model": "none"}, "UNKNOWN_MODEL"), ({"version": "9"}, "UNKNOWN_VERSION")):
        request = question(customer_id="c1")
        request.MergeFrom(feature_pb2.GetFeaturesRequest(**names))
        assert reason_of(refusal_of(server, request)) == reason
    before = server.engine.stats().refused_calls
    for method in ("GetFeatures", "DescribeFeatureSet"):
        raw = server.admin_channel().unary_unary(f"/assay.v1.FeatureService/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"\x0a\x7f", timeout=WAIT_S)
        assert reason_of(status_of(caught.value)) == "MALFORMED_MESSAGE"
    assert server.engine.stats().refused_calls == before + 2


@pytest.mark.usefixtures("transport")
def test_the_public_port_describes_and_shows_nobody() -> None:
    with LocalServer(feature_set=SHOP) as server:
        public = feature_pb2_grpc.FeatureServiceStub(server.channel())
        described = public.DescribeFeatureSet(feature_pb2.DescribeFeatureSetRequest(model="puppet"), timeout=WAIT_S)
        assert described.yaml == SHOP
        with pytest.raises(grpc.RpcError) as caught:
            public.GetFeatures(question(customer_id="c1"), timeout=WAIT_S)
        assert reason_of(status_of(caught.value)) == "WRONG_LISTENER"


def test_a_feature_set_is_described_whole(server: LocalServer) -> None:
    stub = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
    found = stub.DescribeFeatureSet(feature_pb2.DescribeFeatureSetRequest(), timeout=WAIT_S)
    feature_set = FeatureSet.parse(SHOP)
    assert (found.name, found.version, found.description) == ("shop", "7", "What the tests look at.")
    assert FeatureSet.parse(found.yaml).schema_hash == found.schema_hash == feature_set.schema_hash
    assert list(found.entities) == ["customer_id", "terminal_id"]
    amount, ratio = found.request_features
    assert (amount.name, amount.dtype, amount.is_required, amount.minimum.int64_value) == ("amount_minor", "int64", True, 0)
    assert (amount.HasField("maximum"), ratio.is_required, ratio.default_value.double_value) == (False, False, 0.5)
    customer, terminal, profile = found.views
    for view in found.views:
        assert bytes.fromhex(view.view_hash) == feature_set.view_hash(view.name)
    assert (customer.includes_current, customer.uses_labels, terminal.uses_labels) == (True, False, True)
    horizons = dict(zip(server.plan.view_names, server.plan.view_horizons_us, strict=True))  # the core's own
    assert {view.name: view.horizon.ToMicroseconds() for view in found.views} == horizons
    assert (terminal.delay.seconds, terminal.lateness.seconds) == (7 * 86_400, 3_600)
    assert (profile.kind, profile.max_age.seconds) == (feature_pb2.VIEW_KIND_ATTRIBUTES, 86_400)
    assert [(value.name, value.definition, value.dtype) for value in terminal.values] == [
        ("risk_30d", "rate_true of is_fraud over 30d", "float64")
    ]
    assert [(one.name, one.op, list(one.arguments), one.definition) for one in found.derived] == [
        ("amount", "scale", ["amount_minor"], "scale of amount_minor, divide_by 100"),
        ("is_gold", "equals", ["tier"], "equals of tier, value gold"),
    ]
    assert [(one.name, one.source, one.dtype, one.when_null) for one in found.inputs][3:] == [
        ("average_7d", "average_7d", "float32", "nan"),
        ("risk_30d", "risk_30d", "float32", "default"),
        ("orders", "orders", "float64", "default"),
        ("is_gold", "is_gold", "float32", "default"),
        ("is_gold_is_missing", "is_gold", "float32", "error"),
    ]
    assert [one.name for one in found.inputs if one.is_missing_flag] == ["is_gold_is_missing"]
    assert [one.default_value for one in found.inputs if one.HasField("default_value")] == [0.25, -1.0, 0.0]


def test_an_answer_past_the_limit_is_refused(server: LocalServer) -> None:
    with LocalServer(feature_set=SHOP, limits={"send_message_bytes_max": 1024}) as small:
        stub = feature_pb2_grpc.FeatureServiceStub(small.admin_channel())
        with pytest.raises(grpc.RpcError) as caught:
            stub.DescribeFeatureSet(feature_pb2.DescribeFeatureSetRequest(), timeout=WAIT_S)
        assert reason_of(status_of(caught.value)) == "ANSWER_TOO_LARGE"


# --- a store that hangs


class HeldStore:
    """LocalStore.records_of() hangs until release()."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.release = threading.Event()
        self.look_count = 0
        records_of = LocalStore.records_of

        def held(store: LocalStore, plan: _core.FeaturePlan, entities: Mapping[str, str]) -> Records:
            self.look_count += 1
            assert self.release.wait(WAIT_S)
            return records_of(store, plan, entities)

        monkeypatch.setattr(LocalStore, "records_of", held)


def test_a_store_that_hangs_costs_the_caller_his_deadline_and_scores_nothing(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HeldStore(monkeypatch)
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, question(customer_id="c1"), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    request = make_request()
    request.entities["terminal_id"] = "m1"
    assert scoring_pb2_grpc.ScoringServiceStub(server.channel()).Score(request, timeout=WAIT_S).transaction_id == "t1"
    store.release.set()
    assert ask(server, question(customer_id="c1")).views[0].view == "customer"


def test_at_most_so_many_looks_wait_and_one_that_nobody_waits_for_is_never_made(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HeldStore(monkeypatch)
    stub = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
    first = stub.GetFeatures.future(question(customer_id="c1"), timeout=WAIT_S)
    wait_until(lambda: store.look_count == 1, "the first hangs")
    others = [stub.GetFeatures.future(question(customer_id="c1"), timeout=WAIT_S) for _ in range(HELD_ITEMS_MAX - 1)]
    wait_until(lambda: server.held_count() == HELD_ITEMS_MAX, "all looks have come")
    refused = refusal_of(server, question(customer_id="c1"))
    assert reason_of(refused) == "QUEUE_FULL"
    for look in others:
        look.cancel()
    assert reason_of(refusal_of(server, question(customer_id="c1"))) == "QUEUE_FULL"  # they are in the queue all the same
    store.release.set()
    assert first.result(WAIT_S).views[0].view == "customer"
    wait_until(lambda: server.held_count() == 0, "those that were cancelled are passed by")
    assert store.look_count == 1


# --- Redis


def test_redis_shows_what_the_embedded_store_shows(server: LocalServer) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    events = [shop_event(number, rng) for number in range(50)]
    with redis_server() as redis:
        remote = open_remote_store(redis.url)
        with LocalServer(feature_set=SHOP, remote=remote) as other:
            for one in (server, other):
                record(one, *events)
            for entities in ({"customer_id": "c1"}, {"terminal_id": "m2"}, {"customer_id": "c2", "terminal_id": "nowhere"}):
                assert str(ask(server, question(500, **entities))) == str(ask(other, question(500, **entities)))
        remote.close()


def test_a_record_that_cannot_be_trusted_is_named_and_makes_no_row() -> None:
    with redis_server() as redis, redis.client() as client:
        remote = open_remote_store(redis.url)
        with LocalServer(feature_set=SHOP, remote=remote) as server:
            record(server, make_event("e1", "c-secret"))
            (key,) = client.keys("a1:*:customer:*")
            record_of_another_view = bytearray(client.get(key))
            client.set(key, reseal(record_of_another_view, view_hash=bytes(range(8))))
            answer = ask(server, question(500, customer_id="c-secret", terminal_id="m1"))
            customer = next(view for view in answer.views if view.view == "customer")
            assert (customer.is_found, customer.rejected_reason) == (False, "RECORD_VIEW")
            own_hash = FeatureSet.parse(SHOP).view_hash("customer").hex()
            assert f"made for view hash 0001020304050607, this feature set's begins {own_hash[:8]}" in customer.rejected_detail
            assert "c-secret" not in customer.rejected_detail
            assert all(value.is_null for value in customer.values)  # never silent zeros
            assert (list(answer.inputs), reason_of(answer.refusal)) == ([], "RECORD_VIEW")
            shown = CliRunner().invoke(app, ["show", "customer_id", "c-secret", "--target", f"unix:{server.addresses.admin}"])
            assert "customer (nothing stored, RECORD_VIEW)" in shown.stdout
            assert "made for view hash 0001020304050607" in shown.stdout
            redis.kill()
            with pytest.raises(grpc.RpcError) as caught:
                ask(server, question(customer_id="c-secret"))
            assert reason_of(status_of(caught.value)) == "STORE_UNAVAILABLE"
        remote.close()


def reseal(record: bytearray, view_hash: bytes) -> bytes:
    """A whole record, made for another view."""
    record[16:24] = view_hash
    record[12:16] = bytes(4)
    record[12:16] = _core.crc32c(bytes(record)).to_bytes(4, "little")
    return bytes(record)
