"""ONNX Runtime's official builds send telemetry and keep an identity at home. Ours must not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.demo.paths import bundle_path


@pytest.mark.parametrize("wish", [None, "0"])
def test_nothing_is_kept_at_home(wish: str | None, tmp_path: Path) -> None:
    """Loads the library, runs models; whatever the environment wishes."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    if wish is not None:
        environment["ORT_DISABLE_TELEMETRY"] = wish
    command = [sys.executable, "-m", "assay", "model", "check", str(bundle_path())]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert found.returncode == 0, found.stderr
    assert "warm-up" in found.stdout
    assert list(tmp_path.rglob("*")) == []
