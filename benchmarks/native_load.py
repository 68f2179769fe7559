"""The native transport beyond what it can do, and for long: overload and recovery, memory over half an hour."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.crowd import crowd_file, crowd_snapshot
from benchmarks.measure import Ratio, interleave, process_rss_bytes
from benchmarks.native import MESSAGES, OPEN_LOOP_RATE
from benchmarks.processes import Server, abuser, assay_server
from benchmarks.run import Run
from benchmarks.servers.abuser import FLOODS
from benchmarks.slow_model import slow_bundle

RUNS_MAX = 3
STEP_S = 10.0
OVERLOAD_FACTORS = (2, 5)
TIMEOUT_S = 0.25
QUIET_S = 5.0  # before the overload that is to be recovered from
RECOVERY_S = 10.0  # watched after it
HONEST_RATE, HONEST_S = 2_000, 4.0
ABUSE_PAIRS_MAX = 5  # of each flood
SOAK_SAMPLE_S = 5.0
SOAK_MESSAGES = 1_000_000


def overload(run: Run) -> list[Ratio]:
    """A model that is slow (slow_model.py), so that the generator can offer five times what the server can do: goodput, how
    quickly the rest is refused, and how soon it is over."""
    messages = run.material.bench_file(MESSAGES)
    goodput = {n: Ratio(f"overload: goodput at {n} times the capacity over the peak", ">= 0.9", "OK/s") for n in OVERLOAD_FACTORS}
    refusal = {n: Ratio(f"overload: refusals at {n} times the capacity, p50 over 1 ms", "<= 1", "us") for n in OVERLOAD_FACTORS}
    late = {n: Ratio(f"the same, p99 over the generator's own lag's, {n} times", "reported", "us") for n in OVERLOAD_FACTORS}
    recovery = Ratio("overload: seconds until half the capacity is answered as before, over 2 s", "<= 1", "s")
    bundle = slow_bundle(run.material, run.report)
    with assay_server(run.material, "--transport", "native", bundle=bundle) as server:
        for index in range(min(run.pairs, RUNS_MAX)):
            peak = float(server.bench(messages, STEP_S, "--warmup", "2", "--connections", "4", "--streams", "64")["rate"])
            run.report(f"overload {index + 1}: peak {peak:,.0f}/s")
            for factor in OVERLOAD_FACTORS:
                step = server.bench(messages, STEP_S, "--warmup", "2", *_offered(factor * peak))
                goodput[factor].pairs.append((step["rate"], peak))
                refusal[factor].pairs.append((step["failed_latency_us"]["p50"], 1_000.0))
                late[factor].pairs.append((step["failed_latency_us"]["p99"], step["generator_lag_us"]["p99"]))
                run.report(f"overload {index + 1}: {factor} times, {step['rate']:,.0f}/s, {step['outcomes']}")
            recovery.pairs.append((_recovery_s(server, messages, peak), 2.0))
    return [*goodput.values(), *refusal.values(), *late.values(), recovery]


def abuse(run: Run) -> list[Ratio]:
    """An honest caller (open loop) while another floods the same listener: its p99 with over without."""
    messages = run.material.bench_file(MESSAGES)
    ratios = []
    options = ("--rate", str(HONEST_RATE), "--warmup", "1", "--connections", "2", "--streams", "64", "--timeout", "1")
    with assay_server(run.material, "--transport", "native") as server:

        def p99_us() -> float:
            step = server.bench(messages, HONEST_S, *options)
            assert set(step["outcomes"]) == {"OK"}, step["outcomes"]
            return float(step["latency_us"]["p99"])

        for flood in FLOODS:

            def flooded(flood: str = flood) -> float:
                with abuser(server, flood):
                    return p99_us()

            ratio = Ratio(f"abuse: an honest caller's p99 beside a flood, {flood}", "<= 2", "us")
            ratios.append(interleave(ratio, flooded, p99_us, min(run.pairs, ABUSE_PAIRS_MAX), run.report))
    return ratios


def soak(run: Run) -> list[Ratio]:
    """Half of the open loop's rate for half an hour (--soak-minutes): memory at the end over memory after the first tenth, and
    its slope in what is said."""
    messages = crowd_file(run.material, SOAK_MESSAGES, run.report)
    store = f"embedded:{crowd_snapshot(run.material, run.report)}"
    memory = Ratio(
        f"soak: {run.soak_minutes:g} minutes at {OPEN_LOOP_RATE / 2:,.0f}/s, memory at the end over the start", "<= 1.01", "MiB"
    )
    seconds = run.soak_minutes * 60
    options = ("--rate", str(OPEN_LOOP_RATE / 2), "--connections", "8", "--streams", "64", "--warmup", "5")
    with (
        assay_server(run.material, "--transport", "native", "--store", store) as server,
        server.start_bench(messages, seconds, *options) as wait,
    ):
        times, sizes = _watch_memory(server.pid, seconds, run)
        step = wait()
    is_settled = times >= times[-1] / 10
    hours = times[is_settled] / 3600
    slope, low, high = slope_with_interval(hours, sizes[is_settled])
    tenth = max(1, int(is_settled.sum()) // 10)
    memory.pairs.append((float(np.median(sizes[-tenth:])), float(np.median(sizes[is_settled][:tenth]))))
    run.say(
        f"soak: {step['outcomes']}, p99 {step['latency_us']['p99']} us; memory {sizes[is_settled][0]:.1f} MiB after a tenth, "
        f"{sizes[-1]:.1f} MiB at the end, slope {slope:+.2f} MiB an hour ({low:+.2f} .. {high:+.2f})"
    )
    return [memory]


def slope_with_interval(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Least squares: the slope of y (n,) over x (n,) with its 95 % interval; samples taken as independent."""
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - (slope * x + intercept)
    error = float(np.sqrt((residual**2).sum() / max(1, len(x) - 2) / ((x - x.mean()) ** 2).sum()))
    return float(slope), float(slope - 1.96 * error), float(slope + 1.96 * error)


# --- implementation ---


def _offered(rate: float) -> tuple[str, ...]:
    return ("--rate", f"{rate:.0f}", "--timeout", str(TIMEOUT_S), "--connections", "16", "--streams", "256")


def _recovery_s(server: Server, messages: Path, peak: float) -> float:
    """A caller at half the capacity; another comes with five times of it, and goes. For how long the first is worse off than
    before once the other has gone, at most (seconds are whole)."""
    watched_s = QUIET_S + STEP_S + RECOVERY_S
    options = (
        "--warmup",
        "0",
        "--rate",
        f"{peak / 2:.0f}",
        "--timeout",
        str(TIMEOUT_S),
        "--connections",
        "4",
        "--streams",
        "256",
    )
    with server.start_bench(messages, watched_s, *options) as wait:
        time.sleep(QUIET_S)
        server.bench(messages, STEP_S, "--warmup", "0", *_offered(OVERLOAD_FACTORS[-1] * peak))
        seconds = wait()["seconds"]
    # The first has the connections' beginning.
    usual_us = 2 * statistics.median(second["p99_us"] for second in seconds[1 : int(QUIET_S) - 1])
    is_good = [not second["failed"] and second["p99_us"] <= usual_us for second in seconds]
    if False not in is_good[1:]:
        return 0.01
    over = is_good.index(False, 1) + int(STEP_S)  # within this second at the latest it has gone
    return float(max(0.01, is_good.index(True, over) - over))


def _watch_memory(pid: int, seconds: float, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since the start and resident MiB, shapes (n,)."""
    times, sizes = [], []
    start_s = time.monotonic()
    while (passed_s := time.monotonic() - start_s) < seconds:
        times.append(passed_s)
        sizes.append(process_rss_bytes(pid) / (1 << 20))
        run.report(f"soak: {passed_s / 60:.1f} min, {sizes[-1]:.1f} MiB")
        time.sleep(SOAK_SAMPLE_S)
    return np.array(times), np.array(sizes)
