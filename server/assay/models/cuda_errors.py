"""What ONNX Runtime says when a CUDA device cannot be had, in words that say what to do.

Its wheels have no error codes for this, only texts; each row below was matched with texts of the real wheels
(tests/support/cuda_messages.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from assay.models.cuda_build import BUILDS, CUDA_12, CUDA_13, CudaBuild


@dataclass(frozen=True)
class Obstacle:
    """Why a model does not run on a CUDA device. `is_expected`: nothing is wrong, there is nothing to mend."""

    reason: str
    mend: str
    is_expected: bool = False


CPU_WHEEL: Final = "the ONNX Runtime wheel is the one for the CPU"
CPU_WHEEL_MEND: Final = "pip uninstall -y onnxruntime, then pip install '.[gpu]'"
NO_DRIVER: Final = "there is no NVIDIA driver"
CPU_MEND: Final = "run `assay doctor`, or set device: cpu"


def driver_mend(build: CudaBuild = CUDA_13) -> str:
    """What to do where the driver is missing or too old for the wheel."""
    older = f", or from R{CUDA_12.driver_min} on pip install '.[{CUDA_12.extra}]'" if build is not CUDA_12 else ""
    return f"install NVIDIA's driver R{build.driver_min} or newer (in a container: start it with --gpus all){older}"


def explain(text: str) -> Obstacle:
    """The obstacle that a text of ONNX Runtime's means, with or without the core's words around it; an unknown text stands for
    itself."""
    if inner := re.search(r"\((?:CUDA|Run|ONNX Runtime refused the model): (.*)\)$", text, re.DOTALL):
        text = inner[1]
    for pattern, reason, mend in _TABLE:
        if found := re.search(pattern, text):
            return Obstacle(reason.format(**{name: value.strip() for name, value in found.groupdict().items()}), mend)
    if found := re.search(r"with error: (lib\S+\.so\.\d+): cannot open shared object file", text):
        return _missing_library(found[1])
    return Obstacle(text.strip(), CPU_MEND)


# --- implementation ---

_REINSTALL: Final = (
    "pip install --force-reinstall --no-deps onnxruntime-gpu in its version; `assay doctor` shows which libraries are found"
)
_XID: Final = "start again; if it comes back, look for Xid in the kernel's log and test the card"

# (pattern, reason, mend): the first that matches.
_TABLE: Final = (
    (r"is not enabled in this build", CPU_WHEEL, CPU_WHEEL_MEND),
    (
        r"Failed to load library \S*?(?P<file>libonnxruntime_providers_\w+\.so) with error: \S*(?P=file): cannot open",
        "the ONNX Runtime wheel lacks its {file}",
        _REINSTALL,
    ),
    (r"with error: libcuda\.so\.1: cannot open", f"{NO_DRIVER} (libcuda.so.1)", driver_mend()),
    (
        r"Failed to get symbol|undefined symbol|version `\S+' not found|SUBLIBRARY_VERSION_MISMATCH",
        "libraries of different versions are mixed",
        f"take CUDA and cuDNN off LD_LIBRARY_PATH; {_REINSTALL}",
    ),
    (r"CUDA failure 35:", "the NVIDIA driver is too old for the wheel's CUDA, or there is none", driver_mend()),
    (
        r"CUDA failure 100:",
        "CUDA sees no card",
        "`nvidia-smi -L` must list one: start the container with --gpus all, and see that CUDA_VISIBLE_DEVICES names one",
    ),
    (
        r"Invalid device ID: (?P<id>\d+), must be between 0 \(inclusive\) and (?P<count>\d+)",
        "there is no device cuda:{id}, CUDA sees {count}",
        "name one of them (cuda:0 is the first), or let CUDA_VISIBLE_DEVICES show more",
    ),
    (r"CUDA failure 101:", "there is no such CUDA device", "name one that `nvidia-smi -L` lists (cuda:0 is the first)"),
    (
        r"CUDA failure 2:|CUBLAS failure 3:|Failed to allocate memory|_ALLOC_FAILED",
        "the card has too little memory left",
        "see with nvidia-smi who uses it, raise cuda.memory_bytes_max, or lower lane.batch_rows_max",
    ),
    (
        r"CUDA failure 46:",
        "another process has the card for itself",
        "end that process, or allow sharing: nvidia-smi --compute-mode=DEFAULT",
    ),
    (
        r"CUDA failure (?:209|222):",
        "the ONNX Runtime wheel has no kernels for this card",
        "`assay doctor` shows the card's compute capability and which the wheel has; set device: cpu",
    ),
    (
        r"CUDA failure (?:803|804):",
        "the driver's parts do not fit together",
        "restart the machine after a driver update; in a container, use no driver libraries of its own",
    ),
    (
        r"CUDA failure (?:3|802|999): (?P<what>[^;]*)",
        "CUDA does not start: {what}",
        "see that nvidia-smi works as this user and, on NVSwitch machines, that nvidia-fabricmanager runs",
    ),
    (
        r"CUDA failure (?:214|220|226|700|702|710|71[4-9]): (?P<what>[^;]*)",
        "the card failed ({what}), and no later call of this process can use it",
        _XID,
    ),
    (r"(?P<what>(?:CUDA|CUBLAS|CUDNN|CUFFT) failure \d+: [^;]*)", "{what}", CPU_MEND),
)


def _missing_library(name: str) -> Obstacle:
    extras = " or ".join(f"'.[{build.extra}]'" for build in BUILDS if name in build.libraries)
    mend = f"pip install {extras}, which brings it" if extras else "install the package that brings it"
    return Obstacle(f"{name} is missing", f"{mend}; `assay doctor` lists the libraries that are needed")
