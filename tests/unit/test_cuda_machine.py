"""What a machine has of CUDA: the wheel's build, the libraries and their places, the driver and the cards."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from assay.models import cuda_libraries, cuda_machine
from assay.models.cuda_build import BUILDS, CUDA_12, CUDA_13, CudaBuild, build_of
from assay.models.cuda_libraries import find_libraries, open_libraries, wheel_paths
from tests.support.fake_cuda import compile_library

# --- the wheel


@pytest.mark.parametrize(
    ("line", "build"),
    [
        ("cuda_version = '13.0'", CUDA_13),
        ('cuda_version = "12.8"', CUDA_12),
        ("cuda_version = '11.8'", None),
        ("cuda_version = ''", None),
        ("package_name = 'onnxruntime'", None),
    ],
)
def test_the_wheel_says_what_it_was_built_for(tmp_path: Path, line: str, build: CudaBuild | None) -> None:
    (tmp_path / "build_and_package_info.py").write_text(f"package_name = 'x'\n{line}\n")
    assert build_of(tmp_path / "libonnxruntime.so.1") is build


def test_a_library_without_a_wheel_is_for_the_cpu(tmp_path: Path) -> None:
    assert build_of(tmp_path / "libonnxruntime.so.1") is None


@pytest.mark.parametrize(
    ("build", "runs", "does_not"),
    [
        (
            CUDA_13,
            [(7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (12, 0), (12, 1)],
            [(6, 1), (7, 0), (10, 0), (11, 0), (13, 0)],
        ),
        (CUDA_12, [(6, 0), (6, 1), (7, 0), (7, 5), (8, 9), (9, 0), (10, 0), (12, 0)], [(5, 2), (3, 7)]),
    ],
)
def test_which_cards_a_build_has_code_for(build: CudaBuild, runs: list[tuple[int, int]], does_not: list[tuple[int, int]]) -> None:
    assert all(build.runs_on(card) for card in runs)
    assert not any(build.runs_on(card) for card in does_not)


def test_libraries_come_before_those_that_need_them() -> None:
    for build in BUILDS:
        names = [name.split(".")[0] for name in build.libraries]
        assert names.index("libcublasLt") < names.index("libcublas")
        assert names.index("libcudart") == 0
        assert names[-1] == "libcudnn"


# --- the libraries


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An import path with room for nvidia wheels, and no other CUDA anywhere."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(cuda_libraries, "_loader_cache", dict)
    return folder


def put(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def found(build: CudaBuild, name: str) -> cuda_libraries.FoundLibrary:
    (library,) = [library for library in find_libraries(build) if library.name == name]
    return library


@pytest.mark.parametrize(
    ("build", "name", "place"),
    [
        (CUDA_13, "libcublas.so.13", "nvidia/cu13/lib/libcublas.so.13"),
        (CUDA_13, "libcudnn.so.9", "nvidia/cudnn/lib/libcudnn.so.9"),
        (CUDA_12, "libcublas.so.12", "nvidia/cublas/lib/libcublas.so.12"),
        (CUDA_12, "libcudart.so.12", "nvidia/cuda_runtime/lib/libcudart.so.12"),
    ],
)
def test_both_layouts_of_the_nvidia_wheels_are_known(site: Path, build: CudaBuild, name: str, place: str) -> None:
    path = put(site / place)
    assert wheel_paths(name) == [path]
    assert found(build, name).paths == (path,)
    assert "nvidia" not in sys.modules


def test_without_wheels_there_is_nothing(site: Path) -> None:
    assert wheel_paths("libcublas.so.13") == []
    assert [library.paths for library in find_libraries(CUDA_13)] == [()] * len(CUDA_13.libraries)
    assert open_libraries(CUDA_13) == []


def test_another_one_on_the_search_path_shadows(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = put(site / "nvidia/cudnn/lib/libcudnn.so.9")
    other = put(tmp_path / "cuda/libcudnn.so.9")
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path}/absent:{tmp_path}/cuda")
    library = found(CUDA_13, "libcudnn.so.9")
    assert library.paths == (wheel, other)
    assert library.is_shadowed
    # The wheel's own folder on the path is the same library under another name.
    link = tmp_path / "link"
    link.symlink_to(wheel.parent)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{link}:{wheel.parent}")
    library = found(CUDA_13, "libcudnn.so.9")
    assert library.paths == (wheel,)
    assert not library.is_shadowed


def test_without_a_wheel_the_search_path_comes_before_the_cache(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = put(tmp_path / "cuda/libcurand.so.10")
    cached = put(tmp_path / "usr/libcurand.so.10")
    monkeypatch.setattr(cuda_libraries, "_loader_cache", lambda: {"libcurand.so.10": [cached]})
    assert found(CUDA_13, "libcurand.so.10").paths == (cached,)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(searched.parent))
    library = found(CUDA_13, "libcurand.so.10")
    assert library.paths == (searched, cached)
    assert not library.is_shadowed


def test_the_loaders_cache_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/sbin/ldconfig").exists():
        pytest.skip("no /sbin/ldconfig")
    places = cuda_libraries._loader_cache()
    assert any(path.is_file() for path in places.get("libc.so.6", []))


def test_what_cannot_be_opened_is_said_and_the_rest_is_opened(site: Path, tmp_path: Path) -> None:
    build = CudaBuild(13, 580, "gpu", ("libassaybroken.so.1", "libassayneeded.so.1", "libassayneeding.so.1"), (), None)
    folder = site / "nvidia" / "cu13" / "lib"
    put(folder / "libassaybroken.so.1", "not a library")
    (empty := tmp_path / "empty.cc").write_text("extern int assay_needed; int assay_needed = 1;")
    (needing := tmp_path / "needing.cc").write_text("extern int assay_needed; int assay_needing() { return assay_needed; }")
    needed = folder / "libassayneeded.so.1"
    compile_library(needed, [empty], "-Wl,-soname,libassayneeded.so.1")
    # It names the other by soname alone: opened by path before, that one is found.
    compile_library(folder / "libassayneeding.so.1", [needing, needed])
    (problem,) = open_libraries(build)
    assert "libassaybroken.so.1" in problem
    opened = Path("/proc/self/maps").read_text()
    assert "libassayneeded.so.1" in opened
    assert "libassayneeding.so.1" in opened


# --- driver and cards


def test_a_machine_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_machine, "DRIVER_FILE", tmp_path / "absent")
    monkeypatch.setattr(cuda_machine, "DRIVER_LIBRARY", "libassayabsent.so.1")
    assert cuda_machine.find_driver() is None


@pytest.mark.parametrize(
    ("text", "version", "branch"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  12.3.0\n",
            "535.104.05",
            535,
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs)\n", "580.65.06", 580),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.42  Fri\n", "470.42", 470),
    ],
)
def test_the_driver_says_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, version: str, branch: int
) -> None:
    monkeypatch.setattr(cuda_machine, "DRIVER_FILE", put(tmp_path / "version", text))
    monkeypatch.setattr(cuda_machine, "DRIVER_LIBRARY", "libassayabsent.so.1")
    driver = cuda_machine.find_driver()
    assert driver == cuda_machine.Driver(version, has_library=False)
    assert driver.branch == branch


def test_a_driver_may_show_its_library_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_machine, "DRIVER_FILE", tmp_path / "absent")
    monkeypatch.setattr(cuda_machine, "DRIVER_LIBRARY", "libc.so.6")
    driver = cuda_machine.find_driver()
    assert driver == cuda_machine.Driver(None, has_library=True)
    assert driver.branch is None


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = put(folder / "bin" / "nvidia-smi", f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_cards_as_nvidia_smi_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "0, NVIDIA H100 80GB HBM3, 580.65.06, 9.0, 81559 MiB\n1, NVIDIA T4, 580.65.06, [N/A], 15360 MiB"
    smi(tmp_path, monkeypatch, f"echo '{lines}'")
    cards, version = cuda_machine.list_cards()
    assert version == "580.65.06"
    assert cards == (
        cuda_machine.Card(0, "NVIDIA H100 80GB HBM3", (9, 0), "81559 MiB"),
        cuda_machine.Card(1, "NVIDIA T4", None, "15360 MiB"),
    )


@pytest.mark.parametrize(
    "script",
    [
        "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9",
        "echo 'No devices were found'",
        "exit 0",
        "kill -9 $$",
    ],
)
def test_an_nvidia_smi_that_fails_lists_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    smi(tmp_path, monkeypatch, script)
    assert cuda_machine.list_cards() == ((), None)


def test_an_nvidia_smi_that_hangs_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(cuda_machine, "_SMI_SECONDS_MAX", 0.05)
    assert cuda_machine.list_cards() == ((), None)


def test_no_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cuda_machine.list_cards() == ((), None)
