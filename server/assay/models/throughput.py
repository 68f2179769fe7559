"""Rows a second of models on this machine, measured in turn so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from assay.features.rows import PackedRows
from assay.models.invariance import Scorer

BATCHES: Final = (1, 16, 64, 256)
ROUNDS: Final = 5
_VNNI_FLAGS: Final = frozenset({"avx_vnni", "avx512_vnni"})


@dataclass(frozen=True)
class Throughput:
    """Median rows a second of each model, by name, in batches of `batch_rows`."""

    batch_rows: int
    rows_per_s: dict[str, float]


def measure_throughput(
    scorers: Mapping[str, Scorer],
    rows: PackedRows,
    *,
    batches: Sequence[int] = BATCHES,
    run_s: float = 0.05,
    rounds: int = ROUNDS,
) -> list[Throughput]:
    """Runs each model for `run_s` (but one batch at least) in every round. Batches are of distinct rows while they last."""
    found = []
    for batch_rows in batches:
        samples = [
            np.take(rows, range(first, first + batch_rows), axis=0, mode="wrap") for first in range(0, len(rows), batch_rows)
        ]
        rates: dict[str, list[float]] = {name: [] for name in scorers}
        for _ in range(rounds):
            for name, score in scorers.items():
                rates[name].append(_rate(score, samples, run_s))
        found.append(Throughput(batch_rows, {name: statistics.median(values) for name, values in rates.items()}))
    return found


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Whether this processor multiplies bytes in one instruction (x86 with VNNI). None: it does not say."""
    try:
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")]
    except OSError:
        return None
    return bool(_VNNI_FLAGS & set(lines[0].split())) if lines else None


# --- implementation ---


def _rate(score: Scorer, samples: list[PackedRows], run_s: float) -> float:
    score(samples[0])  # warm
    done = 0
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < run_s or not done:
        batch = samples[done % len(samples)]
        score(batch)
        done += 1
    return done * len(samples[0]) / spent if spent else float("inf")
