"""What assay doctor finds of CUDA on machines of all kinds, and how bad it is for which device."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from assay import _core
from assay.cli import doctor, doctor_cuda
from assay.cli.finding import Finding
from assay.errors import CoreError
from assay.models import device_trial
from assay.models.cuda_build import CUDA_12, CUDA_13, CudaBuild
from assay.models.cuda_libraries import FoundLibrary
from assay.models.cuda_machine import Card, Driver
from assay.models.device import DeviceWish
from assay.models.ort_library import OrtLibraryError

H100 = Card(0, "NVIDIA H100 80GB HBM3", (9, 0), "81559 MiB")
B200 = Card(1, "NVIDIA B200", (10, 0), "183359 MiB")
P100 = Card(0, "Tesla P100", (6, 0), "16384 MiB")
GOOD_DRIVER = Driver("580.65.06", has_library=True)


class Machine:
    """What the checks see; every attribute can be changed before find()."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.build: CudaBuild | None = CUDA_13
        self.driver: Driver | None = GOOD_DRIVER
        self.cards: tuple[Card, ...] = (H100,)
        self.smi_version: str | None = "580.65.06"
        self.has_wheels = True
        self.libraries: list[FoundLibrary] | None = None
        self.packages: set[str] = set()
        self.difference: float | Exception = 0.0

    def find(self, device: str = "auto") -> dict[str, Finding]:
        patch = self._monkeypatch.setattr
        build = self.build
        wheels = [Path("/wheels") / name for name in build.libraries] if build and self.has_wheels else []
        found = self.libraries if self.libraries is not None else [FoundLibrary(path.name, (path,), False) for path in wheels]
        if build and not found:
            found = [FoundLibrary(name, (), False) for name in build.libraries]
        patch(doctor_cuda, "find_library", lambda: Path("/site/onnxruntime/capi/libonnxruntime.so.1"))
        patch(doctor_cuda, "build_of", lambda library: build)
        patch(doctor_cuda, "find_driver", lambda: self.driver)
        patch(doctor_cuda, "list_cards", lambda: (self.cards, self.smi_version))
        patch(doctor_cuda, "wheel_paths", lambda name: [path for path in wheels if path.name == name])
        patch(doctor_cuda, "find_libraries", lambda build: found)
        patch(_core, "OrtRuntime", lambda path: path)
        patch(device_trial, "try_device", self._try)
        patch(metadata, "version", self._version)
        checks = doctor_cuda.cuda_checks(DeviceWish.parse(device))
        findings = {name: check() for name, check in checks}
        assert [finding.name for finding in findings.values()] == list(findings)
        assert all(bool(finding.mend) == (finding.status != "ok") for finding in findings.values())
        return findings

    def _try(self, runtime: Any, device: Any) -> float:
        if isinstance(self.difference, Exception):
            raise self.difference
        return self.difference

    def _version(self, name: str) -> str:
        if name not in self.packages:
            raise metadata.PackageNotFoundError(name)
        return "9.0"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return Machine(monkeypatch)


def statuses(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.status for name, finding in findings.items()}


def test_a_good_machine(machine: Machine) -> None:
    findings = machine.find()
    assert set(statuses(findings).values()) == {"ok"}
    assert findings["nvidia driver"].found == "580.65.06; CUDA 13 needs R580 or newer"
    assert "libcublasLt.so.13: /wheels/libcublasLt.so.13" in findings["cuda libraries"].found.splitlines()
    assert findings["cuda devices"].found == "cuda:0 NVIDIA H100 80GB HBM3, compute capability 9.0, 81559 MiB"
    assert findings["cuda trial"].found == "cuda:0 computes as the CPU does, within 0"


@pytest.mark.parametrize(("device", "status"), [("auto", "ok"), ("cpu", "ok"), ("cuda", "failed")])
def test_the_cpu_wheel(machine: Machine, device: str, status: str) -> None:
    machine.build = None
    finding = machine.find(device)["cuda"]
    assert finding.status == status
    assert "the one for the CPU" in finding.found
    assert (".[gpu]" in finding.mend) == (status == "failed")


def test_device_cpu_looks_at_nothing(machine: Machine) -> None:
    assert statuses(machine.find("cpu")) == {"cuda": "ok"}


def test_no_wheel_at_all_is_anothers_finding(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_library() -> Path:
        raise OrtLibraryError("none")

    monkeypatch.setattr(doctor_cuda, "find_library", find_library)
    assert [name for name, _ in doctor_cuda.cuda_checks(DeviceWish("auto"))] == ["cuda"]


def test_a_machine_without_a_card_is_not_ill(machine: Machine) -> None:
    machine.driver, machine.cards, machine.smi_version, machine.has_wheels = None, (), None, False
    findings = machine.find()
    assert set(statuses(findings).values()) == {"ok"}
    assert findings["nvidia driver"].found == "none: models score on the CPU"
    assert set(statuses(machine.find("cuda")).values()) == {"failed"}


def test_libraries_without_a_driver_are_a_mistake(machine: Machine) -> None:
    machine.driver, machine.cards, machine.smi_version = None, (), None
    finding = machine.find()["nvidia driver"]
    assert finding.status == "warning"
    assert "R580" in finding.mend
    assert "--gpus all" in finding.mend


@pytest.mark.parametrize(("device", "status"), [("auto", "warning"), ("cuda:0", "failed")])
def test_a_driver_too_old_for_cuda_13(machine: Machine, device: str, status: str) -> None:
    machine.driver = Driver("535.104.05", has_library=True)
    finding = machine.find(device)["nvidia driver"]
    assert finding.status == status
    assert finding.found == "535.104.05, and CUDA 13 needs R580 or newer"
    assert "from R525 on pip install '.[gpu-cu12]'" in finding.mend


@pytest.mark.parametrize(("version", "status"), [("525.60.13", "ok"), ("535.104.05", "ok"), ("470.256.02", "warning")])
def test_drivers_for_cuda_12(machine: Machine, version: str, status: str) -> None:
    machine.build, machine.driver = CUDA_12, Driver(version, has_library=True)
    finding = machine.find()["nvidia driver"]
    assert finding.status == status
    assert "R525" in finding.found
    assert "gpu-cu12" not in finding.mend  # it is installed


def test_a_driver_that_hides_its_version_is_asked_through_nvidia_smi(machine: Machine) -> None:
    machine.driver, machine.smi_version = Driver(None, has_library=True), "535.104.05"
    assert machine.find()["nvidia driver"].status == "warning"
    machine.smi_version = None
    assert machine.find()["nvidia driver"].found == "its version is not shown here; CUDA 13 needs R580 or newer"


def test_a_container_with_half_a_driver(machine: Machine) -> None:
    machine.driver = Driver("580.65.06", has_library=False)
    finding = machine.find()["nvidia driver"]
    assert finding.status == "warning"
    assert "libcuda.so.1" in finding.found
    assert "NVIDIA_DRIVER_CAPABILITIES" in finding.mend


def test_missing_libraries_are_named(machine: Machine) -> None:
    machine.libraries = [
        FoundLibrary(name, () if "cudnn" in name else (Path("/usr/lib") / name,), False) for name in CUDA_13.libraries
    ]
    finding = machine.find("cuda")["cuda libraries"]
    assert finding.status == "failed"
    assert finding.found.splitlines()[0] == "missing: libcudnn.so.9"
    assert "libcudnn.so.9: nowhere" in finding.found
    assert ".[gpu]" in finding.mend


def test_a_second_library_on_the_search_path(machine: Machine) -> None:
    places = (Path("/wheels/libcudnn.so.9"), Path("/opt/cuda/libcudnn.so.9"))
    machine.libraries = [FoundLibrary("libcudnn.so.9", places, True)]
    finding = machine.find("cuda")["cuda libraries"]
    assert finding.status == "warning"
    assert finding.found.splitlines()[0] == "twice, on LD_LIBRARY_PATH too: libcudnn.so.9"
    assert "libcudnn.so.9: /wheels/libcudnn.so.9 (also /opt/cuda/libcudnn.so.9)" in finding.found
    assert "LD_LIBRARY_PATH" in finding.mend


def test_two_cudnn_wheels_over_each_other(machine: Machine) -> None:
    machine.packages = {"nvidia-cudnn-cu12", "nvidia-cudnn-cu13"}
    finding = machine.find()["cuda libraries"]
    assert finding.status == "warning"
    assert "nvidia-cudnn-cu12 and nvidia-cudnn-cu13" in finding.found
    assert "uninstall" in finding.mend


@pytest.mark.parametrize(
    ("build", "card", "mend"),
    [
        (CUDA_13, B200, ".[gpu-cu12]"),
        (CUDA_13, P100, ".[gpu-cu12]"),
        (CUDA_12, Card(0, "K80", (3, 7), ""), "set device: cpu"),
    ],
)
def test_a_card_without_kernels(machine: Machine, build: CudaBuild, card: Card, mend: str) -> None:
    machine.build, machine.cards = build, (card,)
    finding = machine.find()["cuda devices"]
    assert finding.status == "warning"
    assert card.capability is not None
    assert f"no kernels for compute capability {card.capability[0]}.{card.capability[1]}" in finding.found
    assert mend in finding.mend


def test_a_device_that_is_not_there(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = machine.find("cuda:1")["cuda devices"]
    assert finding.status == "failed"
    assert "cuda:1" in finding.mend
    # What the variable leaves of the cards only CUDA knows; the trial asks it.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1,GPU-2")
    finding = machine.find("cuda:1")["cuda devices"]
    assert finding.status == "ok"
    assert finding.found.endswith("\nCUDA_VISIBLE_DEVICES=GPU-1,GPU-2")


def test_a_driver_without_cards(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.cards = ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    finding = machine.find()["cuda devices"]
    assert finding.status == "warning"
    assert finding.found == "nvidia-smi lists none\nCUDA_VISIBLE_DEVICES="


def test_a_trial_that_fails_is_explained(machine: Machine) -> None:
    text = "ONNX Runtime cannot be used. (CUDA: CUDA failure 2: out of memory)"
    machine.difference = CoreError(1, "RUNTIME_UNAVAILABLE", 9, text)
    finding = machine.find("cuda:0")["cuda trial"]
    assert finding.status == "failed"
    assert finding.found == "cuda:0: the card has too little memory left"


@pytest.mark.parametrize("difference", [0.5, float("nan")])
def test_a_card_that_computes_wrongly(machine: Machine, difference: float) -> None:
    machine.difference = difference
    finding = machine.find()["cuda trial"]
    assert finding.status == "warning"
    assert "differently" in finding.found


# --- in doctor itself


@pytest.mark.parametrize(
    ("version", "flavour"),
    [(None, "cpu"), ("1.24.0", "gpu-cu12"), ("1.26.0", "gpu-cu12"), ("1.27.0", "gpu"), ("1.28.0", "gpu"), ("1.31.1", "gpu")],
)
def test_the_lock_that_belongs_to_the_wheel(version: str | None, flavour: str) -> None:
    assert doctor.lock_flavour(version) == flavour
    assert doctor.locked_versions(flavour)


def test_the_wheel_whose_extras_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda name: "1.27.0" if name == "onnxruntime-gpu" else None)
    finding = doctor.check_wheel()
    assert (finding.status, finding.found) == ("warning", "onnxruntime-gpu 1.27.0")


def test_a_core_that_cannot_be_imported_leaves_the_rest_of_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "assay.cli.doctor_cuda", None)
    assert doctor._cuda_checks("auto") == []
