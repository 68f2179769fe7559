"""Every query of the dashboards, the rules and the runbooks asks for metrics and labels that a loaded server shows; the JSON is
what the generator writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from assay._core import HAS_NATIVE_TRANSPORT, Card, CardUse
from assay.observe.card_watch import card_families
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.prometheus import RULES, promtool
from tests.support.promql import groupings, metrics, selectors
from tests.support.server import ServeProcess

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
RUNBOOKS = ROOT / "docs" / "operations.md"
FILE_BYTES_MAX = 1 << 20
RULE_LIST: list[dict[str, Any]] = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
RECORDED = {rule["record"] for rule in RULE_LIST if "record" in rule}

# Of Prometheus itself, and what Prometheus adds to every series.
PROMETHEUS_OWN = {"up", "ALERTS"}
PROMETHEUS_LABELS = {"instance", "job", "alertname", "alertstate"}

# What the demo does not show, and why.
ELSEWHERE = {
    "assay_store_away": "a remote store",
    "assay_certificate_expiry_timestamp_seconds": "TLS",
    "assay_gpu_utilization_ratio": "a GPU",
    "assay_gpu_memory_used_bytes": "a GPU",
    "assay_gpu_memory_limit_bytes": "a GPU",
    "assay_gpu_temperature_celsius": "a GPU",
    "assay_gpu_slowdown_temperature_celsius": "a GPU",
    "assay_gpu_throttled": "a GPU",
    "assay_gpu_lost": "a GPU",
    "assay_gpu_xid_errors_total": "a GPU",
    "assay_audit_unshipped_records": "a sink of the audit log",
    "assay_audit_unshipped_bytes": "a sink of the audit log",
    "assay_audit_oldest_unshipped_seconds": "a sink of the audit log",
}
# Shown by assay ingest --kafka: the table of docs/ingestion.md, which test_ingest_kafka.py compares with its page.
INGESTION = set(re.findall(r"^\| `(assay_\w+)` \|", (ROOT / "docs" / "ingestion.md").read_text(), re.MULTILINE))


def queries() -> Iterator[tuple[str, str, str]]:
    """(dashboard and panel, or runbook; expression; legend) of each."""
    for block in re.findall(r"^```promql\n(.*?)^```", RUNBOOKS.read_text(), re.MULTILINE | re.DOTALL):
        yield from ((f"{RUNBOOKS.name}: {line}", line, "") for line in block.splitlines())
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", target["expr"], target["legendFormat"]


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, expression) of each query and rule."""
    yield from ((where, plain(expr)) for where, expr, _ in queries())
    yield from ((rule.get("alert", rule.get("record")), rule["expr"]) for rule in RULE_LIST)


def plain(expression: str) -> str:
    """Without Grafana's variables."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*")


def family_of(metric: str, families: set[str]) -> str:
    """Of a histogram's series, the histogram."""
    base = re.sub(r"_(bucket|sum|count)$", "", metric)
    return base if base in families else metric


@pytest.fixture(scope="module")
def page() -> dict[str, set[str] | None]:
    """Metric -> labels of its samples (None: it has none) on the page of a demo that has answered, refused and failed, and has a
    model on a card."""
    if not HAS_NATIVE_TRANSPORT:
        pytest.skip("this build has no native transport")
    with ServeProcess("--set", "metrics_listen=127.0.0.1:0", "--transport", "native") as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = scoring_pb2_grpc.ScoringServiceStub(channel)
            batch = scoring_pb2.ScoreBatchRequest(requests=[_request("t1"), scoring_pb2.ScoreRequest(transaction_id="t2")])
            answer = stub.ScoreBatch(batch, timeout=10)
            assert [result.HasField("response") for result in answer.results] == [True, False]
            with pytest.raises(grpc.RpcError):
                stub.Score(scoring_pb2.ScoreRequest(), timeout=10)
        with urllib.request.urlopen(f"http://{server.ready['metrics']}/metrics", timeout=20) as scraped:
            text = scraped.read().decode()
    stats = Card().stats()._replace(uses=(CardUse("net", "1", 256, 256),))
    found: dict[str, set[str] | None] = {}
    for family in (*text_string_to_metric_families(text), *card_families({0: stats})):
        name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(family.type, family.name)
        labels = [set(sample.labels) for sample in family.samples]
        found[name] = set.union(*labels) if labels else None
    return found


def _request(transaction_id: str) -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(transaction_id=transaction_id, entities={"customer_id": "596", "terminal_id": "3156"})
    request.event_time.FromJsonString("2018-05-09T10:30:00Z")
    request.features["amount_minor"].int64_value = 5716
    return request


def test_the_dashboards_are_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GRAFANA / "build.py", tmp_path], check=True, timeout=60)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in DASHBOARDS}
    assert len(made) == 5
    assert all(len(text) < FILE_BYTES_MAX for text in made.values())


def test_panels_have_places_and_names_of_their_own() -> None:
    uids = set()
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        uids.add(dashboard["uid"])
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        cells: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            own = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            assert place["x"] + place["w"] <= 24
            assert not own & cells, f"{path.stem}: {panel['title']} lies over another"
            cells |= own
    assert len(uids) == len(DASHBOARDS)


def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": plain(expr)} for number, (_, expr, _) in enumerate(queries())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "rules.yml")


def test_a_metric_that_nobody_shows_is_found() -> None:
    expression = 'sum by (reason) (rate(assay_no_such_total{reason=~"up|max"}[5m])) > on (instance) 0.5 * up offset 5m'
    assert list(selectors(expression)) == [("assay_no_such_total", {"reason"}), ("up", set())]


def test_every_metric_that_is_asked_for_is_shown(page: dict[str, set[str] | None]) -> None:
    asked = {where: metrics(plain(expr)) for where, expr, _ in queries()}
    asked |= {rule.get("alert", rule.get("record")): metrics(rule["expr"]) for rule in RULE_LIST}
    shown = page.keys() | RECORDED | PROMETHEUS_OWN | ELSEWHERE.keys() | INGESTION
    unknown = {where: {name for name in names if family_of(name, shown) not in shown} for where, names in asked.items()}
    assert {where: names for where, names in unknown.items() if names} == {}


def test_what_is_shown_elsewhere_is_not_shown_here(page: dict[str, set[str] | None]) -> None:
    """The lists of exceptions grow stale otherwise."""
    assert page.keys() & ELSEWHERE.keys() == set()
    every = {name for _, expr, _ in queries() for name in metrics(plain(expr))} | {
        name for rule in RULE_LIST for name in metrics(rule["expr"])
    }
    assert ELSEWHERE.keys() <= every


def test_what_a_grouping_groups_is_found() -> None:
    expression = "sum by (le, model) (rate(assay_a_total[5m])) / count by (job) (up)"
    assert list(groupings(expression)) == [({"le", "model"}, "rate(assay_a_total[5m])"), ({"job"}, "up")]


def test_every_label_that_is_asked_for_is_there(page: dict[str, set[str] | None]) -> None:
    for where, expression in expressions():
        for metric, labels in selectors(expression):
            name = family_of(metric, page.keys())
            there = page.get(name)
            if there is None:
                continue
            assert labels - PROMETHEUS_LABELS - {"le"} <= there, f"{where}: {metric}"


def test_groupings_name_labels_that_what_they_group_has(page: dict[str, set[str] | None]) -> None:
    """Prometheus takes any label, and groups by nothing."""
    for where, expression in expressions():
        for labels, grouped in groupings(expression):
            there = [page.get(family_of(name, page.keys())) for name in metrics(grouped)]
            if all(labels_of is not None for labels_of in there):
                assert labels - PROMETHEUS_LABELS - {"le"} <= set.union(*(labels_of or set() for labels_of in there)), where


def test_legends_name_labels_that_the_query_keeps(page: dict[str, set[str] | None]) -> None:
    for where, expression, legend in queries():
        named = set(re.findall(r"\{\{(\w+)\}\}", legend)) - PROMETHEUS_LABELS
        grouped = [set(re.findall(r"\w+", group)) for group in re.findall(r"\b(?:by) \(([^)]*)\)", expression)]
        kept = set.union(*grouped) if grouped else None
        if kept is None:
            (metric, *_) = metrics(plain(expression))
            there = page.get(family_of(metric, page.keys()))
            if there is None:
                continue
            kept = there
        assert named <= kept, where
