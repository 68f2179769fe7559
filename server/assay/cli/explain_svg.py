"""A chart of explain_bars.py as SVG, without a library: a page needs no more."""

from __future__ import annotations

from html import escape
from typing import Final

from assay.cli.explain_bars import Bar, Chart, Kind, cut

# Told apart by people who do not see red and green, too; every bar has its number beside it.
COLOURS: Final = {Kind.LEVEL: "#333333", Kind.RAISES: "#c2570c", Kind.LOWERS: "#2b6cb0", Kind.MATTERS: "#5a6b7b"}
_INK, _GRID = "#333333", "#e3e6ea"
_LABEL, _PLOT, _CELL = 330, 440, 104  # widths: of the names, the bars, a column of numbers
_ROW, _TOP, _BOTTOM = 24, 30, 34


def drawing(chart: Chart) -> str:
    """One SVG element: a bar a line, its name before it and its numbers behind it. Hovering says a name that was cut."""
    low, high = chart.span
    width, floor = _LABEL + _PLOT + 16 + _CELL * len(chart.columns), _TOP + _ROW * len(chart.bars)

    def x(value: float) -> float:
        return _LABEL + _PLOT * (value - low) / (high - low)

    size = f'viewBox="0 0 {width} {floor + _BOTTOM}" width="{width}" height="{floor + _BOTTOM}"'
    font = f'font-family="system-ui, sans-serif" font-size="12" fill="{_INK}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>', f"<title>{escape(chart.title)}</title>"]
    for index, column in enumerate(chart.columns):
        parts.append(_cell(column, index, _TOP - 10, "bold"))
    for tick in _ticks(low, high):
        parts.append(f'<path d="M{x(tick):.1f} {_TOP}V{floor}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{floor + 14}" text-anchor="middle">{tick:.3g}</text>')
    parts.append(f'<text x="{_LABEL + _PLOT / 2:.0f}" y="{floor + 30}" text-anchor="middle">{escape(chart.axis)}</text>')
    for index, bar in enumerate(chart.bars):
        parts.append(_bar(bar, x(bar.start), x(bar.end), _TOP + _ROW * index))
    parts.append("</svg>")
    return "\n".join(parts)


# --- implementation ---


def _ticks(low: float, high: float) -> list[float]:
    """The ends, and zero where it is not too near one of them to be read."""
    room = 0.1 * (high - low)
    return [low, *([0.0] if low + room < 0.0 < high - room else []), high]


def _bar(bar: Bar, start: float, end: float, top: float) -> str:
    weight = "bold" if bar.kind is Kind.LEVEL else "normal"
    left, thick = min(start, end), max(abs(end - start), 1.5)  # however short, it is seen
    if bar.kind is Kind.LEVEL:
        left, thick = start - 1.5, 3.0
    elif bar.start == bar.end:
        thick = 0.0
    parts = [
        f"<g><title>{escape(': '.join([bar.label, ', '.join(filter(None, bar.cells))]))}</title>",
        f'<text x="{_LABEL - 10}" y="{top + 16}" text-anchor="end" font-weight="{weight}">{escape(cut(bar.label))}</text>',
        f'<rect x="{left:.1f}" y="{top + 4}" width="{thick:.1f}" height="{_ROW - 8}" fill="{COLOURS[bar.kind]}"/>',
        *(_cell(cell, index, top + 16, weight) for index, cell in enumerate(bar.cells)),
        "</g>",
    ]
    return "".join(parts)


def _cell(text: str, index: int, y: float, weight: str) -> str:
    right = _LABEL + _PLOT + 16 + _CELL * (index + 1)
    return f'<text x="{right}" y="{y}" text-anchor="end" font-weight="{weight}">{escape(text)}</text>'
