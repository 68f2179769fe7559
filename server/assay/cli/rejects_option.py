"""`--rejects FILE`: behind what is there, so it may name no file that the command reads or writes otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from assay.cli.output import EXIT_USAGE, fail


def check_rejects(rejects: Path | None, others: Mapping[str, Path | None], store: str = "") -> None:
    """Ends the command where `rejects` is one of the others, by option, or a file of the store. `-` is standard input."""
    if rejects is None:
        return
    for option, path in (*others.items(), *(("--store", path) for path in _files_of(store))):
        if path is not None and _is_same(rejects, Path("/dev/stdin") if path == Path("-") else path):
            fail(f"--rejects: {rejects} is a file of {option} too, and would be spoilt; name another", EXIT_USAGE)


# --- implementation ---


def _files_of(store: str) -> tuple[Path, ...]:
    """Of an embedded store: its snapshot and what locks it."""
    from assay.features.local_store import lock_path, snapshot_path

    path = snapshot_path(store) if store.startswith("embedded:") else None
    return () if path is None else (path, lock_path(path))


def _is_same(a: Path, b: Path) -> bool:
    """By whatever names. Of devices and pipes nothing is lost."""
    try:
        return os.path.samefile(a, b) and a.is_file()
    except OSError:  # one is not there yet
        return a.resolve() == b.resolve()
