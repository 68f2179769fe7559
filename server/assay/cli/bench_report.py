"""What `assay bench run` says: a table, notes on what to make of it, and one JSON document."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from rich.table import Table
from rich.text import Text

from assay import __version__, _core
from assay.cli.bench_run import Plan, StepResult
from assay.cli.output import plain

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}
LAG_NS_MAX = 1_000_000  # p99: a generator that is later itself measures itself
CURVE_POINTS = 20  # of each factor of ten that is left


def document_of(plan: Plan, results: list[StepResult]) -> dict[str, Any]:
    """Everything, for results.json and --json. Times are microseconds; null: that percentile is a call without an answer."""
    return {
        "assay": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "target": plan.target,
        "method": plan.method,
        "messages": {"file": str(plan.messages), "count": results[0].message_count},
        "connections": plan.connections,
        "streams": plan.streams,
        "threads": plan.threads,
        "warmup_s": plan.warmup_s,
        "duration_s": plan.duration_s,
        "timeout_s": plan.timeout_s or None,
        "spin": plan.spin,
        "tls": plan.tls.is_on,
        "seed": plan.seed,
        "steps": [_step_document(plan, result) for result in results],
    }


def step_table(results: list[StepResult]) -> Table:
    """A row for each step."""
    table = Table(box=None, pad_edge=False)
    has_server = any(result.server_cpu_s is not None for result in results)
    columns = ["offered/s", "answered/s", *QUANTILES, "max", "lost"]
    columns += ["server CPU/1,000"] if has_server else []
    for column in columns:
        table.add_column(column, justify="right")
    for result in results:
        load = result.load
        offered = "closed" if result.rate_offered is None else f"{result.rate_offered:,.0f}"
        quantiles = [load.ok.quantile(q, load.lost) for q in QUANTILES.values()]
        latencies = [_latency_text(load, ns) for ns in [*quantiles, None if load.lost else load.ok.max_ns]]
        row = [offered, f"{result.rate:,.0f}", *latencies, f"{load.lost:,}"]
        if has_server:
            cpu_s = result.server_cpu_s_per_1000
            row.append("?" if cpu_s is None else f"{cpu_s * 1000:.1f} ms")
        table.add_row(*row)
    return table


def outcome_lines(results: list[StepResult]) -> Iterator[Text]:
    """How calls ended, with what the server said first where they failed."""
    for result in results:
        step = "" if len(results) == 1 else f"{result.rate_offered or 0:,.0f}/s: "
        counts = ", ".join(f"{name} {count:,}" for name, count in result.load.outcomes.items())
        yield Text(f"{step}{counts or 'no call ended'}")
        for name, message in result.load.messages.items():
            yield Text(f"  {name}: {plain(unquote(message))}", style="dim")


def notes_on(results: list[StepResult]) -> Iterator[str]:
    """What a reader must know to believe the figures, or not to."""
    for result in results:
        step = "" if len(results) == 1 else f"{result.rate_offered or 0:,.0f}/s: "
        load = result.load
        lag_ns = load.lag.quantile(0.99)
        if lag_ns is not None and lag_ns > LAG_NS_MAX:
            yield (
                f"{step}the generator was late itself (p99 {_time_text(lag_ns)}): these latencies are not the server's alone. "
                "Give it a core of its own, --spin, --threads, or a lower rate"
            )
        if load.dropped or load.unsent:
            yield (
                f"{step}{load.dropped + load.unsent:,} of {load.offered:,} calls were never sent: the server does not keep up "
                "with this rate (or --connections x --streams is too little)"
            )
        if load.reconnects:
            yield f"{step}{load.reconnects:,} connections were made anew"
        if result.is_stopped:
            yield f"{step}stopped early, after {load.duration_s:.1f} s that count"
    most = max(results, key=lambda result: result.load.sent)
    if most.load.sent > most.message_count:
        times = most.load.sent / most.message_count
        yield f"each message was sent {times:,.1f} times; repeated rows are quicker to score: prepare more (--count)"


# --- implementation ---


def _step_document(plan: Plan, result: StepResult) -> dict[str, Any]:
    load = result.load
    calls = load.ok.count + load.failed.count
    return {
        "arrivals": "closed" if result.rate_offered is None else plan.arrivals,
        "rate_offered": result.rate_offered,
        "rate": round(result.rate, 1),
        "duration_s": load.duration_s,
        "latency_us": {name: _us(load.ok.quantile(q, load.lost)) for name, q in QUANTILES.items()},
        "max_us": None if load.lost or not load.ok.count else _us(load.ok.max_ns),
        "mean_us": _us(load.ok.mean_ns) if load.ok.count else None,
        "failed_latency_us": {name: _us(load.failed.quantile(q)) for name, q in QUANTILES.items()} if load.failed.count else None,
        "outcomes": load.outcomes,
        "messages": {name: unquote(message) for name, message in load.messages.items()},
        "offered": load.offered,
        "lost": load.lost,
        "dropped": load.dropped,
        "unsent": load.unsent,
        "in_flight_max": load.in_flight_max,
        "reconnects": load.reconnects,
        "generator_lag_us": {name: _us(load.lag.quantile(q)) for name, q in QUANTILES.items()} if load.lag.count else None,
        "generator_cpu_s": round(load.cpu_s, 4),
        "generator_cpu_us_per_call": round(load.cpu_s * 1e6 / calls, 3) if calls else None,
        "server_cpu_s": result.server_cpu_s,
        "server_cpu_s_per_1000": result.server_cpu_s_per_1000,
        "sent_bytes": load.sent_bytes,
        "received_bytes": load.received_bytes,
        "failure": load.failure,
        "is_stopped": result.is_stopped,
        "percentiles": [[q, _us(load.ok.quantile(q, load.lost))] for q in _curve(load.offered)],
        "seconds": [
            {"ok": s.ok, "failed": s.failed, "p50_us": _us(s.p50_ns), "p99_us": _us(s.p99_ns), "max_us": _us(s.max_ns)}
            for s in load.seconds
        ],
    }


def _curve(count: int) -> Iterator[float]:
    """Shares at even steps of a logarithm, as far as `count` calls have something to say."""
    point = 0
    while (left := 10 ** (-point / CURVE_POINTS)) * count >= 1:
        yield 1 - left
        point += 1


def _us(ns: float | None) -> float | None:
    return None if ns is None else round(ns / 1000, 1)


def _latency_text(load: _core.LoadResult, ns: int | None) -> str:
    """A call without an answer has no latency; nor has anything where no call was OK."""
    if ns is None or not load.ok.count:
        return "lost" if load.lost else "-"
    return _time_text(ns)


def _time_text(ns: float) -> str:
    """A time in the unit that people would take."""
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if ns >= size:
            return f"{ns / size:.2f} {unit}"
    return f"{ns / 1e3:.0f} us"


def _machine() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"processor": model, "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(), "core": _core.BUILD}
