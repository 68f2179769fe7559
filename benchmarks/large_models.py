"""Models of about 450 MB over 128 inputs with random weights, an MLP and a transformer: made with NumPy and ONNX's helpers, never
kept."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

INPUTS = 128
OPSET, IR_VERSION = 17, 8
SEED = 20_261_127

FEATURE_SET = "\n".join(
    [
        "name: wide",
        'version: "1"',
        "entities: [customer_id]",
        "request_features:",
        *(f"  x{index}: {{dtype: float64}}" for index in range(INPUTS)),
        "inputs:",
        *(f"  - x{index}" for index in range(INPUTS)),
        "",
    ]
)


def mlp(width: int = 6144, hidden: int = 4) -> bytes:
    """128 - width x hidden - 1: 456 MB."""
    graph = _Graph()
    value, columns = "input", INPUTS
    for layer in range(hidden):
        value = graph.node("Relu", graph.dense(f"dense_{layer}", value, columns, width))
        columns = width
    return graph.model(graph.node("Sigmoid", graph.dense("last", value, columns, 1), output="score"))


def transformer(width: int = 768, layers: int = 16, heads: int = 12) -> bytes:
    """Each input is a token of `width`; encoder layers as PyTorch's, four times as wide inside: 455 MB."""
    graph = _Graph()
    split = graph.constant("split", np.array([0, INPUTS, 3, heads, width // heads], np.int64))
    joined = graph.constant("joined", np.array([0, INPUTS, width], np.int64))
    scale = graph.constant("scale", np.array((width // heads) ** -0.5, np.float32))
    last_axis = graph.constant("last_axis", np.array([-1], np.int64))
    tokens = graph.node("Unsqueeze", "input", last_axis)
    tokens = graph.node("Mul", tokens, graph.random("token", (INPUTS, width), 1.0))
    tokens = graph.node("Add", tokens, graph.random("place", (INPUTS, width), 0.02))
    for layer in range(layers):
        name = f"layer_{layer}"
        heads_of = graph.node("Reshape", graph.dense(f"{name}_qkv", tokens, width, 3 * width), split)
        of_part = graph.node("Transpose", heads_of, perm=[2, 0, 3, 1, 4])  # part, row, head, token, element
        query, key, part = (graph.node("Gather", of_part, graph.index(part), axis=0) for part in range(3))
        products = graph.node("MatMul", graph.node("Mul", query, scale), graph.node("Transpose", key, perm=[0, 1, 3, 2]))
        seen = graph.node("MatMul", graph.node("Softmax", products, axis=-1), part)
        seen = graph.node("Reshape", graph.node("Transpose", seen, perm=[0, 2, 1, 3]), joined)
        tokens = graph.norm(f"{name}_norm_1", graph.node("Add", tokens, graph.dense(f"{name}_out", seen, width, width)), width)
        inner = graph.node("Relu", graph.dense(f"{name}_up", tokens, width, 4 * width))
        inner = graph.dense(f"{name}_down", inner, 4 * width, width)
        tokens = graph.norm(f"{name}_norm_2", graph.node("Add", tokens, inner), width)
    pooled = graph.node("ReduceMean", tokens, axes=[1], keepdims=0)
    return graph.model(graph.node("Sigmoid", graph.dense("last", pooled, width, 1), output="score"))


def rows(count: int) -> NDArray[np.float32]:
    """(count, 128), standard normal."""
    return np.random.default_rng(SEED + 1).standard_normal((count, INPUTS), np.float32)


# --- implementation ---


class _Graph:
    """Nodes and constants as they are added. Values are named by their number."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._random = np.random.default_rng(SEED)

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self._constants[name] = numpy_helper.from_array(value, name)
        return name

    def index(self, value: int) -> str:
        return self.constant(f"index_{value}", np.array(value, np.int64))

    def random(self, name: str, shape: tuple[int, ...], deviation: float) -> str:
        return self.constant(name, self._random.standard_normal(shape, np.float32) * np.float32(deviation))

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=f"node_{output}", **attributes))  # type: ignore[arg-type]
        return output

    def dense(self, name: str, value: str, columns: int, width: int) -> str:
        weights = self.random(f"{name}_weights", (columns, width), (2 / columns) ** 0.5)
        product = self.node("MatMul", value, weights)
        return self.node("Add", product, self.random(f"{name}_bias", (width,), 0.01))

    def norm(self, name: str, value: str, width: int) -> str:
        scale = self.constant(f"{name}_scale", np.ones(width, np.float32))
        return self.node("LayerNormalization", value, scale, self.constant(f"{name}_shift", np.zeros(width, np.float32)))

    def model(self, score: str) -> bytes:
        inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", INPUTS])]
        outputs = [helper.make_tensor_value_info(score, TensorProto.FLOAT, ["batch", 1])]
        graph = helper.make_graph(self._nodes, "large", inputs, outputs, list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        return bytes(model.SerializeToString())
