"""Redis as the feature store: the same features and scores as the embedded one, to the bit; writers side by side; bad records."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from assay import _core
from assay.cli.main import load_subcommand
from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TERMINAL_ID, DEMO_TIME
from assay.errors import StoreError
from assay.features.breaker import BreakerLimits
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.ingest import ingest_log
from assay.features.redis_servers import OneServer
from assay.features.redis_store import RedisStore
from assay.features.redis_writer import HEADER_BYTES, PUT_SCRIPT
from assay.features.store import open_remote_store, open_store
from assay.features.store_writer import AttributeWrite
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.conftest import SCALE
from tests.support.feature_sets import SHOP
from tests.support.redis_server import RedisServer, redis_server, view_of
from tests.support.server import (
    EVENT_TIME,
    LocalServer,
    ServeProcess,
    make_event,
    make_request,
    reason_of,
    status_of,
    wait_until,
)
from tests.support.shop_events import ODD_ID, START_US, check_same, lines, sorted_log

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@pytest.fixture(autouse=True)
def _empty(server: RedisServer) -> None:
    with server.client() as client:
        client.flushall()


@pytest.fixture(scope="module")
def plan() -> _core.FeaturePlan:
    return compile_plan(FeatureSet.parse(SHOP))


def test_the_same_events_make_the_same_features(server: RedisServer, plan: _core.FeaturePlan) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    local = _core.EmbeddedStore()
    for part in range(3):  # files of history, one after the other; each goes over records that are there
        log = sorted_log(plan, lines(seed + part, 400 * SCALE))
        with open_store(server.url) as store:
            remote_summary = ingest_log(log, store.writer(plan))
        with open_store("embedded:") as _:
            writer = _core.EventWriter(plan, local)
        local_report = log.ingest(writer, 0, log.event_count)
        assert (remote_summary.recorded_count, remote_summary.duplicate_count, remote_summary.late_count) == (
            local_report.recorded_count,
            local_report.duplicate_count,
            local_report.late_count,
        )
    check_same(plan, server.url, local)


def test_attributes_go_the_same_way(server: RedisServer, plan: _core.FeaturePlan) -> None:
    local = _core.EmbeddedStore()
    writes = [
        AttributeWrite("c1", START_US, (3, "gold")),
        AttributeWrite(ODD_ID, START_US, (None, "none of them")),
        AttributeWrite("c1", START_US - 5, (4, "silver")),
        AttributeWrite("c1", START_US, (3, "gold")),
    ]
    with open_store(server.url) as store:
        codes = store.writer(plan).write_attributes("profile", writes)
        again = store.writer(plan).write_attributes("profile", writes[:2])
    reasons = [_core.CODE_TABLE[code].reason for code in [*codes, *again]]
    assert reasons == ["OK", "OK", "EVENT_TOO_LATE", "EVENT_DUPLICATE", "EVENT_DUPLICATE", "EVENT_DUPLICATE"]
    writer = _core.EventWriter(plan, local)
    for write in writes:
        writer.write_attributes("profile", *write)
    check_same(plan, server.url, local)


def test_writers_side_by_side_lose_nothing(server: RedisServer, plan: _core.FeaturePlan) -> None:
    """Four threads write to the same few records at once, each its share of the events and some of its neighbour's."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    events = lines(seed, 200)  # fewer than a ring holds: any order gives the same records
    shares = [events[i::4] + events[(i + 1) % 4 :: 8] for i in range(4)]
    failures: list[BaseException] = []

    def write(share: list[bytes]) -> None:
        try:
            with open_store(server.url) as store:
                writer = store.writer(plan)
                for start in range(0, len(share), 20):
                    ingest_log(sorted_log(plan, share[start : start + 20]), writer)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    local = _core.EmbeddedStore()
    log = sorted_log(plan, events)
    log.ingest(_core.EventWriter(plan, local), 0, log.event_count)
    check_same(plan, server.url, local)


def test_the_script_refuses_a_record_made_from_an_older_one(server: RedisServer) -> None:
    with server.client() as client:
        put = client.register_script(PUT_SCRIPT)
        old, new = b"a" * HEADER_BYTES + b"old", b"b" * HEADER_BYTES + b"new"
        assert put(keys=["k"], args=[b"", old, 0, HEADER_BYTES]) == 1
        assert put(keys=["k"], args=[b"", new, 0, HEADER_BYTES]) == 0  # somebody was first
        assert put(keys=["k"], args=[new[:HEADER_BYTES], new, 0, HEADER_BYTES]) == 0
        assert client.get("k") == old
        assert put(keys=["k"], args=[old[:HEADER_BYTES], new, 5_000, HEADER_BYTES]) == 1
        assert client.get("k") == new
        assert 0 < client.pttl("k") <= 5_000


def test_a_server_that_lost_the_script_is_given_it_again(server: RedisServer, plan: _core.FeaturePlan) -> None:
    with open_store(server.url) as store, server.client() as client:
        writer = store.writer(plan)
        for name in (b"t", b"u"):
            client.script_flush()
            (line,) = lines(1, 1)
            assert ingest_log(sorted_log(plan, [line.replace(b'"t0"', b'"' + name + b'"')]), writer).recorded_count == 1
        assert client.script_exists(hashlib.sha1(PUT_SCRIPT.encode()).hexdigest()) == [True]


def test_what_nobody_needs_any_more_expires(server: RedisServer, plan: _core.FeaturePlan) -> None:
    with open_store(server.url) as store:
        writer = store.writer(plan)
        ingest_log(sorted_log(plan, lines(1, 20)), writer)
        writer.write_attributes("profile", [AttributeWrite("c1", START_US, (3, "gold"))])
    horizon_ms = dict(zip(plan.view_names, (us // 1000 for us in plan.view_horizons_us), strict=True))
    with server.client() as client:
        for key in client.keys("*"):
            view = view_of(key)
            left_ms = client.pttl(key)
            assert left_ms == -1 if view == "profile" else horizon_ms[view] - 60_000 < left_ms <= horizon_ms[view]


def test_a_damaged_record_is_left_out_of_scores_and_never_written_over(server: RedisServer, plan: _core.FeaturePlan) -> None:
    remote = open_remote_store(server.url, lookup_timeout_ms=5_000)
    with LocalServer(plan=plan, remote=remote) as local, server.client() as client:
        stub = scoring_pb2_grpc.ScoringServiceStub(local.channel())
        ingest_log(sorted_log(plan, lines(2, 50)), remote.writer(plan))
        key = next(key for key in client.keys("a1:*c1*:customer:*"))
        damaged = bytearray(client.get(key))
        damaged[-1] ^= 1
        client.set(key, bytes(damaged))
        response = stub.Score(request("t-new", "c1", "m0"), timeout=20)
        assert [(d.kind, d.subject, d.detail) for d in response.degradations] == [
            (scoring_pb2.DEGRADATION_KIND_RECORD_REJECTED, "customer", "RECORD_CHECKSUM")
        ]
        with pytest.raises(
            StoreError, match=r"a record of view customer cannot be trusted \(RECORD_CHECKSUM\); the xxh64"
        ) as error:
            ingest_log(sorted_log(plan, lines(3, 50)), remote.writer(plan))
        assert "c1" not in str(error.value)  # ids stay out of what may be logged
        assert f"{_core.xxh64(key):016x}" in str(error.value)
        assert client.get(key) == bytes(damaged)
        assert {view: error.reason for view, error in remote.records_of(plan, {"customer_id": "c1"}).rejected.items()} == {
            "customer": "RECORD_CHECKSUM"
        }
        admin = feature_pb2_grpc.FeatureServiceStub(local.admin_channel())
        with pytest.raises(grpc.RpcError) as refused:
            admin.RecordEvents(iter([feature_pb2.RecordEventsRequest.FromString(one_event())]), timeout=20)
        assert refused.value.code() is grpc.StatusCode.DATA_LOSS  # nobody is told to try again
        assert reason_of(status_of(refused.value)) == "RECORD_CHECKSUM"
    remote.close()


def one_event() -> bytes:
    """A message with one event, of two records."""
    event = make_event("e1")
    event.entities["terminal_id"] = "m0"
    return feature_pb2.RecordEventsRequest(events=[event]).SerializeToString()


def request(transaction_id: str, customer: str, terminal: str) -> scoring_pb2.ScoreRequest:
    made = scoring_pb2.ScoreRequest(
        transaction_id=transaction_id, entities={"customer_id": customer, "terminal_id": terminal}, include_features=True
    )
    made.event_time.FromDatetime(EVENT_TIME)
    made.features["amount_minor"].int64_value = 5
    return made


def test_live_events_go_through_the_admin_socket_into_redis(server: RedisServer) -> None:
    remote = open_remote_store(server.url, lookup_timeout_ms=5_000)
    with LocalServer(remote=remote, store={"lookup_timeout_ms_max": 5_000}) as local:
        stub = scoring_pb2_grpc.ScoringServiceStub(local.channel())
        admin = feature_pb2_grpc.FeatureServiceStub(local.admin_channel())
        before = stub.Score(make_request(include_features=True), timeout=20)
        events = [make_event(f"e{i}") for i in range(3)] + [make_event("e1")]
        recorded = admin.RecordEvents(iter([feature_pb2.RecordEventsRequest(events=events)]), timeout=20)
        assert (recorded.recorded_count, recorded.duplicate_count) == (3, 1)
        after = stub.Score(make_request(include_features=True), timeout=20)
        counts = [next(i.value.double_value for i in r.inputs if i.name == "tx_count_1d") for r in (before, after)]
        assert counts == [1.0, 4.0]
        batch = scoring_pb2.ScoreBatchRequest(requests=[make_request(f"b{i}", include_features=True) for i in range(50)])
        # The transaction counts itself, once.
        results = scoring_pb2_grpc.ScoringServiceStub(local.channel()).ScoreBatch(batch, timeout=20).results
        assert {next(i.value.double_value for i in r.response.inputs if i.name == "tx_count_1d") for r in results} == {4.0}
        assert local.engine.stats().looking_up_rows == 0
    remote.close()


def test_the_demo_scores_the_same_bytes_from_redis(server: RedisServer) -> None:
    ingest = load_subcommand("ingest")
    assert ingest.main(["--demo-history", "--store", server.url, "--json"], standalone_mode=False) in (None, 0)
    rng = random.Random(7)
    requests = [demo_request(str(rng.randrange(4_000)), str(rng.randrange(8_000)), i) for i in range(60)]
    requests.append(demo_request(DEMO_CUSTOMER_ID, DEMO_TERMINAL_ID, 1_000))
    batch = scoring_pb2.ScoreBatchRequest(requests=requests)
    answers = []
    # A busy machine may take a while: what is compared is the bits, not the time.
    patience = ["--set", "store.lookup_timeout_ms_max=10000", "--set", "lane.timeout_ms_max=60000"]
    for arguments in (["--store", server.url, *patience], []):
        with ServeProcess(*arguments) as process, grpc.insecure_channel(process.target) as channel:
            answers.append(scoring_pb2_grpc.ScoringServiceStub(channel).ScoreBatch(batch, timeout=60))
    assert not any(result.response.degradations for result in answers[0].results)
    assert answers[0] == answers[1]
    assert len({result.response.score for result in answers[0].results}) > 10


def demo_request(customer: str, terminal: str, number: int) -> scoring_pb2.ScoreRequest:
    made = scoring_pb2.ScoreRequest(
        transaction_id=f"demo-{number}",
        entities={"customer_id": customer, "terminal_id": terminal},
        include_features=True,
    )
    made.event_time.FromDatetime(DEMO_TIME)
    made.features["amount_minor"].int64_value = 1_000 + 37 * number
    return made


# --- who may come in, and what is said of it


def test_a_password_is_used_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--requirepass", "hunter2") as locked, caplog.at_level(logging.DEBUG):
        right, wrong = (f"redis://:{word}@127.0.0.1:{locked.port}/0" for word in ("hunter2", "sesame"))
        with open_store(right) as store:
            assert store.describe() == "answers"
            assert "hunter2" not in store.url
        remote = open_remote_store(wrong)
        with pytest.raises(StoreError, match="the user or the password is wrong") as caught:
            remote.check()
        assert remote.fetch([b"k"]) is None
        assert "sesame" not in str(caught.value) + caplog.text + remote.url
        remote.close()


def test_a_server_starts_without_its_store_and_says_so() -> None:
    with redis_server() as gone:
        gone.kill()
        with ServeProcess("--store", gone.url) as process, grpc.insecure_channel(process.target) as channel:
            response = scoring_pb2_grpc.ScoringServiceStub(channel).Score(demo_request("1", "1", 1), timeout=20)
            assert {flag.kind for flag in response.degradations} == {scoring_pb2.DEGRADATION_KIND_STORE_UNAVAILABLE}
            assert response.HasField("score")
            gone.start()
            wait_until(
                lambda: (
                    not scoring_pb2_grpc.ScoringServiceStub(channel).Score(demo_request("1", "1", 1), timeout=20).degradations
                ),
                "answers with the store that came",
            )


def test_the_documented_permissions_are_enough_and_no_more(plan: _core.FeaturePlan) -> None:
    text = (ROOT / "docs" / "stores.md").read_text()
    users = {name: rules.split() for name, rules in re.findall(r"^user (\w+) +on >\.\.\. (.*)$", text, re.MULTILINE)}
    with redis_server() as locked:
        with locked.client() as client:
            for name, rules in users.items():
                client.execute_command("ACL", "SETUSER", name, "on", ">word", *rules)
        ingest = open_remote_store(f"redis://ingest:word@127.0.0.1:{locked.port}/0")
        ingest_log(sorted_log(plan, lines(1, 20)), ingest.writer(plan))
        scorer = open_remote_store(f"redis://scorer:word@127.0.0.1:{locked.port}/0", lookup_timeout_ms=10_000)
        scorer.check()
        found = scorer.fetch([b"a1:{customer_id:c1}:customer:0", b"a1:x"])
        assert found == [None, None]
        assert scorer.fetch([b"other"]) is None
        with pytest.raises(StoreError, match="the user may not do this"):
            ingest_log(sorted_log(plan, lines(2, 20)), scorer.writer(plan))
        ingest.close()
        scorer.close()


@pytest.mark.parametrize(
    "answer",
    [b":7\r\n", b"+OK\r\n", b"*1\r\n:1\r\n", b"%1\r\n*0\r\n+x\r\n", b"*1\r\n-ERR shard\r\n", b"\xff\xfe garbage\r\n", b""],
)
def test_a_store_that_answers_something_else_is_away_and_comes_back(
    answer: bytes, plan: _core.FeaturePlan, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it says: no exception, few lines in the log, the breaker opens, and closes again when the answers are right."""
    odd = OddRedis(answer)
    remote = odd.store(BreakerLimits(failures_max=3, open_s=0.0))  # each call is a probe
    with caplog.at_level(logging.DEBUG):
        for _ in range(10):
            assert remote.fetch([b"k"]) is None
        assert remote.is_away
        odd.answer = b"*1\r\n$1\r\nv\r\n"
        assert remote.fetch([b"k"]) == [b"v"]
        assert not remote.is_away
    assert len([record for record in caplog.records if record.name == "assay.store"]) == 2
    assert not any(record.exc_info for record in caplog.records)
    odd.answer, odd.command = answer, b"GETRANGE"
    with pytest.raises(StoreError, match=r"^redis://odd: "):
        remote.writer(plan).record_events(one_event())
    with pytest.raises(StoreError, match=r"^redis://odd: "):
        _look_at_customer(remote, plan)
    remote.close()
    odd.close()


def _look_at_customer(remote: RedisStore, plan: _core.FeaturePlan) -> None:
    """Raises the error of its record too: a text might have been one."""
    raise remote.records_of(plan, {"customer_id": "c1"}).rejected["customer"]


@pytest.mark.parametrize("answer", [b":7\r\n", b"+OK\r\n", b"*0\r\n", b"$-1\r\n"])
def test_a_script_that_answers_something_else_has_not_written(answer: bytes, plan: _core.FeaturePlan) -> None:
    odd = OddRedis(answer, command=b"EVALSHA")
    remote = odd.store()
    with pytest.raises(StoreError, match=r"^redis://odd: writing failed"):
        remote.writer(plan).record_events(one_event())
    remote.close()
    odd.close()


def test_what_is_wrong_with_a_store_is_said(tmp_path: Path) -> None:
    odd = OddRedis(b":7\r\n", command=b"GETRANGE")
    remote = odd.store()
    with pytest.raises(StoreError, match="does not speak as Redis does"):
        remote.records_of(compile_plan(FeatureSet.parse(SHOP)), {"customer_id": "c1"})
    remote.close()
    odd.close()
    with pytest.raises(StoreError, match="nobody answers there"):
        open_remote_store("redis://127.0.0.1:1/0").check()
    with pytest.raises(StoreError, match="ssl_ca_certs: there is no such file"):
        open_remote_store(f"rediss://127.0.0.1:1/0?ssl_ca_certs={tmp_path / 'none.pem'}")


class OddRedis:
    """Takes any command; answers `command` with `answer` (b"": hangs up), another GETRANGE as of no key, HELLO as of RESP3, and
    the rest with OK."""

    def __init__(self, answer: bytes, command: bytes = b"MGET") -> None:
        self.answer = answer
        self.command = command
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    def store(self, limits: BreakerLimits | None = None) -> RedisStore:
        options: dict[str, Any] = {"port": self.port, "socket_timeout": 5, "protocol": 2}
        reading, working = (OneServer("odd", redis.Redis(retry=Retry(NoBackoff(), 0), **options)) for _ in range(2))
        return RedisStore(reading, working, "redis://odd", 1 << 20, 5.0, limits)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # else accept() waits on, with a number that is soon another socket's
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65_536):
                if b"HELLO" in data:
                    connection.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n" + b"+OK\r\n" * (data.count(b"*") - 1))
                elif self.command not in data:
                    connection.sendall((b"$0\r\n\r\n" if b"GETRANGE" in data else b"+OK\r\n") * data.count(b"*"))
                elif self.answer:
                    connection.sendall(self.answer * data.count(self.command))
                else:
                    return


def test_a_server_that_announces_its_maintenance_is_not_followed() -> None:
    """redis-py would go where a MOVING says, with the password, and wait for that server without a limit."""
    odd = OddRedis(b"")
    where = f"127.0.0.2:{odd.port}"
    odd.answer = b">4\r\n+MOVING\r\n:1\r\n:15\r\n$%d\r\n%s\r\n*1\r\n$1\r\nv\r\n" % (len(where), where.encode())
    with socket.create_server(("127.0.0.2", odd.port)) as elsewhere:
        with open_remote_store(f"redis://user:secret@127.0.0.1:{odd.port}/0") as remote:
            assert [remote.fetch([b"k"]) for _ in range(3)] == [[b"v"]] * 3
        elsewhere.settimeout(0.1)
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    odd.close()


def test_tls(tmp_path: Path) -> None:
    import trustme

    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = ca.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    with redis_server() as plain, plain.client() as client:
        try:
            files = {"cert": "certificate.pem", "key": "key.pem", "ca-cert": "ca.pem"}
            for name, file in files.items():
                client.config_set(f"tls-{name}-file", os.fspath(tmp_path / file))
            client.config_set("tls-auth-clients", "no")
            client.config_set("tls-port", plain.port + 1 if plain.port < 65_535 else plain.port - 1)
        except Exception as error:
            pytest.skip(f"this Redis speaks no TLS: {error}")
        port = int(client.config_get("tls-port")["tls-port"])
        with open_store(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}") as store:
            assert store.describe() == "answers"
        with open_store(f"rediss://127.0.0.1:{port}/0") as store:
            assert "does not answer" in store.describe()
            with pytest.raises(StoreError, match=r"no TLS connection \(CERTIFICATE_VERIFY_FAILED\)"):
                store.check()
