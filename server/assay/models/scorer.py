"""`assay.Scorer`: a bundle's scores in a notebook or a batch job, from the same C++ and ONNX Runtime that serve it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay._core import OrtRuntime
from assay.errors import BundleError
from assay.models.ort_library import find_library
from assay.models.verify import BATCH_ROWS_MAX_DEFAULT, verify_bundle


class Scorer:
    """A verified bundle that scores rows of its model inputs.

    `bundle`: the directory NAME/VERSION. It is proved first, as a server would (a second or two): BundleError says what is wrong.
    Scoring is thread-safe and releases the GIL; the scores are those of a server, to the bit, on the same machine.
    """

    def __init__(self, bundle: str | os.PathLike[str]) -> None:
        verified = verify_bundle(Path(bundle), OrtRuntime(str(find_library())))
        manifest = verified.bundle.manifest
        if len(manifest.inputs) != 1 or manifest.inputs[0].dtype != "float32":
            found = ", ".join(f"{item.tensor} ({item.dtype})" for item in manifest.inputs)
            raise BundleError(
                f"{bundle}: the model takes {found}; Scorer needs "
                "one float32 input. Export it with one (skl2onnx: FloatTensorType([None, n])), or ask a server"
            )
        self._model = verified.model
        self._output, self._column = verified.score_output, verified.score_column
        self._batch_rows_max = verified.batch_rows_max(BATCH_ROWS_MAX_DEFAULT)
        self.name, self.version = verified.name, verified.version
        self.features: tuple[str, ...] = tuple(manifest.inputs[0].features)  # the columns of a matrix, in order

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores (n,) of rows (n, len(features)): a C-contiguous float32 array, which is read where it lies; null is NaN.

        TypeError: not an array, or of another dtype. ValueError: another shape, or not contiguous. CoreError: the model failed.
        """
        if not isinstance(matrix, np.ndarray) or matrix.dtype != np.float32:
            found = str(matrix.dtype) if isinstance(matrix, np.ndarray) else type(matrix).__name__
            raise TypeError(f"matrix: expected a float32 array, not {found}; convert it: numpy.asarray(matrix, numpy.float32)")
        if matrix.ndim != 2 or matrix.shape[1] != len(self.features):
            raise ValueError(f"matrix: expected the shape (n, {len(self.features)}), not {matrix.shape}; columns: self.features")
        if not matrix.flags.c_contiguous:
            raise ValueError("matrix: not C-contiguous, and it is not copied here; numpy.ascontiguousarray(matrix) does")
        scores = np.empty(len(matrix), np.float64)
        if len(matrix):
            self._model.score_matrix(matrix, self._output, self._column, self._batch_rows_max, scores)
        return scores
