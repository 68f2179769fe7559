"""Where a model runs: on the CPU, or on a CUDA device where it proved itself.

cpu      -> the CPU; nothing else is looked at.
auto     -> tried: no obstacle in sight, and proved there -> cuda:0. Else the CPU, and the obstacle is kept for who asks why.
cuda:N   -> tried likewise -> cuda:N. Else refused, with the obstacle and what to do about it.

The proof is that of the CPU: batch invariance, golden rows within the manifest's tolerance, warm-up, on the very session that
will serve.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from assay._core import OrtModel, OrtRuntime
from assay.config import DEVICE_PATTERN
from assay.errors import CoreError
from assay.models import cuda_libraries, cuda_machine
from assay.models.cuda_build import CUDA_13, build_of
from assay.models.cuda_errors import CPU_WHEEL, CPU_WHEEL_MEND, NO_DRIVER, Obstacle, driver_mend, explain
from assay.models.refusal import BundleRefusedError
from assay.observe.logs import log_event

log = logging.getLogger(__name__)

PROVIDER: Final = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Device:
    """`cuda_index` None: the CPU."""

    cuda_index: int | None = None

    def __str__(self) -> str:
        return "cpu" if self.cuda_index is None else f"cuda:{self.cuda_index}"


CPU: Final = Device()


@dataclass(frozen=True)
class DeviceWish:
    """What the configuration asks for. `cuda_index`: the device to try."""

    kind: Literal["auto", "cpu", "cuda"] = "cpu"
    cuda_index: int = 0
    memory_bytes_max: int = 0  # of each session's arena on the device; 0: no limit
    memory_reserve_bytes: int = 0  # what batches must leave free there

    @classmethod
    def parse(cls, text: str, memory_bytes_max: int = 0, memory_reserve_bytes: int = 0) -> DeviceWish:
        """auto, cpu, cuda or cuda:N. Raises ValueError."""
        found = re.fullmatch(DEVICE_PATTERN, text)
        if found is None:
            raise ValueError("expected auto, cpu, cuda or cuda:N, for example cuda:0")
        return cls(found[1], int(found[2] or 0), memory_bytes_max, memory_reserve_bytes)  # type: ignore[arg-type]


CPU_WISH: Final = DeviceWish()


@dataclass(frozen=True)
class Placement:
    """Where a model runs, and what kept it from a CUDA device that was wished for."""

    device: Device = CPU
    obstacle: Obstacle | None = None

    def __str__(self) -> str:
        return f"{self.device} ({self.obstacle.reason})" if self.obstacle else str(self.device)


Proof = TypeVar("Proof")


def choose_device(
    wish: DeviceWish, find_obstacle: Callable[[], Obstacle | None], prove: Callable[[Device], Proof]
) -> tuple[Placement, Proof | None]:
    """Decides. `find_obstacle` looks for reasons not to try; `prove` tries, and raises BundleRefusedError. The proof is None for
    the CPU, where the caller proves: a refusal there is the bundle's own. Raises BundleRefusedError where `cuda` is not to be
    had."""
    if wish.kind == "cpu":
        return Placement(), None
    device = Device(wish.cuda_index)
    obstacle = find_obstacle()
    if obstacle is None:
        try:
            return Placement(device), prove(device)
        except BundleRefusedError as error:
            obstacle = _obstacle_of(error)
    if wish.kind == "cuda":
        raise BundleRefusedError(f"device {device}", obstacle.reason, obstacle.mend)
    return Placement(CPU, obstacle), None


def find_cuda_obstacle(runtime: OrtRuntime, *, is_tree_ensemble: bool, is_int8: bool = False) -> Obstacle | None:
    """What speaks against a CUDA device before a session is tried there."""
    if PROVIDER not in runtime.providers:
        return Obstacle(CPU_WHEEL, CPU_WHEEL_MEND, is_expected=True)
    if is_tree_ensemble:
        return Obstacle("ONNX Runtime has no CUDA kernels for trees", "set device: auto or cpu", is_expected=True)
    if is_int8:
        return Obstacle(
            "ONNX Runtime's CUDA provider lacks INT8 kernels (it would compute in float32, and more slowly)",
            "set device: auto or cpu; for a card convert the FP32 bundle with assay model quantize --fp16",
            is_expected=True,
        )
    build = build_of(Path(runtime.library_path))
    if cuda_machine.find_driver() is None:
        # The wheel for CUDA is what pip installs on Linux, card or not. Whoever installed CUDA's libraries meant to use one.
        is_meant = build is not None and any(cuda_libraries.wheel_paths(name) for name in build.libraries)
        return Obstacle(NO_DRIVER, driver_mend(build or CUDA_13), is_expected=not is_meant)
    serves = cuda_machine.driver_cuda_version()
    if build is not None and serves is not None and serves // 1000 < build.major:
        reason = f"NVIDIA's driver serves CUDA {serves // 1000}.{serves % 1000 // 10}, the wheel is for CUDA {build.major}"
        return Obstacle(reason, driver_mend(build))
    return None


def make_session(runtime: OrtRuntime, model_bytes: bytes, device: Device, memory_bytes_max: int = 0) -> OrtModel:
    """A session on the device and nowhere else. Raises CoreError: MODEL_UNSUPPORTED, or RUNTIME_UNAVAILABLE for the device."""
    if device.cuda_index is None:
        return OrtModel(runtime, model_bytes)
    build = build_of(Path(runtime.library_path))
    problems = cuda_libraries.open_libraries(build) if build is not None else []
    for problem in problems:  # ONNX Runtime may do without; if not, it says so itself
        log_event(log, logging.DEBUG, "library not opened", problem=problem)
    return OrtModel(runtime, model_bytes, cuda_device=device.cuda_index, cuda_memory_bytes_max=memory_bytes_max)


# --- implementation ---


def _obstacle_of(error: BundleRefusedError) -> Obstacle:
    """Why the proof failed: in ONNX Runtime's words, or because scores differ there."""
    if isinstance(error.__cause__, CoreError):
        return explain(error.__cause__.message)
    mend = "set device: cpu, or, if that little matters, allow it in the manifest: golden_tolerance, batch_tolerance"
    return Obstacle(f"{error.file}: {error.reason}", mend)
