"""Durations as people write them: 30s, 15m, 1h, 7d. Everywhere else they are integer microseconds."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
DURATION_US_MAX = 3_660 * UNITS_US["d"]  # ten years, the core's limit
PATTERN = r"^(0|[1-9][0-9]{0,8})(us|ms|s|m|h|d|w)$"


def parse_duration_us(text: str) -> int:
    """'7d' -> 604800000000. Raises ValueError."""
    match = re.fullmatch(PATTERN, text)
    if match is None:
        raise ValueError("expected a duration such as 30s, 15m, 1h or 7d (units us, ms, s, m, h, d, w)")
    duration_us = int(match[1]) * UNITS_US[match[2]]
    if duration_us > DURATION_US_MAX:
        raise ValueError("expected a duration of at most ten years (3660d)")
    return duration_us


def format_duration(duration_us: int) -> str:
    """604800000000 -> '7d': the largest unit (up to days) that divides it."""
    if duration_us == 0:
        return "0s"
    for unit in ("d", "h", "m", "s", "ms"):
        if duration_us % UNITS_US[unit] == 0:
            return f"{duration_us // UNITS_US[unit]}{unit}"
    return f"{duration_us}us"


def _validate(value: Any) -> int:
    if not isinstance(value, str):
        raise PydanticCustomError("duration_type", "expected a duration such as 30s, 15m, 1h or 7d")
    try:
        return parse_duration_us(value)
    except ValueError as error:
        raise PydanticCustomError("duration", "{problem}", {"problem": str(error)}) from None


DurationUs = Annotated[
    int,
    BeforeValidator(_validate),
    WithJsonSchema(
        {"type": "string", "pattern": PATTERN, "description": "A duration: 30s, 15m, 1h, 7d.", "examples": ["30s", "1h", "7d"]}
    ),
]
