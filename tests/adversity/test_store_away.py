"""Redis killed, frozen and back while clients score: all answers come inside their deadlines and say truthfully what they are.

Every customer's features have a value that no other's have: an answer with another's record would show it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import grpc
import pytest

from assay import _core
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.redis_store import RedisStore
from assay.features.store import RemoteStore, open_remote_store
from assay.v1 import feature_pb2, scoring_pb2, scoring_pb2_grpc
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.redis_cluster import redis_cluster, watched_redis
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import FEATURE_SET, LocalServer, make_event, make_request, status_of, wait_until

pytestmark = pytest.mark.usefixtures("transport")

DEADLINE_S = 10.0  # far more than a look-up may take, far less than a frozen store would
CUSTOMERS = 40
EVENTS = 7  # of each
ANSWERS = 60  # of a phase

# "tiny" with declared defaults: scores go on without the store.
OPEN_SET = FEATURE_SET.replace(
    "inputs: [amount, ratio, tx_count_1d, amount_sum_1d]",
    "inputs: [amount, ratio, {name: tx_count_1d, when_null: {default: 3}}, {name: amount_sum_1d, when_null: {default: 99}}]",
)
assert OPEN_SET != FEATURE_SET

# What a row without its record may say: there was none in time, or what came was damaged.
FLAGS = (
    [(scoring_pb2.DEGRADATION_KIND_STORE_UNAVAILABLE, "customer")],
    [(scoring_pb2.DEGRADATION_KIND_RECORD_REJECTED, "customer")],
)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


def fill(remote: RemoteStore, plan: _core.FeaturePlan) -> None:
    """EVENTS of a unit each, but for the first, which has as many as its customer's number says."""
    events = [
        make_event(f"past-{customer}-{i}", f"c{customer}", 100 * (customer if i == 0 else 1), seconds_before=60 + i)
        for customer in range(CUSTOMERS)
        for i in range(EVENTS)
    ]
    outcomes = remote.writer(plan).record_events(feature_pb2.RecordEventsRequest(events=events).SerializeToString())
    assert [outcome[0] for outcome in outcomes] == [0] * len(events)


def request_of(customer: int, transaction_id: str) -> scoring_pb2.ScoreRequest:
    return make_request(transaction_id, f"c{customer}", 100, include_features=True)


def features_of(response: scoring_pb2.ScoreResponse) -> tuple[float, float]:
    """Count and sum."""
    values = {i.name: i.value.double_value for i in response.inputs}
    return values["tx_count_1d"], values["amount_sum_1d"]


def whole_features(customer: int) -> tuple[float, float]:
    """Of all that fill() recorded, and of the transaction itself."""
    return EVENTS + 1.0, customer + EVENTS - 1 + 1.0


EMPTY, DEFAULTS = (1.0, 1.0), (3.0, 99.0)  # the transaction alone; what the feature set declares


class Load:
    """Clients that score without a pause. What comes back is judged at once."""

    def __init__(self, server: LocalServer, rng: random.Random, clients: int = 4) -> None:
        self.flagged = 0
        self.whole = 0
        self.may_be_empty = False  # the store has come back without its records
        self.wrong: list[str] = []
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        self._threads = [threading.Thread(target=self._run, args=(i, random.Random(rng.random()))) for i in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: Callable[[], int], what: str) -> None:
        """Waits for ANSWERS more of a kind."""
        wanted = count() + ANSWERS
        wait_until(lambda: count() >= wanted or bool(self.wrong), what)
        assert self.wrong == []

    def wait_until_well(self) -> None:
        """Until ANSWERS in a row are whole."""

        def is_well() -> bool:
            flagged = self.flagged
            self.more(lambda: self.whole, "answers with the store")
            return self.flagged == flagged

        wait_until(is_well, "no answer lacks its features any more")

    def _run(self, client: int, rng: random.Random) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            customers = [rng.randrange(CUSTOMERS) for _ in range(5 if number % 4 == 0 else 1)]
            requests = [request_of(customer, f"t-{client}-{number}-{i}") for i, customer in enumerate(customers)]
            try:
                if len(requests) > 1:
                    results = self._stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=requests), timeout=DEADLINE_S).results
                else:
                    results = [scoring_pb2.ScoreResult(response=self._stub.Score(requests[0], timeout=DEADLINE_S))]
            except grpc.RpcError as error:
                with self._lock:
                    self.wrong.append(f"{error.code()}: {error.details()}")
                return
            with self._lock:
                for customer, result in zip(customers, results, strict=True):
                    self._judge(customer, result)

    def _judge(self, customer: int, result: scoring_pb2.ScoreResult) -> None:
        """Called with the lock."""
        kinds = [(flag.kind, flag.subject) for flag in result.response.degradations]
        found = features_of(result.response) if not result.HasField("status") else None
        if not kinds and found == whole_features(customer):
            self.whole += 1
        elif kinds in FLAGS and found == DEFAULTS and "tx_count_1d" in result.response.imputed_features:
            self.flagged += 1
        elif kinds or found != EMPTY or not self.may_be_empty:
            self.wrong.append(f"customer {customer}: {found} with {kinds} {result.status.message}")


@contextmanager
def house(
    url: str, feature_set: str, lookup_timeout_ms: int = 50
) -> Iterator[tuple[LocalServer, RemoteStore, _core.FeaturePlan]]:
    plan = compile_plan(FeatureSet.parse(feature_set))
    remote = open_remote_store(url, lookup_timeout_ms=lookup_timeout_ms)
    try:
        with LocalServer(plan=plan, remote=remote, store={"lookup_timeout_ms_max": lookup_timeout_ms}) as server:
            yield server, remote, plan
    finally:
        remote.close()


def test_killed_frozen_and_back_under_load(redis: RedisServer, rng: random.Random) -> None:
    with house(redis.url, OPEN_SET) as (server, remote, plan):
        fill(remote, plan)
        with Load(server, rng) as load:
            load.more(lambda: load.whole, "answers with the store")
            redis.kill()
            load.more(lambda: load.flagged, "flagged answers while the store is dead")
            load.may_be_empty = True
            redis.start()
            fill(remote, plan)
            load.more(lambda: load.whole, "answers with the store that is back")
            load.may_be_empty = False
            redis.freeze()
            load.more(lambda: load.flagged, "flagged answers while the store is frozen")
            redis.thaw()
            load.more(lambda: load.whole, "answers with the store that thawed")
        stats = server.engine.stats()
        assert stats.degraded_rows == load.flagged
        assert stats.lookup_unavailable_records == load.flagged
        assert stats.failed_rows == stats.shed_rows == sum(stats.expired_rows) == 0


def test_python_comes_in_where_the_store_does_not_answer_well_and_goes_again(
    redis: RedisServer, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, fetched = RedisStore.fetch, []

    def note(store: RedisStore, keys: Sequence[bytes]) -> list[bytes | int | None] | None:
        fetched.append(len(keys))
        return fetch(store, keys)

    monkeypatch.setattr(RedisStore, "fetch", note)
    with house(redis.url, OPEN_SET) as (server, remote, plan):
        fill(remote, plan)
        with Load(server, rng) as load:
            load.more(lambda: load.whole, "answers with the store")
            assert fetched == []
            redis.kill()
            load.more(lambda: load.flagged, "flagged answers while the store is away")
            assert fetched
            load.may_be_empty = True
            redis.start()
            fill(remote, plan)
            load.wait_until_well()
            load.more(lambda: load.whole, "answers with the store that is back")
            count = len(fetched)
            load.more(lambda: load.whole, "more of them")
            assert len(fetched) == count


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE], ids=lambda fault: fault.name.lower())
def test_a_faulty_network_under_load(redis: RedisServer, rng: random.Random, fault: Fault) -> None:
    """Every answer comes inside its deadline and is whole or flagged, never wrong; and all are whole again soon after."""
    with (
        fault_proxy(redis.port, rng.randrange(1 << 30)) as proxy,
        house(f"redis://127.0.0.1:{proxy.port}/0", OPEN_SET) as (server, remote, plan),
    ):
        fill(remote, plan)
        with Load(server, rng) as load:
            load.more(lambda: load.whole, "answers with the store")
            proxy.set(fault)
            load.more(lambda: load.flagged, f"flagged answers while {fault.value}")
            proxy.set(Fault.NONE)
            load.more(lambda: load.whole, "answers with the store that is well again")
        assert server.engine.stats().degraded_rows == load.flagged


def test_a_sentinel_s_replica_takes_over_under_load(rng: random.Random) -> None:
    with watched_redis() as watched, house(watched.url, OPEN_SET) as (server, remote, plan):
        fill(remote, plan)
        with failing_over(server, rng, watched.primary):
            wait_until(lambda: watched.port_of_primary() == watched.replica.port, "the Sentinel names the replica")


def test_a_cluster_s_replica_takes_over_under_load(rng: random.Random) -> None:
    with redis_cluster(has_replica=True) as cluster, house(cluster.url, OPEN_SET) as (server, remote, plan):
        fill(remote, plan)
        with failing_over(server, rng, cluster.primaries[0]):
            cluster.wait_until_whole()


@contextmanager
def failing_over(server: LocalServer, rng: random.Random, primary: RedisServer) -> Iterator[None]:
    """Kills it under load; inside, its replica has to take over. Then all is well, though it never comes back."""
    with primary.client() as client:
        assert client.wait(1, 5_000) == 1  # the replica has it all
    with Load(server, rng) as load:
        load.wait_until_well()
        primary.kill()
        load.more(lambda: load.flagged, "flagged answers while nobody has taken over")
        yield
        load.wait_until_well()
    assert server.engine.stats().degraded_rows == load.flagged


def test_a_short_deadline_is_kept_though_the_store_hangs(redis: RedisServer) -> None:
    """The row gives up in time to be scored: two fifths of what its deadline leaves."""
    with house(redis.url, OPEN_SET, lookup_timeout_ms=10_000) as (server, remote, plan):
        fill(remote, plan)
        redis.freeze()
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        response = stub.Score(make_request("short", include_features=True), timeout=3)  # the model's default is one second
        assert [flag.kind for flag in response.degradations] == [scoring_pb2.DEGRADATION_KIND_STORE_UNAVAILABLE]
        redis.thaw()


def test_a_feature_set_without_defaults_fails_closed(redis: RedisServer) -> None:
    with house(redis.url, FEATURE_SET) as (server, _, _plan):
        redis.kill()
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        with pytest.raises(grpc.RpcError) as caught:
            stub.Score(make_request(), timeout=DEADLINE_S)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "declares no default" in status_of(caught.value).message
        results = stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=[make_request()] * 2), timeout=DEADLINE_S).results
        assert [result.status.code for result in results] == [grpc.StatusCode.UNAVAILABLE.value[0]] * 2


def test_events_are_refused_while_the_store_is_away(redis: RedisServer) -> None:
    from assay.v1 import feature_pb2_grpc

    with house(redis.url, OPEN_SET) as (server, _, _plan):
        redis.kill()
        admin = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
        message = feature_pb2.RecordEventsRequest(events=[make_event("e1")])
        with pytest.raises(grpc.RpcError) as caught:
            admin.RecordEvents(iter([message]), timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        redis.start()
        assert admin.RecordEvents(iter([message]), timeout=30).recorded_count == 1


def test_drain_answers_rows_that_wait_for_the_store(redis: RedisServer) -> None:
    """SIGTERM while the store hangs: what was accepted is answered, and nothing is left in the core (LocalServer checks)."""
    with house(redis.url, OPEN_SET) as (server, remote, plan):
        fill(remote, plan)
        redis.freeze()
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        calls = [stub.Score.future(make_request(f"t{i}"), timeout=DEADLINE_S) for i in range(20)]
        wait_until(lambda: server.engine.stats().accepted_rows == 20, "accepted rows")
        server.start_drain()()
        assert [call.result().transaction_id for call in calls] == [f"t{i}" for i in range(20)]
        redis.thaw()
