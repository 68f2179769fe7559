"""Looks at one ONNX model without trusting it: `python -m assay.models.inspect_onnx < model.onnx` prints one JSON document.

Runs as a child process of the server with limits on CPU time and memory, no core dumps and no files to write, because parsers of
foreign bytes have bugs and models can be made to exhaust them. Nothing of the model is executed here. The document:

    {"problems": [{"check": ..., "reason": ..., "mend": ...}], "inputs": [{"name", "type", "dims"}], "outputs": [...],
     "opsets": {domain: version}, "operators": {"domain:operator": count}, "node_count": n, "constant_bytes": n,
     "has_fixed_work": bool, "exporter": [name, version]}

`check` is one of CHECKS. `problems` is empty for an acceptable model. `dims` leaves out the batch axis; -1 is a free axis.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import TYPE_CHECKING, Any, Final

from assay.models.fixed_work import has_fixed_work
from assay.models.onnx_operators import ALLOWED_OPERATORS, DEFAULT_DOMAIN, OPERATOR_MENDS, SUBGRAPH_OPERATORS

if TYPE_CHECKING:
    from google.protobuf.message import Message

CHECKS: Final = ("onnx", "external data", "opset", "operators", "size", "batch axis")

OPSET_MIN = 17
CPU_SECONDS_MAX = 60
MEMORY_BYTES_BASE = 2 << 30  # Python, NumPy and ONNX map about 1 GiB of address space
MEMORY_PER_MODEL_BYTE = 8  # the bytes, the message, the checker's copy, the inferred copy
NODES_MAX = 50_000
INITIALIZERS_MAX = 20_000
MESSAGES_MAX = 2_000_000  # of any kind, in the whole model
SUBGRAPH_DEPTH_MAX = 3
NAME_LETTERS_MAX = 1_024  # of operators, domains, nodes, tensors, axes
STRINGS_MAX = 5_000_000  # in lists; a forest has one for each of its nodes. ONNX Runtime takes 40 bytes for each, a file 2
CONSTANT_BYTES_MAX = 1 << 30
TENSOR_BYTES_MAX = 1 << 30  # of any tensor whose size the model itself fixes
INPUTS_MAX = 64

# ONNX element types a feature plan can fill: number -> name. Those of assay._core.TENSOR_TYPES.
INPUT_TYPES: Final = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 11: "float64"}
# What to do about inputs of other types that exporters really write.
INPUT_MENDS: Final = {
    8: "it takes text: train on numbers instead, the position of each word in a list; the feature set then maps words to them "
    "(vocabulary, docs/features.md)",
    10: "it takes float16: export with float32 inputs",
}

Problem = dict[str, str]
_PROSE: Final = ("doc_string", "value")  # texts that are no names: of people, and the values of metadata


def main() -> int:
    model_bytes = sys.stdin.buffer.read()
    limit_process(len(model_bytes))
    sys.stdout.write(json.dumps(inspect(model_bytes)))
    return 0


def limit_process(model_bytes: int) -> None:
    """Limits this process for good: CPU time, memory, no core dump, no file written."""
    for what, limit in (
        (resource.RLIMIT_CPU, CPU_SECONDS_MAX),
        (resource.RLIMIT_AS, MEMORY_BYTES_BASE + MEMORY_PER_MODEL_BYTE * model_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (wanted, wanted))


def inspect(model_bytes: bytes) -> dict[str, Any]:
    """The document for one model. Never raises for anything that is in the bytes, except MemoryError."""
    import onnx  # here, not above: after the limits

    try:
        model = onnx.ModelProto.FromString(model_bytes)
    except Exception as error:  # protobuf's DecodeError, whichever implementation
        return _report(
            [_problem("onnx", f"not an ONNX model ({type(error).__name__})", "export the model to ONNX: docs/bundles.md")]
        )
    if not model.HasField("graph") or not model.opset_import:
        return _report([_problem("onnx", "not an ONNX model: no graph or no opset", "export the model to ONNX: docs/bundles.md")])

    # Before the checker: it would follow external data, and its own text for the rest is less clear than ours.
    census = _Census()
    problems = census.take(model)
    if not census.is_utf8:
        return _report([_problem("onnx", "a name in the model is not UTF-8", "export the model again; the file is damaged")])
    if census.has_huge_text:  # so that none of it goes into the document
        return _report(problems)
    problems += _check_opsets(model)
    if not problems:
        problems += _check_model(model_bytes)
    if not problems:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        problems += _check_tensor_sizes(model) + _check_interface(model)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [_describe(value) for value in model.graph.input if value.name not in initializers][:INPUTS_MAX]
    outputs = [_describe(value) for value in model.graph.output[:INPUTS_MAX]]
    return _report(
        problems,
        inputs=inputs,
        outputs=outputs,
        opsets={opset.domain or DEFAULT_DOMAIN: opset.version for opset in model.opset_import},
        operators={} if problems else census.operators,  # else names that nobody allowed
        node_count=census.node_count,
        constant_bytes=census.constant_bytes,
        has_fixed_work=not problems and has_fixed_work(model),
        exporter=[printable(model.producer_name), printable(model.producer_version)],
    )


def printable(text: str) -> str:
    """A model's own words are foreign: printable, and not too many."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:120])


# --- implementation ---


def _problem(check: str, reason: str, mend: str) -> Problem:
    return {"check": check, "reason": reason, "mend": mend}


def _report(problems: list[Problem], **facts: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"inputs": [], "outputs": [], "opsets": {}, "operators": {}, "node_count": 0, "constant_bytes": 0}
    return {"problems": problems, **empty, "has_fixed_work": False, "exporter": ["", ""], **facts}


class _Census:
    """Counts what a model holds, in one walk over every message in it: no form of external data can hide from the walk."""

    def __init__(self) -> None:
        self.operators: dict[str, int] = {}
        self.node_count = 0
        self.initializer_count = 0
        self.constant_bytes = 0
        self.message_count = 0
        self.graph_depth = 0
        self.external: list[str] = []
        self.string_count = 0  # in lists
        self.name_letters = 0  # of the longest
        self.is_utf8 = True

    @property
    def has_huge_text(self) -> bool:
        return self.string_count > STRINGS_MAX or self.name_letters > NAME_LETTERS_MAX

    def take(self, model: Message) -> list[Problem]:
        """Walks the whole model (without recursion) and returns what is wrong with it."""
        import onnx

        stack: list[tuple[Message, int]] = [(model, 0)]
        while stack and self.message_count <= MESSAGES_MAX and self.string_count <= STRINGS_MAX:
            message, depth = stack.pop()
            self.message_count += 1
            if isinstance(message, onnx.GraphProto):
                depth += 1
                self.graph_depth = max(self.graph_depth, depth)
                self.initializer_count += len(message.initializer) + len(message.sparse_initializer)
            elif isinstance(message, onnx.TensorProto):
                self._take_tensor(message)
            elif isinstance(message, onnx.NodeProto):
                self._take_node(message)
            elif isinstance(message, onnx.AttributeProto):  # trees keep their numbers here
                self.constant_bytes += 4 * len(message.floats) + 8 * len(message.ints) + len(message.s)
            for field, value in message.ListFields():
                if field.type == field.TYPE_MESSAGE:
                    stack.extend((child, depth) for child in (value if field.is_repeated else (value,)))
                elif field.type in (field.TYPE_STRING, field.TYPE_BYTES):
                    self._take_texts(field, value if field.is_repeated else (value,))
        return self._problems(model) if self.is_utf8 else []

    def _take_texts(self, field: Any, texts: Any) -> None:
        self.string_count += len(texts) if field.is_repeated else 0
        if self.string_count > STRINGS_MAX:  # not one of them is looked at
            return
        if field.type == field.TYPE_BYTES:
            self.constant_bytes += sum(map(len, texts)) if field.is_repeated else 0
            return
        self.is_utf8 &= all(isinstance(text, str) for text in texts)  # protobuf hands out bytes where a string is not UTF-8
        if field.name not in _PROSE:
            self.name_letters = max(self.name_letters, *map(len, texts), 0)

    def _take_tensor(self, tensor: Any) -> None:
        self.constant_bytes += tensor.ByteSize()
        if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
            self.external.append(tensor.name)

    def _take_node(self, node: Any) -> None:
        self.node_count += 1
        name = f"{node.domain or DEFAULT_DOMAIN}:{node.op_type}"
        self.operators[name] = self.operators.get(name, 0) + 1

    def _problems(self, model: Any) -> list[Problem]:
        found: list[Problem] = []
        if self.external:
            found.append(
                _problem(
                    "external data",
                    f"{len(self.external)} tensor(s) keep their data in other files, the first is {printable(self.external[0])}",
                    "save the model as one file: onnx.save(onnx.load(path), out, save_as_external_data=False)",
                )
            )
        if model.functions:
            mend = "inline them: onnx.inliner.inline_local_functions(model)"
            found.append(_problem("operators", f"the model brings {len(model.functions)} function(s) of its own", mend))
        if model.training_info:
            found.append(_problem("operators", "the model holds training information", "export for inference only"))
        found += self._operator_problems()
        limits = (
            (self.message_count, MESSAGES_MAX, "parts"),
            (self.node_count, NODES_MAX, "nodes"),
            (self.initializer_count, INITIALIZERS_MAX, "initialisers"),
            (self.constant_bytes, CONSTANT_BYTES_MAX, "bytes of constants"),
            (self.graph_depth - 1, SUBGRAPH_DEPTH_MAX, "levels of graphs inside graphs"),
            (self.string_count, STRINGS_MAX, "strings in lists"),
            (self.name_letters, NAME_LETTERS_MAX, "letters in one name"),
        )
        for count, limit, what in limits:
            if count > limit:
                found.append(
                    _problem("size", f"{count} {what}, the limit is {limit}", "simplify or quantise the model: docs/bundles.md")
                )
        return found

    def _operator_problems(self) -> list[Problem]:
        found = []
        for name in sorted(self.operators):
            domain, operator = name.rsplit(":", 1)
            if domain not in ALLOWED_OPERATORS:
                reason = f"operator {printable(operator)} is of the custom domain {printable(domain)}"
                mend = "export with standard operators only (ai.onnx, ai.onnx.ml), without a runtime's own fusions"
            elif operator not in ALLOWED_OPERATORS[domain]:
                reason = f"operator {printable(operator)} of {domain} is not allowed"
                mend = OPERATOR_MENDS.get(operator, "see the list of operators in docs/bundles.md")
            else:
                continue
            found.append(_problem("operators", reason, mend))
        return found[:10]


def _check_opsets(model: Any) -> list[Problem]:
    import onnx

    found = []
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        domain = opset.domain or DEFAULT_DOMAIN
        if domain not in ALLOWED_OPERATORS:
            mend = "export with standard operators only (ai.onnx, ai.onnx.ml)"
            found.append(_problem("operators", f"imports the custom domain {printable(domain)}", mend))
        elif domain == DEFAULT_DOMAIN and not OPSET_MIN <= opset.version <= newest:
            mend = (
                f"export with target_opset={{'': {OPSET_MIN}, 'ai.onnx.ml': 3}}, or convert: "
                f"onnx.version_converter.convert_version(model, {OPSET_MIN})"
            )
            found.append(_problem("opset", f"opset {opset.version}, expected {OPSET_MIN} to {newest}", mend))
    return found


def _check_model(model_bytes: bytes) -> list[Problem]:
    import onnx

    try:
        onnx.checker.check_model(model_bytes, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        said = str(error).strip()
        text = printable(said.splitlines()[0] if said else type(error).__name__)
        mend = "export the model again; the file is damaged or was edited"
        if "elem type" in said:  # skl2onnx mixes float64 and float32 in trees of float64 input
            mend = "its parts do not agree on their types: export it with float32 inputs (skl2onnx: rows.astype(numpy.float32))"
        return [_problem("onnx", f"the ONNX checker says: {text}", mend)]
    return []


def _check_tensor_sizes(model: Any) -> list[Problem]:
    """Refuses a model that asks for huge tensors whatever the rows are (a few bytes can ask for terabytes)."""
    stack, found = [model.graph], []
    while stack:
        graph = stack.pop()
        for value in (*graph.value_info, *graph.input, *graph.output):
            elements = 1
            for dim in value.type.tensor_type.shape.dim:
                elements *= max(dim.dim_value, 1)
            if elements * 8 > TENSOR_BYTES_MAX:
                reason = f"the tensor {printable(value.name)} has {elements} elements"
                found.append(_problem("size", reason, "the largest tensor may take 1 GiB: use a smaller model"))
        for node in graph.node:
            if node.op_type in SUBGRAPH_OPERATORS:
                stack.extend(attribute.g for attribute in node.attribute if attribute.HasField("g"))
    return found[:10]


def _check_interface(model: Any) -> list[Problem]:
    """Inputs: tensors of known types whose first axis is the batch and whose other axes are fixed. Outputs: tensors."""
    found = []
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    if not 1 <= len(inputs) <= INPUTS_MAX:
        mend = "export with one input for all columns (skl2onnx: an array instead of a DataFrame, FloatTensorType([None, n]))"
        found.append(_problem("batch axis", f"{len(inputs)} inputs, expected 1 to {INPUTS_MAX}", mend))
    named = {value.name for value in inputs} | initializers
    for value in model.graph.output:
        if value.name in named:  # ONNX Runtime then does not write the buffer that the output is given
            mend = "export it through a node, such as Identity, or leave the output out"
            found.append(_problem("onnx", f"output {printable(value.name)} is an input or a constant as it stands", mend))
    for value in inputs:
        name, kind = printable(value.name), value.type.tensor_type
        if not value.type.HasField("tensor_type") or kind.elem_type not in INPUT_TYPES:
            wanted = ", ".join(INPUT_TYPES.values())
            mend = INPUT_MENDS.get(kind.elem_type, "export with such inputs")
            found.append(_problem("batch axis", f"input {name} is not a tensor of {wanted}", mend))
            continue
        dims = kind.shape.dim
        mend = "export with a dynamic first axis (PyTorch: dynamic_shapes; skl2onnx: FloatTensorType([None, n]))"
        if not kind.HasField("shape") or len(dims) == 0:
            found.append(_problem("batch axis", f"input {name} has no batch axis", mend))
        elif dims[0].HasField("dim_value"):
            found.append(
                _problem("batch axis", f"input {name} takes exactly {dims[0].dim_value} row(s): its first axis is fixed", mend)
            )
        elif any(not dim.HasField("dim_value") or dim.dim_value < 1 for dim in dims[1:]):
            mend = "export with a fixed size for every axis but the first"
            found.append(_problem("batch axis", f"input {name} has a free axis beside the batch", mend))
    for value in model.graph.output:
        if not value.type.HasField("tensor_type"):
            mend = OPERATOR_MENDS["ZipMap"]
            found.append(_problem("batch axis", f"output {printable(value.name)} is not a tensor", mend))
        elif value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].HasField("dim_value"):
            mend = "every output needs the batch as its first axis"
            found.append(_problem("batch axis", f"output {printable(value.name)} has a fixed first axis", mend))
    return found


def _describe(value: Any) -> dict[str, Any]:
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
    return {"name": value.name, "type": kind.elem_type, "dims": dims[1:]}


if __name__ == "__main__":
    sys.exit(main())
