"""What is drawn of an explanation, whoever draws it: bars along one axis, and the words beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from assay.cli.explain_told import Importance, Told, score_per_margin
from assay.cli.output import plain

if TYPE_CHECKING:
    from assay.v1.scoring_pb2 import Explanation

LABEL_LENGTH_MAX: Final = 48  # what is longer is cut where it is drawn


class Kind(Enum):
    LEVEL = "level"  # a place on the axis: where the way begins or ends
    RAISES = "raises"
    LOWERS = "lowers"
    MATTERS = "matters"  # of many rows: it has a length and no direction


@dataclass(frozen=True)
class Bar:
    """From `start` to `end` on the axis; of a LEVEL they are the same. Texts are plain(); a cell may be empty."""

    label: str
    start: float
    end: float
    kind: Kind
    cells: tuple[str, ...]  # in the order of Chart.columns


@dataclass(frozen=True)
class Chart:
    title: str
    axis: str
    columns: tuple[str, ...]  # what the numbers beside a bar are
    bars: Sequence[Bar]

    @property
    def span(self) -> tuple[float, float]:
        """Of the axis: all that is drawn lies between, and there is a between."""
        ends = [end for bar in self.bars for end in (bar.start, bar.end)]
        low, high = min(ends, default=0.0), max(ends, default=0.0)
        size = max(abs(low), abs(high))
        return (low, high) if high - low > 1e-9 * size else (low - max(size, 1.0), high + max(size, 1.0))


def waterfall(told: Told) -> Chart:
    """From the base, one contribution after the other, to the score. REQUIRES: told.explanation."""
    found = told.explanation
    assert found is not None
    per_margin = score_per_margin(found)
    has_unit = not _is_margin(found, per_margin)
    has_errors = any(one.standard_error for one in found.contributions)
    margins = _form([found.base_margin, found.margin])
    scores = _form([found.base_score, told.score or 0.0])

    def cells(margin: float, score: float | None, error: float, sign: str) -> tuple[str, ...]:
        shown = [format(margin, sign + margins)]
        if has_errors:
            shown.append(f"{error:.2g}" if error else "")
        if has_unit:
            shown.append("" if score is None else format(score, sign + scores))
        return tuple(shown)

    at = found.base_margin
    bars = [Bar("base: the background's mean", at, at, Kind.LEVEL, cells(at, found.base_score, 0.0, ""))]
    steps = [
        (_label(one.player, told), one.contribution, one.score_contribution, one.standard_error) for one in found.contributions
    ]
    if found.rest_contribution:
        steps.append(("all others together", found.rest_contribution, found.rest_contribution * per_margin, 0.0))
    for label, contribution, score, error in steps:
        kind = Kind.RAISES if contribution > 0 else Kind.LOWERS
        bars.append(Bar(label, at, at + contribution, kind, cells(contribution, score, error, "+")))
        at += contribution
    bars.append(Bar("score", found.margin, found.margin, Kind.LEVEL, cells(found.margin, told.score, 0.0, "")))
    columns = ("margin", *(("std. error",) if has_errors else ()), *(("score",) if has_unit else ()))
    return Chart("From the background's mean to this score", "margin" + (" (log-odds)" if has_unit else ""), columns, bars)


def importance_chart(importance: Importance) -> Chart:
    """The mean of what each player contributes, one way or the other."""
    form = _form([mean.absolute for mean in importance.means])
    bars = [
        Bar(plain(mean.player), 0.0, mean.absolute, Kind.MATTERS, (format(mean.absolute, form), format(mean.signed, "+" + form)))
        for mean in importance.means
    ]
    if importance.rest:
        others = importance.players - len(importance.means)
        bars.append(Bar(f"{others:,} others together", 0.0, importance.rest, Kind.MATTERS, (format(importance.rest, form), "")))
    title = f"What matters over {importance.rows:,} rows"
    return Chart(title, "mean |contribution|", ("mean |margin|", "mean margin"), bars)


def cut(label: str) -> str:
    """For a place that holds no longer one."""
    return label if len(label) <= LABEL_LENGTH_MAX else label[: LABEL_LENGTH_MAX - 3] + "..."


# --- implementation ---


def _label(player: str, told: Told) -> str:
    value = told.values.get(player)
    return plain(player if value is None else f"{player} = {value}")


def _is_margin(found: Explanation, per_margin: float) -> bool:
    """The score has no unit of its own: it is its margin."""
    is_same_unit = not found.contributions or math.isclose(per_margin, 1.0, rel_tol=1e-6)
    return is_same_unit and math.isclose(found.base_score, found.base_margin, rel_tol=1e-6, abs_tol=1e-12)


def _form(numbers: Sequence[float]) -> str:
    """How numbers of this size are written: the largest with four digits or more, all with as many behind the point."""
    largest = max((abs(number) for number in numbers if math.isfinite(number)), default=0.0)
    if largest == 0.0:
        return ".3f"
    power = math.floor(math.log10(largest))
    return f".{max(0, 3 - power)}f" if -6 <= power <= 9 else ".3e"
