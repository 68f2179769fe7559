"""Does a device compute? A small model is run there and on the CPU. For `assay doctor`: it needs no bundle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay._core import OrtRuntime
from assay.features.compile import TensorMapping, compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.rows import pack_rows
from assay.models.device import CPU, Device, make_session

_FEATURE_SET = """
name: trial
version: "1"
entities: [customer_id]
request_features:
  number: {dtype: float64}
inputs: [number]
"""
_ROWS = 64


def try_device(runtime: OrtRuntime, device: Device) -> float:
    """The largest difference between the device's answers and the CPU's. Raises CoreError with ONNX Runtime's words."""
    model = _model_bytes()
    plan = compile_plan(FeatureSet.parse(_FEATURE_SET), [TensorMapping("input", "float32", ("number",))])
    rows = pack_rows(plan, {"input": np.linspace(-4, 4, _ROWS, dtype=np.float32).reshape(_ROWS, 1)})

    def answers(place: Device) -> NDArray[np.float64]:
        return make_session(runtime, model, place).run_rows(plan, rows, 0)

    return float(np.abs(answers(device) - answers(CPU)).max())


# --- implementation ---


def _model_bytes() -> bytes:
    """sigmoid(input @ weights @ ones): both kinds of kernel that a small net needs, a product and an element-wise function."""
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 32), "weights")
    ones = numpy_helper.from_array(np.ones((32, 1), np.float32), "ones")
    nodes = [
        helper.make_node("MatMul", ["input", "weights"], ["hidden"]),
        helper.make_node("Sigmoid", ["hidden"], ["bounded"]),
        helper.make_node("MatMul", ["bounded", "ones"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1])
    made = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph(nodes, "trial", [given], [made], [weights, ones])
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return model
