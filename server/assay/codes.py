"""The core's numbers by their names and back: codes, which by number are CODE_TABLE itself, and decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from assay import _core

NUMBERS: Final = {row.reason: row.number for row in _core.CODE_TABLE}

_DECISIONS: Final = {number: name for name, number in _core.DECISIONS.items()}


def decision_flips(rows: Sequence[Sequence[int]]) -> list[tuple[str, str, int]]:
    """(the one decision, the other, how many), where they differ. `rows`: by the number of the one, then of the other, as
    ShadowStats.decisions."""
    return [
        (_DECISIONS[one], _DECISIONS[other], count)
        for one, row in enumerate(rows)
        for other, count in enumerate(row)
        if one != other and count
    ]
