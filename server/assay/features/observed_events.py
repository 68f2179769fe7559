"""What the events of a stream look like: shares and shifts, by names that the feature set declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from assay.features.field_report import FieldReport


@dataclass(frozen=True)
class ObservedEvents:
    """Of the last sample that was looked at."""

    sample_count: int = 0  # so far
    null_shares: Mapping[str, float] = field(default_factory=dict)  # by request feature: null or not there
    type_shares: Mapping[tuple[str, str], float] = field(default_factory=dict)  # by request feature and type, of what is not null
    shifts: Mapping[str, float] = field(default_factory=dict)  # PSI by model input


class EventWatch(Protocol):
    """Looks at events while they are ingested."""

    def take(self, lines: Sequence[bytes]) -> None:
        """Lines as they came, none with a line break. One thread calls it; what is no event is looked at too."""

    @property
    def observed(self) -> ObservedEvents:
        """Any thread."""


def null_share(report: FieldReport) -> float | None:
    """None: there was no event."""
    count = report.types.total() + report.missing_count
    return (report.types["null"] + report.missing_count) / count if count else None


def type_shares(report: FieldReport) -> dict[str, float]:
    """Of the values that are not null, by type."""
    present = {dtype: count for dtype, count in report.types.items() if dtype != "null"}
    return {dtype: count / sum(present.values()) for dtype, count in present.items()}
