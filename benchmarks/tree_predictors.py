"""ONNX Runtime against XGBoost's own predictor: the same 200 trees, the same rows, one thread each, from Python and from C."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from assay._core import OrtModel, OrtRuntime
from assay.models.convert import convert
from assay.models.ort_library import find_library
from benchmarks.material import LEAVES, TREES, training_rows
from benchmarks.measure import Ratio, interleave
from benchmarks.run import Run

BATCHES = (1, 16, 64, 256)
ROWS = 20_000
ROWS_OF_ONE = 4_000  # in batches of one
TOLERANCE = 1e-5

Predict = Callable[[NDArray[np.float32]], NDArray[np.floating]]  # rows (n, 15) -> scores (n,)


def trees(run: Run) -> list[Ratio]:
    """Rows per CPU second: ONNX Runtime's Python API over XGBoost's (inplace_predict), then what assay calls (the C API) over
    XGBoost's C API."""
    classifier, names = _train(run)
    converted = convert(classifier, names)
    matrix = run.material.matrix(run.material.requests(ROWS))
    pairs = {
        "from Python": (_onnxruntime(converted.model_bytes), _xgboost(classifier)),
        "from C": (_onnxruntime_c(converted.model_bytes), _xgboost_c(classifier)),
    }
    expected = converted.predict(matrix)[:, 1]
    for where, sides in pairs.items():
        for predict in sides:
            difference = max(
                float(np.abs(predict(matrix[first : first + 256]) - expected[first : first + 256]).max())
                for first in range(0, ROWS, 256)
            )
            if difference > TOLERANCE:
                raise SystemExit(f"{where}: scores differ by {difference:g}: the comparison is void")
    run.say(f"{ROWS:,} rows: both give the same scores to {TOLERANCE:g}; {TREES} trees of at most {LEAVES} leaves")
    ratios = []
    for where, (onnx, own) in pairs.items():
        for rows in BATCHES:
            ratio = Ratio(f"ONNX Runtime over XGBoost, {where}, batches of {rows}", "reported", "rows per CPU s")
            some = matrix[: ROWS_OF_ONE if rows == 1 else ROWS]
            interleave(ratio, _rows_per_cpu_s(onnx, some, rows), _rows_per_cpu_s(own, some, rows), run.pairs, run.report)
            ratios.append(ratio)
    return ratios


# --- implementation ---


def _train(run: Run) -> tuple[Any, list[str]]:
    import xgboost

    run.report(f"training {TREES} trees")
    columns, is_fraud = training_rows(run.material)
    classifier = xgboost.XGBClassifier(
        n_estimators=TREES, grow_policy="lossguide", max_leaves=LEAVES, max_depth=0, tree_method="hist", n_jobs=1, random_state=0
    )
    classifier.fit(np.stack(list(columns.values()), axis=1).astype(np.float32), is_fraud)
    classifier.set_params(n_jobs=1)
    return classifier, list(columns)


def _rows_per_cpu_s(predict: Predict, matrix: NDArray[np.float32], rows: int) -> Callable[[], float]:
    batches = [matrix[first : first + rows] for first in range(0, len(matrix) - rows + 1, rows)]

    def measure() -> float:
        started_s = time.process_time()
        for batch in batches:
            predict(batch)
        return len(batches) * rows / (time.process_time() - started_s)

    measure()
    return measure


def _onnxruntime(model_bytes: bytes) -> Predict:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, session.get_outputs()[-1].name

    def predict(rows: NDArray[np.float32]) -> NDArray[np.floating]:
        found: NDArray[np.floating] = session.run([output], {name: rows})[0][:, 1]
        return found

    return predict


def _xgboost(classifier: Any) -> Predict:
    booster = classifier.get_booster()
    booster.set_param({"nthread": 1})

    def predict(rows: NDArray[np.float32]) -> NDArray[np.floating]:
        found: NDArray[np.floating] = booster.inplace_predict(rows, validate_features=False)
        return found

    return predict


def _onnxruntime_c(model_bytes: bytes) -> Predict:
    model = OrtModel(OrtRuntime(str(find_library())), model_bytes)
    output = len(model.outputs) - 1

    def predict(rows: NDArray[np.float32]) -> NDArray[np.floating]:
        scores = np.empty(len(rows), np.float64)
        model.score_matrix(rows, output, 1, len(rows), scores)
        return scores

    return predict


def _xgboost_c(classifier: Any) -> Predict:
    """XGBoosterPredictFromDense, which is told of its rows in JSON."""
    from xgboost.core import _LIB  # the library that the package has opened

    booster = classifier.get_booster()
    booster.set_param({"nthread": 1})
    shape, result = ctypes.POINTER(ctypes.c_uint64)(), ctypes.POINTER(ctypes.c_float)()
    dimensions = ctypes.c_uint64()
    config = json.dumps(
        {
            "type": 0,
            "training": False,
            "iteration_begin": 0,
            "iteration_end": 0,
            "missing": float("nan"),
            "strict_shape": False,
            "cache_id": 0,
        }
    ).encode()
    values: dict[tuple[int, int], bytes] = {}

    def predict(rows: NDArray[np.float32]) -> NDArray[np.floating]:
        key = (rows.ctypes.data, len(rows))
        text = values.get(key)
        if text is None:  # of each batch once, as a program with buffers of its own would
            interface = {"data": [key[0], True], "shape": list(rows.shape), "typestr": "<f4", "version": 3}
            text = values[key] = json.dumps(interface).encode()
        refused = _LIB.XGBoosterPredictFromDense(
            booster.handle, text, config, None, ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(result)
        )
        assert refused == 0, _LIB.XGBGetLastError()
        return np.ctypeslib.as_array(result, (len(rows),))

    return predict
