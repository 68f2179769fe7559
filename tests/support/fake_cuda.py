"""A machine that seems to have a CUDA device: a wheel of ONNX Runtime whose library plays it (tests/native/fake_cuda_ort.cc),
stand-ins for NVIDIA's driver and for its wheels, and a script that says what the device does.

The wheel is found as a real one is, by the import path, and the driver by the loader's path: the code under test is told nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from assay.models.cuda_build import CudaBuild
from assay.models.ort_library import find_library
from tests.support.server import wait_until

ROOT = Path(__file__).resolve().parents[2]
_NATIVE = ROOT / "tests" / "native"


class FakeCuda:
    """Everything lies in `folder`. environment() makes a process see it; script() says what the device does from now on."""

    def __init__(self, folder: Path, *, version: str = "1.31.1", cuda_version: str = "13.0") -> None:
        self.site = folder / "site"
        self.libraries = folder / "libraries"  # what LD_LIBRARY_PATH names
        self._script = folder / "script"
        self._log = folder / "script.log"
        capi = self.site / "onnxruntime" / "capi"
        metadata = self.site / f"onnxruntime_gpu-{version}.dist-info"
        for made in (capi, metadata, self.libraries):
            made.mkdir(parents=True)
        (self.site / "onnxruntime" / "__init__.py").write_text("raise ImportError('the server must not import onnxruntime')\n")
        (capi / "build_and_package_info.py").write_text(f"package_name = 'onnxruntime-gpu'\ncuda_version = '{cuda_version}'\n")
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: {version}\n")
        self.ort = capi / f"libonnxruntime.so.{version}"
        self.ort.write_bytes(_compiled("fake_cuda_ort.cc"))
        self.ort.with_name("real_library").write_text(f"{find_library()}\n")
        self.script()

    def install_driver(self) -> None:
        """NVIDIA's driver, as far as its library can be opened."""
        (self.libraries / "libcuda.so.1").write_bytes(_compiled("stub_library.cc"))

    def install_libraries(self, build: CudaBuild) -> None:
        """The nvidia wheels of a build. Each library writes `opened NAME` to the log when it is opened."""
        for name in build.libraries:
            part = "cudnn" if name.startswith("libcudnn") else f"cu{build.major}" if build.major >= 13 else name[3:].split(".")[0]
            path = self.site / "nvidia" / part / "lib" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_compiled("stub_library.cc"))

    def install_nvml(self) -> None:
        """NVIDIA's bindings of NVML, with one card as warm as heat() says."""
        (self.site / "pynvml.py").write_text(_PYNVML)

    def heat(self, celsius: int) -> None:
        (self.site / "celsius").write_text(f"{celsius}\n")

    def script(self, **steps: object) -> None:
        """What the device does: see fake_cuda_ort.cc. Without steps it works. Replaced at once, read at the next call."""
        new = self._script.with_suffix(".new")
        new.write_text("".join(f"{key}={' '.join(str(value).split())}\n" for key, value in steps.items()))
        new.replace(self._script)

    def environment(self) -> dict[str, str]:
        paths = [str(self.site), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            "PYTHONPATH": os.pathsep.join(paths),
            "LD_LIBRARY_PATH": str(self.libraries),
            "ASSAY_TEST_ORT_LIBRARY": str(find_library()),
            "ASSAY_TEST_CUDA_SCRIPT": str(self._script),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`assay ARGUMENTS` on this machine."""
        return self.python("-m", "assay", *arguments)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        environment = {**os.environ, **self.environment(), "COLUMNS": "200", "NO_COLOR": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)

    def lines(self) -> list[str]:
        """What was asked of the device, and which libraries were opened, since the last forget()."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def log(self, kind: str) -> list[str]:
        """The lines of one kind: option, session, pinned, bound, plain, run, held or opened."""
        return [line.partition(" ")[2] for line in self.lines() if line.startswith(f"{kind} ")]

    def forget(self) -> None:
        self._log.unlink(missing_ok=True)

    def wait_for_held_run(self) -> None:
        wait_until(lambda: bool(self.log("held")), "a run that the script holds")


def compile_library(target: Path, sources: list[Path], *options: str) -> None:
    """A shared library, with the compiler that builds the core."""
    compiler = os.environ.get("CXX", "g++").split()
    command = [
        *compiler,
        "-std=c++17",
        "-O1",
        "-shared",
        "-fPIC",
        f"-I{ROOT}/ext",
        *options,
        *map(str, sources),
        "-o",
        str(target),
    ]
    done = subprocess.run([*command, "-ldl"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


# tests/support/fake_nvml.py is not on that machine's import path.
_PYNVML = """
import time
from pathlib import Path

NVML_TEMPERATURE_GPU, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN, NVML_ERROR_TIMEOUT = 0, 1, 10
nvmlEventTypeXidCriticalError = 8


class NVMLError(Exception):
    value = 3


def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetTemperature(handle, sensor): return int((Path(__file__).parent / "celsius").read_text())


def __getattr__(name):  # all else: not of this card
    def refuse(*arguments):
        raise NVMLError()

    return refuse
"""


@cache
def _compiled(source: str) -> bytes:
    """One library of tests/native, compiled once a process."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "library.so"
        compile_library(target, [_NATIVE / source])
        return target.read_bytes()
