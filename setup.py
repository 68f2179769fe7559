"""Builds assay._core, the one native extension. Everything else about the package stands in pyproject.toml.

Switches (environment): ASSAY_DEBUG=1 (no optimisation, bounds checks in Cython), ASSAY_SANITIZE=address,undefined | thread.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class ParallelBuildExt(build_ext):
    """Compiles the extension's files side by side; setuptools alone takes them one after the other."""

    def build_extensions(self):
        compile_all = self.compiler.compile

        def compile_side_by_side(sources, *args, **kwargs):
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                objects = pool.map(lambda source: compile_all([source], *args, **kwargs), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_side_by_side
        super().build_extensions()


# Only the core's own files: the generated _core.cpp is built elsewhere.
core_sources = sorted(str(path) for path in Path("ext/core").rglob("*.cc"))
headers = sorted(str(path) for pattern in ("*.h", "*.inc", "*.px[di]") for path in Path("ext").rglob(pattern))

debug = os.environ.get("ASSAY_DEBUG") == "1"
sanitize = os.environ.get("ASSAY_SANITIZE", "")

# -ffp-contract=off and never -ffast-math: a score must not depend on the compiler's mood (ARCHITECTURE.md, "Numbers").
compile_args = ["-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wall", "-Wextra"]
compile_args += ["-O0", "-g"] if debug else ["-O3", "-g0"]
link_args: list[str] = []
if sanitize:
    compile_args += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"]
    link_args += [f"-fsanitize={sanitize}"]

core = Extension(
    "assay._core",
    ["ext/bindings/_core.pyx", *core_sources],
    include_dirs=["ext"],
    depends=headers,
    language="c++",
    extra_compile_args=compile_args,
    extra_link_args=link_args,
    libraries=["dl"],
)

directives = {"language_level": "3", "boundscheck": debug, "wraparound": False, "embedsignature": True}

setup(
    cmdclass={"build_ext": ParallelBuildExt},
    ext_modules=cythonize([core], include_path=["ext/bindings"], build_dir="build/cython", compiler_directives=directives),
)
