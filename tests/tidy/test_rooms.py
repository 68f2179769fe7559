"""Rooms import one way. The tables here are the law; ARCHITECTURE.md draws them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "server" / "assay"
CORE = ROOT / "ext" / "core"

# Room -> rooms it may import. A room may always import itself.
LEAVES = {"_core", "codes", "config", "errors", "private_file", "store_url"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "config_file": {"errors"},
    "config_loading": {"config", "config_file", "errors", "store_url"},
    "private_file": set(),
    "store_url": set(),
    "_core": {"errors"},
    "codes": {"_core"},
    "v1": set(),
    "inference": set(),
    "client": {"v1", "errors"},
    "observe": LEAVES,
    "features": LEAVES | {"observe"},
    "models": LEAVES | {"observe", "features"},
    "kafka": LEAVES | {"observe", "features"},
    "audit": LEAVES | {"observe", "features", "models", "kafka", "v1"},
    "demo": LEAVES | {"features", "models"},
    "scoring": LEAVES | {"observe", "features", "models"},
    "explain": LEAVES | {"observe", "features", "models", "audit", "v1"},
    "transport": LEAVES | {"config_file", "observe", "features", "models", "scoring", "explain", "v1", "inference"},
    "app_metrics": LEAVES | {"audit", "observe", "features", "models", "scoring", "transport"},
    "app_status": LEAVES | {"audit", "observe", "features", "models", "scoring", "transport"},
    "app": LEAVES
    | {"app_metrics", "app_status", "audit", "observe", "features", "models", "scoring", "explain", "transport", "demo"},
    "cli": LEAVES
    | {
        "config_loading",
        "observe",
        "features",
        "models",
        "scoring",
        "explain",
        "transport",
        "demo",
        "app",
        "v1",
        "client",
        "kafka",
        "audit",
    },
    "__main__": {"cli"},
    "__init__": {"models"},  # lazily: assay.pack and assay.Scorer
}
CORE_MAY_INCLUDE = {
    "base": set(),
    "features": {"base"},
    "wire": {"base", "features"},
    "audit": {"base", "features", "wire"},
    "serving": {"base", "features", "wire", "audit", "explain"},
    "explain": {"base", "wire"},
    "runtime": {"base", "features", "serving"},
    "transport": {"base", "features", "wire", "serving"},
    "load": {"base", "transport"},
}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a module imports anywhere in it, lazily included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "assay" else {node.module or ""}
    return {name.split(".")[1] for name in names if name.startswith("assay.")} - {"__version__"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_python_rooms_import_one_way(path: Path) -> None:
    room = room_of(path)
    assert room in MAY_IMPORT, f"a new room, {room}: give it a row in MAY_IMPORT and a line in ARCHITECTURE.md"
    forbidden = imported_rooms(path) - MAY_IMPORT[room] - {room}
    assert not forbidden, f"{path.relative_to(ROOT)} may not import {sorted(forbidden)}"


@pytest.mark.parametrize("path", sorted([*CORE.rglob("*.h"), *CORE.rglob("*.cc")]), ids=lambda path: str(path.relative_to(CORE)))
def test_core_rooms_include_one_way(path: Path) -> None:
    room = path.relative_to(CORE).parts[0]
    text = path.read_text()
    included = set(re.findall(r'#include "core/(\w+)/', text))
    forbidden = included - CORE_MAY_INCLUDE[room] - {room}
    assert not forbidden, f"{path.relative_to(ROOT)} may not include {sorted(forbidden)}"
    assert "Python.h" not in text, f"{path.relative_to(ROOT)}: the core knows no Python"


def test_no_pickle_in_the_package() -> None:
    """DESIGN 3.7: no pickles. Reading one is how a model file becomes a program."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(), str(path))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in {"pickle", "cPickle", "cloudpickle", "joblib", "dill", "shelve"}, (
                    f"{path}: {name}"
                )
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), f"{path}: allow_pickle"
                assert node.value.value is False, f"{path}: allow_pickle"


def test_no_child_imports_from_the_working_directory() -> None:
    """Whoever may write there would run code as the server: python -P."""
    children = 0
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.List) and node.elts and ast.unparse(node.elts[0]) == "sys.executable":
                children += 1
                assert ast.unparse(node.elts[1]) == "'-P'", f"{path.relative_to(ROOT)}:{node.lineno}: start it with -P"
    assert children >= 2
