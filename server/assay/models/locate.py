"""Finds the bundle that a person means: a path, or the name of a model under ./models; the newest version unless one is named."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from assay.errors import InputError
from assay.models.manifest import MANIFEST_FILE

MODELS_DIRECTORY: Final = Path("models")
_NUMERIC = re.compile(r"[0-9]+(\.[0-9]+)*")
_LISTED_MAX = 10


def locate_bundle(text: str, directory: Path = MODELS_DIRECTORY) -> Path:
    """`text` is a bundle (NAME/VERSION), or a directory of versions (NAME); looked for as a path, then in `directory`.

    Proves nothing: what is found still has to be verified. Raises InputError that says what was found instead.
    """
    given = Path(text)
    places = [given] if given.is_absolute() else [given, directory / given]
    for place in places:
        if (place / MANIFEST_FILE).is_file():
            return place
        versions = find_versions(place)
        if versions:
            return place / _newest(place, versions)
    raise InputError(_not_found(given, places, directory))


def find_versions(place: Path) -> list[str]:
    """Names of the bundles in a directory, sorted; empty where there is no such directory."""
    try:
        return sorted(entry.name for entry in place.iterdir() if (entry / MANIFEST_FILE).is_file())
    except OSError:
        return []


# --- implementation ---


def _newest(place: Path, versions: list[str]) -> str:
    """The highest version by number (10 after 9, 1.10 after 1.9); others have no order that is safe to guess."""
    if len(versions) == 1:
        return versions[0]
    others = [version for version in versions if not _NUMERIC.fullmatch(version)]
    if others:
        listed = ", ".join(versions[:_LISTED_MAX])
        raise InputError(
            f"{place}: {len(versions)} versions ({listed}), and which is the newest cannot be told from their names; "
            f"name one: {place / versions[0]}"
        )
    return max(versions, key=lambda version: ([int(part) for part in version.split(".")], version))


def _not_found(given: Path, places: list[Path], directory: Path) -> str:
    looked = " and ".join(str(place) for place in places)
    if any(place.is_file() for place in places):
        return f"{given}: this is a file; a bundle is a directory. Make one from an ONNX model: assay init NAME --model {given}"
    names = sorted(entry.name for entry in directory.iterdir() if find_versions(entry)) if directory.is_dir() else []
    near = get_close_matches(str(given), names, n=1)
    if near:
        return f"{given}: no bundle at {looked}; did you mean {near[0]}?"
    found = f"{directory} holds: {', '.join(names[:_LISTED_MAX])}" if names else "make one with assay init, or name its directory"
    return f"{given}: no bundle at {looked}; {found}"
