"""Who may read a file that holds a secret, and who may put files of theirs in the place of ours. For files PostgreSQL's rule: the
owner alone, but root's file by a group too (Kubernetes with fsGroup)."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def exposure(path: Path) -> str:
    """What is wrong with who may read the file, and what to do; empty: nothing. Raises OSError."""
    found = path.stat()
    is_foreign = found.st_uid == 0 != os.geteuid()
    if not found.st_mode & (0o037 if is_foreign else 0o077):
        return ""
    mode = stat.S_IMODE(found.st_mode)
    return f"{path} can be read by others (mode {mode:04o}): chmod 600 {path} (in Kubernetes: defaultMode 0400)"


def weakness_of(directory: Path) -> str:
    """What is wrong with a directory of our own; empty: nothing. One that others may write to, or a link of theirs to one, lets
    them put files and sockets of theirs in our place. Raises OSError."""
    if directory.lstat().st_uid not in (os.geteuid(), 0):
        return "belongs to another user"
    found = directory.stat()
    is_sticky = bool(found.st_mode & stat.S_ISVTX)
    if found.st_uid not in (os.geteuid(), 0) or (found.st_mode & 0o022 and not is_sticky):
        return "can be written by other users"
    return ""
