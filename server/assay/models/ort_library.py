"""Where ONNX Runtime's shared library lies. Found in the installed wheel without importing `onnxruntime`.

The server opens the library itself (assay._core.OrtRuntime); importing the Python package would load a second copy of the runtime
into the process. `python -m assay.models.ort_library` prints the path.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from assay.errors import BundleError

PATTERN = "libonnxruntime.so.*" if sys.platform != "darwin" else "libonnxruntime.*.dylib"
INSTALL = "pip install 'onnxruntime>=1.28' (or onnxruntime-gpu for CUDA)"


class OrtLibraryError(BundleError):
    """ONNX Runtime's library cannot be found. The text says where it was looked for and which wheel to install."""


def find_library(override: str | Path | None = None) -> Path:
    """The absolute path of ONNX Runtime's shared library.

    `override`: the library's path from the configuration; nothing else is looked at then. Raises OrtLibraryError.
    """
    if override is not None:
        return _given_library(Path(override))
    spec = _installed_package()
    if spec is None:
        raise OrtLibraryError(f"ONNX Runtime is not installed: {INSTALL}")
    folders = [Path(location) / "capi" for location in spec.submodule_search_locations or ()]
    found = [path for folder in folders for path in sorted(folder.glob(PATTERN)) if path.is_file()]
    if not found:
        looked = ", ".join(str(folder) for folder in folders) or "no folder"
        raise OrtLibraryError(f"the installed onnxruntime has no {PATTERN} (looked in {looked}); reinstall it: {INSTALL}")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise OrtLibraryError(f"two ONNX Runtimes lie over each other ({names}); uninstall both wheels, then install one of them")
    return found[0].resolve()


def _given_library(path: Path) -> Path:
    if not path.is_file():
        raise OrtLibraryError(f"no file at {path}, which the configuration names as ONNX Runtime's library")
    return path.resolve()


def _installed_package() -> ModuleSpec | None:
    """The package's spec; finding a top-level package imports nothing."""
    try:
        return find_spec("onnxruntime")
    except ValueError:  # a half-installed module without a spec
        return None


def main() -> int:
    """Prints the path; 1 if there is none."""
    try:
        print(find_library())
    except OrtLibraryError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
