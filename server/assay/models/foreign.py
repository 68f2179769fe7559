"""Refuses model files that are code in disguise. Loading one of Python's object dumps runs whatever it says, so assay never does.

They are known by name (.pkl, .joblib, .pt ...) and by content (whatever the name), and refused before anything parses them.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import PurePath
from typing import Final

from assay.models.refusal import BundleRefusedError

PICKLE_SUFFIXES: Final = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth", ".sav", ".cloudpickle", ".dill", ".ckpt"})

_PROTOCOL_2_TO_5 = re.compile(rb"\x80[\x02-\x05]")
# Protocols 0 and 1 are text: an import of a global, or a mark and a container.
_PROTOCOL_0_OR_1 = re.compile(rb"(?:c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n|\(d|\(l|\]q|\}q|\(i[\w.]+\n)")
_COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"BZh", b"\xfd7zXZ", b"\x04\x22\x4d\x18")
_OTHERS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"tree\nversion=", "a LightGBM text model"),
    (b"{", "a JSON document (XGBoost?)"),
)

_MEND = "export the model to ONNX and pack it: assay model pack (docs/bundles.md shows how, library by library)"
_DANGER = "loading one runs any code its author chose, and it breaks when a library or a folder changes"


def refuse_foreign_model(name: str, content: bytes) -> None:
    """Raises BundleRefusedError where `content` (of a file called `name`) is a pickle or another kind of model than ONNX.

    Says nothing of bytes that may be ONNX; only a parser can tell.
    """
    kind = _pickle_kind(name, content)
    if kind:
        raise BundleRefusedError(name, f"this is {kind}; {_DANGER}", _MEND)
    for magic, what in _OTHERS:
        if content.startswith(magic):
            raise BundleRefusedError(name, f"this is {what}, not an ONNX model", _MEND)


def has_pickle_suffix(name: str) -> bool:
    """Whether a file's name says that it is one of Python's object dumps."""
    return PurePath(name).suffix.lower() in PICKLE_SUFFIXES


# --- implementation ---


def _pickle_kind(name: str, content: bytes) -> str:
    """In words, or empty."""
    if content.startswith(b"PK\x03\x04") and _archive_holds_pickle(content):
        return "a pickle inside a ZIP archive (PyTorch)"
    if _PROTOCOL_2_TO_5.match(content) or _PROTOCOL_0_OR_1.match(content):
        return "a pickle"
    if has_pickle_suffix(name):
        return "a pickle by its name"
    if content.startswith(_COMPRESSED):
        return "a compressed file, most likely a pickle written by joblib"
    return ""


def _archive_holds_pickle(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(has_pickle_suffix(member) for member in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
