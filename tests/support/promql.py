"""Just enough of PromQL to see which metrics and labels an expression names."""

from __future__ import annotations

import re
from collections.abc import Iterator

# What stands in an expression and is no metric: functions, operators, what they are followed by. Any other name is a metric, so
# that nothing is overlooked.
WORDS = frozenset(
    """
    sum max min avg count topk absent and or unless on ignoring by without group_left group_right bool offset
    rate increase deriv changes time vector clamp_min histogram_quantile label_replace avg_over_time sum_over_time
    """.split()  # noqa: SIM905
)
LISTS = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
NAMES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{([^}]*)\})?")
BY = re.compile(r"\bby\s*\(([^)]*)\)\s*\(")
STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
DURATIONS = re.compile(r"\[[^\]]*\]|\boffset\s+\w+|\b[0-9.]+\b")


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """(metric, labels that are asked for) of each selector, in order."""
    bare = DURATIONS.sub(" ", LISTS.sub(" ", STRINGS.sub('""', expression)))
    for found in SELECTOR.finditer(bare):
        if found[1] not in WORDS:
            yield found[1], set(NAMES.findall(found[2] or ""))


def metrics(expression: str) -> set[str]:
    return {name for name, _ in selectors(expression)}


def groupings(expression: str) -> Iterator[tuple[set[str], str]]:
    """(labels, what is grouped) of each `by (labels) (what)`."""
    for found in BY.finditer(expression):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(expression[end], 0)
            end += 1
        yield set(NAMES.findall(found[1])), expression[found.end() : end - 1]
