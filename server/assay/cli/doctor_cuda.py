"""What `assay doctor` looks at where ONNX Runtime's wheel is one for CUDA: driver, libraries, cards, and whether one computes.

How bad a finding is depends on what the server is told: with device=cuda it would not start (failed), with auto it would serve on
the CPU (warning). A machine without a card is not ill.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from assay.cli.finding import Finding
from assay.errors import CoreError
from assay.models.cuda_build import BUILDS, CudaBuild, build_of
from assay.models.cuda_errors import CPU_WHEEL, CPU_WHEEL_MEND, driver_mend, explain
from assay.models.cuda_libraries import FoundLibrary, find_libraries, wheel_paths
from assay.models.cuda_machine import Card, Driver, find_driver, list_cards
from assay.models.device import Device, DeviceWish
from assay.models.ort_library import OrtLibraryError, find_library

# Of what a small net computes, in float32, on 64 numbers.
_DIFFERENCE_MAX = 1e-5
# Both write nvidia/cudnn/lib; whichever came last won.
_CUDNN_WHEELS = ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")


def cuda_checks(wish: DeviceWish) -> list[tuple[str, Callable[[], Finding]]]:
    """The checks that make sense here, by name. Nothing is looked at yet but the wheel and the driver."""
    try:
        build = build_of(find_library())
    except OrtLibraryError:  # another check says so
        build = None
    if build is None or wish.kind == "cpu":
        return [("cuda", lambda: _without_cuda(build, wish))]
    look = _Look(build, wish, find_driver())
    return [
        ("nvidia driver", look.check_driver),
        ("cuda libraries", look.check_libraries),
        ("cuda devices", look.check_devices),
        ("cuda trial", look.check_trial),
    ]


# --- implementation ---


def _without_cuda(build: CudaBuild | None, wish: DeviceWish) -> Finding:
    if build is not None:
        return Finding("cuda", "ok", "not looked at: device is cpu")
    if wish.kind == "cuda":
        return Finding("cuda", "failed", CPU_WHEEL, f"{CPU_WHEEL_MEND}; or set device: auto")
    return Finding("cuda", "ok", CPU_WHEEL)


@dataclass(frozen=True)
class _Look:
    """One look at one machine."""

    build: CudaBuild
    wish: DeviceWish
    driver: Driver | None

    @property
    def _bad(self) -> str:
        return "failed" if self.wish.kind == "cuda" else "warning"

    @property
    def _has_wheels(self) -> bool:
        return any(wheel_paths(name) for name in self.build.libraries)

    def _no_card(self, name: str, found: str) -> Finding:
        """On a machine without a driver: an illness only if a card was meant to be used."""
        if self.wish.kind == "cuda":
            return Finding(name, "failed", found, driver_mend(self.build))
        return Finding(name, "ok", f"{found}: models score on the CPU")

    def check_driver(self) -> Finding:
        name = "nvidia driver"
        needed = f"CUDA {self.build.major} needs R{self.build.driver_min} or newer"
        if self.driver is None:
            if self._has_wheels and self.wish.kind == "auto":
                return Finding(name, "warning", "none, though CUDA's libraries are installed", driver_mend(self.build))
            return self._no_card(name, "none")
        version = self.driver.version or list_cards()[1]
        if not self.driver.has_library:
            mend = "in a container: --gpus all, and NVIDIA_DRIVER_CAPABILITIES with compute; else install the driver again"
            return Finding(name, self._bad, f"{version}, without its libcuda.so.1", mend)
        if version is None:
            return Finding(name, "ok", f"its version is not shown here; {needed}")
        branch = int(version.partition(".")[0])
        if branch < self.build.driver_min:
            return Finding(name, self._bad, f"{version}, and {needed}", driver_mend(self.build))
        return Finding(name, "ok", f"{version}; {needed}")

    def check_libraries(self) -> Finding:
        name = "cuda libraries"
        libraries = find_libraries(self.build)
        missing = [library.name for library in libraries if not library.paths]
        listed = "\n".join(map(_places, libraries))
        if self.driver is None and len(missing) == len(libraries):
            return self._no_card(name, "none")
        if len(twice := [wheel for wheel in _CUDNN_WHEELS if _is_installed(wheel)]) == 2:
            mend = f"pip uninstall -y {' '.join(twice)}, then pip install '.[{self.build.extra}]'"
            return Finding(name, self._bad, f"{' and '.join(twice)} overwrite each other\n{listed}", mend)
        if missing:
            mend = f"pip install '.[{self.build.extra}]', or `make ORT={self.build.extra}` in a checkout"
            return Finding(name, self._bad, f"missing: {', '.join(missing)}\n{listed}", mend)
        if shadowed := [library.name for library in libraries if library.is_shadowed]:
            mend = "take these folders off LD_LIBRARY_PATH: the libraries find each other's parts there first"
            return Finding(name, "warning", f"twice, on LD_LIBRARY_PATH too: {', '.join(shadowed)}\n{listed}", mend)
        return Finding(name, "ok", listed)

    def check_devices(self) -> Finding:
        name = "cuda devices"
        cards, _ = list_cards()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = "" if visible is None else f"\nCUDA_VISIBLE_DEVICES={visible}"
        if not cards:
            if self.driver is None:
                return self._no_card(name, "none")
            mend = "run nvidia-smi and mend what it says; in a container: --gpus all"
            return Finding(name, self._bad, f"nvidia-smi lists none{shown}", mend)
        listed = "\n".join(map(_described, cards)) + shown
        # Without the variable CUDA counts the same cards; with it only the trial can tell.
        if visible is None and self.wish.cuda_index >= len(cards):
            return Finding(name, self._bad, listed, f"there is no cuda:{self.wish.cuda_index}: name one of these")
        strangers = [card for card in cards if card.capability and not self.build.runs_on(card.capability)]
        if strangers:
            names = ", ".join(f"{card.capability[0]}.{card.capability[1]}" for card in strangers if card.capability)
            found = f"{listed}\nthe wheels seen so far have no kernels for compute capability {names}"
            return Finding(name, self._bad, found, _other_build(self.build, strangers))
        return Finding(name, "ok", listed)

    def check_trial(self) -> Finding:
        from assay import _core
        from assay.models.device_trial import try_device

        name, device = "cuda trial", Device(self.wish.cuda_index)
        if self.driver is None:
            return self._no_card(name, "not tried")
        try:
            difference = try_device(_core.OrtRuntime(str(find_library())), device)
        except CoreError as error:
            obstacle = explain(error.message)
            return Finding(name, self._bad, f"{device}: {obstacle.reason}", obstacle.mend)
        if not difference <= _DIFFERENCE_MAX:
            found = f"{device} computes differently from the CPU, by {difference:.3g}"
            return Finding(name, self._bad, found, "set device: cpu, and test the card")
        return Finding(name, "ok", f"{device} computes as the CPU does, within {difference:.2g}")


def _places(library: FoundLibrary) -> str:
    if not library.paths:
        return f"{library.name}: nowhere"
    others = f" (also {', '.join(map(str, library.paths[1:]))})" if len(library.paths) > 1 else ""
    return f"{library.name}: {library.paths[0]}{others}"


def _described(card: Card) -> str:
    capability = f"{card.capability[0]}.{card.capability[1]}" if card.capability else "unknown"
    return f"cuda:{card.index} {card.name}, compute capability {capability}, {card.memory}"


def _other_build(build: CudaBuild, cards: list[Card]) -> str:
    for other in BUILDS:
        if other is not build and all(card.capability and other.runs_on(card.capability) for card in cards):
            return f"pip install '.[{other.extra}]' (make ORT={other.extra}), or set device: cpu"
    return "set device: cpu"


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
