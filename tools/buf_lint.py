"""Runs buf lint on proto/ (with googleapis' files from the installed wheel beside it): style and comments of the contract."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def googleapis() -> Path:
    """The folder that holds google/rpc/*.proto."""
    spec = find_spec("google.rpc")
    assert spec is not None, "install googleapis-common-protos"
    assert spec.submodule_search_locations, "google.rpc is not a package: install googleapis-common-protos anew"
    return Path(next(iter(spec.submodule_search_locations))) / "status.proto"


def main() -> int:
    buf = Path(sys.executable).parent / "buf"
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "proto"
        shutil.copytree(ROOT / "proto", tree)
        (tree / "google" / "rpc").mkdir(parents=True)
        shutil.copy(googleapis(), tree / "google" / "rpc" / "status.proto")
        done = subprocess.run([str(buf), "lint"], cwd=tree, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
