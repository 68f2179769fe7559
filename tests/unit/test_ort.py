"""ONNX Runtime through the core: finding the library, loading models, running rows."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from assay import _core
from assay.errors import CoreError
from assay.models import ort_library

ONNX_TYPES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float64": 11}


@pytest.fixture(scope="module")
def runtime() -> _core.OrtRuntime:
    return _core.OrtRuntime(str(ort_library.find_library()))


def make_plan(**tensors: tuple[str, int]) -> _core.FeaturePlan:
    """A plan whose rows hold the given tensors: name -> (type, elements). Every element is a float64 or int64 request feature."""
    builder = _core.PlanBuilder("rows", "1", "0" * 64)
    builder.entity("customer_id")
    for name, (tensor_type, elements) in tensors.items():
        tensor = builder.tensor(name, _core.TENSOR_TYPES[tensor_type], elements)
        dtype = {"float32": "float64", "float64": "float64", "bool": "bool"}.get(tensor_type, "int64")
        for element in range(elements):
            limits = {"minimum": 0, "maximum": 1000} if dtype == "int64" else {}
            feature = builder.request_feature(f"{name}_{element}", _core.DTYPES[dtype], required=True, **limits)
            node = builder.feature_node(feature)
            builder.model_input(f"{name}_{element}", node, tensor, element, _core.WHEN_NULL["error"])
    return builder.build()


def rows_of(plan: _core.FeaturePlan, *columns: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Rows as a plan lays them out, from one array a tensor."""
    rows = np.zeros((len(columns[0]), plan.row_bytes), np.uint8)
    for (_, _, offset, _), column in zip(plan.segments, columns, strict=True):
        data = np.ascontiguousarray(column).reshape(len(column), -1).view(np.uint8)
        rows[:, offset : offset + data.shape[1]] = data
    return rows


def make_model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[object]]],
    outputs: dict[str, tuple[int, list[object] | None]],
    initializers: list[onnx.TensorProto] | None = None,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in outputs.items()],
        initializers or [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def double_model(dims: list[object] | None = None) -> bytes:
    """y = x + x, float32 (batch, 2). `dims`: the declared shape of y."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    return make_model(nodes, {"x": (TensorProto.FLOAT, ["n", 2])}, {"y": (TensorProto.FLOAT, dims)})


# --- the library


def test_the_library_is_found_without_importing_onnxruntime() -> None:
    code = "import sys; from assay.models.ort_library import find_library; print(find_library())"
    check = "assert 'onnxruntime' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", f"{code}; {check}"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_file()
    printed = subprocess.run([sys.executable, "-m", "assay.models.ort_library"], capture_output=True, text=True, check=True)
    assert printed.stdout == result.stdout


def test_an_override_is_the_only_place(tmp_path: Path) -> None:
    library = tmp_path / "libonnxruntime.so.1"
    library.write_bytes(b"x")
    assert ort_library.find_library(library) == library
    with pytest.raises(ort_library.OrtLibraryError, match="no file at"):
        ort_library.find_library(tmp_path / "absent.so")


def install(folder: Path, *names: str) -> Path:
    (folder / "onnxruntime" / "capi").mkdir(parents=True)
    (folder / "onnxruntime" / "__init__.py").write_text("raise AssertionError('imported')")
    for name in names:
        (folder / "onnxruntime" / "capi" / name).write_bytes(b"")
    return folder


@pytest.mark.skipif(sys.platform == "darwin", reason="names of Linux")
def test_an_installed_package_is_searched_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "path", [str(install(tmp_path, "libonnxruntime.so.1.99.0", "libonnxruntime_providers_shared.so"))])
    assert ort_library.find_library().name == "libonnxruntime.so.1.99.0"


@pytest.mark.parametrize(
    ("names", "match"),
    [((), "has no libonnxruntime"), (("libonnxruntime.so.1.2.3", "libonnxruntime.so.1.3.0"), "two ONNX Runtimes")],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="names of Linux")
def test_a_broken_installation_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], match: str
) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "path", [str(install(tmp_path, *names))])
    with pytest.raises(ort_library.OrtLibraryError, match=match):
        ort_library.find_library()


def test_no_installation_names_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ort_library.OrtLibraryError, match="pip install 'onnxruntime"):
        ort_library.find_library()


# --- the runtime


def test_the_runtime_has_passed_its_self_check(runtime: _core.OrtRuntime) -> None:
    assert int(runtime.version.split(".")[1]) >= 17
    assert "CPUExecutionProvider" in runtime.providers
    assert _core.OrtRuntime(str(ort_library.find_library())).version == runtime.version


def test_a_second_library_is_refused(runtime: _core.OrtRuntime) -> None:
    with pytest.raises(CoreError, match="cannot open") as caught:
        _core.OrtRuntime("/elsewhere/libonnxruntime.so")
    assert caught.value.reason == "RUNTIME_UNAVAILABLE"


OPEN = """
import sys
from assay import _core
from assay.errors import CoreError
try:
    _core.OrtRuntime(sys.argv[1])
except CoreError as error:
    print(error)
"""

# A library that says it is older than API version 17.
OLD_LIBRARY = """
static const void* const* get_api(unsigned version) { (void)version; return 0; }
static const char* version(void) { return "1.16.3"; }
struct base { const void* const* (*get_api)(unsigned); const char* (*version)(void); };
const struct base* OrtGetApiBase(void) { static const struct base value = {get_api, version}; return &value; }
"""


def open_elsewhere(path: Path) -> str:
    """What opening says, in a process of its own: this one has its runtime."""
    result = subprocess.run([sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True)
    return result.stdout


def test_a_library_that_is_too_old_is_refused_by_version(tmp_path: Path) -> None:
    source, library = tmp_path / "old.c", tmp_path / "libonnxruntime.so.1.16.3"
    source.write_text(OLD_LIBRARY)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs a C compiler (cc)")
    said = open_elsewhere(library)
    assert "RUNTIME_UNAVAILABLE" in said
    assert "1.16.3 is too old" in said


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "libonnxruntime.so.1"
    path.write_text("text")
    assert "cannot open ONNX Runtime's library" in open_elsewhere(path)


def test_the_committed_self_check_model_is_fresh() -> None:
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "tools/make_self_check_model.py", "--check"], capture_output=True, text=True, cwd=root, check=False
    )
    assert result.returncode == 0, result.stderr


# --- models


def test_the_interface(runtime: _core.OrtRuntime) -> None:
    model = _core.OrtModel(runtime, double_model(["n", 2]))
    assert model.inputs == (_core.TensorInfo("x", 1, True, (2,)),)
    assert model.outputs == (_core.TensorInfo("y", 1, True, (2,)),)


def test_an_unset_first_axis_is_a_batch_axis(runtime: _core.OrtRuntime) -> None:
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    data = make_model(nodes, {"x": (TensorProto.FLOAT, [None, 2])}, {"y": (TensorProto.FLOAT, [None, 2])})
    assert _core.OrtModel(runtime, data).inputs[0].has_batch_axis


@pytest.mark.parametrize("data", [b"", b"garbage", double_model()[:40]])
def test_bytes_that_are_no_model(runtime: _core.OrtRuntime, data: bytes) -> None:
    with pytest.raises(CoreError, match="ONNX Runtime refused the model") as caught:
        _core.OrtModel(runtime, data)
    assert caught.value.reason == "MODEL_UNSUPPORTED"


@pytest.mark.parametrize("dims", [["n", 2], ["n", "k"], None], ids=["declared", "free", "unknown"])
@pytest.mark.parametrize("count", [1, 3, 257])
def test_rows_run_whatever_the_output_declares(runtime: _core.OrtRuntime, dims: list[object] | None, count: int) -> None:
    plan = make_plan(x=("float32", 2))
    x = np.random.default_rng(count).normal(size=(count, 2)).astype(np.float32)
    model = _core.OrtModel(runtime, double_model(dims))
    assert np.array_equal(model.run_rows(plan, rows_of(plan, x), 0), (x + x).astype(np.float64))


def test_rows_are_timed_one_by_one(runtime: _core.OrtRuntime) -> None:
    plan = make_plan(x=("float32", 2))
    rows = rows_of(plan, np.ones((5, 2), np.float32))
    model = _core.OrtModel(runtime, double_model())
    took_ns = model.time_rows(plan, rows, 0)
    assert len(took_ns) == 5
    assert all(0 < ns < 10_000_000_000 for ns in took_ns)
    with pytest.raises(ValueError, match=r"rows: expected uint8 \(n, \d+\) with n >= 1"):
        model.time_rows(plan, rows[:0], 0)


def test_tensors_of_all_types_in_another_order_than_the_model(runtime: _core.OrtRuntime) -> None:
    kinds = {"a": "float64", "b": "bool", "c": "int32", "d": "float32", "e": "int64"}
    nodes = [helper.make_node("Cast", [name], [f"{name}_d"], to=TensorProto.DOUBLE) for name in kinds]
    nodes.append(helper.make_node("Concat", [f"{name}_d" for name in kinds], ["y"], axis=1))
    data = make_model(
        nodes, {name: (ONNX_TYPES[kind], ["n", 1]) for name, kind in kinds.items()}, {"y": (TensorProto.DOUBLE, ["n", 5])}
    )
    plan = make_plan(**{name: (kinds[name], 1) for name in ("e", "d", "c", "b", "a")})
    expected = np.array([[0.1, 1, -7, 0.5, 2**40], [1e300, 0, 2**31 - 1, -2.5, -(2**40)]])
    columns = [expected[:, [i]].astype(kind) for i, kind in enumerate(kinds.values())]
    rows = rows_of(plan, *reversed(columns))
    assert np.array_equal(_core.OrtModel(runtime, data).run_rows(plan, rows, 0), expected)


@pytest.mark.parametrize("kind", list(ONNX_TYPES))
def test_outputs_of_every_type_become_float64(runtime: _core.OrtRuntime, kind: str) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=ONNX_TYPES[kind])]
    data = make_model(nodes, {"x": (TensorProto.FLOAT, ["n", 2])}, {"y": (ONNX_TYPES[kind], ["n", 2])})
    plan = make_plan(x=("float32", 2))
    x = np.array([[0, 1], [1, 0], [1, 1]], np.float32)
    assert np.array_equal(_core.OrtModel(runtime, data).run_rows(plan, rows_of(plan, x), 0), x.astype(np.float64))


def test_a_one_dimensional_output_has_one_element_a_row(runtime: _core.OrtRuntime) -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    data = make_model(nodes, {"x": (TensorProto.FLOAT, ["n", 2])}, {"y": (TensorProto.FLOAT, ["n"])}, [axes])
    plan = make_plan(x=("float32", 2))
    x = np.array([[1, 2], [3, 4]], np.float32)
    assert np.array_equal(_core.OrtModel(runtime, data).run_rows(plan, rows_of(plan, x), 0), [[3], [7]])


def test_an_output_of_another_type_is_refused_only_where_it_is_asked_for(runtime: _core.OrtRuntime) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["text"], to=TensorProto.STRING), helper.make_node("Add", ["x", "x"], ["y"])]
    outputs = {"text": (TensorProto.STRING, ["n", 2]), "y": (TensorProto.FLOAT, ["n", 2])}
    model = _core.OrtModel(runtime, make_model(nodes, {"x": (TensorProto.FLOAT, ["n", 2])}, outputs))
    plan = make_plan(x=("float32", 2))
    rows = rows_of(plan, np.ones((2, 2), np.float32))
    assert np.array_equal(model.run_rows(plan, rows, 1), np.full((2, 2), 2.0))
    with pytest.raises(CoreError, match="model output text: its type is string"):
        model.run_rows(plan, rows, 0)
    with pytest.raises(CoreError, match="output 2 was asked of a model with 2 outputs"):
        model.run_rows(plan, rows, 2)


@pytest.mark.parametrize(
    ("dims", "kind", "match"),
    [
        ([1, 2], TensorProto.FLOAT, "its first axis is not free"),
        (["n", "k"], TensorProto.FLOAT, "an axis other than the first is free"),
        (["n", 3], TensorProto.FLOAT, "the model takes 3 elements a row, the row has 2"),
        (["n", 2], TensorProto.DOUBLE, "the model takes float64, the row has float32"),
        (["n", 2], TensorProto.FLOAT16, "its type is float16"),
        (["n", 2], TensorProto.UINT8, "its type is uint8"),
    ],
)
def test_inputs_that_do_not_fit_the_row(runtime: _core.OrtRuntime, dims: list[object], kind: int, match: str) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    model = _core.OrtModel(runtime, make_model(nodes, {"x": (kind, dims)}, {"y": (kind, dims)}))
    plan = make_plan(x=("float32", 2))
    with pytest.raises(CoreError, match=match) as caught:
        model.run_rows(plan, rows_of(plan, np.ones((1, 2), np.float32)), 0)
    assert caught.value.reason == "MODEL_UNSUPPORTED"


def test_an_output_whose_first_axis_is_not_the_batch(runtime: _core.OrtRuntime) -> None:
    """Caught at the run: the model declares nothing, and the sum over the batch has one row."""
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    model = _core.OrtModel(
        runtime, make_model(nodes, {"x": (TensorProto.FLOAT, ["n", 2])}, {"y": (TensorProto.FLOAT, None)}, [axes])
    )
    plan = make_plan(x=("float32", 2))
    with pytest.raises(CoreError, match="first axis is not the batch") as caught:
        model.run_rows(plan, rows_of(plan, np.ones((2, 2), np.float32)), 0)
    assert caught.value.reason == "MODEL_OUTPUT_INVALID"


def gather_model() -> bytes:
    """y = table[x]: fails at the run where x is out of range."""
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"], name="look_up")]
    table = helper.make_tensor("table", TensorProto.FLOAT, [4], [10, 11, 12, 13])
    return make_model(nodes, {"x": (TensorProto.INT64, ["n", 1])}, {"y": (TensorProto.FLOAT, ["n", 1])}, [table])


def test_a_failed_run_says_why_without_the_value_and_leaves_the_model_usable(
    runtime: _core.OrtRuntime, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(x=("int64", 1))
    model = _core.OrtModel(runtime, gather_model())
    with pytest.raises(CoreError, match="look_up") as caught:
        model.run_rows(plan, rows_of(plan, np.array([[1], [57161234]], np.int64)), 0)
    assert caught.value.reason == "MODEL_RUN_FAILED"
    assert "5716" not in str(caught.value)
    assert np.array_equal(model.run_rows(plan, rows_of(plan, np.array([[1], [3]], np.int64)), 0), [[11], [13]])
    assert capfd.readouterr().err == "", "ONNX Runtime's own log repeats the value"


@pytest.mark.parametrize(
    "rows",
    [np.zeros((0, 8), np.uint8), np.zeros((1, 16), np.uint8), np.zeros(8, np.uint8), np.zeros((1, 8), np.float32)],
    ids=["none", "wide", "flat", "float32"],
)
def test_rows_of_another_shape(runtime: _core.OrtRuntime, rows: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=r"rows: expected uint8 \(n, 8\)"):
        _core.OrtModel(runtime, double_model()).run_rows(make_plan(x=("float32", 2)), rows, 0)


def test_rows_must_be_contiguous(runtime: _core.OrtRuntime) -> None:
    with pytest.raises(ValueError, match="contiguous"):
        _core.OrtModel(runtime, double_model()).run_rows(make_plan(x=("float32", 2)), np.zeros((4, 16), np.uint8)[:, ::2], 0)


def test_threads_share_a_model(runtime: _core.OrtRuntime) -> None:
    plan = make_plan(x=("float32", 2))
    model = _core.OrtModel(runtime, double_model(["n", 2]))
    wrong: list[int] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(50):
            x = random.normal(size=(int(random.integers(1, 40)), 2)).astype(np.float32)
            if not np.array_equal(model.run_rows(plan, rows_of(plan, x), 0), (x + x).astype(np.float64)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_intra_op_threads_are_checked(runtime: _core.OrtRuntime) -> None:
    with pytest.raises(ValueError, match="intra_op_threads"):
        _core.OrtModel(runtime, double_model(), intra_op_threads=0)
