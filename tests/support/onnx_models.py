"""Small ONNX models for tests, built with ONNX's own helpers: three float inputs, as the feature set of bundles.py has."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUT_COUNT = 3


def input_value(name: str = "input", dims: tuple[object, ...] = ("batch", INPUT_COUNT)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def output_value(name: str = "score", dims: tuple[object, ...] | None = ("batch", 1)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def make_model(
    nodes: list[onnx.NodeProto],
    *,
    initializers: list[onnx.TensorProto] | None = None,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    opsets: dict[str, int] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "tiny", inputs or [input_value()], outputs or [output_value()], initializers or [])
    imports = [helper.make_opsetid(domain, version) for domain, version in (opsets or {"": 17}).items()]
    return helper.make_model(graph, opset_imports=imports, functions=functions or [], ir_version=8)


def weights(name: str = "weights", columns: int = 1, scale: float = 1e-3) -> onnx.TensorProto:
    values = np.linspace(-scale, scale * 3, INPUT_COUNT * columns, dtype=np.float32).reshape(INPUT_COUNT, columns)
    return numpy_helper.from_array(values, name)


def linear_model() -> onnx.ModelProto:
    """sigmoid(input @ weights): one float32 output `score` (batch, 1)."""
    nodes = [helper.make_node("MatMul", ["input", "weights"], ["margin"]), helper.make_node("Sigmoid", ["margin"], ["score"])]
    return make_model(nodes, initializers=[weights()])


def wide_model(columns: int) -> onnx.ModelProto:
    """input @ weights: one float32 output `score` (batch, columns)."""
    node = helper.make_node("MatMul", ["input", "weights"], ["score"])
    return make_model([node], outputs=[output_value(dims=("batch", columns))], initializers=[weights(columns=columns)])


def tree_model() -> onnx.ModelProto:
    """Two stumps on amount (at 100) and count (at 3): score 0.1, 0.3, 0.6 or 0.8."""
    tree = helper.make_node(
        "TreeEnsembleRegressor",
        ["input"],
        ["score"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0, 0, 0, 1, 1, 1],
        nodes_nodeids=[0, 1, 2, 0, 1, 2],
        nodes_featureids=[0, 0, 0, 2, 0, 0],
        nodes_values=[100.0, 0, 0, 3.0, 0, 0],
        nodes_modes=["BRANCH_LT", "LEAF", "LEAF", "BRANCH_LT", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0, 1, 0, 0],
        nodes_falsenodeids=[2, 0, 0, 2, 0, 0],
        target_treeids=[0, 0, 1, 1],
        target_nodeids=[1, 2, 1, 2],
        target_ids=[0, 0, 0, 0],
        target_weights=[0.0625, 0.5625, 0.03125, 0.25],
    )
    return make_model([tree], opsets={"": 17, "ai.onnx.ml": 3})


def dynamic_int8_model() -> onnx.ModelProto:
    """The linear model quantised dynamically: its input's range is taken over the whole batch, so neighbours change a score."""
    quantised = numpy_helper.from_array(np.array([[-40], [50], [127]], np.int8), "weights")
    factor = numpy_helper.from_array(np.array(1e-3, np.float32), "factor")
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["input"], ["quantised", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["quantised", "weights", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "factor"], ["step"]),
        helper.make_node("Mul", ["numbers", "step"], ["margin"]),
        helper.make_node("Sigmoid", ["margin"], ["score"]),
    ]
    return make_model(nodes, initializers=[quantised, factor])
