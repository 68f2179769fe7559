"""Plots of a bench run: latency against offered load, percentiles, and what happened over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import ticker

mpl.use("Agg")
from matplotlib import pyplot as plt

SHOWN = {"p50": "#2a7f4f", "p99": "#c77c11", "p99.9": "#b3392f"}
GREY = "#666666"


def write_plots(document: dict[str, Any], out: Path) -> list[str]:
    """Writes PNG files into `out`; their names come back. What has no data has no file."""
    steps = [step for step in document["steps"] if step["outcomes"].get("OK")]
    written: list[str] = []
    if not steps:
        return written
    if len(steps) > 1:
        written.append(_plot(out / "latency_by_rate.png", _draw_rates, steps))
    written.append(_plot(out / "percentiles.png", _draw_percentiles, steps))
    if len(steps) == 1 and len(steps[0]["seconds"]) > 2:
        written.append(_plot(out / "over_time.png", _draw_seconds, steps[0], document["warmup_s"]))
    return written


# --- implementation ---


def _plot(path: Path, draw: Any, *arguments: Any) -> str:
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    draw(axes, *arguments)
    axes.spines["top"].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path.name


def _draw_rates(axes: Any, steps: list[dict[str, Any]]) -> None:
    """Latency against offered load. A step that lost calls has no value for the percentiles that they reach: the line ends."""
    for name, colour in SHOWN.items():
        points = [(step["rate_offered"], step["latency_us"][name]) for step in steps]
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=name, markersize=4)
    lossy = [step["rate_offered"] for step in steps if step["lost"]]
    for rate in lossy:
        axes.axvline(rate, color=GREY, linestyle=":", linewidth=1)
    if lossy:
        axes.plot([], [], color=GREY, linestyle=":", label="calls lost")
    axes.set_xlabel("offered calls a second")
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.set_xlim(left=0)
    _latency_axis(axes)
    axes.legend(frameon=False)


def _draw_percentiles(axes: Any, steps: list[dict[str, Any]]) -> None:
    """The whole distribution, each factor of ten that is left as wide as the one before."""
    colours = mpl.colormaps["viridis"]
    for index, step in enumerate(steps):
        points = [(1 / (1 - q), us) for q, us in step["percentiles"] if us is not None]
        label = "closed loop" if step["rate_offered"] is None else f"{step['rate_offered']:,.0f}/s"
        axes.plot(*zip(*points, strict=True), color=colours(0.85 * index / max(len(steps) - 1, 1)), label=label)
    axes.set_xscale("log")
    ticks = [1, 2, 10, 100, 1_000, 10_000, 100_000, 1_000_000]
    names = ["min", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999", "p99.9999"]
    last = max(1 / (1 - step["percentiles"][-1][0]) for step in steps)
    shown = [(tick, name) for tick, name in zip(ticks, names, strict=True) if tick <= last * 1.01]
    axes.set_xticks([tick for tick, _ in shown], [name for _, name in shown])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlabel("percentile")
    _latency_axis(axes)
    axes.legend(frameon=False, title="offered")


def _draw_seconds(axes: Any, step: dict[str, Any], warmup_s: float) -> None:
    """Answers and latency of each second."""
    seconds = [index + 0.5 for index in range(len(step["seconds"]))]
    p99 = [second["p99_us"] if second["ok"] else None for second in step["seconds"]]
    largest = [second["max_us"] if second["ok"] else None for second in step["seconds"]]
    axes.plot(seconds, p99, color=SHOWN["p99"], label="p99")
    axes.plot(seconds, largest, color=SHOWN["p99.9"], linewidth=0.8, label="max")
    axes.axvspan(0, warmup_s, color=GREY, alpha=0.12, linewidth=0, label="warm-up")
    axes.set_xlabel("seconds")
    axes.set_xlim(left=0)
    _latency_axis(axes)
    rates = axes.twinx()
    rates.plot(seconds, [second["ok"] for second in step["seconds"]], color=SHOWN["p50"], label="answers")
    if any(second["failed"] for second in step["seconds"]):
        rates.plot(seconds, [second["failed"] for second in step["seconds"]], color="black", linestyle=":", label="failed")
    rates.set_ylim(bottom=0)
    rates.set_ylabel("calls a second")
    rates.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    rates.spines["top"].set_visible(False)
    handles = [*axes.get_legend_handles_labels()[0], *rates.get_legend_handles_labels()[0]]
    axes.legend(handles, [handle.get_label() for handle in handles], frameon=False, ncols=len(handles), loc="upper center",
                bbox_to_anchor=(0.5, 1.12))  # fmt: skip


def _latency_axis(axes: Any) -> None:
    axes.set_yscale("log")
    axes.set_ylabel("latency")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(_latency_text))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.grid(axis="y", which="major", color="#dddddd", linewidth=0.8)


def _latency_text(us: float, _: int) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return f"{us / size:g} {unit}"
    return f"{us:g} us"
