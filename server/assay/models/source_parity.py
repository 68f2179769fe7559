"""Whether a bundle still says what the trained model said: scores of the source, kept beside the golden rows.

golden.npz then has one array more, `source_score` (n,), and the manifest says who made it and how far the two may be apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from assay.models.manifest import GOLDEN_FILE, MODEL_FILE, Source
from assay.models.refusal import BundleRefusedError

SOURCE_SCORE: Final = "source_score"


@dataclass(frozen=True)
class SourceScores:
    """The trained model: what it is, and its scores (n,) of a matrix (n, inputs)."""

    source: Source
    score: Callable[[NDArray[np.float32]], NDArray[np.float64]]


def check_source_parity(source: Source, expected: NDArray[np.float64], scores: NDArray[np.float64]) -> str:
    """Compares the source's scores with the bundle's, both (n,). Returns what was found. Raises BundleRefusedError."""
    if expected.shape != scores.shape or not np.isfinite(expected).all():
        raise BundleRefusedError(GOLDEN_FILE, f"{SOURCE_SCORE}: expected a finite score for each row", "pack the model again")
    difference = np.abs(expected - scores)
    worst = float(difference.max())
    if worst > source.tolerance:
        count = int((difference > source.tolerance).sum())
        reason = (
            f"{count} of {len(scores)} rows score otherwise than {source.library} ({source.estimator}) scored them, by up to "
            f"{worst:.3g} (allowed: {source.tolerance:g})"
        )
        mend = (
            "the conversion lost something: train on float32 inputs, or, if that much may be, pack with a larger parity_tolerance"
        )
        raise BundleRefusedError(MODEL_FILE, reason, mend)
    return f"{len(scores)} rows, {source.library}: " + ("bit-identical" if worst == 0 else f"within {worst:.3g}")
