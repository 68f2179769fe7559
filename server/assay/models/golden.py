"""Golden rows: rows that a bundle brings along with the scores they must get. A model proves itself wherever it is loaded.

golden.npz holds the rows (row_arrays.py) and `score` (n,); where the trained model was at hand also what that said,
`source_score` (n,).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from assay._core import FeaturePlan
from assay.features.rows import PackedRows
from assay.models.arrays import load_arrays, save_arrays
from assay.models.manifest import GOLDEN_FILE
from assay.models.refusal import BundleRefusedError
from assay.models.row_arrays import arrays_of_rows, rows_of_arrays
from assay.models.source_parity import SOURCE_SCORE

GOLDEN_ROWS_MAX: Final = 256


def choose_golden(rows: PackedRows, scores: NDArray[np.float64], rows_max: int = GOLDEN_ROWS_MAX) -> NDArray[np.int64]:
    """Which rows to keep: at most `rows_max`, evenly over the ranked scores, so that the rare high ones are among them.

    Half of them are spread over all ranks, half over the top hundredth. Ascending positions, each once.
    """
    ranked = np.argsort(scores, kind="stable")
    half = max(rows_max // 2, 1)
    top = ranked[-max(len(ranked) // 100, min(half, len(ranked))) :]
    chosen = [part[spread(len(part), half)] for part in (ranked, top)]
    positions: NDArray[np.int64] = np.unique(np.concatenate(chosen))
    _, first = np.unique(rows[positions], axis=0, return_index=True)
    return np.sort(positions[first])


def spread(count: int, count_max: int) -> NDArray[np.int64]:
    """At most `count_max` of the positions [0, count), evenly spread."""
    return np.linspace(0, count - 1, min(count, count_max)).astype(np.int64)


def save_golden(
    plan: FeaturePlan, rows: PackedRows, scores: NDArray[np.float64], source_scores: NDArray[np.float64] | None = None
) -> bytes:
    """The bytes of golden.npz. `source_scores`: of the trained model (source_parity.py)."""
    beside = {} if source_scores is None else {SOURCE_SCORE: source_scores}
    return save_arrays({**arrays_of_rows(plan, rows), "score": scores, **beside})


def parse_source_scores(data: bytes) -> NDArray[np.float64] | None:
    """What the trained model said of the golden rows (n,); None: it is not known. Raises BundleRefusedError."""
    scores = load_arrays(data, GOLDEN_FILE).get(SOURCE_SCORE)
    if scores is not None and (scores.dtype != np.float64 or scores.ndim != 1):
        raise BundleRefusedError(GOLDEN_FILE, f"expected {SOURCE_SCORE} to be float64 (n,)", "pack the model again")
    return scores


def parse_golden(data: bytes, plan: FeaturePlan) -> tuple[PackedRows, NDArray[np.float64]]:
    """Packed rows (n, row_bytes) and their scores (n,), n >= 1. Raises BundleRefusedError."""
    arrays = load_arrays(data, GOLDEN_FILE)
    scores = arrays.pop("score", None)
    arrays.pop(SOURCE_SCORE, None)
    mend = "pack the model again: the golden rows do not belong to this feature set"
    if scores is None or scores.dtype != np.float64 or scores.ndim != 1 or not 1 <= len(scores) <= GOLDEN_ROWS_MAX:
        raise BundleRefusedError(GOLDEN_FILE, f"expected an array 'score' of 1 to {GOLDEN_ROWS_MAX} float64", mend)
    rows = rows_of_arrays(plan, arrays, GOLDEN_FILE, "golden", GOLDEN_ROWS_MAX)
    if len(rows) != len(scores):
        raise BundleRefusedError(GOLDEN_FILE, f"{len(rows)} rows and {len(scores)} scores", mend)
    return rows, scores
