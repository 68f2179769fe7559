"""Tensors in other files: `assay model pack` takes them from plain files beside the model, nothing else does; a bundle never."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from assay._core import OrtModel
from assay.cli.model import app
from assay.errors import CoreError
from assay.models import inline_onnx, inspect_onnx
from assay.models.inspection import inspect_model, read_model
from assay.models.refusal import BundleRefusedError
from assay.models.verify import verify_bundle
from tests.support.bundles import pack, rewrite, runtime
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


@pytest.mark.parametrize("damage", [relative, absolute, through_a_directory, symbolic_link, hard_link, None])
def test_a_bundle_with_data_elsewhere_is_refused_in_every_way(
    tmp_path: Path, damage: Callable[[Path], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashes that fit and a file that is really there do not help: `assay model check` and a server say how to mend it. Asked
    from the directory where the file lies, by somebody who could read it."""
    path = split(tmp_path / "model")
    if damage is not None:
        damage(path)
    bundle = pack(linear_model(), tmp_path / "models", batch_tolerance=1e-6)
    rewrite(bundle, "model.onnx", lambda _: path.read_bytes())
    monkeypatch.chdir(path.parent)
    opened: list[str] = []
    is_watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if is_watching and event == "open" and str(arguments[0]).endswith((DATA, SECRET)):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    result = CliRunner().invoke(app, ["check", str(bundle)], env={"COLUMNS": "200", "NO_COLOR": "1"})
    with pytest.raises(BundleRefusedError, match="keep their data in other files"):
        verify_bundle(bundle, runtime(), batch_rows_max=8)
    is_watching = False
    assert result.exit_code == 4
    assert "refused: model.onnx: 1 tensor(s) keep their data in other files, the first is weights" in result.stderr
    assert "what to do: save the model as one file: onnx.save(" in result.stderr
    assert opened == []


@pytest.mark.parametrize(
    "location",
    [
        f"./{DATA}",
        f"{DATA}\0",
        f"{DATA}\0/../{SECRET}",
        f"..\\{SECRET}",
        f"file:///{SECRET}",
        f"%2e%2e%2f{SECRET}",
        f"..\uff0f{SECRET}",
        f"\u202e{DATA}",
        f" {DATA}",
        f"{DATA} ",
        "..",
        "a" * 300,
    ],
)
def test_a_location_in_another_encoding_finds_nothing(tmp_path: Path, location: str) -> None:
    """Names are taken as they stand: nothing is decoded, trimmed or joined to a path. What is said of them is printable."""
    path = split(tmp_path / "model", location)
    with pytest.raises(inline_onnx.InlineError) as refused:
        inline_onnx.inline(path.read_bytes(), path)
    assert refused.value.reason.isprintable()
    assert refused.value.mend


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
