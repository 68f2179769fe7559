"""Builds assay._core, the one native extension. Everything else about the package stands in pyproject.toml.

Switches (environment): ASSAY_DEBUG=1 (no optimisation, bounds checks in Cython), ASSAY_SANITIZE=address,undefined | thread,
ASSAY_NATIVE=auto | off | require: the native transport and the load generator, which need libnghttp2, OpenSSL and zlib. `auto`
builds them where pkg-config finds those; `require` fails where it does not.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

debug = os.environ.get("ASSAY_DEBUG") == "1"
sanitize = os.environ.get("ASSAY_SANITIZE", "")

# -ffp-contract=off and never -ffast-math: a score must not depend on the compiler's mood (ARCHITECTURE.md, "Numbers").
compile_args = ["-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wall", "-Wextra"]
compile_args += ["-O0", "-g"] if debug else ["-O3", "-g0"]
link_args: list[str] = []
if sanitize:
    compile_args += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"]
    link_args += [f"-fsanitize={sanitize}"]


# The same lines stand in tests/native/native.mk.
NATIVE_LIBRARIES = ["libnghttp2 >= 1.43", "libssl >= 3.0", "libcrypto >= 3.0", "zlib"]
NATIVE_PACKAGES = "pkg-config libnghttp2-dev libssl-dev zlib1g-dev"
CARRIED_FOLDER = "libraries"
NATIVE_ROOMS = ("ext/core/transport/", "ext/core/load/")


def native_flags() -> list[str] | None:
    """Compiler and linker flags of the libraries; None: build without them."""
    choice = os.environ.get("ASSAY_NATIVE", "auto")
    if choice not in ("auto", "off", "require"):
        raise SystemExit(f"ASSAY_NATIVE: expected auto, off or require, not {choice!r}")
    if choice == "off" or (choice == "auto" and not sys.platform.startswith("linux")):
        return None
    try:
        found = subprocess.run(
            ["pkg-config", "--cflags", "--libs", *NATIVE_LIBRARIES], capture_output=True, text=True, check=False
        )
        missing = found.stderr.strip() if found.returncode else ""
    except FileNotFoundError:
        missing = "pkg-config is not installed"
    if not missing:
        return shlex.split(found.stdout)
    if choice == "require":
        raise SystemExit(f"ASSAY_NATIVE=require: {missing}\n    sudo apt-get install -y {NATIVE_PACKAGES}")
    return None


def core_sources(has_native: bool) -> list[str]:
    """All of ext/core. What needs the libraries, or what stands in for it (*_absent.cc)."""
    sources = sorted(str(path) for path in Path("ext/core").rglob("*.cc"))
    if has_native:
        return [source for source in sources if not source.endswith("_absent.cc")]
    return [source for source in sources if source.endswith("_absent.cc") or not source.startswith(NATIVE_ROOMS)]


native = native_flags()
if native is not None:
    compile_args += [flag for flag in native if flag.startswith(("-I", "-D"))]
    link_args += [flag for flag in native if not flag.startswith(("-I", "-D"))]
    link_args += [f"-Wl,-rpath,$ORIGIN/{CARRIED_FOLDER}"]


def carry_library(package: Path) -> None:
    """Puts libnghttp2 into a built package: unlike OpenSSL and zlib, which Python needs itself, few machines have it."""
    command = ["pkg-config", "--variable=libdir", "libnghttp2"]
    folder = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    real = (Path(folder) / "libnghttp2.so").resolve()
    soname = re.sub(r"(\.so\.\d+).*", r"\1", real.name)  # libnghttp2.so.14.24.1 -> libnghttp2.so.14
    (package / CARRIED_FOLDER).mkdir(parents=True, exist_ok=True)
    shutil.copy(real, package / CARRIED_FOLDER / soname)


def objects_folder() -> str:
    """Objects are kept between builds, apart for each interpreter, compiler and set of flags, so that kinds never mix."""
    variables = [os.environ.get(name, "") for name in ("CC", "CXX", "CPPFLAGS", "CFLAGS", "CXXFLAGS")]
    kind = hashlib.sha256("\0".join([sys.executable, *compile_args, *variables]).encode()).hexdigest()[:8]
    return f"build/objects-{sys.implementation.cache_tag}-{kind}"


def is_fresh(built: Path) -> bool:
    """Whether an object is younger than all the compiler read for it (its .d file says what) and than this file."""
    rule = built.with_suffix(".d")
    if not (built.is_file() and rule.is_file()):
        return False
    inputs = shlex.split(rule.read_text().replace("\\\n", " ").partition(":")[2])
    built_at = built.stat().st_mtime_ns
    return all(Path(name).is_file() and Path(name).stat().st_mtime_ns < built_at for name in [*inputs, "setup.py"])


class IncrementalBuildExt(build_ext):
    """Compiles the files side by side and only those that changed; setuptools alone takes all of them, one after the other."""

    def finalize_options(self):
        if self.build_temp is None:
            self.build_temp = objects_folder()
        super().finalize_options()
        # setuptools compares the sources with the last linked library, whatever its flags were; is_fresh() knows better.
        self.force = True

    def run(self):
        super().run()
        if native is not None and not self.inplace:
            carry_library(Path(self.build_lib) / "assay")

    def build_extensions(self):
        compile_some = self.compiler.compile

        def compile_stale(sources, output_dir=None, **options):
            objects = self.compiler.object_filenames(sources, output_dir=output_dir)
            stale = [source for source, built in zip(sources, objects, strict=True) if not is_fresh(Path(built))]
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                list(pool.map(lambda source: compile_some([source], output_dir=output_dir, **options), stale))
            return objects

        self.compiler.compile = compile_stale
        super().build_extensions()


core = Extension(
    "assay._core",
    # Only the core's own files: the generated _core.cpp is built elsewhere.
    ["ext/bindings/_core.pyx", *core_sources(native is not None)],
    include_dirs=["ext"],
    language="c++",
    extra_compile_args=[*compile_args, "-MMD"],
    extra_link_args=link_args,
    libraries=["dl"],
)

directives = {"language_level": "3", "boundscheck": debug, "wraparound": False, "embedsignature": True}
cython_folder = "build/cython-debug" if debug else "build/cython"

setup(
    cmdclass={"build_ext": IncrementalBuildExt},
    ext_modules=cythonize([core], include_path=["ext/bindings"], build_dir=cython_folder, compiler_directives=directives),
)
