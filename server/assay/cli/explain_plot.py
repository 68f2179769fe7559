"""A chart of explain_bars.py as PNG: `assay explain --png`. Importing this needs matplotlib."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from assay.cli.explain_bars import Chart, Kind, cut
from assay.cli.explain_svg import COLOURS

_HEADING_LENGTH_MAX: Final = 100
_LETTER_POINTS: Final = 7.0  # about a letter's width


def write_plot(chart: Chart, heading: str, path: Path) -> None:
    """Bars along one axis, the first on top. `heading`: what it is of; plain text, as all that is in the chart."""
    places = range(len(chart.bars))
    figure, axes = plt.subplots(figsize=(10, 1.4 + 0.3 * len(chart.bars)), layout="constrained")
    low, high = chart.span
    least = 0.003 * (high - low)  # however short, it is seen
    for place, bar in zip(places, chart.bars, strict=True):
        if bar.kind is Kind.LEVEL:
            axes.plot([bar.start, bar.start], [place - 0.4, place + 0.4], color=COLOURS[bar.kind], linewidth=3)
        elif bar.start != bar.end:
            length = max(abs(bar.end - bar.start), least)
            axes.barh(place, length, left=min(bar.start, bar.end), height=0.62, color=COLOURS[bar.kind])
    axes.set_ylim(len(chart.bars) - 0.5, -0.7)
    axes.set_xlim(low - 2 * least, high + 2 * least)
    _name_bars(axes, chart)
    axes.set_xlabel(chart.axis)
    axes.set_title(f"{heading[:_HEADING_LENGTH_MAX]}\n{chart.title}", loc="left", fontsize=11, parse_math=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font does not have: a box stands for them
        figure.savefig(path, dpi=130, format="png")
    plt.close(figure)


# --- implementation ---


def _name_bars(axes: Any, chart: Chart) -> None:
    """Names on the left, numbers on the right. None of them is a formula, whatever is in it."""
    places = range(len(chart.bars))
    axes.set_yticks(places, labels=[cut(bar.label) for bar in chart.bars])
    axes.tick_params(axis="y", length=0)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    beside: Any = ("axes fraction", "data")
    right = 0.0
    for index, column in enumerate(chart.columns):
        cells = [column, *(bar.cells[index] for bar in chart.bars)]
        right += 12 + _LETTER_POINTS * max(map(len, cells))
        for place, cell in zip((-0.9, *places), cells, strict=True):
            weight = "bold" if place < 0 else "normal"
            where = {"xycoords": beside, "xytext": (right, 0), "textcoords": "offset points"}
            axes.annotate(cell, (1.0, place), **where, ha="right", va="center", fontweight=weight, annotation_clip=False)
