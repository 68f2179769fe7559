"""Arrays of a bundle in npz files, read without trusting them: no Python objects, no sizes that the file's bytes do not back.

An npz file is a ZIP archive of .npy members. NumPy's own reader allocates what a header claims; this one compares first.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from assay.models.refusal import BundleRefusedError

ARRAYS_MAX: Final = 80
UNPACKED_BYTES_MAX: Final = 256 << 20
_KINDS = "biuf"  # booleans, integers, floats
# What zipfile raises for damaged archives, beside its own error.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)
_MEND = "write it with assay model pack or numpy.savez, numbers and booleans only"

Array = NDArray[Any]


def save_arrays(arrays: dict[str, Array]) -> bytes:
    """The bytes of an npz file. The same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def load_arrays(data: bytes, file: str) -> dict[str, Array]:
    """The arrays of an npz file, by name, read-only. Raises BundleRefusedError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            unpacked_bytes = sum(member.file_size for member in members)
            if len(members) > ARRAYS_MAX or unpacked_bytes > UNPACKED_BYTES_MAX:
                reason = f"{len(members)} arrays of {unpacked_bytes} bytes, the limits are {ARRAYS_MAX} and {UNPACKED_BYTES_MAX}"
                raise BundleRefusedError(file, reason, "keep fewer rows")
            return {_array_name(member.filename, file): _load_member(archive, member, file) for member in members}
    except BundleRefusedError:
        raise
    except _UNREADABLE as error:
        raise BundleRefusedError(file, f"not a whole npz file ({type(error).__name__})", _MEND) from None


# --- implementation ---


def _array_name(member_name: str, file: str) -> str:
    if not member_name.endswith(".npy"):
        raise BundleRefusedError(file, "holds something that is no array", _MEND)
    return member_name.removesuffix(".npy")


def _load_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: str) -> Array:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BundleRefusedError(file, "is packed in a way that NumPy does not use", _MEND)
    with archive.open(member) as stream:
        content = io.BytesIO(stream.read(member.file_size))
    try:
        version = np.lib.format.read_magic(content)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, is_fortran, dtype = read_header(content)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise BundleRefusedError(file, f"{member.filename[:60]!r} is not a whole array ({type(error).__name__})", _MEND) from None
    if dtype.hasobject or dtype.kind not in _KINDS:
        raise BundleRefusedError(file, f"{member.filename[:60]!r} holds {dtype}, not numbers (objects would need pickle)", _MEND)
    values = content.read()
    if math.prod(shape) * dtype.itemsize != len(values):
        raise BundleRefusedError(file, f"{member.filename[:60]!r} is cut off: its shape does not fit its bytes", _MEND)
    return np.frombuffer(values, dtype).reshape(shape, order="F" if is_fortran else "C")
