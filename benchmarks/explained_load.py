"""Explanations under load: what the scores that nobody asks to explain pay for those that somebody does, and what becomes of
explanations when there is no room for them."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from assay.cli.bench_messages import write_messages
from assay.v1 import scoring_pb2
from benchmarks.material import Material
from benchmarks.measure import Ratio, interleave
from benchmarks.native import all_ok
from benchmarks.processes import Server, assay_server, free_port, on_core
from benchmarks.run import Run

MESSAGES = 100_000
RUN_S = 4.0
EXPLAINED_SHARE = 0.01
CROWD = ("--warmup", "0.5", "--connections", "4", "--streams", "16")
FEW = ("--warmup", "0.5", "--connections", "1", "--streams", "16")


def explained(run: Run) -> list[Ratio]:
    """Half of the rate that the server can do, one transaction in a hundred with an explanation inline; then as many calls as it
    can do, each with one. The 200 trees, native transport, distinct transactions. The server has one core and the generator
    another: together they would measure each other."""
    plain = run.material.bench_file(MESSAGES)
    asking = _asking_file(run.material)
    tail = Ratio("p99 of the others, 1 % explained inline over none, at half load", "<= 1.1", "us")
    rate = Ratio("scores/s at overload, all ask for explanations over none does", "reported", "calls/s")
    in_time = Ratio("the same, answered in time over sent", ">= 1", "calls")
    with _server(run.material) as (server, metrics):
        peak = float(all_ok(server.bench(plain, RUN_S, *CROWD))["rate"])
        run.report(f"it can do {peak:,.0f}/s")

        def others_us(few: Path) -> Callable[[], float]:
            def measure() -> float:
                paced = ("--rate", f"{peak / 2 * (1 - EXPLAINED_SHARE):.0f}", *CROWD)
                rare = ("--rate", f"{peak / 2 * EXPLAINED_SHARE:.0f}", *FEW)
                with server.start_bench(few, RUN_S, *rare) as beside:
                    found = float(all_ok(server.bench(plain, RUN_S, *paced))["latency_us"]["p99"])
                    all_ok(beside())
                return found

            return measure

        interleave(tail, others_us(asking), others_us(plain), run.pairs, run.report)
        before = _statuses(metrics)
        run.say(f"at half load: {before}")
        steps = []

        def closed_rate(messages: Path) -> Callable[[], float]:
            def measure() -> float:
                step = server.bench(messages, RUN_S, *CROWD)
                if messages is asking:
                    steps.append(step)
                return float(step["rate"])

            return measure

        interleave(rate, closed_rate(asking), closed_rate(plain), run.pairs, run.report)
        in_time.pairs = [(float(step["outcomes"].get("OK", 0)), float(sum(step["outcomes"].values()))) for step in steps]
        run.say(f"at overload: { {status: count - before[status] for status, count in _statuses(metrics).items()} }")
    return [tail, rate, in_time]


# --- implementation ---


@contextmanager
def _server(material: Material) -> Iterator[tuple[Server, int]]:
    port = free_port()
    with ExitStack() as stack:
        with on_core(0):
            options = ("--transport", "native", "--set", f"metrics_listen=127.0.0.1:{port}")
            server = stack.enter_context(assay_server(material, *options))
        stack.enter_context(on_core(1))
        yield server, port


def _asking_file(material: Material) -> Path:
    path = material.folder / f"bench-explained-{MESSAGES}.bin"
    if not path.exists():
        write_messages(path, (_asking(request) for request in material.requests(MESSAGES)), MESSAGES)
    return path


def _asking(request: scoring_pb2.ScoreRequest) -> bytes:
    request.explain.top_k = 4
    return request.SerializeToString()


def _statuses(port: int) -> dict[str, int]:
    """What became of explanations since the start."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
        return {
            sample.labels["status"]: int(sample.value)
            for family in families
            if family.name == "assay_explanations"
            for sample in family.samples
        }
