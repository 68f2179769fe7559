"""Which models do the same work whatever a row holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.models.fixed_work import has_fixed_work
from assay.models.inspect_onnx import inspect
from tests.support.onnx_models import dynamic_int8_model, linear_model, make_model, output_value, tree_model, weights

CONSTANTS = {
    "zero": np.array([0], np.int64),
    "one": np.array([1], np.int64),
    "two": np.array([2], np.int64),
    "table": np.ones((1000, 1), np.float32),
    "yes": np.array(True),
}


def constant(name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(CONSTANTS[name], name)


def computed_model(*nodes: onnx.NodeProto, **changes: Any) -> onnx.ModelProto:
    """linear_model() whose margin is multiplied by the least element of `values`, which `nodes` compute. `size` is an int64 made
    of the row, shape (1,)."""
    steps = [
        helper.make_node("MatMul", ["input", "weights"], ["margin"]),
        helper.make_node("ReduceMax", ["margin"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["number"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["number", "zero"], ["size"]),
        *nodes,
        helper.make_node("Cast", ["values"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["floats"], ["least"], keepdims=0),
        helper.make_node("Mul", ["margin", "least"], ["score"]),
    ]
    return make_model(steps, initializers=[weights(), *map(constant, CONSTANTS)], **changes)


def branch() -> onnx.NodeProto:
    graph = helper.make_graph([helper.make_node("Identity", ["margin"], ["out"])], "branch", [], [output_value("out")])
    return helper.make_node("If", ["yes"], ["values"], then_branch=graph, else_branch=graph)


FIXED = {
    "linear": linear_model(),
    "trees": tree_model(),
    "dynamic INT8": dynamic_int8_model(),
    "slice to a constant end": computed_model(helper.make_node("Slice", ["table", "zero", "two", "zero"], ["values"])),
    "reshape to constants": computed_model(helper.make_node("Reshape", ["table", "zero"], ["values"], allowzero=0)),
}
FREE = {
    "slice to a computed end": [helper.make_node("Slice", ["table", "zero", "size", "zero"], ["values"])],
    "top k of a computed k": [helper.make_node("TopK", ["table", "size"], ["values", "places"], axis=0)],
    "places that are not zero": [helper.make_node("NonZero", ["input"], ["values"])],
    "compressed": [
        helper.make_node("Constant", [], ["wanted"], value_float=0.5),
        helper.make_node("Greater", ["margin", "wanted"], ["kept"]),
        helper.make_node("Constant", [], ["flat_shape"], value_ints=[-1]),
        helper.make_node("Reshape", ["kept", "flat_shape"], ["flat"]),
        helper.make_node("Compress", ["margin", "flat"], ["values"]),
    ],
    "a range": [
        helper.make_node("Constant", [], ["start"], value=numpy_helper.from_array(np.int64(0))),
        helper.make_node("Constant", [], ["step"], value=numpy_helper.from_array(np.int64(1))),
        helper.make_node("Range", ["start", "number", "step"], ["values"]),
    ],
    "expanded": [helper.make_node("Expand", ["margin", "size"], ["values"])],
    "filled": [helper.make_node("ConstantOfShape", ["size"], ["values"])],
    "reshaped to a computed shape": [helper.make_node("Reshape", ["table", "size"], ["values"])],
    "a branch": [branch()],
}


@pytest.mark.parametrize("model", FIXED.values(), ids=FIXED)
def test_sizes_known_from_the_model_alone(model: onnx.ModelProto) -> None:
    assert inspect(model.SerializeToString())["has_fixed_work"] is True


@pytest.mark.parametrize("nodes", FREE.values(), ids=FREE)
def test_sizes_that_follow_from_values(nodes: list[onnx.NodeProto]) -> None:
    document = inspect(computed_model(*nodes).SerializeToString())
    assert document["problems"] == []  # a model that is served, by runners
    assert document["has_fixed_work"] is False


def test_what_a_file_declares_proves_nothing() -> None:
    model = computed_model(*FREE["slice to a computed end"])
    model.graph.value_info.append(helper.make_tensor_value_info("values", TensorProto.FLOAT, [2, 1]))
    assert not has_fixed_work(model)


def test_a_refused_model_has_none() -> None:
    assert inspect(b"garbage")["has_fixed_work"] is False
