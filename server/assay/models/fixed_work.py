"""Is the work of scoring one row known from the model alone? Then no row can make a run long, whatever values it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from assay.models.onnx_operators import SUBGRAPH_OPERATORS, TREE_OPERATORS

if TYPE_CHECKING:
    import onnx

# How far a row walks down a tree follows from its values, but it meets no node twice: this many, all trees together, are a few
# milliseconds at worst.
TREE_NODES_MAX: Final = 100_000


def has_fixed_work(model: onnx.ModelProto) -> bool:
    """Whether ONNX's shape inference knows every tensor's size for a batch of one, no operator holds a graph of its own (it
    may run any number of times), and trees are not too large. A shape that follows from values (Slice to a computed end,
    NonZero) is not known; neither is what inference has no rule for: when in doubt the answer is no. The model must be valid;
    it is changed."""
    import onnx

    if any(node.op_type in SUBGRAPH_OPERATORS for node in model.graph.node) or _tree_node_count(model) > TREE_NODES_MAX:
        return False
    initializers = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in initializers:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    # What the file declares of the tensors inside proves nothing.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return False
    fixed = {value.name for value in (*inferred.graph.value_info, *inferred.graph.output) if _is_fixed(value)}
    return all(name in fixed for node in inferred.graph.node for name in node.output if name)


# --- implementation ---


def _tree_node_count(model: onnx.ModelProto) -> int:
    trees = [node for node in model.graph.node if node.op_type in TREE_OPERATORS]
    return sum(len(item.ints) for tree in trees for item in tree.attribute if item.name == "nodes_featureids")


def _is_fixed(value: Any) -> bool:
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim)
