"""What the demo's model makes of rows, and whether a server was given the same rows and answered the same: to the bit."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from assay.demo.paths import bundle_path, feature_set_path
from assay.features.feature_set import FeatureSet
from assay.v1 import scoring_pb2
from tests.support.payments import Payments


@functools.cache
def feature_set() -> FeatureSet:
    return FeatureSet.load(feature_set_path())


def onnx_scores(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The demo model's scores of rows (n, inputs), by ONNX Runtime's own Python API."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle_path() / "model.onnx", options, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"input": rows})
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (len(rows), 2)
    return np.ascontiguousarray(probabilities[:, 1])


def shown_inputs(response: scoring_pb2.ScoreResponse) -> list[float]:
    assert tuple(shown.name for shown in response.inputs) == feature_set().input_names
    assert {shown.value.WhichOneof("value") for shown in response.inputs} == {"double_value"}
    return [shown.value.double_value for shown in response.inputs]


def assert_same_bits(found: NDArray[Any], expected: NDArray[np.float32], payments: Payments) -> None:
    """`found` (n,) or (n, inputs) holds the float32 of `expected`, bit for bit; NaN and -0.0 are not spared."""
    differs = found.astype(np.float32).view(np.uint32) != expected.view(np.uint32)
    rows = np.flatnonzero(differs.reshape(len(found), -1).any(axis=1))
    examples = [(str(payments.ids[row]), found[row].tolist(), expected[row].tolist()) for row in rows[:3]]
    assert len(rows) == 0, f"{len(rows)} of {len(found)} payments differ, such as (id, found, expected): {examples}"
