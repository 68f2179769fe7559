"""How a dashboard is laid out, and the queries that are written again and again.

A dashboard is rows of panels, a panel is queries. What is the same everywhere (sizes, variables, colours) stands here once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH = 24  # of Grafana's grid
SOURCE = {"type": "prometheus", "uid": "${source}"}
SERVERS = 'instance=~"$instance"'
SERVER_JOB = 'job="assay"'
ANSWERED = 'outcome="answered"'
RUNBOOKS = "https://github.com/assay-scoring/assay/blob/main/docs/operations.md"


@dataclass(frozen=True)
class Query:
    """A PromQL expression and how its lines are named ({{label}})."""

    expr: str
    legend: str = "{{instance}}"


@dataclass(frozen=True)
class Panel:
    """`unit`: Grafana's name of it. `kind`: timeseries, stat or table. `thresholds`: values at which it turns yellow, red."""

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    about: str = ""
    width: int = 8
    stacked: bool = False
    thresholds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Row:
    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    name: str
    title: str
    rows: Sequence[Row] = field(default_factory=tuple)


def rate(metric: str, by: str, labels: str = "") -> str:
    """The rate of a counter, summed by labels."""
    return f"sum by ({by}) (rate({metric}{{{_join(labels)}}}[$__rate_interval]))"


def quantile(q: float, histogram: str, by: str, labels: str = "") -> str:
    return f"histogram_quantile({q}, {rate(histogram + '_bucket', f'le, {by}', labels)})"


def mean(histogram: str, by: str, labels: str = "") -> str:
    return f"{rate(histogram + '_sum', by, labels)} / {rate(histogram + '_count', by, labels)}"


def now(metric: str, labels: str = "") -> str:
    return f"{metric}{{{_join(labels)}}}"


def _join(labels: str) -> str:
    return f"{SERVERS}, {labels}" if labels else SERVERS


def render(dashboard: Dashboard) -> str:
    """The JSON file, byte for byte."""
    model = {
        "uid": f"assay-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["assay"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "links": [
            {
                "type": "dashboards",
                "title": "assay",
                "tags": ["assay"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            },
            {"type": "link", "title": "runbooks", "url": RUNBOOKS, "targetBlank": True},
        ],
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": list(_panels(dashboard.rows)),
    }
    return json.dumps(model, indent=1, sort_keys=True) + "\n"


# --- implementation ---


def _variables() -> list[dict[str, Any]]:
    instances = 'label_values({__name__=~"up|assay_ingestion_away", job=~"assay|assay-ingestion"}, instance)'
    return [
        {"name": "source", "label": "data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "instance",
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": instances, "refId": "instances"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        },
    ]


def _panels(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Left to right, then down; a row's title is a panel too."""
    number, top = 1, 0
    for row in rows:
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": _place(0, top, WIDTH, 1),
        }
        number, top, left, lowest = number + 1, top + 1, 0, top + 1
        for panel in row.panels:
            height = 4 if panel.kind == "stat" else 8
            if left + panel.width > WIDTH:
                left, top = 0, lowest
            yield {"id": number, "gridPos": _place(left, top, panel.width, height), **_panel(panel)}
            number, left, lowest = number + 1, left + panel.width, max(lowest, top + height)
        top = lowest


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for color, value in zip(("yellow", "red"), panel.thresholds, strict=False)]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 0,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
            "showPoints": "never",
        }
    targets = [
        {
            "refId": chr(ord("A") + place),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "instant": panel.kind != "timeseries",
            "range": panel.kind == "timeseries",
            "format": "table" if panel.kind == "table" else "time_series",
        }
        for place, query in enumerate(panel.queries)
    ]
    made = {
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }
    return {**made, "description": panel.about} if panel.about else made
