"""Repositories of bundles for tests: the demo's bundle under other versions, and bundles that are broken in every way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx

from assay.demo.paths import bundle_path
from tests.support.bundles import edit_manifest, rewrite

MODEL = "card_fraud"


def add_version(root: Path, version: str, *, score_more: float = 0.0) -> Path:
    """The demo's bundle as another version, complete in one step. `score_more` above 0: its thresholds are that much higher."""
    path, ready = root / MODEL / version, root / ".incoming" / version
    shutil.copytree(bundle_path(), ready)
    edit_manifest(ready, lambda manifest: manifest.update(version=version))
    if score_more:

        def raise_thresholds(manifest: dict) -> None:  # type: ignore[type-arg]
            for threshold in manifest["thresholds"]:
                threshold["score"] = min(1.0, threshold["score"] + score_more)

        edit_manifest(ready, raise_thresholds)
    path.parent.mkdir(parents=True, exist_ok=True)
    ready.rename(path)
    return path


def broken_versions(root: Path) -> dict[str, str]:
    """One version for each way to be broken -> what its refusal says."""
    ways: dict[str, tuple[Callable[[Path], object], str]] = {
        "truncated": (lambda path: _cut(path / "model.onnx"), "model.onnx"),
        "swapped": (lambda path: (path / "model.onnx").write_bytes(b"other"), "model.onnx"),
        "pickle": (lambda path: rewrite(path, "model.onnx", lambda _: b"\x80\x04\x95" + bytes(200)), "pickle"),
        "schema": (lambda path: rewrite(path, "feature_set.yaml", _another_window), "schema"),
        "golden": (lambda path: (path / "golden.npz").unlink(), "golden.npz"),
        **{f"outside{i}": (_pointing(where), "model.onnx") for i, where in enumerate(OUTSIDE)},
    }
    said = {}
    for version, (damage, text) in ways.items():
        damage(add_version(root, version))
        said[version] = text
    linked = add_version(root, "linked")
    shutil.move(linked / "model.onnx", root / "elsewhere.onnx")
    (linked / "model.onnx").symlink_to(root / "elsewhere.onnx")
    hard = add_version(root, "hard")
    (hard / "model.onnx").unlink()
    (hard / "model.onnx").hardlink_to(root / "elsewhere.onnx")
    return said | {"linked": "model.onnx", "hard": "model.onnx"}


# Where tensors may not be: beside the model, up, absolute, in a device.
OUTSIDE = ("weights.bin", "../weights.bin", "/etc/hostname", "/dev/zero")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _another_window(data: bytes) -> bytes:
    changed = data.replace(b"window: 1d", b"window: 2d", 1)
    assert changed != data
    return changed


def _pointing(where: str) -> Callable[[Path], None]:
    def point(path: Path) -> None:
        (path / "weights.bin").write_bytes(bytes(64))
        rewrite(path, "model.onnx", lambda data: _with_outside_tensor(data, where))
        (path / "weights.bin").unlink()

    return point


def _with_outside_tensor(data: bytes, where: str) -> bytes:
    model = onnx.ModelProto.FromString(data)
    tensor = model.graph.initializer.add(name="outside", data_type=onnx.TensorProto.FLOAT, dims=[16])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=where)
    return model.SerializeToString()
