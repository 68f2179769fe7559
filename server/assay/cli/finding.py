"""What `assay doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `status` is ok, warning or failed; `mend` says what to do unless it is ok."""

    name: str
    status: str
    found: str
    mend: str = ""
