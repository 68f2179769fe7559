"""The rules of deploy/prometheus: promtool takes them and their tests, with real durations; each alert has both kinds of test, a
runbook, and names the server. tests/integration/test_prometheus.py sees them fire."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay._core import CODE_TABLE
from tests.support.headings import anchors
from tests.support.prometheus import RULES, promtool, shortened

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
RUNBOOKS = ROOT / "docs" / "operations.md"
ADDRESS = "https://github.com/assay-scoring/assay/blob/main/docs/operations.md#"
WITHOUT_INSTANCE = {"AssayHasNoServers"}  # there is none
ALL_RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL_RULES if "alert" in rule}


def expectations() -> list[dict[str, Any]]:
    """Every check of an alert in the promtool tests."""
    return [
        check for path in TESTS for test in yaml.safe_load(path.read_text())["tests"] for check in test.get("alert_rule_test", [])
    ]


def test_promtool_takes_rules_and_configuration(tmp_path: Path) -> None:
    promtool("check", "rules", RULES)
    promtool("check", "config", FOLDER / "prometheus.yml")
    (tmp_path / "rules.yml").write_text(shortened(RULES.read_text()))
    promtool("check", "rules", tmp_path / "rules.yml")


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda path: promtool("test", "rules", path), TESTS))
    assert len(said) == len(TESTS) > 0
    assert all("SUCCESS" in text for text in said)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_test_that_it_fires_and_one_that_it_does_not(alert: str) -> None:
    checks = [bool(check["exp_alerts"]) for check in expectations() if check["alertname"] == alert]
    assert set(checks) == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_names_its_server_and_its_runbook(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert f"{address}#" == ADDRESS
    assert anchor == alert.lower()
    assert anchor in anchors(RUNBOOKS)
    if alert in WITHOUT_INSTANCE:
        return
    assert "$labels.instance" in rule["annotations"]["summary"]
    fired = [expected for check in expectations() if check["alertname"] == alert for expected in check["exp_alerts"]]
    assert all(expected["exp_labels"].get("instance") for expected in fired)


def test_every_runbook_is_of_an_alert_that_exists() -> None:
    text = RUNBOOKS.read_text()
    runbooks = text[text.index("\n## Runbooks\n") : text.index("\n## What a degradation means\n")]
    assert sorted(re.findall(r"^#### (\w+)$", runbooks, re.MULTILINE)) == sorted(ALERTS)


def test_the_alerts_of_the_post_mortem_are_its_own() -> None:
    latency = ALERTS["HighInferenceLatency"]
    quantile = "histogram_quantile(0.99, sum(rate(inference_latency_seconds_bucket[5m])) by (le, instance)) > 0.5"
    assert (latency["expr"], latency["for"], latency["labels"]) == (quantile, "2m", {"severity": "warning"})
    drift = ALERTS["PredictionDrift"]
    assert (drift["expr"], drift["for"], drift["labels"]) == (
        "model_prediction_drift_score > 0.15",
        "10m",
        {"severity": "critical"},
    )
    assert ALERTS["Inference_Service_Down"]["labels"] == {"severity": "critical"}


def test_what_counts_as_the_callers_fault_is_refused_as_such() -> None:
    (recorded,) = [rule["expr"] for rule in ALL_RULES if rule.get("record") == "instance:assay_unanswered_rows:rate5m"]
    (reasons,) = re.findall(r'reason=~"([A-Z_|]+)"', recorded)
    codes = {row.reason: row.grpc_code for row in CODE_TABLE}
    assert {codes[reason] for reason in reasons.split("|")} == {3}  # INVALID_ARGUMENT


def test_reasons_in_the_rules_are_codes() -> None:
    known = {row.reason for row in CODE_TABLE}
    for rule in ALL_RULES:
        for reasons in re.findall(r'reason=~"([A-Z_|.*]+)"', rule["expr"]):
            for reason in reasons.split("|"):
                assert any(re.fullmatch(reason, code) for code in known), f"{reason} in {rule}"


def test_a_shorter_day_changes_nothing_but_time() -> None:
    made = yaml.safe_load(shortened(RULES.read_text()))
    after = [rule for group in made["groups"] for rule in group["rules"]]
    assert len(after) == len(ALL_RULES)
    for rule, short in zip(ALL_RULES, after, strict=True):
        assert re.sub(r"\[\w+\]", "[]", rule["expr"]) == re.sub(r"\[\w+\]", "[]", short["expr"])
        assert {key: rule[key] for key in ("alert", "record", "labels", "annotations") if key in rule} == {
            key: short[key] for key in ("alert", "record", "labels", "annotations") if key in short
        }
