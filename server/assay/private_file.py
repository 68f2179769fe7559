"""Who may read a file that holds a secret. The rule is PostgreSQL's: its owner alone, but root's file by a group too (Kubernetes
with fsGroup)."""

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
