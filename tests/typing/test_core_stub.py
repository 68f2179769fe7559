"""The stub is the contract of assay._core: the module must be exactly it."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from assay import _core

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "server" / "assay" / "_core.pyi"

# What stubtest cannot know. Constructors of extension types show no signature (test_constructors_take_what_the_stub_says calls
# them); the other three names are Cython's own.
ALLOWED = r"""
assay\._core\.[A-Za-z]+\.__init__
assay\._core\.__reduce_cython__
assay\._core\.__setstate_cython__
assay\._core\.__test__
"""


def stub_classes() -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ClassDef)}


def is_named_tuple(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases)


def test_the_module_is_what_the_stub_says(tmp_path: Path) -> None:
    """mypy's stubtest: names, kinds, parameters, defaults and keyword-only marks, in both directions."""
    allowlist = tmp_path / "allowlist"
    allowlist.write_text(ALLOWED)
    command = [sys.executable, "-m", "mypy.stubtest", "assay._core", "--allowlist", str(allowlist), "--ignore-unused-allowlist"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_named_tuples_have_the_stubs_fields() -> None:
    for name, node in stub_classes().items():
        if is_named_tuple(node):
            fields = tuple(
                item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            )
            assert getattr(_core, name)._fields == fields, name
            assert getattr(_core, name).__module__ == "assay._core"


def test_annotations_are_the_stubs() -> None:
    """Where the bindings annotate, they say what the stub says, word for word."""
    compared = 0
    for name, node in stub_classes().items():
        for method in (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name != "__init__"):
            function = inspect.getattr_static(getattr(_core, name), method.name)
            if isinstance(function, staticmethod):
                function = function.__func__
            if not hasattr(function, "__annotations__"):  # a property of an extension type
                continue
            expected = {argument.arg: argument.annotation for argument in [*method.args.args, *method.args.kwonlyargs]}
            expected["return"] = method.returns
            for argument, annotation in function.__annotations__.items():
                text = ast.unparse(expected[argument]) if expected[argument] is not None else None
                assert annotation == text, f"{name}.{method.name}({argument})"
                compared += 1
    assert compared > 100


@pytest.mark.parametrize("name", [name for name, node in stub_classes().items() if not is_named_tuple(node)])
def test_classes_are_closed(name: str) -> None:
    """@final in the stub, and neither subclassed nor pickled in truth."""
    cls = getattr(_core, name)
    assert any(isinstance(item, ast.Name) and item.id == "final" for item in stub_classes()[name].decorator_list)
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Sub", (cls,), {})


@pytest.mark.parametrize(("name", "maker"), [("FeaturePlan", "PlanBuilder.build"), ("CompletionQueue", "Engine.open_queue")])
def test_classes_without_constructor_cannot_be_made(name: str, maker: str) -> None:
    cls = getattr(_core, name)
    for make in (cls, lambda: cls.__new__(cls), lambda: cls(object())):
        with pytest.raises(TypeError, match=re.escape(maker)):
            make()


def test_constructors_take_what_the_stub_says() -> None:
    """A keyword that the stub does not have is refused; the others reach the constructor by name (their types are checked)."""
    wrong = object()
    checked = 0
    for name, node in stub_classes().items():
        for init in (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"):
            names = [argument.arg for argument in [*init.args.args[1:], *init.args.kwonlyargs]]
            if names:
                with pytest.raises(TypeError) as caught:
                    getattr(_core, name)(**dict.fromkeys(names, wrong))
                assert "unexpected keyword" not in str(caught.value), name
            with pytest.raises(TypeError, match="keyword"):
                getattr(_core, name)(**dict.fromkeys([*names, "no_such_keyword"], wrong))
            checked += 1
    assert checked >= 9
