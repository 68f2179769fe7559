"""A bundle on disk: the directory NAME/VERSION/ with a model and everything that must travel with it.

    model.onnx  manifest.yaml  feature_set.yaml  golden.npz  baseline.json  [background.npz]

Every file is read once, through one directory handle, hashed, and parsed from those very bytes: what was checked is what is used,
whatever happens to the directory meanwhile. Files that the manifest does not list, links and oversized files are refused.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import assay
from assay.models.foreign import has_pickle_suffix, refuse_foreign_model
from assay.models.manifest import (
    FILE_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    MANIFEST_FILE,
    MODEL_FILE,
    REQUIRED_FILES,
    FileRecord,
    Manifest,
    parse_manifest,
)
from assay.models.refusal import BundleRefusedError

_ENTRIES_MAX = 64


@dataclass(frozen=True)
class Bundle:
    """The bytes of one bundle, proven against its manifest, which is parsed; nothing else is."""

    path: Path
    manifest: Manifest
    manifest_sha256: str  # names the whole bundle: the manifest holds the hash of every other file
    files: dict[str, bytes]

    @property
    def model_bytes(self) -> bytes:
        return self.files[MODEL_FILE]

    @property
    def model_sha256(self) -> str:
        return self.manifest.files[MODEL_FILE].sha256


def read_bundle(path: Path) -> Bundle:
    """Reads and proves a bundle. Raises BundleRefusedError naming the file, the reason and what to do."""
    raw = read_files(path)
    manifest = parse_manifest(raw.files[MANIFEST_FILE])
    check_place(raw.path, manifest)
    check_hashes(raw.files, manifest)
    manifest_sha256 = hashlib.sha256(raw.files[MANIFEST_FILE]).hexdigest()
    return Bundle(raw.path, manifest, manifest_sha256, raw.files)


@dataclass(frozen=True)
class RawFiles:
    """The files of a directory as they were read, not yet compared with anything."""

    path: Path
    files: dict[str, bytes]


def read_files(path: Path) -> RawFiles:
    """Reads the files that a bundle has, all of them, and nothing else. The first step of read_bundle()."""
    try:
        refuse_what_is_no_directory(path)
        directory = path.resolve(strict=True)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BundleRefusedError(str(path), f"cannot be read ({error.strerror})", "check the path and its permissions") from error
    try:
        names = sorted(os.listdir(handle))
        _check_names(names)
        limits = {MANIFEST_FILE: MANIFEST_BYTES_MAX, **FILE_BYTES_MAX}
        files = {name: _read_file(handle, name, limits[name], _links_max(directory)) for name in names}
    finally:
        os.close(handle)
    return RawFiles(directory, files)


def refuse_what_is_no_directory(path: Path) -> None:
    """A bundle is a directory. Anything else is refused by what it is: a pickle gets its own answer."""
    if path.is_dir():
        return
    if not path.exists():
        raise BundleRefusedError(
            str(path), "there is no such directory", "name the directory NAME/VERSION that holds manifest.yaml"
        )
    if path.is_file():
        with path.open("rb") as file:
            refuse_foreign_model(path.name, file.read(1 << 20))
    raise BundleRefusedError(str(path), "this is not a directory", "a bundle is a directory; make one with assay model pack")


def check_place(path: Path, manifest: Manifest) -> None:
    """The directory is called NAME/VERSION, so that a copied or renamed bundle cannot pass for another."""
    if (path.parent.name, path.name) != (manifest.name, manifest.version):
        reason = f"says {manifest.name}/{manifest.version}, but the directory is {path.parent.name}/{path.name}"
        raise BundleRefusedError(MANIFEST_FILE, reason, "rename the directory, or pack the model under the new name")


def check_hashes(files: dict[str, bytes], manifest: Manifest) -> None:
    """Compares the names, the sizes and the SHA-256 of all files with the manifest."""
    for name in sorted(set(files) - {MANIFEST_FILE, *manifest.files}):
        raise BundleRefusedError(name, "the manifest does not list it", "remove it, or copy the bundle again with its manifest")
    for name, record in manifest.files.items():
        if name not in files:
            raise _missing(name)
        if len(files[name]) != record.bytes:
            reason = f"{len(files[name])} bytes, the manifest says {record.bytes}"
            raise BundleRefusedError(name, reason, "the file is cut off or was changed: copy the bundle again")
        if hashlib.sha256(files[name]).hexdigest() != record.sha256:
            raise BundleRefusedError(
                name, "its SHA-256 is not the manifest's", "the file was changed: copy the bundle again, or pack anew"
            )


def file_record(data: bytes) -> FileRecord:
    """What the manifest says of a file."""
    return FileRecord(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


# --- implementation ---


def _check_names(names: list[str]) -> None:
    known = {MANIFEST_FILE, *FILE_BYTES_MAX}
    for name in names:
        if has_pickle_suffix(name):
            refuse_foreign_model(name, b"")
    if MANIFEST_FILE not in names:
        raise BundleRefusedError(
            MANIFEST_FILE, "the file is missing", "name the directory NAME/VERSION of a bundle, or make one with assay model pack"
        )
    unknown = [name for name in names if name not in known]
    if unknown or len(names) > _ENTRIES_MAX:
        shown = ", ".join(repr(name)[:60] for name in unknown[:3])
        reason = f"the directory holds {len(unknown)} file(s) that no bundle has: {shown}"
        raise BundleRefusedError(".", reason, "remove them: everything in a bundle is hashed")
    missing = sorted(REQUIRED_FILES - set(names))
    if missing:
        raise _missing(missing[0])


def _missing(name: str) -> BundleRefusedError:
    return BundleRefusedError(name, "the file is missing", "copy the bundle again, or make it with assay model pack")


def _links_max(directory: Path) -> int | None:
    """Hard links are refused (another name for a file may change it), but installers such as uv and conda make the files of a
    package, and so the packaged demo, as hard links to their cache."""
    package = Path(assay.__file__).resolve().parent
    return None if directory.is_relative_to(package) else 1


def _read_file(directory_handle: int, name: str, bytes_max: int, links_max: int | None) -> bytes:
    # O_NONBLOCK: opening a named pipe must not wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, dir_fd=directory_handle)
    except OSError as error:
        link = stat.S_ISLNK(os.stat(name, dir_fd=directory_handle, follow_symlinks=False).st_mode)
        reason = "is a symbolic link" if link else f"cannot be opened ({error.strerror})"
        raise BundleRefusedError(name, reason, "a bundle holds plain files that its owner may read") from error
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise BundleRefusedError(name, "is not a plain file", "a bundle holds plain files only")
        if links_max is not None and state.st_nlink > links_max:
            raise BundleRefusedError(
                name, f"has {state.st_nlink} names (hard links)", "copy the bundle: cp -r --no-preserve=links"
            )
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(bytes_max + 1)
    finally:
        os.close(handle)
    if len(data) > bytes_max:
        raise BundleRefusedError(name, f"is larger than {bytes_max} bytes", "see docs/bundles.md, Limits")
    return data
