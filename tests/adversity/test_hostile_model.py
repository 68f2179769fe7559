"""Hostile and broken ONNX files, looked at by the child process: each is refused for the right reason."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.models import inspect_onnx, inspection
from assay.models.inspection import inspect_model
from assay.models.refusal import BundleRefusedError
from tests.support.onnx_models import input_value, linear_model, make_model, output_value, tree_model, weights


def external(tensor: onnx.TensorProto, location: str = "../../etc/passwd") -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def external_initializer() -> onnx.ModelProto:
    model = linear_model()
    external(model.graph.initializer[0])
    return model


def external_without_location_field() -> onnx.ModelProto:
    """data_location says DEFAULT, but external_data is there: some loaders look at the one, some at the other."""
    model = linear_model()
    model.graph.initializer[0].external_data.add(key="location", value="secrets.bin")
    return model


def external_sparse() -> onnx.ModelProto:
    model = linear_model()
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(external(weights("sparse")))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0], np.int64), "indices"))
    sparse.dims.extend([3, 1])
    return model


def external_in_constant() -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["weights"], value=external(weights()))
    return make_model([constant, helper.make_node("MatMul", ["input", "weights"], ["score"])])


def external_in_subgraph() -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["input", "inner"], ["out"])],
        "branch",
        [],
        [output_value("out")],
        [external(weights("inner"))],
    )
    condition = numpy_helper.from_array(np.array(True), "condition")
    chosen = helper.make_node("If", ["condition"], ["score"], then_branch=branch, else_branch=branch)
    return make_model([chosen], initializers=[condition])


def external_in_function() -> onnx.ModelProto:
    body = [
        helper.make_node("Constant", [], ["w"], value=external(weights("w"))),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    function = helper.make_function("ours", "Score", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
    call = helper.make_node("Score", ["input"], ["score"], domain="ours")
    return make_model([call], opsets={"": 17, "ours": 1}, functions=[function])


def custom_domain() -> onnx.ModelProto:
    call = helper.make_node("FusedMatMul", ["input", "weights"], ["score"], domain="com.microsoft")
    return make_model([call], initializers=[weights()], opsets={"": 17, "com.microsoft": 1})


def imported_custom_domain() -> onnx.ModelProto:
    model = linear_model()
    model.opset_import.append(helper.make_opsetid("evil.example", 1))
    return model


def old_opset() -> onnx.ModelProto:
    model = linear_model()
    model.opset_import[0].version = 16
    return model


def random_operator() -> onnx.ModelProto:
    noise = helper.make_node("RandomNormalLike", ["margin"], ["noise"])
    nodes = [
        helper.make_node("MatMul", ["input", "weights"], ["margin"]),
        noise,
        helper.make_node("Add", ["margin", "noise"], ["score"]),
    ]
    return make_model(nodes, initializers=[weights()])


def zip_map() -> onnx.ModelProto:
    model = tree_model()
    model.graph.node.append(helper.make_node("ZipMap", ["score"], ["map"], domain="ai.onnx.ml", classlabels_int64s=[0]))
    return model


def fixed_batch() -> onnx.ModelProto:
    model = linear_model()
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    return model


def free_column_axis() -> onnx.ModelProto:
    total = helper.make_node("ReduceMean", ["input"], ["score"], axes=[1], keepdims=1)
    return make_model([total], inputs=[input_value(dims=("batch", "columns"))])


def no_batch_axis() -> onnx.ModelProto:
    return make_model(
        [helper.make_node("Sigmoid", ["input"], ["score"])], inputs=[input_value(dims=())], outputs=[output_value(dims=())]
    )


def string_input() -> onnx.ModelProto:
    value = helper.make_tensor_value_info("input", TensorProto.STRING, ["batch", 1])
    encode = helper.make_node("LabelEncoder", ["input"], ["score"], domain="ai.onnx.ml", keys_strings=["a"], values_floats=[1.0])
    return make_model([encode], inputs=[value], opsets={"": 17, "ai.onnx.ml": 3})


def huge_tensor() -> onnx.ModelProto:
    """A few bytes that ask for a terabyte, whatever the rows are."""
    shape = numpy_helper.from_array(np.array([1 << 20, 1 << 18], np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["input", "weights"], ["margin"]),
        helper.make_node("Add", ["margin", "sum"], ["score"]),
    ]
    return make_model(nodes, initializers=[weights(), shape])


def nested_graphs() -> onnx.ModelProto:
    condition = numpy_helper.from_array(np.array(True), "condition")
    branch = helper.make_graph([helper.make_node("MatMul", ["input", "weights"], ["out0"])], "g0", [], [output_value("out0")])
    for depth in range(1, inspect_onnx.SUBGRAPH_DEPTH_MAX + 2):
        node = helper.make_node("If", ["condition"], [f"out{depth}"], then_branch=branch, else_branch=branch)
        branch = helper.make_graph([node], f"g{depth}", [], [output_value(f"out{depth}")])
    node = helper.make_node("If", ["condition"], ["score"], then_branch=branch, else_branch=branch)
    return make_model([node], initializers=[weights(), condition])


def too_many_nodes() -> onnx.ModelProto:
    names = ["input", *(f"v{index}" for index in range(inspect_onnx.NODES_MAX)), "score"]
    nodes = [helper.make_node("Identity", [before], [after]) for before, after in pairwise(names)]
    return make_model(nodes, outputs=[output_value(dims=("batch", 3))])


def dangling_input() -> onnx.ModelProto:
    return make_model([helper.make_node("MatMul", ["input", "nowhere"], ["score"])])


def wrong_shapes() -> onnx.ModelProto:
    wide = numpy_helper.from_array(np.ones((7, 1), np.float32), "weights")
    return make_model([helper.make_node("MatMul", ["input", "weights"], ["score"])], initializers=[wide])


CASES: list[tuple[Callable[[], onnx.ModelProto], str, str]] = [
    (external_initializer, "external data", "1 tensor(s) keep their data in other files, the first is weights"),
    (external_without_location_field, "external data", "the first is weights"),
    (external_sparse, "external data", "the first is sparse"),
    (external_in_constant, "external data", "the first is weights"),
    (external_in_subgraph, "external data", "the first is inner"),
    (external_in_function, "external data", "the first is w"),
    (external_in_function, "operators", "1 function(s) of its own"),
    (custom_domain, "operators", "custom domain com.microsoft"),
    (imported_custom_domain, "operators", "custom domain evil.example"),
    (old_opset, "opset", "opset 16, expected 17"),
    (random_operator, "operators", "RandomNormalLike of ai.onnx is not allowed"),
    (zip_map, "operators", "ZipMap of ai.onnx.ml is not allowed"),
    (fixed_batch, "batch axis", "takes exactly 4 row(s)"),
    (free_column_axis, "batch axis", "a free axis beside the batch"),
    (no_batch_axis, "batch axis", "no batch axis"),
    (string_input, "batch axis", "is not a tensor of float32"),
    (huge_tensor, "size", "elements"),
    (nested_graphs, "size", "levels of graphs inside graphs"),
    (too_many_nodes, "size", f"{inspect_onnx.NODES_MAX + 1} nodes"),
    (dangling_input, "onnx", "nowhere"),
    (wrong_shapes, "onnx", "the ONNX checker says"),
]


@pytest.mark.parametrize(("make", "check", "reason"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_is_refused(make: Callable[[], onnx.ModelProto], check: str, reason: str) -> None:
    found = inspect_model(make().SerializeToString())
    matching = [problem for problem in found.problems if problem.check == check and reason in problem.reason]
    assert matching, found.problems
    assert matching[0].mend


@pytest.mark.parametrize("make", [linear_model, tree_model])
def test_good_model_passes(make: Callable[[], onnx.ModelProto]) -> None:
    found = inspect_model(make().SerializeToString())
    assert found.problems == ()
    assert [tensor.name for tensor in found.inputs] == ["input"]
    assert found.inputs[0].dims == (3,)
    assert found.is_tree_ensemble == (make is tree_model)


@pytest.mark.parametrize("nodes", [inspect_onnx.NODES_MAX])
def test_largest_model_passes(nodes: int) -> None:
    names = ["input", *(f"v{index}" for index in range(nodes - 1)), "score"]
    chain = [helper.make_node("Identity", [before], [after]) for before, after in pairwise(names)]
    model = make_model(chain, outputs=[output_value(dims=("batch", 3))])
    assert inspect_model(model.SerializeToString()).problems == ()


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 100, b"not a model at all", b"\x08\x08" + b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f"]
)
def test_garbage_is_no_model(data: bytes) -> None:
    (problem,) = inspect_model(data).problems
    assert problem.check == "onnx"
    assert "not an ONNX model" in problem.reason


def test_every_truncation_gives_an_answer() -> None:
    """A file that was cut off anywhere is refused; nothing crashes."""
    whole = tree_model().SerializeToString()
    for length in range(0, len(whole), 7):
        found = inspect_onnx.inspect(whole[:length])
        assert found["problems"], length


def test_seeded_corruption_never_raises() -> None:
    seed = 20_180_401
    random = np.random.default_rng(seed)
    whole = np.frombuffer(tree_model().SerializeToString(), np.uint8)
    for round_number in range(150):
        data = whole.copy()
        places = random.integers(0, len(data), random.integers(1, 8))
        data[places] = random.integers(0, 256, len(places))
        document = inspect_onnx.inspect(data.tobytes())
        assert isinstance(document["problems"], list), f"seed {seed}, round {round_number}"


# --- huge texts: what makes a small file large in memory, or an answer large


def named(letters: int) -> list[onnx.ModelProto]:
    """The linear model with a name of so many letters, in every place where one can stand."""
    models = [linear_model() for _ in range(8)]
    text = "a" * letters
    models[0].graph.node[0].op_type = text
    models[1].graph.node[0].domain = text
    models[2].graph.node[0].name = text
    models[3].graph.input[0].name = text
    models[4].graph.output[0].name = text
    models[5].graph.initializer[0].name = text
    models[6].graph.input[0].type.tensor_type.shape.dim[0].dim_param = text
    models[7].opset_import.append(helper.make_opsetid(text, 1))
    return models


def test_a_name_that_is_too_long_is_refused_and_not_repeated() -> None:
    """Else a model of a gigabyte of names would come back from the child as a document of a gigabyte."""
    for model in named(inspect_onnx.NAME_LETTERS_MAX + 1):
        document = inspect_onnx.inspect(model.SerializeToString())
        assert "1025 letters in one name, the limit is 1024" in [problem["reason"] for problem in document["problems"]]
        assert len(str(document)) < 3_000
    for model in named(inspect_onnx.NAME_LETTERS_MAX):
        document = inspect_onnx.inspect(model.SerializeToString())
        assert not any("letters" in problem["reason"] for problem in document["problems"])


def test_prose_may_be_long() -> None:
    """Exporters keep whole stack traces in it."""
    model = linear_model()
    model.graph.doc_string = model.graph.node[0].doc_string = "a" * 100_000
    model.metadata_props.add(key="trace", value="a" * 100_000)
    assert inspect_model(model.SerializeToString()).problems == ()


def with_strings(count: int, text: bytes = b"") -> onnx.ModelProto:
    model = linear_model()
    model.graph.node[0].attribute.append(helper.make_attribute("keys", [b"x"]))
    model.graph.node[0].attribute[0].strings[:] = [text] * count
    return model


def test_lists_of_strings_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty string is 2 bytes in the file and 40 in a session's memory."""
    monkeypatch.setattr(inspect_onnx, "STRINGS_MAX", 1_000)
    inputs = linear_model()
    inputs.graph.node[0].input.extend([""] * 1_000)
    for model in (with_strings(1_001), inputs):
        found = inspect_onnx.inspect(model.SerializeToString())["problems"]
        assert any("strings in lists, the limit is 1000" in problem["reason"] for problem in found), found
        assert all(problem["mend"] for problem in found)
    found = inspect_onnx.inspect(with_strings(990).SerializeToString())["problems"]
    assert not any("strings in lists" in problem["reason"] for problem in found)


def test_a_child_answers_for_millions_of_strings() -> None:
    """Really, and within its limits."""
    found = inspect_model(with_strings(inspect_onnx.STRINGS_MAX + 1).SerializeToString())
    assert any("strings in lists, the limit is 5000000" in problem.reason for problem in found.problems)


def test_one_huge_string_counts_as_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_onnx, "CONSTANT_BYTES_MAX", 10_000)
    single = linear_model()
    single.graph.node[0].attribute.append(helper.make_attribute("key", b"x" * 10_000))
    for model in (single, with_strings(100, b"x" * 100)):
        found = inspect_onnx.inspect(model.SerializeToString())["problems"]
        assert any("bytes of constants, the limit is 10000" in problem["reason"] for problem in found), found


def nested(depth: int) -> onnx.ModelProto:
    """An If inside an If, so many times; the other branch is small."""
    condition = numpy_helper.from_array(np.array(True), "condition")
    small = helper.make_graph([helper.make_node("Identity", ["weights"], ["s"])], "s", [], [output_value("s", None)])
    branch = helper.make_graph([helper.make_node("MatMul", ["input", "weights"], ["o0"])], "g0", [], [output_value("o0", None)])
    for level in range(1, depth):
        node = helper.make_node("If", ["condition"], [f"o{level}"], then_branch=branch, else_branch=small)
        branch = helper.make_graph([node], f"g{level}", [], [output_value(f"o{level}", None)])
    node = helper.make_node("If", ["condition"], ["score"], then_branch=branch, else_branch=small)
    return make_model([node], initializers=[weights(), condition], outputs=[output_value(dims=None)])


@pytest.mark.parametrize("depth", [1, inspect_onnx.SUBGRAPH_DEPTH_MAX, inspect_onnx.SUBGRAPH_DEPTH_MAX + 1, 20])
def test_graphs_inside_graphs_at_the_limit(depth: int) -> None:
    found = inspect_onnx.inspect(nested(depth).SerializeToString())["problems"]
    is_refused = any("levels of graphs inside graphs" in problem["reason"] for problem in found)
    assert is_refused == (depth > inspect_onnx.SUBGRAPH_DEPTH_MAX), found


def test_a_thousand_graphs_inside_each_other_are_an_answer() -> None:
    """Deeper than any parser recurses: written by hand, because no library would."""
    inner = b""
    for _ in range(1_000):
        attribute = length_delimited(6, inner)  # AttributeProto.g
        inner = length_delimited(1, length_delimited(5, attribute))  # GraphProto.node, NodeProto.attribute
    data = length_delimited(7, inner) + length_delimited(8, b"\x10\x11")  # ModelProto.graph, .opset_import
    (problem,) = inspect_model(data).problems
    assert "not an ONNX model" in problem.reason


def length_delimited(field: int, data: bytes) -> bytes:
    return bytes([field << 3 | 2]) + varint(len(data)) + data


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


# --- external data by bytes: written in ways that no library writes, and a parser may still read


def hidden_external(how: str) -> bytes:
    """A linear model whose weights say in an unusual encoding that they are elsewhere."""
    entry = length_delimited(1, b"location") + length_delimited(2, b"weights.bin")  # StringStringEntryProto
    location = {
        "plainly": length_delimited(13, entry),  # TensorProto.external_data
        "value before key": length_delimited(13, length_delimited(2, b"weights.bin") + length_delimited(1, b"location")),
        "twice, the last wins": length_delimited(13, length_delimited(1, b"checksum") + entry),
        "overlong tag": b"\xea\x80\x00" + varint(len(entry)) + entry,
        "overlong length": b"\x6a" + bytes([len(entry) | 128, 128, 0]) + entry,
        "not UTF-8": length_delimited(13, length_delimited(1, b"location") + length_delimited(2, b"\xff\xfe")),
        "no key": length_delimited(13, length_delimited(2, b"weights.bin")),
        "only said to be elsewhere": b"",
        "elsewhere, overlong": b"\xf0\x00\x81\x00",
    }[how]
    where = b"\x70\x01" if how in ("plainly", "only said to be elsewhere") else b""  # TensorProto.data_location: EXTERNAL
    tensor = b"\x08\x03\x08\x01\x10\x01" + length_delimited(8, b"weights") + location + where
    model = linear_model()
    del model.graph.initializer[:]
    graph = model.graph.SerializeToString() + length_delimited(5, tensor)  # GraphProto.initializer
    model.ClearField("graph")
    return model.SerializeToString() + length_delimited(7, graph)


@pytest.mark.parametrize(
    "how",
    [
        "plainly",
        "value before key",
        "twice, the last wins",
        "overlong tag",
        "overlong length",
        "not UTF-8",
        "no key",
        "only said to be elsewhere",
        "elsewhere, overlong",
    ],
)
def test_external_data_hidden_in_the_bytes_is_refused(how: str) -> None:
    found = inspect_model(hidden_external(how)).problems
    assert found
    assert all(problem.mend for problem in found)
    if how != "not UTF-8":
        assert found[0].check == "external data"
        assert "save the model as one file" in found[0].mend


def test_a_child_that_hangs_is_ended_and_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = tmp_path / "python"
    child.write_text("#!/bin/sh\nexec sleep 60\n")
    child.chmod(0o755)
    monkeypatch.setattr(inspection.sys, "executable", str(child))
    monkeypatch.setattr(inspection, "_WALL_SECONDS_MAX", 0.2)
    with pytest.raises(BundleRefusedError, match=r"no answer within 0\.2 s"):
        inspect_model(linear_model().SerializeToString())


def test_child_over_its_memory_is_a_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child that dies (here: it may map no memory at all) is reported, and the parent goes on."""
    child = tmp_path / "python"
    child.write_text(f'#!/bin/sh\nulimit -v 20000\nexec {sys.executable} "$@"\n')
    child.chmod(0o755)
    monkeypatch.setattr(inspection.sys, "executable", str(child))
    with pytest.raises(BundleRefusedError, match="could not be inspected within its limits"):
        inspect_model(linear_model().SerializeToString())


def test_child_sees_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of the server, where passwords are, does not reach the process that parses foreign bytes."""
    seen = tmp_path / "seen"
    child = tmp_path / "python"
    child.write_text(f'#!/bin/sh\nenv > {seen}\nexec {sys.executable} "$@"\n')
    child.chmod(0o755)
    monkeypatch.setattr(inspection.sys, "executable", str(child))
    monkeypatch.setenv("ASSAY_STORE_PASSWORD", "canary-7f3a")
    assert inspect_model(linear_model().SerializeToString()).problems == ()
    assert "PATH=" in seen.read_text()
    assert "canary-7f3a" not in seen.read_text()


def test_child_limits_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(inspect_onnx.resource, "setrlimit", lambda what, limit: asked.update({what: limit}))
    inspect_onnx.limit_process(1_000_000)
    resource = inspect_onnx.resource
    assert asked[resource.RLIMIT_CORE] == (0, 0)
    assert asked[resource.RLIMIT_FSIZE] == (0, 0)
    assert 0 < asked[resource.RLIMIT_CPU][0] <= inspect_onnx.CPU_SECONDS_MAX
    assert asked[resource.RLIMIT_AS][0] <= inspect_onnx.MEMORY_BYTES_BASE + inspect_onnx.MEMORY_PER_MODEL_BYTE * 1_000_000


def test_an_output_that_is_an_input_as_it_stands_is_refused() -> None:
    """ONNX Runtime leaves the buffer of such an output unwritten: it would be answered with zeros."""
    model = linear_model()
    model.graph.output.append(input_value())
    (problem,) = inspect_model(model.SerializeToString()).problems
    assert "output input is an input or a constant as it stands" in problem.reason
    assert "Identity" in problem.mend
