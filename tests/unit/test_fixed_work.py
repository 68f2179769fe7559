"""Which models do the same work whatever a row holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.models.fixed_work import TREE_NODES_MAX, has_fixed_work
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


def chain_model(nodes: int) -> onnx.ModelProto:
    """One tree that is a chain: most rows leave it at once, one walks through all of it. `nodes`: odd."""
    inner = range(0, nodes - 1, 2)  # each has a leaf beside it, the last one two
    modes = ["BRANCH_LT" if i in inner else "LEAF" for i in range(nodes)]
    leaves = [i for i in range(nodes) if modes[i] == "LEAF"]
    tree = helper.make_node(
        "TreeEnsembleRegressor",
        ["input"],
        ["score"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0] * nodes,
        nodes_nodeids=list(range(nodes)),
        nodes_featureids=[0] * nodes,
        nodes_values=[float(-i) for i in range(nodes)],
        nodes_modes=modes,
        nodes_truenodeids=[i + 2 if i in inner else 0 for i in range(nodes)],
        nodes_falsenodeids=[i + 1 if i in inner else 0 for i in range(nodes)],
        target_treeids=[0] * len(leaves),
        target_nodeids=leaves,
        target_ids=[0] * len(leaves),
        target_weights=[0.5] * len(leaves),
    )
    return make_model([tree], opsets={"": 17, "ai.onnx.ml": 3})


@pytest.mark.parametrize(("nodes", "is_fixed"), [(TREE_NODES_MAX - 1, True), (TREE_NODES_MAX + 1, False)])
def test_how_far_a_row_can_walk_is_limited(nodes: int, is_fixed: bool) -> None:
    document = inspect(chain_model(nodes).SerializeToString())
    assert document["problems"] == []
    assert document["has_fixed_work"] is is_fixed


def test_what_a_file_declares_proves_nothing() -> None:
    model = computed_model(*FREE["slice to a computed end"])
    model.graph.value_info.append(helper.make_tensor_value_info("values", TensorProto.FLOAT, [2, 1]))
    assert not has_fixed_work(model)


def test_a_refused_model_has_none() -> None:
    assert inspect(b"garbage")["has_fixed_work"] is False
