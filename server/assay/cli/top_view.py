"""One look of `assay top`, drawn. Fits 80 columns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assay.cli.output import plain, plain_text


def draw(look: Mapping[str, Any], source: str, note: str = "") -> RenderableType:
    """`source`: where it comes from; `note`: what a person must know of it, in red."""
    return Group(*_parts(look, source, note))


def waiting(source: str, note: str) -> RenderableType:
    """Before there is a look."""
    return Group(plain_text(source, "bold"), plain_text(note, "red") if note else Text("..."))


# --- implementation ---


def _parts(look: Mapping[str, Any], source: str, note: str) -> Iterator[RenderableType]:
    yield _title(look, source)
    if note:
        yield plain_text(note, "bold red")
    yield _spaced(_models(look["models"]))
    for model in look["models"]:
        if model["scores_per_s"] > 0:
            yield _spaced(_stages(model))
    yield _spaced(_lines(look))
    if look.get("gpus"):
        yield _spaced(_gpus(look["gpus"]))


def _spaced(part: RenderableType) -> RenderableType:
    return Padding(part, (1, 0, 0, 0))


def _title(look: Mapping[str, Any], source: str) -> Text:
    server = look["server"]
    parts = [f"assay {server['version']}", source, f"over {look['interval_s']:.1f} s"]
    if (started_s := server.get("started_s")) is not None:
        parts.append(f"up {_duration(time.time() - started_s)}")
    return plain_text(" · ".join(parts), "bold")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(columns[0], overflow="ellipsis", no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _models(models: list[dict[str, Any]]) -> Table:
    table = _table("model", "rows/s", "p50 ms", "p99 ms", "p99.9 ms", "batch", "oldest ms")
    for model in models:
        total, batch = model["total_ms"], model["batch_rows"]
        table.add_row(
            plain_text(f"{model['model']} {model['version']}"),
            _rate(model["scores_per_s"]),
            *_percentiles(total),
            _number(batch["mean"]),
            _number(model["queue_oldest_age_ms"]),
        )
        busy = {name: of for name, of in model["priorities_ms"].items() if of["count"]}
        for name, of in busy.items() if len(busy) > 1 else ():
            share = model["scores_per_s"] * of["count"] / total["count"]
            table.add_row(plain_text(f"  {name}", "dim"), _rate(share), *_percentiles(of), "", "")
    return table


def _stages(model: Mapping[str, Any]) -> Table:
    table = _table(f"{model['model']} {model['version']}: stage", "mean ms", "share", "p50 ms", "p99 ms", "p99.9 ms")
    whole = sum(of["mean"] or 0.0 for of in model["stages_ms"].values()) or 1.0
    for stage, of in model["stages_ms"].items():
        mean = of["mean"] or 0.0
        table.add_row(stage, _number(mean), f"{100 * mean / whole:.0f} %", *_percentiles(of))
    return table


def _lines(look: Mapping[str, Any]) -> Table:
    """Name and what is to be said of it; trouble is red, and a line that has nothing to say is left out."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column()
    rows = look["rows_per_s"]
    lines.add_row("rows/s", _rates(rows) if rows else Text("none", "dim"))
    for name, key in (
        ("failed/s", "failed_rows_per_s"),
        ("refused/s", "refused_calls_per_s"),
        ("denied/s", "denied_calls_per_s"),
        ("degraded/s", "degraded_rows_per_s"),
    ):
        if look[key]:
            lines.add_row(name, _rates(look[key], "red" if key != "degraded_rows_per_s" else "yellow"))
    lines.add_row("queue", _queue(look["queue"]))
    if store := look.get("store"):
        lines.add_row("store", _store(store))
    for of in look.get("drift", ()):
        lines.add_row("drift", _drift(of))
    if audit := look.get("audit"):
        lines.add_row("audit", _audit(audit))
    return lines


def _queue(queue: Mapping[str, float]) -> Text:
    parts = [
        f"{queue.get('queued_rows', 0):,.0f} rows wait",
        f"{queue.get('slots_used', 0):,.0f} of {queue.get('slots', 0):,.0f} slots",
    ]
    if "open_connections" in queue:
        parts.append(f"{queue['open_connections']:,.0f} connections")
    if queue.get("open_streams"):
        parts.append(f"{queue['open_streams']:,.0f} streams")
    return Text(", ".join(parts))


def _store(store: Mapping[str, Any]) -> Text:
    text = Text()
    if store.get("is_away"):
        text.append("away  ", "bold red")
    parts = []
    if "records" in store:
        parts.append(f"{store['records']:,.0f} records, {_bytes(store['bytes'])} of {_bytes(store['limit_bytes'])}")
    if "near_cache_hit_ratio" in store:
        parts.append(f"near-cache hits {100 * store['near_cache_hit_ratio']:.1f} %")
    if store.get("looking_up_rows"):
        parts.append(f"{store['looking_up_rows']:,.0f} rows wait for it")
    if "events_per_s" in store:
        parts.append("events/s " + _rates(store["events_per_s"]).plain)
    return text.append(", ".join(parts) or "remote")


def _audit(audit: Mapping[str, Any]) -> Text:
    state = audit.get("state", "")
    text = Text()
    text.append(f"{plain(state)}  ", "bold red" if state in ("reserve", "full") else "")
    parts = []
    if "spool_bytes" in audit:
        parts.append(f"spool {_bytes(audit['spool_bytes'])} of {_bytes(audit.get('spool_limit_bytes', 0))}")
    if "unshipped_records" in audit:
        parts.append(f"{audit['unshipped_records']:,.0f} unshipped, oldest {_duration(audit.get('oldest_unshipped_s', 0))}")
    if audit["records_per_s"]:
        parts.append(f"{_rate(audit['records_per_s'])} records/s")
    text.append(", ".join(parts))
    for name, key in (("dropped/s", "dropped_records_per_s"), ("failures/s", "failures_per_s")):
        if audit[key]:
            text.append(f", {name} ").append_text(_rates(audit[key], "red"))
    return text


def _drift(of: Mapping[str, Any]) -> Text:
    text = plain_text(f"{of['model']} {of['version']}:")
    if (score := of.get("prediction_score")) is not None:
        text.append(f" score {_number(score)}")
    if "window_scores" in of:
        text.append(f" over {of['window_scores']:,.0f} scores")
    for decision, alert in of.get("alert_rate_ratio", {}).items():
        ratio, low, high = alert["ratio"], alert["low"], alert["high"]
        has_band = low is not None and high is not None
        band = f" (chance {low:.2f}-{high:.2f})" if has_band else ""
        is_out = has_band and not low <= ratio <= high
        text.append(f"; {plain(decision)} {ratio:.2f} times as often{band}", "red" if is_out else "")
    if inputs := of.get("worst_inputs"):
        text.append("; inputs " + ", ".join(f"{plain(name)} {score:.2f}" for name, score in inputs.items()))
    return text


def _gpus(gpus: list[dict[str, Any]]) -> Table:
    table = _table("gpu", "busy", "memory", "temperature", "XID", "held down by")
    for gpu in gpus:
        if gpu["is_lost"]:
            table.add_row(plain_text(f"{gpu['gpu']} lost", "bold red"), "", "", "", _number(gpu.get("xid_errors")), "")
            continue
        memory = [_bytes(gpu[key]) for key in ("memory_used_bytes", "memory_limit_bytes") if key in gpu]
        heat = [f"{gpu[key]:.0f}" for key in ("temperature_celsius", "slowdown_temperature_celsius") if key in gpu]
        table.add_row(
            plain_text(gpu["gpu"]),
            f"{100 * gpu['utilization_ratio']:.0f} %" if "utilization_ratio" in gpu else "-",
            " of ".join(memory) or "-",
            " of ".join(heat) + " C" if heat else "-",
            Text(_number(gpu.get("xid_errors")), "red" if gpu.get("xid_errors") else ""),
            plain_text(", ".join(gpu["throttled_by"]) or "-", "red" if gpu["throttled_by"] else ""),
        )
    return table


def _percentiles(of: Mapping[str, float | None]) -> list[str]:
    return [_number(of[key]) for key in ("p50", "p99", "p99_9")]


def _rates(rates: Mapping[str, float], style: str = "") -> Text:
    return plain_text(", ".join(f"{name} {_rate(value)}" for name, value in rates.items()), style)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _number(value: float | None) -> str:
    """Three figures."""
    if value is None:
        return "-"
    if value == 0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def _duration(seconds: float) -> str:
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h" if whole < 48 * 3600 else f"{whole // 86400} d"
