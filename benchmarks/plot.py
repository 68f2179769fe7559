"""The results as a picture: each ratio with its interval beside its budget."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Writes a PNG. One bar a ratio; the budget is a line across its bar; log axis, since a half and a double are equally far."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 0.6 * len(results) + 1.6), layout="constrained")
    for position, row in enumerate(reversed(results)):
        low, high = row["interval_95"]
        is_met = _is_met(row["budget"], row["ratio"])
        colour = {True: "#2a7f4f", False: "#b3392f", None: "#666666"}[is_met]
        axes.barh(position, row["ratio"], color=colour, height=0.6, alpha=0.85)
        axes.errorbar(row["ratio"], position, xerr=[[row["ratio"] - low], [high - row["ratio"]]], color="black", capsize=3)
        right = max(row["ratio"], high)
        if bound := re.search(r"[\d.]+", row["budget"]):
            axes.plot([float(bound[0])] * 2, [position - 0.4, position + 0.4], color="black", linewidth=2)
            right = max(right, float(bound[0]))
        text = f"{row['ratio']:.2f}" if is_met is None else f"{row['ratio']:.2f}  (budget {row['budget']})"
        axes.annotate(text, (right, position), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(results)), [row["name"] for row in reversed(results)], fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(0.25, max(4.0, 3 * max(row["ratio"] for row in results)))
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    axes.minorticks_off()
    axes.set_xlabel("ratio to the baseline, with its 95 % interval; black line: budget")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _is_met(budget: str, ratio: float) -> bool | None:
    bound = re.search(r"([<>]=?) *([\d.]+)", budget)
    if bound is None:
        return None
    limit = float(bound[2])
    return ratio >= limit if bound[1].startswith(">") else ratio <= limit
