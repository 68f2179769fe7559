"""The distributed engines, small but real: a mock Kafka with several partitions, two `assay ingest --kafka` of one group,
a Redis Cluster of three primaries, and a server that scores from it.

One member is killed with SIGKILL again and again, on the way, and started again. State is that of a file of the same events, each
counted once; scores are those of ONNX Runtime on the replayed rows, bit for bit.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from assay import _core
from assay.demo.paths import feature_set_path
from assay.demo.simulator import SimulatorParameters, simulate
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.replay import replay
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.conftest import SCALE
from tests.support.demo_scores import assert_same_bits, onnx_scores, shown_inputs
from tests.support.kafka_events import (
    IngestProcess,
    event_counts,
    ingest_file,
    ingest_to_end,
    ingesting,
    make_events,
    send_events,
    state_of,
)
from tests.support.mock_kafka import MockKafka, mock_kafka
from tests.support.payments import Payments
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.redis_server import redis_server
from tests.support.server import ServeProcess, wait_until

TOPIC, PARTITIONS = "payments", 6
GROUP = ("--topic", TOPIC, "--group", "fraud", "--fail-on-reject")
# A broker answers a fetch when there is something; the mock one, if there is nothing at once, when this time is over.
QUICK = ("--kafka-option", "fetch.wait.max.ms=10")
MEMBER = (*GROUP, *QUICK, "--json", "--metrics-listen", "127.0.0.1:0", "--checkpoint-ms", "50")
# Of a member that will be killed: what it has written is not committed, but where partitions move, and is read again by others.
DOOMED = (*MEMBER, "--checkpoint-ms", "3600000", "--flush-rows", "50")

KILLS = 2 * SCALE
EVENTS = 5_000  # some 170 a terminal: no ring overflows, so that in no order an event is too late
REPEATS = 1_500

DAYS = 29  # shorter than any view's longest window: nothing expires, so that in no order an event is too late
LIVE = 60  # payments that are scored one by one, each before it is recorded
LIVE_KILLS = (15, 40)  # places among them at which a member is killed
REPEAT_EVERY = 4  # one in so many is sent twice, and an old one with it
RPC_S = 30.0


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with mock_kafka() as started:
        started.create(TOPIC, PARTITIONS)
        yield started


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with redis_cluster() as started:
        yield started


def test_a_group_fills_a_cluster_as_a_file_fills_a_server(
    kafka: MockKafka, cluster: RedisCluster, rng: random.Random, tmp_path: Path
) -> None:
    events = make_events(rng, EVENTS)
    sent = [*events, *rng.sample(events, REPEATS)]
    rng.shuffle(sent)
    portions = [sent[len(sent) * index // (KILLS + 1) : len(sent) * (index + 1) // (KILLS + 1)] for index in range(KILLS + 1)]

    with ExitStack() as members:
        steady = members.enter_context(ingesting(kafka, tmp_path, cluster.url, *MEMBER))
        steady_page = steady.metrics()
        for portion in portions[:-1]:
            with ingesting(kafka, tmp_path, cluster.url, *DOOMED) as doomed:
                page = doomed.metrics()
                wait_until(lambda page=page: has_partitions(page()) and has_partitions(steady_page()), "both have partitions")  # type: ignore[misc]
                send_events(kafka, TOPIC, portion)
                few = rng.randint(1, 20)
                wait_until(lambda page=page, few=few: written_count(page()) >= few, "the one to be killed writes")  # type: ignore[misc]
                doomed.kill()
        again = members.enter_context(ingesting(kafka, tmp_path, cluster.url, *MEMBER))
        again_page = again.metrics()
        wait_until(lambda: has_partitions(again_page()) and has_partitions(steady_page()), "both have partitions")
        send_events(kafka, TOPIC, portions[-1])
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == len(sent), "everything is committed")
        recorded = [summary_of(member)["recorded_count"] for member in (steady, again)]
    assert min(recorded) > 0
    assert sum(recorded) < EVENTS  # the rest was written by those that were killed, and found there when it was read again
    check_state(cluster, events, tmp_path)
    check_replay(kafka, cluster, len(sent), tmp_path)


def check_state(cluster: RedisCluster, events: list[dict[str, Any]], folder: Path) -> None:
    """The cluster holds, on all its nodes, what a file puts into one server, to the byte; and each event, once."""
    found = state(cluster)
    with redis_server() as server, server.client() as client:
        ingest_file(folder, server.url, events)
        assert found == state_of(client)
    assert event_counts(found) == {"customer": len(events), "terminal": len(events)}
    for node in cluster.primaries:
        with node.client() as client:
            assert client.dbsize() > 0


def check_replay(kafka: MockKafka, cluster: RedisCluster, message_count: int, folder: Path) -> None:
    """Another group reads all topics from offset 0: nothing changes."""
    before = state(cluster)
    arguments = ("--topic", TOPIC, "--group", "another", "--fail-on-reject", "--json")
    code, out, said = ingest_to_end(kafka, folder, cluster.url, *arguments)
    assert code == 0, said
    counts = json.loads(out)
    assert (counts["recorded_count"], counts["duplicate_count"], counts["too_late_count"]) == (0, message_count, 0)
    assert state(cluster) == before


def test_scores_of_events_that_come_through_kafka_equal_replay(
    kafka: MockKafka, cluster: RedisCluster, rng: random.Random, tmp_path: Path
) -> None:
    payments = simulated_payments()
    payments.write(tmp_path / "payments.jsonl")
    lines = (tmp_path / "payments.jsonl").read_bytes().splitlines()
    stream = Stream(kafka, cluster, tmp_path, payments, lines)
    history, live = range(len(payments) - LIVE), range(len(payments) - LIVE, len(payments))

    with ExitStack() as running:
        steady = running.enter_context(ingesting(kafka, tmp_path, cluster.url, *MEMBER, feature_set=stream.feature_set))
        shuffled = [*history, *rng.sample(history, len(history) // 4)]
        rng.shuffle(shuffled)
        stream.send(shuffled)
        wait_until(lambda: kafka.committed_count("fraud", TOPIC) == len(shuffled), "the past is recorded")
        running.enter_context(stream)
        server = running.enter_context(ServeProcess("--store", cluster.url, "--set", "store.lookup_timeout_ms_max=5000"))
        scoring = scoring_pb2_grpc.ScoringServiceStub(running.enter_context(grpc.insecure_channel(server.target)))
        answers = []
        for index, position in enumerate(live):
            answers.append(score(scoring, payments.request(position)))
            stream.send([position, position, rng.choice(history)] if index % REPEAT_EVERY == 0 else [position])
            if index in LIVE_KILLS:
                stream.kill_member()
            wait_until(lambda position=position: stream.is_readable(position), "a recorded payment is readable")  # type: ignore[misc]
        assert summary_of(steady)["too_late_count"] == 0

    rows = replayed_rows(payments, tmp_path)[-LIVE:]
    assert_same_bits(np.array([shown_inputs(answer) for answer in answers]), rows, payments.take(np.array(live)))
    assert_same_bits(np.array([answer.score for answer in answers]), onnx_scores(rows), payments.take(np.array(live)))
    assert len({answer.score for answer in answers}) > LIVE / 4, "too few different scores to prove anything"
    with redis_server() as one, one.client() as client:
        ingest_file(tmp_path, one.url, [json.loads(line) for line in lines], feature_set=stream.feature_set)
        assert state(cluster) == state_of(client)


# --- implementation ---


class Stream:
    """Payments of the demo's feature set, sent to the topic by their customers; beside them the member that is killed now and
    then."""

    def __init__(self, kafka: MockKafka, cluster: RedisCluster, folder: Path, payments: Payments, lines: list[bytes]) -> None:
        self.feature_set = feature_set_path().read_text()
        self._kafka, self._cluster, self._folder = kafka, cluster, folder
        self._payments, self._lines = payments, lines
        self._names = _core.EventWriter(compile_plan(FeatureSet.parse(self.feature_set)), _core.EmbeddedStore())

    def __enter__(self) -> Stream:
        self._start_member()
        return self

    def __exit__(self, *_: object) -> None:
        self._member.kill()

    def send(self, positions: list[int]) -> None:
        customers = self._payments.customers
        self._kafka.send(TOPIC, ((str(customers[position]).encode(), self._lines[position]) for position in positions))

    def kill_member(self) -> None:
        self._member.kill()
        self._start_member()

    def is_readable(self, position: int) -> bool:
        """Both records have the event: its fingerprint stands in them."""
        fingerprint = struct.pack("<Q", _core.xxh64(str(self._payments.ids[position]).encode()))
        return all(fingerprint in self._record(view, position) for view in ("customer", "terminal"))

    def _record(self, view: str, position: int) -> bytes:
        entities = {"customer": self._payments.customers, "terminal": self._payments.terminals}[view]
        key = self._names.record_of(view, str(entities[position])).key
        with self._cluster.primary_of(key).client() as client:
            return bytes(client.get(key) or b"")

    def _start_member(self) -> None:
        """Returns once it has partitions."""
        self._member = IngestProcess(self._kafka, self._folder, self._cluster.url, *DOOMED, feature_set=self.feature_set)
        page = self._member.metrics()
        wait_until(lambda: has_partitions(page()), "a member with partitions")


def simulated_payments() -> Payments:
    parameters = SimulatorParameters(seed=11, customers=40, terminals=200, days=DAYS, radius=20.0)
    simulated = simulate(parameters)
    payments = Payments(
        np.arange(len(simulated)).astype(np.str_),
        int(simulated.midnight.timestamp()) + simulated.seconds,
        simulated.customer_ids.astype(np.int64),
        simulated.terminal_ids.astype(np.int64),
        simulated.amounts_cents,
        simulated.is_fraud,
    ).in_order()
    assert max(np.bincount(payments.customers).max(), np.bincount(payments.terminals).max()) < 256, "a ring overflows"
    return payments


def score(scoring: scoring_pb2_grpc.ScoringServiceStub, request: scoring_pb2.ScoreRequest) -> scoring_pb2.ScoreResponse:
    """With the model's inputs. An answer that says that the store was slow is asked for again: scoring changes nothing."""
    request.include_features = True
    answers: list[scoring_pb2.ScoreResponse] = []

    def is_whole() -> bool:
        answers.append(scoring.Score(request, timeout=RPC_S))
        kinds = {degradation.kind for degradation in answers[-1].degradations}
        assert kinds <= {scoring_pb2.DEGRADATION_KIND_STORE_UNAVAILABLE}, answers[-1]
        return not kinds

    wait_until(is_whole, "a score with all that the store holds")
    return answers[-1]


def replayed_rows(payments: Payments, folder: Path) -> NDArray[np.float32]:
    """The replayed matrix (n, inputs)."""
    feature_set = FeatureSet.parse(feature_set_path().read_text())
    summary = replay(feature_set, folder / "payments.jsonl", folder / "replayed.parquet")
    assert (summary.row_count, summary.duplicate_count, summary.late_count) == (len(payments), 0, 0)
    table = pq.read_table(folder / "replayed.parquet")
    assert table["transaction_id"].to_pylist() == payments.ids.tolist()
    return np.stack([table[name].to_numpy() for name in feature_set.input_names], axis=1)


def state(cluster: RedisCluster) -> dict[bytes, bytes]:
    """Of all nodes."""
    found: dict[bytes, bytes] = {}
    for node in cluster.primaries:
        with node.client() as client:
            found |= state_of(client)
    return found


def has_partitions(page: str) -> bool:
    return "assay_ingestion_lag_messages{" in page


def written_count(page: str) -> int:
    """Messages that this member has put into the store, or found there."""
    return sum(
        int(line.split()[-1])
        for line in page.splitlines()
        if line.startswith("assay_ingested_messages_total{") and ('"recorded"' in line or '"duplicate"' in line)
    )


def summary_of(member: IngestProcess) -> dict[str, Any]:
    """Ends it."""
    code, out, said = member.terminate()
    assert code == 0, said
    summary: dict[str, Any] = json.loads(out)
    return summary
