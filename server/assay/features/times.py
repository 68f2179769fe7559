"""Times in files: RFC 3339 with a zone; everywhere else integer microseconds since 1970-01-01 UTC, floored."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from assay import _core

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# How far ahead of this machine's clock a time that changes state may be.
AHEAD_US_MAX = _core.LIMITS["ahead_us_max"]

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)  # fmt: skip


def parse_time_us(text: str) -> int:
    """'2018-04-01T00:00:31Z' -> 1522540831000000. Raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("expected a time such as 2018-04-01T00:00:31Z (RFC 3339, with a zone)")
    year, month, day, hour, minute, second, fraction, _, sign, zone_hour, zone_minute = match.groups()
    offset = timedelta()
    if sign is not None:
        if int(zone_hour) > 23 or int(zone_minute) > 59:
            raise ValueError("expected a zone of at most 23:59")
        offset = timedelta(hours=int(zone_hour), minutes=int(zone_minute)) * (-1 if sign == "-" else 1)
    microsecond = int((fraction or "0").ljust(6, "0")[:6])
    try:
        time = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond, UTC) - offset
    except (ValueError, OverflowError):
        raise ValueError("expected a time that exists, in the years 0001 to 9999") from None
    return (time - EPOCH) // timedelta(microseconds=1)


def format_time_us(time_us: int) -> str:
    """1522540831000000 -> '2018-04-01T00:00:31Z'."""
    return (EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")
