"""A model that is slow on purpose: three dense layers, nine million weights. A server that scores it is full at a rate which a
generator on the same two cores can still pass five times over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.material import SEED, Material, pack

HIDDEN = 3_000


def slow_bundle(material: Material, report: Callable[[str], None]) -> Path:
    """Its bundle. Made once."""
    from onnx import TensorProto, helper, numpy_helper

    bundle = material.folder / "models" / "dense" / "1"
    if bundle.exists():
        return bundle
    report("making a slow model")
    names = material.plan.input_names
    random = np.random.default_rng(SEED)
    shapes = {"w1": (len(names), HIDDEN), "w2": (HIDDEN, HIDDEN), "w3": (HIDDEN, 2)}
    weights = {name: (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32) for name, shape in shapes.items()}
    weights["scale"] = np.full(len(names), 1e-4, np.float32)
    nodes = [
        helper.make_node("Mul", ["input", "scale"], ["x"]),
        helper.make_node("MatMul", ["x", "w1"], ["a1"]),
        helper.make_node("Relu", ["a1"], ["h1"]),
        helper.make_node("MatMul", ["h1", "w2"], ["a2"]),
        helper.make_node("Relu", ["a2"], ["h2"]),
        helper.make_node("MatMul", ["h2", "w3"], ["a3"]),
        helper.make_node("Softmax", ["a3"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, len(names)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    rows = material.matrix(material.requests(2_000)).astype(np.float64)
    pack(material, "dense", model, dict(zip(names, rows.T, strict=True)))
    return bundle
