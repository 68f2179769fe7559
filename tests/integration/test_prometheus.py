"""Debian's real Prometheus scrapes loaded servers, with the project's rules in a shorter day (tests/support/prometheus.py): which
alerts fire, and for which server alone. promtool has the same rules with their real durations (tests/tidy/test_alerts.py).

All servers run at once, so that the module takes as long as its longest story:
  slow      its model takes a second a batch
  normal    the demo, given the transactions of the hours after its history ends
  shifted   the same, with amounts in another unit
  burst     the same, with ten times as many frauds
  doomed    killed in the end
"""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import grpc
import numpy as np
import pytest

from assay.demo.history import DEMO_PARAMETERS, DEMO_TIME
from assay.demo.simulator import AMOUNT_FRAUD_CENTS, Transactions, simulate
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.prometheus import Prometheus, need
from tests.support.server import LocalServer, ServeProcess, make_request

HOURS = 3  # of transactions after the demo's history: enough for a drift score, which wants 1,000
CALL_ROWS = 64
WATCHED_S = 8  # alerts of the shorter day need five
BURST = 10  # times as many frauds
ROLES = ("slow", "normal", "shifted", "burst", "doomed")
POST_MORTEM = {"Inference_Service_Down", "HighInferenceLatency", "PredictionDrift"}


@dataclass
class Watched:
    prometheus: Prometheus
    servers: dict[str, ServeProcess]
    normal: Transactions


def transactions_after_the_history() -> Transactions:
    everything = simulate(DEMO_PARAMETERS)
    first = int((DEMO_TIME - everything.midnight).total_seconds())
    return everything.select((everything.seconds >= first) & (everything.seconds < first + HOURS * 3600))


def shifted(transactions: Transactions) -> Transactions:
    """Somebody upstream sends tenths of a cent."""
    return replace(transactions, amounts_cents=transactions.amounts_cents * 10)


def with_a_burst(transactions: Transactions, rng: np.random.Generator) -> Transactions:
    """Of every hundred transactions, six have an amount that the model declines: training declined one in two hundred."""
    is_fraud = rng.random(len(transactions)) < 0.06
    return replace(transactions, amounts_cents=np.where(is_fraud, AMOUNT_FRAUD_CENTS * 2, transactions.amounts_cents))


def batches(transactions: Transactions) -> list[scoring_pb2.ScoreBatchRequest]:
    made = []
    for first in range(0, len(transactions), CALL_ROWS):
        batch = scoring_pb2.ScoreBatchRequest(priority=scoring_pb2.PRIORITY_INTERACTIVE)
        for i in range(first, min(first + CALL_ROWS, len(transactions))):
            request = batch.requests.add(transaction_id=f"t{i}")
            request.event_time.FromDatetime(transactions.midnight + timedelta(seconds=int(transactions.seconds[i])))
            request.entities["customer_id"] = str(transactions.customer_ids[i])
            request.entities["terminal_id"] = str(transactions.terminal_ids[i])
            request.features["amount_minor"].int64_value = int(transactions.amounts_cents[i])
        made.append(batch)
    return made


def score_for_ever(target: str, calls: Sequence[scoring_pb2.ScoreBatchRequest], stop: threading.Event) -> None:
    """Some hundred rows a second: all of them once in a few seconds, and then again."""
    with grpc.insecure_channel(target) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        for call in itertools.cycle(calls):
            try:
                stub.ScoreBatch(call, timeout=10)
            except grpc.RpcError:
                if not stop.is_set():
                    stop.wait(0.5)  # the doomed server is gone
            if stop.wait(0.08):
                return


def score_slowly(server: LocalServer, stop: threading.Event) -> None:
    """Each row waits a second for its model."""
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    while not stop.is_set():
        server.puppet.hold()
        calls = [stub.Score.future(make_request(f"t{i}"), timeout=20) for i in range(4)]
        stop.wait(1.0)
        server.puppet.release()
        for call in calls:
            call.result()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    need("prometheus")
    transactions = transactions_after_the_history()
    rng = np.random.default_rng(7)
    traffic = {
        "normal": transactions,
        "shifted": shifted(transactions),
        "burst": with_a_burst(transactions, rng),
        "doomed": transactions,
    }
    stop = threading.Event()
    with ExitStack() as stack:
        slow = stack.enter_context(LocalServer(metrics_listen="127.0.0.1:0", lane={"timeout_ns_default": 20_000_000_000}))
        start = partial(ServeProcess, "--set", "metrics_listen=127.0.0.1:0")
        with ThreadPoolExecutor() as pool:
            servers = dict(zip(traffic, pool.map(lambda _: start(), traffic), strict=True))
        for server in servers.values():
            stack.callback(server.close)
        addresses = {name: str(server.ready["metrics"]) for name, server in servers.items()}
        assert slow.telemetry.metrics_address
        addresses["slow"] = slow.telemetry.metrics_address
        prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), addresses)
        stack.callback(prometheus.close)
        work: list[tuple[Callable[..., None], tuple[object, ...]]] = [(score_slowly, (slow, stop))]
        work += [(score_for_ever, (server.target, batches(traffic[name]), stop)) for name, server in servers.items()]
        threads = [threading.Thread(target=target, args=arguments) for target, arguments in work]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(stop.set)
        prometheus.wait_ready()
        prometheus.wait_for(lambda: len(prometheus.query('up{job="assay"} == 1')) == len(ROLES), "all are scraped")
        yield Watched(prometheus, servers, transactions)


def test_all_rules_load_and_are_evaluated(watched: Watched) -> None:
    watched.prometheus.wait_for(lambda: set(watched.prometheus.rule_names().values()) == {"ok"}, "all rules are evaluated")
    assert watched.prometheus.rule_names().keys() > POST_MORTEM


def test_a_slow_model_raises_the_latency_alerts_of_its_server(watched: Watched) -> None:
    watched.prometheus.wait_firing("HighInferenceLatency", "slow")
    watched.prometheus.wait_firing("AssayLatencyBurnsFast", "slow")


def test_shifted_input_raises_prediction_drift(watched: Watched) -> None:
    watched.prometheus.wait_firing("PredictionDrift", "shifted")
    watched.prometheus.wait_firing("AssayInputDrift", "shifted")


def test_a_burst_of_fraud_raises_the_alert_rate(watched: Watched) -> None:
    watched.prometheus.wait_firing("AssayAlertRateHigh", "burst")


def test_a_killed_server_is_down(watched: Watched) -> None:
    doomed = watched.servers["doomed"]
    doomed.signal(signal.SIGKILL)
    watched.prometheus.wait_firing("Inference_Service_Down", "doomed")
    assert ("Inference_Service_Down", "normal") not in watched.prometheus.firing()


def test_a_normal_hour_raises_nothing(watched: Watched) -> None:
    """All of it has been scored, and longer ago than any alert of the others takes."""
    prometheus = watched.prometheus
    many = f'assay_rows_total{{instance="normal",outcome="answered"}} offset {WATCHED_S}s > {len(watched.normal)}'
    prometheus.wait_for(lambda: prometheus.query(many), "a normal hour has been scored for a while")
    assert {alert for alert, instance in prometheus.ever_fired() if instance == "normal"} == set()
    assert "" not in {instance for _, instance in prometheus.firing()}
