"""PyTorch for tests, in an environment of its own: hundreds of megabytes that the development environment does without.

venv = torch_venv()
done = venv.run(script)
"""

from __future__ import annotations

import os

from tests.support.own_venv import OwnVenv

# The build without CUDA; ASSAY_TEST_TORCH names another requirement.
TORCH = os.environ.get("ASSAY_TEST_TORCH", "torch==2.13.0+cpu")
HINT = "Point PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS at PyTorch's wheels for CPUs, or name a requirement in ASSAY_TEST_TORCH"


def torch_venv() -> OwnVenv:
    """torch, and onnxscript of its newer exporter, beside assay and its dependencies. Skips where pip has no such torch."""
    return OwnVenv("torch", (TORCH, "onnxscript>=0.5"), HINT)
