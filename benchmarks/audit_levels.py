"""What the audit log's levels cost: rate, CPU and latency of the same load, each level against no log."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.measure import Ratio, interleave
from benchmarks.processes import Server, assay_server
from benchmarks.run import Run

MESSAGES = 200_000
RUN_S = 3.0
LEVELS = ("memory", "spool", "fsync")


def audit(run: Run) -> list[Ratio]:
    """Each level over `off`: CPU per 1,000 and p99 with 64 in flight, p50 of one request at a time. Distinct transactions."""
    messages = run.material.bench_file(MESSAGES)
    crowd = ("--warmup", "0.5", "--connections", "4", "--streams", "16")
    lone = ("--warmup", "0.5", "--connections", "1", "--streams", "1")
    ratios: list[Ratio] = []
    with ExitStack() as servers:
        off = servers.enter_context(_server(run, "off"))
        for level in LEVELS:
            recording = servers.enter_context(_server(run, level))

            def step(server: Server, options: tuple[str, ...]) -> dict[str, Any]:
                found = server.bench(messages, RUN_S, *options)
                assert set(found["outcomes"]) == {"OK"}, found["outcomes"]
                return found

            def work(server: Server, tail: list[float]) -> Callable[[], float]:
                def measure() -> float:
                    found = step(server, crowd)
                    tail.append(float(found["latency_us"]["p99"]))
                    return 1000 / float(found["server_cpu_s_per_1000"])

                return measure

            def p50(server: Server) -> Callable[[], float]:
                return lambda: float(step(server, lone)["latency_us"]["p50"])

            tails: tuple[list[float], list[float]] = ([], [])
            cpu = Ratio(f"audit level {level} over off: requests per CPU s, 64 in flight", "reported", "requests per CPU s")
            p99 = Ratio("the same, p99", "reported", "us")
            alone = Ratio("the same, one request at a time, p50", "reported", "us")
            interleave(cpu, work(recording, tails[0]), work(off, tails[1]), run.pairs, run.report)
            p99.pairs = list(zip(*tails, strict=True))
            interleave(alone, p50(recording), p50(off), run.pairs, run.report)
            ratios += [cpu, p99, alone]
    return ratios


def _server(run: Run, level: str) -> Any:
    """On the native transport, with a store and a spool of its own."""
    snapshot = shutil.copy(run.material.snapshot, run.material.folder / f"store-audit-{level}.snapshot")
    options = ("--transport", "native", "--store", f"embedded:{snapshot}", "--set", f"audit.level={level}")
    return assay_server(run.material, *options)
