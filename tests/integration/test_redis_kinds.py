"""Redis on a Unix socket, behind a Sentinel and as a cluster: the same records as on one server, also while slots move and
servers die."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay import _core
from assay.errors import StoreError
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.ingest import ingest_log
from assay.features.store import open_remote_store, open_store
from tests.support.feature_sets import SHOP
from tests.support.redis_cluster import RedisCluster, redis_cluster, watched_redis
from tests.support.redis_server import redis_server
from tests.support.server import wait_until
from tests.support.shop_events import check_same, lines, sorted_log

UNAVAILABLE = next(row.number for row in _core.CODE_TABLE if row.reason == "STORE_UNAVAILABLE")


@pytest.fixture(scope="module")
def plan() -> _core.FeaturePlan:
    return compile_plan(FeatureSet.parse(SHOP))


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[RedisCluster]:
    with redis_cluster() as started:
        yield started


@pytest.fixture
def cluster(shared_cluster: RedisCluster) -> RedisCluster:
    """Whole and empty. For tests that leave it whole."""
    for node in shared_cluster.primaries:
        with node.client() as client:
            client.flushall()
    return shared_cluster


def fill(plan: _core.FeaturePlan, url: str, seed: int, count: int = 200) -> _core.EmbeddedStore:
    """Writes the same events there and into a store of this process, which is returned."""
    print("seed", seed)
    local = _core.EmbeddedStore()
    log = sorted_log(plan, lines(seed, count))
    log.ingest(_core.EventWriter(plan, local), 0, log.event_count)
    with open_store(url) as store:
        ingest_log(log, store.writer(plan))
    return local


def test_a_unix_socket_holds_the_same(tmp_path: Path, plan: _core.FeaturePlan) -> None:
    path = tmp_path / "redis.sock"
    with redis_server("--unixsocket", str(path)) as server:
        url = f"redis+unix://{path}?db=3"
        local = fill(plan, url, random.randrange(1 << 30))
        check_same(plan, url, local)
        with server.client() as client:
            assert set(client.info("keyspace")) == {"db3"}


def test_a_cluster_holds_the_same_wherever_its_slots_are(cluster: RedisCluster, plan: _core.FeaturePlan) -> None:
    local = fill(plan, cluster.url, random.randrange(1 << 30))
    check_same(plan, cluster.url, local)
    counts = []
    for node in cluster.primaries:
        with node.client() as client:
            counts.append(client.dbsize())
    assert sum(counts) == 6  # three customers and three terminals
    assert sum(count > 0 for count in counts) > 1, counts


def keys_and_canaries(cluster: RedisCluster, count: int = 60) -> dict[bytes, bytes]:
    """Values that say their keys, each at the node that has its slot."""
    canaries = {b"a1:{customer_id:c%d}:v:0" % i: b"canary of %d" % i for i in range(count)}
    for key, value in canaries.items():
        with cluster.primary_of(key).client() as client:
            client.set(key, value)
    return canaries


def test_a_batch_of_a_cluster_gets_each_key_its_own_record(cluster: RedisCluster) -> None:
    canaries = keys_and_canaries(cluster)
    asked = [*canaries, b"a1:{customer_id:none}:v:0", *canaries]
    random.shuffle(asked)
    with open_remote_store(cluster.url, lookup_timeout_ms=5_000) as store:
        assert store.fetch(asked) == [canaries.get(key) for key in asked]
        assert store.fetch([]) in ([], None)
        assert not store.is_away


def test_slots_that_move_are_followed(plan: _core.FeaturePlan) -> None:
    with redis_cluster() as cluster, open_remote_store(cluster.url, lookup_timeout_ms=5_000) as store:
        canaries = keys_and_canaries(cluster)
        keys = list(canaries)
        assert store.fetch(keys) == list(canaries.values())
        moved = keys[0]
        to = next(node for node in cluster.primaries if node is not cluster.primary_of(moved))
        cluster.begin_move(moved, to)  # nothing has left yet
        assert store.fetch(keys) == list(canaries.values())
        with cluster.primary_of(moved).client() as client:
            client.execute_command("MIGRATE", "127.0.0.1", to.port, moved, 0, 5000)
        assert store.fetch(keys) == list(canaries.values())  # ASK
        cluster.move_slot(moved, to)
        for _ in range(2):  # MOVED, then by the new map
            assert store.fetch(keys) == list(canaries.values())
        assert not store.is_away


def test_writers_follow_slots_that_move(plan: _core.FeaturePlan) -> None:
    with redis_cluster() as cluster:
        seed = random.randrange(1 << 30)
        local = fill(plan, cluster.url, seed)
        later = sorted_log(plan, [line.replace(b': "t', b': "later-t', 1) for line in lines(seed + 1, 200)])
        with open_store(cluster.url) as store:
            writer = store.writer(plan)
            ingest_log(sorted_log(plan, lines(seed, 5)), writer)  # it has a map, which then is out of date
            key = _core.EventWriter(plan, _core.EmbeddedStore()).record_of("customer", "c1").key
            to = next(node for node in cluster.primaries if node is not cluster.primary_of(key))
            cluster.move_slot(key, to)
            summary = ingest_log(later, writer)
        report = later.ingest(_core.EventWriter(plan, local), 0, later.event_count)
        counts = (report.recorded_count, report.duplicate_count, report.late_count)
        assert (summary.recorded_count, summary.duplicate_count, summary.late_count) == counts  # though it took two tries
        check_same(plan, cluster.url, local)
        with to.client() as client:
            assert client.exists(key)


def test_writers_follow_a_slot_that_is_on_its_way(plan: _core.FeaturePlan, rng: random.Random) -> None:
    """It was said that other writers changed the same records, until the slot had arrived."""
    with redis_cluster() as cluster, open_store(cluster.url) as store:
        seed = rng.randrange(1 << 30)
        local = fill(plan, cluster.url, seed)
        key = _core.EventWriter(plan, _core.EmbeddedStore()).record_of("customer", "c1").key
        to = next(node for node in cluster.primaries if node is not cluster.primary_of(key))
        cluster.begin_move(key, to)
        with cluster.primary_of(key).client() as client:
            client.execute_command("MIGRATE", "127.0.0.1", to.port, key, 0, 5000)
        later = sorted_log(plan, [line.replace(b': "t', b': "later-t', 1) for line in lines(seed + 1, 200)])
        summary = ingest_log(later, store.writer(plan))
        report = later.ingest(_core.EventWriter(plan, local), 0, later.event_count)
        assert (summary.recorded_count, summary.late_count) == (report.recorded_count, report.late_count)
        cluster.move_slot(key, to)
        check_same(plan, cluster.url, local)


def test_a_key_that_holds_no_string_is_no_record(plan: _core.FeaturePlan) -> None:
    """In a cluster the node that said so was taken for one that is away."""
    with redis_cluster() as cluster, open_remote_store(cluster.url, lookup_timeout_ms=2_000) as store:
        canaries = keys_and_canaries(cluster)
        keys = list(canaries)
        with cluster.primary_of(keys[0]).client() as client:
            client.delete(keys[0])
            client.lpush(keys[0], "x")
        for _ in range(6):
            assert store.fetch(keys) == [None, *list(canaries.values())[1:]]
        assert not store.is_away


def test_a_frozen_node_costs_its_own_keys_alone_and_one_breaker() -> None:
    with redis_cluster() as cluster:
        canaries = keys_and_canaries(cluster)
        keys = list(canaries)
        frozen = cluster.primary_of(keys[0])
        with open_remote_store(cluster.url, lookup_timeout_ms=2_000) as store:
            assert store.fetch(keys) == list(canaries.values())
            frozen.freeze()
            try:
                for _ in range(6):  # the breaker opens on the way
                    expected = [UNAVAILABLE if cluster.primary_of(key) is frozen else canaries[key] for key in keys]
                    assert store.fetch(keys) == expected
                assert store.is_away
                assert store.fetch([key for key in keys if cluster.primary_of(key) is frozen]) is None
            finally:
                frozen.thaw()
            wait_until(lambda: store.fetch(keys) == list(canaries.values()), "the node is asked again")
            assert not store.is_away


def test_a_replica_takes_over_and_reading_and_writing_go_on(plan: _core.FeaturePlan) -> None:
    with redis_cluster(has_replica=True) as cluster, open_remote_store(cluster.url, lookup_timeout_ms=300) as store:
        canaries = keys_and_canaries(cluster)
        keys = list(canaries)
        assert store.fetch(keys) == list(canaries.values())
        with cluster.primaries[0].client() as client:
            client.wait(1, 5_000)
        cluster.primaries[0].kill()
        mixed = store.fetch(keys)
        assert mixed is not None
        for key, found in zip(keys, mixed, strict=True):
            assert found == (UNAVAILABLE if cluster.primary_of(key) is cluster.primaries[0] else canaries[key])
        wait_until(lambda: store.fetch(keys) == list(canaries.values()), "the replica answers in its primary's place")
        seed = random.randrange(1 << 30)
        local = fill(plan, cluster.url, seed)
        check_same(plan, cluster.url, local)


def test_a_sentinel_names_the_server_also_after_a_failover(plan: _core.FeaturePlan) -> None:
    with watched_redis() as watched:
        local = fill(plan, watched.url, random.randrange(1 << 30))
        check_same(plan, watched.url, local)
        with open_remote_store(watched.url, lookup_timeout_ms=300) as store:
            with watched.primary.client() as client:
                client.set(b"a1:{customer_id:x}:v:0", b"canary")
                client.wait(1, 5_000)
            assert store.fetch([b"a1:{customer_id:x}:v:0"]) == [b"canary"]
            watched.primary.kill()
            wait_until(lambda: watched.port_of_primary() == watched.replica.port, "the Sentinel has made the replica the primary")
            wait_until(lambda: store.fetch([b"a1:{customer_id:x}:v:0"]) == [b"canary"], "the new primary is read")
        check_same(plan, watched.url, local)
        fill(plan, watched.url, random.randrange(1 << 30))  # it takes writes, too


def test_a_sentinel_that_does_not_know_the_service_is_named() -> None:
    with watched_redis() as watched:
        url = watched.url.replace("/records/", "/other/")
        with (
            open_remote_store(url) as store,
            pytest.raises(StoreError, match="no Sentinel answers that knows a primary of this service"),
        ):
            store.check()


def test_sentinels_may_have_a_password_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    with watched_redis(sentinel_password="sesame") as watched:
        with open_remote_store(f"{watched.url}?sentinel_password=sesame") as store:
            store.check()
            assert "sesame" not in store.url
        with open_remote_store(watched.url) as store, pytest.raises(StoreError):
            store.check()
        for wrong in ("?sentinel_password=", "?password=sesame", "?sentinel_password=sesame&socket_timeout=1"):
            with pytest.raises(StoreError, match="option is not supported or empty") as caught:
                open_remote_store(watched.url + wrong)
            assert "sesame" not in str(caught.value) + caplog.text


def test_a_cluster_behind_a_plain_url_is_told_what_to_say(cluster: RedisCluster, plan: _core.FeaturePlan) -> None:
    plain = f"redis://127.0.0.1:{cluster.primaries[0].port}/0"
    with open_store(plain) as store, pytest.raises(StoreError, match=r"redis\+cluster://"):
        ingest_log(sorted_log(plan, lines(1, 50)), store.writer(plan))


def test_a_plain_server_behind_a_cluster_s_url_is_told_what_to_say(plan: _core.FeaturePlan) -> None:
    with redis_server() as server:
        url = f"redis+cluster://127.0.0.1:{server.port}"
        with open_remote_store(url) as store, pytest.raises(StoreError, match=r"redis://"):
            store.check()


def test_a_cluster_that_nobody_answers_for_is_spared_by_a_breaker_of_its_own() -> None:
    url = "redis+cluster://127.0.0.1:1,127.0.0.1:2"
    with open_remote_store(url) as store:
        for _ in range(5):
            assert store.fetch([b"k"]) is None
        assert store.is_away
        with pytest.raises(StoreError, match="nobody answers there"):
            store.check()
