"""Debian's real Prometheus in a process of its own, and the project's rules with a shorter day."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules" / "assay.yml"
WAIT_S = 30.0
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def need(program: str) -> str:
    """Its path; skips where Debian's package prometheus is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed (Debian: prometheus)")
    return path


def promtool(*arguments: str | Path) -> str:
    """What it says; it must have nothing to complain about."""
    command = [need("promtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shortened(rules: str) -> str:
    """The same rules for a test of seconds: [5m] is [10s], every other range as much shorter but at least [5s]; `for` and
    `keep_firing_for` take a 120th (2m: 1s), from one second to five; groups are evaluated every second. Expressions and
    bounds are as they were."""
    document = yaml.safe_load(rules)
    for group in document["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"\[(\d+[smhd])\]", lambda found: f"[{_seconds(found[1], 30, 5)}s]", rule["expr"])
            for wait in {"for", "keep_firing_for"} & rule.keys():
                rule[wait] = f"{min(_seconds(rule[wait], 120, 1), 5)}s"
    return yaml.safe_dump(document, sort_keys=False)


def _seconds(duration: str, factor: int, seconds_min: int) -> int:
    return max(seconds_min, int(duration[:-1]) * SECONDS[duration[-1]] // factor)


class Prometheus:
    """Scrapes `targets` (name -> HOST:PORT; the name is the label `role`) every second as job assay, with the shortened rules."""

    def __init__(self, directory: Path, targets: Mapping[str, str]) -> None:
        (directory / "rules.yml").write_text(shortened(RULES.read_text()))
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": "assay",
                    "static_configs": [{"targets": [address], "labels": {"instance": name}} for name, address in targets.items()],
                }
            ],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        command = [need("prometheus"), f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1d"]
        command += [f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}"]
        self._log = (directory / "log").open("w+")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)

    def wait_ready(self) -> None:
        self.wait_for(lambda: self._is_ready(), "it is ready")

    def rule_names(self) -> dict[str, str]:
        """Alert or record -> its health: ok, err, unknown (not evaluated yet)."""
        groups = self._get("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant vector: [{"metric": labels, "value": [time, text]}]."""
        result: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return result

    def firing(self) -> set[tuple[str, str]]:
        """(alert, instance) of all that fire now."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
            for alert in self._get("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def ever_fired(self) -> set[tuple[str, str]]:
        """(alert, instance) of all that have fired since the start, for however short a time."""
        found = self.query('max_over_time(ALERTS{alertstate="firing"}[10m])')
        return {(row["metric"]["alertname"], row["metric"].get("instance", "")) for row in found}

    def wait_for(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert self._process.poll() is None, self._said()
            assert time.monotonic() < deadline, f"waited {WAIT_S:g} s in vain: {what}\n{self._said()}"
            time.sleep(0.2)

    def wait_firing(self, alert: str, instance: str) -> None:
        self.wait_for(lambda: (alert, instance) in self.firing(), f"{alert} fires for {instance}")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)
        self._log.close()

    # --- implementation ---

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
            return json.load(answer)["data"]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=WAIT_S) as answer:
                return int(answer.status) == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-4000:]
