"""Does the batch change a score? Measured, because models that look harmless do it (dynamic INT8 takes its range over the batch).

The same rows are scored alone and then in batches of every bucket, at shuffled positions, among ordinary rows and among wild ones
(values far outside what the model knows). The largest change of any score is the model's batch effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from assay._core import FeaturePlan
from assay.features.rows import PackedRows, pack_rows, unpack_rows

Scorer = Callable[[PackedRows], NDArray[np.float64]]  # packed rows (n, row_bytes) -> scores (n,)

PROBE_ROWS_MAX: Final = 96  # half golden, half random
WILD_FACTORS: Final = (30.0, -1_000.0, 1e6)
_SEED: Final = 20_180_401


@dataclass(frozen=True)
class BatchEffect:
    """The largest change of a score, and the batch in which it was seen (0: no change)."""

    change_max: float
    batch_rows: int
    has_wild_neighbours: bool
    is_finite: bool  # false: a probe's score was NaN or infinite

    def describe(self) -> str:
        """For people."""
        if not self.is_finite:
            return "a score is NaN or infinite"
        if self.batch_rows == 0:
            return "bit-identical in every batch"
        neighbours = "wild" if self.has_wild_neighbours else "ordinary"
        return f"a score moves by {self.change_max:.3g} in a batch of {self.batch_rows} with {neighbours} neighbours"


def buckets_up_to(batch_rows_max: int) -> tuple[int, ...]:
    """The batch sizes that are measured and warmed: powers of two, and the largest batch."""
    powers = [1 << power for power in range(batch_rows_max.bit_length()) if 1 << power < batch_rows_max]
    return (*powers, batch_rows_max)


def measure_batch_effect(score: Scorer, plan: FeaturePlan, golden: PackedRows, batch_rows_max: int) -> BatchEffect:
    """Scores probes made of `golden` (n, row_bytes) in many batches. Deterministic: its own seed."""
    random = np.random.default_rng(_SEED)
    probes, wild = make_probes(plan, golden, random)
    alone = np.concatenate([score(probes[index : index + 1]) for index in range(len(probes))])
    if not np.isfinite(alone).all():
        return BatchEffect(float("inf"), 1, False, False)

    worst = BatchEffect(0.0, 0, False, True)
    for batch_rows in (3, *buckets_up_to(batch_rows_max)):
        for has_wild in (False, True) if batch_rows > 1 else (False,):
            change = _largest_change(score, probes, alone, batch_rows, wild if has_wild else None, random)
            if not np.isfinite(change):
                return BatchEffect(change, batch_rows, has_wild, False)
            if change > worst.change_max:
                worst = BatchEffect(change, batch_rows, has_wild, True)
    return worst


def make_probes(plan: FeaturePlan, golden: PackedRows, random: np.random.Generator) -> tuple[PackedRows, PackedRows]:
    """Probes: golden rows and rows that mix their columns anew. Wild: rows with one or all float values far outside."""
    half = PROBE_ROWS_MAX // 2
    kept = golden[random.permutation(len(golden))[:half]]
    tensors = unpack_rows(plan, golden)
    mixed = {
        name: np.stack([column[random.integers(0, len(column), half)] for column in values.T], axis=1)
        for name, values in tensors.items()
    }
    probes = np.concatenate([kept, pack_rows(plan, mixed)])

    extreme = []
    for factor in WILD_FACTORS:
        one = {name: values.copy() for name, values in mixed.items()}
        for values in one.values():
            if values.dtype.kind == "f":
                values[: half // 2] *= values.dtype.type(factor)
                column = random.integers(0, values.shape[1], half)
                values[np.arange(half // 2, half), column[half // 2 :]] = values.dtype.type(factor) * 1_000
        extreme.append(pack_rows(plan, one))
    return probes, np.concatenate(extreme)


# --- implementation ---


def _largest_change(
    score: Scorer,
    probes: PackedRows,
    alone: NDArray[np.float64],
    batch_rows: int,
    wild: PackedRows | None,
    random: np.random.Generator,
) -> float:
    """Every probe once, in batches of `batch_rows`, at random positions; with `wild`, half of every batch is wild."""
    own_rows = batch_rows if wild is None else (batch_rows + 1) // 2
    order = random.permutation(len(probes))
    change = 0.0
    for first in range(0, len(order), own_rows):
        # The last batch is filled up with the first probes, so that every batch has its full size.
        own = np.take(order, range(first, first + own_rows), mode="wrap")
        batch = probes[own]
        if wild is not None and batch_rows > own_rows:
            batch = np.concatenate([batch, wild[random.integers(0, len(wild), batch_rows - own_rows)]])
        positions = random.permutation(batch_rows)
        scores = np.empty(batch_rows)
        scores[positions] = score(batch[positions])
        own_scores = scores[: len(own)]
        if not np.isfinite(own_scores).all():
            return float("nan")
        change = max(change, float(np.abs(own_scores - alone[own]).max()))
    return change
