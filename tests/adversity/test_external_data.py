"""Tensors in other files: `assay model pack` takes them from plain files beside the model, nothing else does; a bundle never."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from assay._core import OrtModel
from assay.errors import CoreError
from assay.models import inline_onnx, inspect_onnx
from assay.models.inspection import inspect_model, read_model
from assay.models.refusal import BundleRefusedError
from tests.support.bundles import pack, runtime
from tests.support.onnx_models import input_value, linear_model, make_model, output_value, weights

DATA = "weights.bin"
SECRET = "outside.bin"


def split(folder: Path, location: str = DATA, *, length: int | None = None, offset: int | None = None) -> Path:
    """The linear model whose weights say that they are in `location`; DATA beside it really holds them, SECRET above it too."""
    model = linear_model()
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": len(data) if length is None else length}
    for key, value in entries.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    folder.mkdir(exist_ok=True)
    (folder / DATA).write_bytes(data)
    (folder.parent / SECRET).write_bytes(data)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def test_a_file_beside_the_model_is_taken_in(tmp_path: Path) -> None:
    """The same bits as the model that was never split, wherever the reader's working directory is."""
    model_bytes, inspection = read_model(split(tmp_path / "model", offset=0))
    assert inspection.problems == ()
    (taken,) = onnx.ModelProto.FromString(model_bytes).graph.initializer
    assert (taken.raw_data, taken.data_location, list(taken.external_data)) == (weights().raw_data, TensorProto.DEFAULT, [])
    assert pack(model_bytes, tmp_path / "models").is_dir()


def test_what_onnx_itself_saves_is_taken_in(tmp_path: Path) -> None:
    """onnx.save's own external data, several tensors in one file, one of them in an attribute of a subgraph's node."""
    branch = [
        helper.make_node("Constant", [], ["more"], value=weights("more")),
        helper.make_node("Add", ["weights", "more"], ["sum"]),
        helper.make_node("MatMul", ["input", "sum"], ["out"]),
    ]
    inner = helper.make_graph(branch, "branch", [], [output_value("out")])
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=onnx.numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["score"], then_branch=inner, else_branch=inner),
    ]
    model = make_model(nodes, initializers=[weights()], inputs=[input_value()])
    whole = model.SerializeToString()
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location=DATA, size_threshold=0, convert_attribute=True)
    found = inspect_model(path.read_bytes())
    assert [problem.check for problem in found.problems] == ["external data"]
    model_bytes, inspection = read_model(path)
    assert inspection.problems == ()
    assert _tensors(model_bytes) == _tensors(whole)


def _tensors(model_bytes: bytes) -> list[list[float]]:
    graph = onnx.ModelProto.FromString(model_bytes).graph
    found = [graph.initializer[0]]
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t] if attribute.HasField("t") else [attribute.g.node[0].attribute[0].t]
    return [onnx.numpy_helper.to_array(tensor).ravel().tolist() for tensor in found]


def relative(path: Path) -> None:
    split(path.parent, f"../{SECRET}")


def absolute(path: Path) -> None:
    split(path.parent, str(path.parent.parent / SECRET))


def through_a_directory(path: Path) -> None:
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / DATA).write_bytes((path.parent / DATA).read_bytes())
    split(path.parent, f"sub/{DATA}")


def symbolic_link(path: Path) -> None:
    (path.parent / DATA).unlink()
    (path.parent / DATA).symlink_to(path.parent.parent / SECRET)


def hard_link(path: Path) -> None:
    (path.parent / DATA).unlink()
    os.link(path.parent.parent / SECRET, path.parent / DATA)


def pipe(path: Path) -> None:
    (path.parent / DATA).unlink()
    os.mkfifo(path.parent / DATA)


def missing(path: Path) -> None:
    (path.parent / DATA).unlink()


def cut_off(path: Path) -> None:
    split(path.parent, length=4_000)


def past_its_end(path: Path) -> None:
    split(path.parent, offset=1 << 40, length=12)


def no_number(path: Path) -> None:
    split(path.parent, offset=-1)


def no_location(path: Path) -> None:
    split(path.parent, "")


def the_directory_itself(path: Path) -> None:
    split(path.parent, ".")


@pytest.mark.parametrize(
    ("damage", "reason", "mend"),
    [
        (relative, "only a file in the model's own directory", "save it as one file"),
        (absolute, "only a file in the model's own directory", "save it as one file"),
        (through_a_directory, "only a file in the model's own directory", "save it as one file"),
        (the_directory_itself, "only a file in the model's own directory", "save it as one file"),
        (symbolic_link, "is a symbolic link", f'cp --remove-destination "$(readlink -f {DATA})" {DATA}'),
        (hard_link, "has 2 names (hard links)", f"cp {DATA} {DATA}.copy && mv {DATA}.copy {DATA}"),
        (pipe, "is not a plain file", "save it as one file"),
        (missing, "there is no such file beside the model", f"copy {DATA} into"),
        (cut_off, "is cut off: tensor weights wants 4000 bytes at 0, it has 12", "copy the file again"),
        (past_its_end, "is cut off", "copy the file again"),
        (no_number, "its offset is not a number of bytes", "save it as one file"),
        (no_location, "in another way than ONNX's", "save it as one file"),
    ],
)
def test_anything_else_is_refused_with_its_mend(tmp_path: Path, damage: Callable[[Path], None], reason: str, mend: str) -> None:
    path = split(tmp_path / "model")
    damage(path)
    with pytest.raises(inline_onnx.InlineError) as refused:
        inline_onnx.inline(path.read_bytes(), path)
    assert reason in refused.value.reason
    assert mend in refused.value.mend


def test_the_mends_mend(tmp_path: Path) -> None:
    """Both commands that a refusal gives make the model packable, as they stand."""
    for damage in (symbolic_link, hard_link):
        path = split(tmp_path / damage.__name__)
        damage(path)
        with pytest.raises(BundleRefusedError) as refused:
            read_model(path)
        command = refused.value.mend.partition(": ")[2]
        assert os.system(f"cd {path.parent} && {command}") == 0
        assert read_model(path)[1].problems == ()


def test_more_than_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tensors may name the same megabytes: what is read is counted, not what lies there."""
    path = split(tmp_path / "model")
    monkeypatch.setattr(inline_onnx, "CONSTANT_BYTES_MAX", 11)
    with pytest.raises(inline_onnx.InlineError, match="more than 11 bytes"):
        inline_onnx.inline(path.read_bytes(), path)


def test_as_bytes_it_is_refused_before_a_session_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime may read such files relative to the working directory. Nothing reaches it: packing, checking and serving all
    ask the child process first."""
    path = split(tmp_path / "model")
    monkeypatch.chdir(path.parent)
    found = inspect_model(path.read_bytes())
    assert [problem.check for problem in found.problems] == ["external data"]
    with pytest.raises(BundleRefusedError, match="keep their data in other files"):
        pack(path.read_bytes(), tmp_path / "models")
    assert not (tmp_path / "models").exists()
    with pytest.raises(CoreError):  # and by itself it does not load from bytes
        OrtModel(runtime(), path.read_bytes())


def test_the_child_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory follows the files that lie beside the model, up to the limit."""
    path = split(tmp_path / "model")
    asked: list[int] = []
    monkeypatch.setattr(inline_onnx, "limit_process", asked.append)
    monkeypatch.setattr(inline_onnx, "inline", lambda *_: b"")
    assert inline_onnx.main(path) == 0
    assert asked == [path.stat().st_size * 2 + (path.parent / DATA).stat().st_size]
    with (path.parent / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert inline_onnx.main(path) == 0
    assert asked[1] == path.stat().st_size + inspect_onnx.CONSTANT_BYTES_MAX
