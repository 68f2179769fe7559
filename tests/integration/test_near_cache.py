"""The near-cache before a real Redis: the same scores with it as without, no customer with another's record, own writes seen at
once, and flagged answers of a known age while the store is away."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from assay import _core
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.store import RemoteStore, open_remote_store
from assay.features.store_writer import AttributeWrite
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.conftest import SCALE
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import EVENT_TIME, LocalServer, make_event, make_request

pytestmark = pytest.mark.usefixtures("transport")

DEADLINE_S = 20.0
LONG_MS = 3_600_000
CUSTOMERS = 200
TIME_US = int(EVENT_TIME.timestamp()) * 1_000_000

# Each customer's number stands in their profile, and they have that many events.
VIEWS = """
name: canaries
version: "1"
entities: [customer_id]
request_features:
  amount_minor: {dtype: int64}
views:
  profile: {kind: attributes, entity: customer_id, attributes: {number: int64}}
  customer: {entity: customer_id, aggregates: {count_1d: {op: count, window: 1d}}}
inputs:
  - {name: number, when_null: {default: -1}, dtype: float64}
  - {name: count_1d, when_null: {default: -1}}
"""


@pytest.fixture(scope="module")
def plan() -> _core.FeaturePlan:
    return compile_plan(FeatureSet.parse(VIEWS))


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@contextmanager
def house(redis: RedisServer, plan: _core.FeaturePlan, **store: object) -> Iterator[tuple[LocalServer, RemoteStore]]:
    """Records of both views are kept for longer than a test, unless `store` says otherwise. A busy machine may take a while."""
    ages = {"profile": LONG_MS, "customer": LONG_MS}
    store = {"lookup_timeout_ms_max": 10_000, "near_cache_max_age_ms": ages, **store}
    remote = open_remote_store(redis.url, lookup_timeout_ms=10_000)
    try:
        with LocalServer(plan=plan, remote=remote, store=store, lane={"timeout_ns_default": 60_000_000_000}) as server:
            yield server, remote
    finally:
        remote.close()


def fill(redis: RedisServer, plan: _core.FeaturePlan, customers: int) -> None:
    with open_remote_store(redis.url) as remote:
        writer = remote.writer(plan)
        writer.write_attributes("profile", [AttributeWrite(f"c{c}", TIME_US, (c,)) for c in range(customers)])
        events = [make_event(f"e{c}-{e}", f"c{c}") for c in range(customers) for e in range(c % 5)]
        for start in range(0, len(events), 500):
            message = feature_pb2.RecordEventsRequest(events=events[start : start + 500])
            assert {code for code, _, _ in writer.record_events(message.SerializeToString())} == {0}


def inputs_of(response: scoring_pb2.ScoreResponse) -> dict[str, float]:
    return {item.name: item.value.double_value for item in response.inputs}


def score(server: LocalServer, customer: str, number: int = 0) -> scoring_pb2.ScoreResponse:
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    response: scoring_pb2.ScoreResponse = stub.Score(
        make_request(f"t{number}", customer, include_features=True), timeout=DEADLINE_S
    )
    return response


def score_many(server: LocalServer, customers: list[str]) -> list[scoring_pb2.ScoreResponse]:
    """Calls of 20 rows, several at once."""
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())

    def batch(start: int) -> list[scoring_pb2.ScoreResponse]:
        part = customers[start : start + 20]
        requests = [make_request(f"t{start + i}", customer, include_features=True) for i, customer in enumerate(part)]
        results = stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=requests), timeout=DEADLINE_S).results
        assert not any(result.HasField("status") for result in results)
        return [result.response for result in results]

    with ThreadPoolExecutor(4) as pool:
        return [response for responses in pool.map(batch, range(0, len(customers), 20)) for response in responses]


def without_ages(response: scoring_pb2.ScoreResponse) -> bytes:
    copy = scoring_pb2.ScoreResponse.FromString(response.SerializeToString())
    for age in copy.view_ages:
        age.ClearField("cache_age")
    return copy.SerializeToString(deterministic=True)


def test_scores_are_the_same_with_it_and_without(redis: RedisServer, plan: _core.FeaturePlan) -> None:
    """Few bytes, so that records are pushed out all the time; customers that are not known, too."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    rng = random.Random(seed)
    fill(redis, plan, CUSTOMERS)
    customers = [f"c{min(rng.randrange(2 * CUSTOMERS), rng.randrange(2 * CUSTOMERS))}" for _ in range(1_000 * SCALE)]
    with house(redis, plan, near_cache_bytes_max=0) as (server, _):
        plain = score_many(server, customers)
        assert server.engine.stats().near_cache.hits == 0
    with house(redis, plan, near_cache_bytes_max=1 << 20) as (server, _):
        near = score_many(server, customers)
        stats = server.engine.stats().near_cache
    assert [without_ages(response) for response in near] == [without_ages(response) for response in plain]
    assert not any(response.degradations for response in near)
    for customer, response in zip(customers, near, strict=True):
        number = int(customer[1:])
        known = number < CUSTOMERS
        assert inputs_of(response) == {"number": number if known else -1, "count_1d": number % 5 if known else 0}
    assert stats.hits > 0
    assert stats.bytes <= stats.bytes_max == 1 << 20
    assert any(age.HasField("cache_age") for response in near for age in response.view_ages)


def test_what_is_near_needs_no_store(redis: RedisServer, plan: _core.FeaturePlan) -> None:
    fill(redis, plan, 3)
    with house(redis, plan) as (server, _):
        first = score(server, "c2")
        redis.kill()
        again = score(server, "c2")
        assert inputs_of(first) == inputs_of(again) == {"number": 2, "count_1d": 2}
        assert not again.degradations
        assert all(age.HasField("cache_age") for age in again.view_ages)
        assert not any(age.HasField("cache_age") for age in first.view_ages)
        unknown = score(server, "c1")
        kinds = [(flag.kind, flag.subject) for flag in unknown.degradations]
        assert kinds == [(scoring_pb2.DEGRADATION_KIND_STORE_UNAVAILABLE, view) for view in ("profile", "customer")]


@pytest.mark.parametrize("trouble", ["kill", "freeze"])
def test_stale_records_are_used_and_flagged_while_the_store_is_away(
    redis: RedisServer, plan: _core.FeaturePlan, trouble: str
) -> None:
    """An age of a millisecond: records are fetched each time, and kept for a day like this."""
    fill(redis, plan, 5)
    ages = {"profile": 1, "customer": 1}
    with house(redis, plan, near_cache_max_age_ms=ages, lookup_timeout_ms_max=100) as (server, _):
        for c in range(5):
            # A busy machine may be late for the first time.
            while score(server, f"c{c}").degradations:
                pass
        getattr(redis, trouble)()
        for c in range(5):
            response = score(server, f"c{c}")
            while not response.degradations:  # less than a millisecond ago
                response = score(server, f"c{c}")
            kinds = [(flag.kind, flag.subject) for flag in response.degradations]
            assert kinds == [(scoring_pb2.DEGRADATION_KIND_CACHE_STALE, view) for view in ("profile", "customer")]
            assert inputs_of(response) == {"number": c, "count_1d": c % 5}
            assert all(age.cache_age.ToNanoseconds() > 1_000_000 for age in response.view_ages)
            assert not response.missing_features
        assert server.engine.stats().near_cache.stale_records >= 10
        if trouble == "freeze":
            redis.thaw()


def test_what_this_server_writes_it_sees_at_once(redis: RedisServer, plan: _core.FeaturePlan) -> None:
    with house(redis, plan) as (server, _):
        admin = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
        for written in range(30):
            assert inputs_of(score(server, "c1")) == {"number": -1, "count_1d": written}
            assert inputs_of(score(server, "c1"))["count_1d"] == written  # near by now
            message = feature_pb2.RecordEventsRequest(events=[make_event(f"e{written}", "c1")])
            assert admin.RecordEvents(iter([message]), timeout=DEADLINE_S).recorded_count == 1
        assert server.engine.stats().near_cache.hits > 0


def test_what_others_write_is_seen_when_the_age_is_over(redis: RedisServer, plan: _core.FeaturePlan) -> None:
    ages = {"profile": LONG_MS, "customer": 1}
    with house(redis, plan, near_cache_max_age_ms=ages) as (server, _), open_remote_store(redis.url) as other:
        assert inputs_of(score(server, "c1")) == {"number": -1, "count_1d": 0}
        writer = other.writer(plan)
        writer.write_attributes("profile", [AttributeWrite("c1", TIME_US, (7,))])
        writer.record_events(feature_pb2.RecordEventsRequest(events=[make_event("e1", "c1")]).SerializeToString())
        while inputs_of(score(server, "c1"))["count_1d"] == 0:
            pass
        assert inputs_of(score(server, "c1"))["number"] == -1


def test_many_clients_of_one_customer_fetch_once(redis: RedisServer, plan: _core.FeaturePlan) -> None:
    fill(redis, plan, 2)
    with house(redis, plan) as (server, _), redis.client() as client:
        score(server, "c1")
        asked = client.info("commandstats")["cmdstat_mget"]["calls"]
        responses = score_many(server, ["c1"] * 400)
        assert {tuple(inputs_of(response).values()) for response in responses} == {(1.0, 1.0)}
        assert client.info("commandstats")["cmdstat_mget"]["calls"] == asked
        assert server.engine.stats().near_cache.records == 2


def test_a_misspelt_view_stops_the_start() -> None:
    command = [sys.executable, "-m", "assay", "serve", "--set", "store.near_cache_max_age_ms.custmer=5"]
    ended = subprocess.run([*command, "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode != 0
    said = " ".join(ended.stderr.split())
    assert "store.near_cache_max_age_ms.custmer: no model that is served has a view of this name" in said


def test_one_call_may_have_near_rows_others_and_a_bad_one(redis: RedisServer, plan: _core.FeaturePlan) -> None:
    fill(redis, plan, 3)
    with house(redis, plan) as (server, _):
        score(server, "c1")
        bad = make_request("bad", "c1")
        bad.features["amount_minor"].double_value = 1.5
        requests = [make_request("near", "c1"), bad, make_request("far", "c2")]
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        results = stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=requests), timeout=DEADLINE_S).results
        assert [result.transaction_id for result in results] == ["near", "bad", "far"]
        assert [result.status.code for result in results] == [0, grpc.StatusCode.INVALID_ARGUMENT.value[0], 0]
