"""Is the work of scoring one row known from the model alone? Then no row can make a run long, whatever values it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay.models.onnx_operators import SUBGRAPH_OPERATORS

if TYPE_CHECKING:
    import onnx


def has_fixed_work(model: onnx.ModelProto) -> bool:
    """Whether ONNX's shape inference knows every tensor's size for a batch of one, and no operator holds a graph of its own (it
    may run any number of times). A shape that follows from values (Slice to a computed end, NonZero, TopK of a computed k) is not
    known; neither is what inference has no rule for: when in doubt the answer is no. The model must be valid; it is changed."""
    import onnx

    if any(node.op_type in SUBGRAPH_OPERATORS for node in model.graph.node):
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


def _is_fixed(value: Any) -> bool:
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim)
