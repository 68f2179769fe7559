"""Run: what a benchmark is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.material import Material

Report = Callable[[str], None]
BATCH_ROWS = 256


@dataclass(frozen=True)
class Run:
    material: Material
    pairs: int
    report: Report  # what is being done
    say: Report  # what stays on the screen
    soak_minutes: float = 30.0
