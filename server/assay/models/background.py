"""The background: rows of the training that explanations compare a transaction with. A contribution says how far one input moves
the score away from what these rows score on average.

background.npz holds the rows (row_arrays.py) and nothing else. Its SHA-256, which stands in the manifest, names it.
"""

from __future__ import annotations

from typing import Final

from assay._core import FeaturePlan
from assay.errors import InputError
from assay.features.rows import PackedRows
from assay.models.arrays import load_arrays, save_arrays
from assay.models.golden import spread
from assay.models.inspection import OnnxInspection
from assay.models.manifest import BACKGROUND_FILE, BACKGROUND_ROWS_MAX
from assay.models.row_arrays import arrays_of_rows, rows_of_arrays

# Of a model that cannot be read. The contributions of trees and of linear models are computed from what they are made of; any
# other model is run, some hundred times with each row of the background, to explain one score.
SAMPLED_ROWS_DEFAULT: Final = 16


def background_rows_default(inspection: OnnxInspection) -> int:
    """How many rows a model gets where nobody says how many."""
    is_read = inspection.is_tree_ensemble or inspection.is_linear
    return BACKGROUND_ROWS_MAX if is_read else SAMPLED_ROWS_DEFAULT


def choose_background(rows: PackedRows, count: int) -> PackedRows:
    """At most `count` of the rows, evenly spread over their order. Rows of a training come in the order of time: so no season is
    left out, and frauds are as rare as they are. Raises InputError where `count` is not 0 to BACKGROUND_ROWS_MAX.
    """
    if not 0 <= count <= BACKGROUND_ROWS_MAX:
        raise InputError(f"background rows: expected 0 (none: the bundle then explains nothing) to {BACKGROUND_ROWS_MAX}")
    return rows[spread(len(rows), count)]


def save_background(plan: FeaturePlan, rows: PackedRows) -> bytes:
    """The bytes of background.npz."""
    return save_arrays(arrays_of_rows(plan, rows))


def parse_background(data: bytes, plan: FeaturePlan) -> PackedRows:
    """Packed rows (n, row_bytes), 1 <= n <= BACKGROUND_ROWS_MAX. Raises BundleRefusedError."""
    return rows_of_arrays(plan, load_arrays(data, BACKGROUND_FILE), BACKGROUND_FILE, "background", BACKGROUND_ROWS_MAX)
