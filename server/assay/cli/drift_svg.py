"""Bars of two distributions over the same bins as SVG, without a library: a page needs no more, and a server's image has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

THEN_COLOUR, NOW_COLOUR = "#9aa5b1", "#c2570c"
_INK, _GRID = "#333333", "#e3e6ea"
_HEIGHT, _TOP, _LEFT, _BOTTOM, _RIGHT = 190, 16, 68, 82, 12
_GROUP_WIDTH = 44


class Bin(NamedTuple):
    """One pair of bars: shares of the rows, 0 to 1."""

    label: str
    then: float
    now: float


def bin_labels(edges: Sequence[float]) -> list[str]:
    """Of len(edges) + 1 bins: what is in them."""
    if not edges:
        return ["all"]
    texts = _edge_texts(edges)
    return [f"< {texts[0]}", *(f"{low} to {high}" for low, high in pairwise(texts)), f"≥ {texts[-1]}"]


def bars(bins: Sequence[Bin], title: str) -> str:
    """One SVG element. Hovering over a pair of bars says its numbers."""
    width, floor = _LEFT + _GROUP_WIDTH * len(bins) + _RIGHT, _TOP + _HEIGHT
    lines = _axis(max((max(one.then, one.now) for one in bins), default=0.0))

    def y(share: float) -> float:
        return floor - _HEIGHT * share / lines[-1]

    size = f'viewBox="0 0 {width} {floor + _BOTTOM}" width="{width}" height="{floor + _BOTTOM}"'
    font = f'font-family="system-ui, sans-serif" font-size="11" fill="{_INK}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>', f"<title>{escape(title)}</title>"]
    for share in lines:
        parts.append(f'<path d="M{_LEFT} {y(share):.1f}H{width - _RIGHT}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(share) + 4:.1f}" text-anchor="end">{100 * share:.3g}%</text>')
    for index, one in enumerate(bins):
        left = _LEFT + _GROUP_WIDTH * index
        said = f"{one.label}: {one.then:.3%} of the baseline, {one.now:.3%} now"
        parts.append(f"<g><title>{escape(said)}</title>")
        for x, share, colour in ((left + 6, one.then, THEN_COLOUR), (left + 22, one.now, NOW_COLOUR)):
            parts.append(f'<rect x="{x}" y="{y(share):.2f}" width="16" height="{floor - y(share):.2f}" fill="{colour}"/>')
        place = f"translate({left + _GROUP_WIDTH / 2:.0f} {floor + 12}) rotate(-40)"
        parts.append(f'<text transform="{place}" text-anchor="end">{escape(one.label)}</text></g>')
    parts.append(f'<path d="M{_LEFT} {floor}H{width - _RIGHT}" stroke="{_INK}"/></svg>')
    return "\n".join(parts)


# --- implementation ---


def _edge_texts(edges: Sequence[float]) -> list[str]:
    """As few digits as tell the edges apart."""
    for digits in (3, 4, 5, 6):
        texts = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(texts)) == len(texts):
            return [_without_exponent(text) for text in texts]
    return [repr(edge) for edge in edges]


def _without_exponent(text: str) -> str:
    value = float(text)
    return f"{value:,.0f}" if "e" in text and 1e3 <= abs(value) < 1e9 else text


def _axis(largest: float) -> list[float]:
    """Where lines go: multiples of 1, 2 or 5 times a power of ten, from 0 to the first that is not below the largest; seven at
    most."""
    largest = max(largest, 1e-9)
    power = 10.0 ** math.floor(math.log10(largest))
    step = next(step for step in (power / 5, power / 2, power, 2 * power) if largest <= 6 * step)
    return [index * step for index in range(math.ceil(round(largest / step, 9)) + 1)]
