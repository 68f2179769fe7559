"""What a server that waits for calls holds: nothing that only training, replays or other commands need."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.server import ServeProcess

TOOLS = ("pyarrow", "onnx", "matplotlib", "pandas", "sklearn", "lightgbm", "confluent_kafka")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_has_loaded_no_tools() -> None:
    """pyarrow alone was 30 MiB of the 150 that an idle server may take."""
    with ServeProcess() as server:
        mapped = {
            Path(line.split()[-1]) for line in Path(f"/proc/{server.process.pid}/maps").read_text().splitlines() if "/" in line
        }
    packages = {part for path in mapped for part in path.parts}
    assert {"numpy", "onnxruntime"} <= packages  # it is seen what a server has loaded
    assert not packages & set(TOOLS)
