"""The core's table of codes by their reasons; by their numbers, which are its places, it is CODE_TABLE itself."""

from __future__ import annotations

from typing import Final

from assay import _core

NUMBERS: Final = {row.reason: row.number for row in _core.CODE_TABLE}
