"""What `assay model check` asks of a bundle beyond what a server needs: does it say what the trained model said, did labels leak,
and what does a batch cost.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from assay.features.rows import PackedRows
from assay.models.batch_memory import BatchMemory, measure_batch_memory
from assay.models.golden import parse_golden, parse_source_scores
from assay.models.invariance import Scorer, buckets_up_to
from assay.models.leaks import check_leaks
from assay.models.manifest import GOLDEN_FILE, MODEL_FILE
from assay.models.refusal import BundleRefusedError
from assay.models.source_parity import check_source_parity
from assay.models.verify import Step, VerifiedModel, make_scorer

GATE_CHECKS: Final = ("source parity", "leaks", "latency", "memory")
_RUNS = 15
_MIB = 1 << 20


@dataclass(frozen=True)
class BucketCost:
    """One batch size, warm: the median of its runs, conversion to and from NumPy included; and what it and all smaller ones add
    to the session's memory on the CPU. None: this kernel does not tell."""

    rows: int
    latency_us: float
    memory_bytes: int | None


@dataclass(frozen=True)
class GateLimits:
    """None: it is only reported."""

    latency_us_max: float | None = None  # of a batch of any size
    memory_mib_max: float | None = None  # of the session with a batch of any size


@dataclass(frozen=True)
class GateReport:
    buckets: tuple[BucketCost, ...]
    session_bytes: int | None


def gate_bundle(verified: VerifiedModel, batch_rows_max: int, limits: GateLimits, step: Step) -> GateReport:
    """Runs the steps of GATE_CHECKS. Raises BundleRefusedError at the first that says no."""
    manifest = verified.bundle.manifest
    rows, _ = parse_golden(verified.bundle.files[GOLDEN_FILE], verified.plan)
    batch_rows_max = verified.batch_rows_max(batch_rows_max)
    scorer = make_scorer(verified.model, verified.plan, verified.score_output, verified.score_column, batch_rows_max)
    with step("source parity") as found:
        said = parse_source_scores(verified.bundle.files[GOLDEN_FILE])
        if (said is None) != (manifest.source is None):
            raise BundleRefusedError(GOLDEN_FILE, "scores of the source and the manifest do not belong together", "pack it again")
        found.detail = "not known: packed from an ONNX file (assay.pack keeps the source's scores)"
        if said is not None and manifest.source is not None:
            found.detail = check_source_parity(manifest.source, said, scorer(rows))
    with step("leaks") as found:
        found.detail = check_leaks(manifest.training)
    with step("latency") as found:
        latencies = measure_latencies(scorer, rows, batch_rows_max)
        found.detail = check_latencies(latencies, limits.latency_us_max)
    with step("memory") as found:
        memory = measure_batch_memory(verified.bundle, batch_rows_max)
        found.detail = check_memory(memory, limits.memory_mib_max)
    taken = {} if memory is None else memory.batch_bytes
    buckets = tuple(BucketCost(count, latency_us, taken.get(count)) for count, latency_us in latencies.items())
    return GateReport(buckets, None if memory is None else memory.session_bytes)


# --- the steps ---


def measure_latencies(score: Scorer, rows: PackedRows, batch_rows_max: int) -> dict[int, float]:
    """Batch size -> median microseconds."""
    found = {}
    for count in buckets_up_to(batch_rows_max):
        batch = np.take(rows, range(count), axis=0, mode="wrap")
        took = []
        for _ in range(_RUNS):
            started = time.perf_counter_ns()
            score(batch)
            took.append(time.perf_counter_ns() - started)
        found[count] = statistics.median(took) / 1000
    return found


def check_latencies(latencies: dict[int, float], limit_us: float | None) -> str:
    """What was found. Raises BundleRefusedError."""
    for count, latency_us in latencies.items():
        if limit_us is not None and latency_us > limit_us:
            reason = f"a batch of {count} takes {latency_us:.0f} us, --latency-us-max is {limit_us:g}"
            mend = "use a smaller or quantised model, a smaller --batch-rows-max, or allow it"
            raise BundleRefusedError(MODEL_FILE, reason, mend)
    return ", ".join(f"{count}: {latency_us:.0f}" for count, latency_us in latencies.items()) + " us"


def check_memory(memory: BatchMemory | None, limit_mib: float | None) -> str:
    """What was found. Raises BundleRefusedError, also where there is a limit and nothing to hold against it."""
    if memory is None:
        if limit_mib is not None:
            mend = "check it on Linux where a process may write /proc/self/clear_refs, or leave --memory-mib-max out"
            raise BundleRefusedError(MODEL_FILE, "this kernel does not tell a process's peak of memory", mend)
        return "not measured: this kernel does not tell a process's peak"
    for count, added in memory.batch_bytes.items():
        total = (memory.session_bytes + added) / _MIB
        if limit_mib is not None and total > limit_mib:
            reason = f"the session with a batch of {count} takes {total:.1f} MiB, --memory-mib-max is {limit_mib:g}"
            mend = "use a smaller or quantised model, a smaller --batch-rows-max, or allow it"
            raise BundleRefusedError(MODEL_FILE, reason, mend)
    added_mib = ", ".join(f"{count}: {added / _MIB:.1f}" for count, added in memory.batch_bytes.items())
    return f"session {memory.session_bytes / _MIB:.1f} MiB; batches add {added_mib}"
