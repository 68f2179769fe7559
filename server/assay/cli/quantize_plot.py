"""The plot of `assay model quantize --plot`: new scores against the parent's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from assay.models.quantize import Report

POINTS_MAX = 5_000


def write_plot(report: Report, path: Path) -> None:
    """Writes a PNG: each row a point, on the diagonal where nothing changed; beside it how often a score moved how far."""
    order = np.argsort(report.parent_scores)
    shown = order[np.linspace(0, len(order) - 1, min(len(order), POINTS_MAX)).astype(int)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
    low = min(report.parent_scores.min(), report.scores.min())
    high = max(report.parent_scores.max(), report.scores.max())
    left.plot([low, high], [low, high], color="#666666", linewidth=1)
    left.scatter(report.parent_scores[shown], report.scores[shown], s=6, alpha=0.5, color="#2a7f4f")
    left.set_xlabel(f"score of {report.parent_version}")
    left.set_ylabel(f"score after {report.kind}")
    right.hist(report.scores - report.parent_scores, bins=60, color="#c77c11")
    right.set_yscale("log")
    right.set_xlabel("change of the score")
    right.set_ylabel("rows")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130, format="png")
    plt.close(figure)
