"""Builds assay._core, the one native extension. Everything else about the package stands in pyproject.toml.

Switches (environment): ASSAY_DEBUG=1 (assertions of Cython, no optimisation), ASSAY_SANITIZE=address,undefined | thread.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

CORE = sorted(str(path) for path in Path("ext/core").rglob("*.cc"))
HEADERS = sorted(str(path) for path in [*Path("ext").rglob("*.h"), *Path("ext").rglob("*.px[di]"), *Path("ext").rglob("*.inc")])

debug = os.environ.get("ASSAY_DEBUG") == "1"
sanitize = os.environ.get("ASSAY_SANITIZE", "")

# -ffp-contract=off and no -ffast-math: a score must not depend on the compiler's mood (ARCHITECTURE.md, "Numbers").
compile_args = ["-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wall", "-Wextra"]
compile_args += ["-O0", "-g"] if debug else ["-O3", "-g1"]
link_args: list[str] = []
if sanitize:
    compile_args += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"]
    link_args += [f"-fsanitize={sanitize}"]

core = Extension(
    "assay._core",
    ["ext/bindings/_core.pyx", *CORE],
    include_dirs=["ext"],
    depends=HEADERS,
    language="c++",
    extra_compile_args=compile_args,
    extra_link_args=link_args,
    libraries=["dl"],
)

directives = {
    "language_level": "3",
    "boundscheck": debug,
    "wraparound": False,
    "embedsignature": True,
    "freethreading_compatible": False,
}

setup(
    ext_modules=cythonize(
        [core], include_path=["ext/bindings"], build_dir="build/cython", compiler_directives=directives, nthreads=os.cpu_count() or 1
    )
)
