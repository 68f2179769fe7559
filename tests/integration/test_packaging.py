"""What is shipped: the sdist holds all that a build needs, the wheel all that a server needs and nothing else.

Both are made from a copy of this checkout, the wheel from the unpacked sdist. Objects of the core that this checkout has already
compiled are lent to it (they are used only where every source is in the sdist, unchanged), so that it takes seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path

import pytest

from assay import __version__
from assay._core import HAS_NATIVE_TRANSPORT

ROOT = Path(__file__).resolve().parents[2]
BUILD_S = 280
SHIPPED_TREES = ("ext", "proto", "server", "examples")
SOURCE_SUFFIXES = {".c", ".cc", ".cpp", ".h", ".inc", ".pyx", ".pxi", ".pxd", ".proto"}


def run(command: Sequence[str | Path], cwd: Path, timeout_s: float = BUILD_S, **environment: str) -> str:
    """stdout; on failure the test fails with what the command said."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def files_of(folder: Path) -> set[str]:
    """Paths of the files that belong to the project, relative to it. Without what Python and the compiler leave there."""
    kept = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in {".pyc", ".so"})
    return {str(path.relative_to(ROOT)) for path in kept if not any(part.endswith(".egg-info") for part in path.parts)}


def lend_generated_code(source: Path) -> None:
    """What Cython has made of this checkout's bindings, which it makes anew wherever a source is younger."""
    if (ROOT / "build/cython").is_dir():
        shutil.copytree(ROOT / "build/cython", source / "build/cython")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source") / "assay"
    ignored = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "build", "dist", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=ignored)
    lend_generated_code(source)
    out = tmp_path_factory.mktemp("sdist")
    run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out, source], cwd=out)
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    unpacked = tmp_path_factory.mktemp("unpacked")
    run(["tar", "-xf", sdist], cwd=unpacked)
    (source,) = unpacked.iterdir()
    for folder in ROOT.glob("build/objects-*"):
        shutil.copytree(folder, source / "build" / folder.name)
    lend_generated_code(source)
    out = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source], cwd=out)
    (path,) = out.iterdir()
    return path


def names_in_sdist(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def names_in_wheel(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


# --- sdist


def test_the_sdist_has_all_that_a_build_needs(sdist: Path) -> None:
    assert sdist.name == f"assay-{__version__}.tar.gz"
    names = names_in_sdist(sdist)
    expected = {name for tree in SHIPPED_TREES for name in files_of(ROOT / tree)}
    assert len(expected) > 200
    assert expected - names == set()
    assert {"setup.py", "pyproject.toml", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Makefile", "PKG-INFO"} <= names
    assert {"LICENSE", "NOTICE", "SECURITY.md"} <= names


def test_the_sdist_has_nothing_made_by_machines_or_for_this_checkout(sdist: Path) -> None:
    generated = [name for name in names_in_sdist(sdist) if name.endswith((".so", ".pyc", ".o", "_core.cpp"))]
    assert generated == []
    roots = {name.partition("/")[0] for name in names_in_sdist(sdist) if "/" in name}
    assert roots == set(SHIPPED_TREES)


# --- wheel


def test_the_wheel_is_the_package_with_the_core_and_nothing_else(wheel: Path) -> None:
    names = names_in_wheel(wheel)
    core = {name for name in names if re.fullmatch(r"assay/_core\.[\w.-]+\.so", name)}
    assert len(core) == 1
    info = {name for name in names if name.startswith(f"assay-{__version__}.dist-info/")}
    package = {name.removeprefix("server/") for name in files_of(ROOT / "server")}
    carried = {"assay/libraries/libnghttp2.so.14"} if HAS_NATIVE_TRANSPORT else set()
    # The lock of test tools is the checkout's business.
    assert names - core - info == package - {"assay/lock/dev.txt"} | carried


@pytest.mark.skipif(not HAS_NATIVE_TRANSPORT, reason="this build has no native transport")
def test_the_wheel_needs_no_libnghttp2_of_the_machine(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    (core,) = (tmp_path / "assay").glob("_core.*.so")
    found = subprocess.run(["ldd", core], capture_output=True, text=True, check=True).stdout
    assert f"libnghttp2.so.14 => {tmp_path}/assay/libraries/libnghttp2.so.14" in found


def test_the_wheel_has_types_contract_demo_and_locks_but_no_sources_and_no_tests(wheel: Path) -> None:
    names = names_in_wheel(wheel)
    bundle = {
        f"assay/demo/bundle/card_fraud/1/{name}"
        for name in ("manifest.yaml", "model.onnx", "feature_set.yaml", "golden.npz", "background.npz")
    }
    wanted = {"assay/_core.pyi", "assay/py.typed", "assay/v1/assay.binpb", "assay/lock/cpu.txt", "assay/lock/gpu.txt", *bundle}
    assert wanted - names == set()
    assert [name for name in names if Path(name).suffix in SOURCE_SUFFIXES] == []
    assert [name for name in names if "test" in Path(name).name.lower()] == []


def test_the_wheel_carries_its_licence_where_tools_look_for_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = f"assay-{__version__}.dist-info"
        metadata = HeaderParser().parsestr(archive.read(f"{folder}/METADATA").decode())
        for name in ("LICENSE", "NOTICE"):
            assert archive.read(f"{folder}/licenses/{name}") == (ROOT / name).read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]


def test_the_wheel_names_its_platform_python_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = f"assay-{__version__}.dist-info"
        metadata = HeaderParser().parsestr(archive.read(f"{folder}/METADATA").decode())
        entry_points = archive.read(f"{folder}/entry_points.txt").decode()
    assert re.fullmatch(rf"assay-{re.escape(__version__)}-cp3\d+-cp3\d+-\w+\.whl", wheel.name)
    assert metadata["Requires-Python"] == ">=3.11"
    assert "assay = assay.cli.main:main" in entry_points
    required = {re.split(r"[^\w-]", line)[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {"grpcio", "numpy", "onnx", "onnxruntime-gpu", "onnxruntime"} <= required
    assert not required & {"Cython", "setuptools", "pytest"}


def test_the_wheel_runs_and_its_demo_bundle_holds(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    site = str(tmp_path / "site")
    where = run([sys.executable, "-c", "import assay._core; print(assay._core.__file__)"], cwd=tmp_path, PYTHONPATH=site)
    assert where.startswith(site)
    version = run([sys.executable, "-m", "assay", "--version"], cwd=tmp_path, PYTHONPATH=site)
    assert __version__ in version
    code = "from assay.cli import doctor as d; print(d.check_demo_bundle().status, d.check_core().status, d.check_wheel().status)"
    assert run([sys.executable, "-c", code], cwd=tmp_path, PYTHONPATH=site).split() == ["ok", "ok", "ok"]


# --- what a machine must have before anything is built


def pretended_python(folder: Path, name: str, *, is_new: bool = True, has_venv: bool = True, include: str = "/nowhere") -> Path:
    """A script that answers the questions of tools/check_machine.sh as such an interpreter would."""
    path = folder / name
    path.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"  *version_info*) exit {0 if is_new else 1} ;;\n"
        f"  *ensurepip*) exit {0 if has_venv else 1} ;;\n"
        f"  *sysconfig*) echo '{include}' ;;\n"
        "  -V) echo Python 3.9.2 ;;\n"
        "esac\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def check_machine(python: Path, compiler: str) -> tuple[int, str]:
    """Exit status and what was said."""
    command = [str(ROOT / "tools/check_machine.sh"), str(python), compiler]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def asked_for(said: str) -> str:
    (line,) = [line for line in said.splitlines() if "apt-get" in line]
    return line.strip().removeprefix("sudo apt-get install -y ")


@pytest.fixture
def headers(tmp_path: Path) -> str:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "Python.h").touch()
    return str(tmp_path / "include")


@pytest.fixture
def compiler(tmp_path: Path) -> str:
    path = tmp_path / "c++"
    path.write_text("#!/bin/sh\ncat >/dev/null\n")
    path.chmod(0o755)
    return str(path)


def test_a_ready_machine_is_asked_for_nothing(tmp_path: Path, headers: str, compiler: str) -> None:
    assert check_machine(pretended_python(tmp_path, "python3", include=headers), compiler) == (0, "")


@pytest.mark.parametrize(
    ("name", "has_venv", "has_headers", "has_compiler", "packages"),
    [
        ("python3", False, True, True, "python3-venv"),
        ("python3", True, False, True, "python3-dev"),
        ("python3", True, True, False, "g++"),
        ("python3", False, False, False, "python3-venv python3-dev g++"),
        ("python3.12", False, False, True, "python3.12-venv python3.12-dev"),
        ("my-python", False, True, False, "python3-venv g++"),
    ],
)
def test_exactly_what_is_missing_is_asked_for_in_one_line(
    tmp_path: Path, headers: str, compiler: str, name: str, has_venv: bool, has_headers: bool, has_compiler: bool, packages: str
) -> None:
    python = pretended_python(tmp_path, name, has_venv=has_venv, include=headers if has_headers else "/nowhere")
    status, said = check_machine(python, compiler if has_compiler else "/nowhere/g++")
    assert (status, asked_for(said)) == (1, packages)


def test_a_machine_without_python_is_asked_for_all_of_it(tmp_path: Path, compiler: str) -> None:
    status, said = check_machine(tmp_path / "python3", compiler)
    assert (status, asked_for(said)) == (1, "python3 python3-venv python3-dev")


def test_too_old_a_python_is_named(tmp_path: Path, headers: str, compiler: str) -> None:
    status, said = check_machine(pretended_python(tmp_path, "python3", is_new=False, include=headers), compiler)
    assert status == 1
    assert "Python 3.11 or newer" in said
    assert "Python 3.9.2" in said
    assert "apt-get" not in said
