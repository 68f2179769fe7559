"""What ONNX Runtime's wheel for CUDA wants of a machine: which driver, which libraries, which cards.

The wheels from PyPI: up to 1.26 for CUDA 12, 1.27's extras do not resolve, from 1.28 on for CUDA 13. The kernels are those that
the provider libraries of 1.26.0 and 1.31.1 hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Capability = tuple[int, int]  # compute capability of a card, such as (9, 0)


@dataclass(frozen=True)
class CudaBuild:
    """One major version of CUDA that ONNX Runtime is built for."""

    major: int
    driver_min: int  # first branch of NVIDIA's driver that runs it: 580 is R580
    extra: str  # of our package, that brings the libraries
    libraries: tuple[str, ...]  # by soname, lowest dependencies first; cuDNN opens its own parts when it needs them
    kernels: tuple[Capability, ...]  # machine code runs on its own capability and on later ones of the same major version
    newest_kernel: Capability | None  # in a form that any later card's driver can compile

    def runs_on(self, card: Capability) -> bool:
        """Whether there is code for a card of this compute capability."""
        if self.newest_kernel is not None and card >= self.newest_kernel:
            return True
        return any(major == card[0] and minor <= card[1] for major, minor in self.kernels)


CUDA_12: Final = CudaBuild(
    major=12,
    driver_min=525,
    extra="gpu-cu12",
    libraries=(
        "libcudart.so.12",
        "libnvJitLink.so.12",
        "libnvrtc.so.12",
        "libcublasLt.so.12",
        "libcublas.so.12",
        "libcurand.so.10",
        "libcufft.so.11",
        "libcudnn.so.9",
    ),
    kernels=((6, 0), (7, 0), (7, 5), (8, 0), (8, 6), (9, 0)),
    newest_kernel=(9, 0),
)
CUDA_13: Final = CudaBuild(
    major=13,
    driver_min=580,
    extra="gpu",
    libraries=(
        "libcudart.so.13",
        "libnvJitLink.so.13",
        "libnvrtc.so.13",
        "libcublasLt.so.13",
        "libcublas.so.13",
        "libcurand.so.10",
        "libcufft.so.12",
        "libcudnn.so.9",
    ),
    kernels=((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0)),
    newest_kernel=None,
)
BUILDS: Final = (CUDA_12, CUDA_13)


def build_of(ort_library: Path) -> CudaBuild | None:
    """What the wheel that `ort_library` belongs to was built for, as a file beside the library says; None: for the CPU."""
    try:
        text = (ort_library.parent / "build_and_package_info.py").read_text()
    except OSError:
        return None
    found = re.search(r"^cuda_version = ['\"](\d+)", text, re.MULTILINE)
    return next((build for build in BUILDS if found and build.major == int(found[1])), None)
