"""A Redis that is frozen, dead, slow or garbled under load: how long answers take meanwhile, and how soon all have their features
again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import cycle

import grpc
import numpy as np

from assay.demo.paths import bundle_path
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from benchmarks.measure import Ratio
from benchmarks.processes import assay_server
from benchmarks.remote_store import fill_redis
from benchmarks.run import Run
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.redis_server import RedisServer

SLICE_MS = 50.0  # of a row that waits for a store, by default
RECOVERY_S = 2.0
CLIENTS = 8  # each with one request at a time
WELL_S, AWAY_S, SETTLED_S, RECOVERY_S_MAX = 1.0, 4.0, 1.0, 20.0


def redis_away(run: Run) -> list[Ratio]:
    """p99 of all answers while Redis is away, over the slice that a row may wait; and seconds from its return until no answer
    lacks its features, over two. Every answer is OK. The demo's model: its inputs have defaults."""
    ratios = []
    for fault in ("frozen", "killed", "50 ms late", "garbled"):
        p99 = Ratio(f"Redis {fault}: p99 over {SLICE_MS:g} ms", "<= 1", "ms")
        recovery = Ratio(f"Redis {fault}: recovery over {RECOVERY_S:g} s", "<= 1", "s")
        for index in range(min(run.pairs, 5)):
            found_ms, found_s = _measure(run, fault)
            p99.pairs.append((found_ms, SLICE_MS))
            recovery.pairs.append((found_s, RECOVERY_S))
            run.report(f"Redis {fault}: {index + 1}, p99 {found_ms:.0f} ms, back after {found_s:.2f} s")
        ratios += [p99, recovery]
    return ratios


# --- implementation ---


def _measure(run: Run, fault: str) -> tuple[float, float]:
    with closing(RedisServer()) as server, fault_proxy(server.port, 1) as proxy:
        fill_redis(run, server.url)
        begin: dict[str, Callable[[], None]] = {
            "frozen": server.freeze,
            "killed": server.kill,
            "50 ms late": lambda: proxy.set(Fault.DELAY),
            "garbled": lambda: proxy.set(Fault.GARBLE),
        }
        end: dict[str, Callable[[], None]] = {
            "frozen": server.thaw,
            "killed": server.start,  # empty: a customer whom nobody knows lacks nothing
            "50 ms late": lambda: proxy.set(Fault.NONE),
            "garbled": lambda: proxy.set(Fault.NONE),
        }
        store = ("--store", f"redis://127.0.0.1:{proxy.port}/0")
        with assay_server(run.material, *store, bundle=bundle_path()) as assay, _clients(run, assay.port) as load:
            time.sleep(WELL_S)
            begin[fault]()
            began_s = time.monotonic()
            time.sleep(AWAY_S)
            end[fault]()
            ended_s = time.monotonic()
            load.wait_until_well(ended_s)
        return load.p99_ms(began_s, began_s + AWAY_S), load.last_degraded_s() - ended_s


@dataclass
class _Load:
    answers: list[tuple[float, float, bool]] = field(default_factory=list)  # when it came, seconds it took, whether degraded
    failures: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self, port: int, requests: list[scoring_pb2.ScoreRequest]) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = scoring_pb2_grpc.ScoringServiceStub(channel)
            for request in cycle(requests):
                if self.is_over.is_set():
                    return
                started_s = time.monotonic()
                try:
                    response = stub.Score(request, timeout=5)
                except grpc.RpcError as error:
                    self.failures.append(str(error))
                    return
                now_s = time.monotonic()
                self.answers.append((now_s, now_s - started_s, bool(response.degradations)))

    def wait_until_well(self, since_s: float) -> None:
        while True:
            time.sleep(0.1)
            assert not self.failures, self.failures
            assert time.monotonic() < since_s + RECOVERY_S_MAX, f"answers lack features {RECOVERY_S_MAX:g} s after Redis is back"
            if time.monotonic() > max(since_s, self.last_degraded_s()) + SETTLED_S:
                return

    def last_degraded_s(self) -> float:
        return max((when_s for when_s, _, is_degraded in list(self.answers) if is_degraded), default=0.0)

    def p99_ms(self, from_s: float, to_s: float) -> float:
        return float(np.percentile([took_s * 1_000 for when_s, took_s, _ in self.answers if from_s <= when_s < to_s], 99))


@contextmanager
def _clients(run: Run, port: int) -> Iterator[_Load]:
    load = _Load()
    requests = run.material.requests(CLIENTS * 500)
    threads = [threading.Thread(target=load.run, args=(port, requests[index::CLIENTS])) for index in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.is_over.set()
        for thread in threads:
            thread.join()
