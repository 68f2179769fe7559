"""/metrics as Prometheus sees it: its numbers are what was sent, its names are what docs/observability.md says."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from assay._core import HAS_NATIVE_TRANSPORT, STAGES, Card
from assay.cli.top_page import parse_fine
from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TERMINAL_ID, DEMO_TIME
from assay.errors import ConfigError
from assay.observe import metrics_server
from assay.observe.audit_metrics import shipping_families
from assay.observe.card_watch import card_families
from assay.observe.gpu import GpuWatch
from assay.observe.latencies import middle_s
from assay.observe.metrics import remote_store_families, security_families
from assay.observe.metrics_server import open_metrics
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.fake_nvml import FakeCard, FakeNvml
from tests.support.server import LocalServer, ServeProcess, make_request, wait_until

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "observability.md"
CARD_NUMBER = "4111111111111111"


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        page: str = answer.read().decode()
        return page


def demo_request() -> scoring_pb2.ScoreRequest:
    entities = {"customer_id": DEMO_CUSTOMER_ID, "terminal_id": DEMO_TERMINAL_ID}
    request = scoring_pb2.ScoreRequest(transaction_id="t", entities=entities)
    request.event_time.FromDatetime(DEMO_TIME)
    request.features["amount_minor"].int64_value = 5716
    return request


class Page:
    """A scraped page; value("name", label="...") finds one sample."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self._samples[name, tuple(sorted(labels.items()))]

    def sum(self, name: str) -> float:
        return sum(value for (found, _), value in self._samples.items() if found == name)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(metrics_listen="127.0.0.1:0") as server:
        yield server


def page_of(server: LocalServer) -> Page:
    assert server.telemetry.metrics_address
    return Page(scrape(server.telemetry.metrics_address))


@pytest.fixture(scope="module")
def demo() -> Iterator[ServeProcess]:
    """As a user starts it, but for the port of /metrics."""
    # The native transport has metrics that grpcio has not, and all that it has.
    if not HAS_NATIVE_TRANSPORT:
        pytest.skip("this build has no native transport")
    with ServeProcess("--set", "metrics_listen=127.0.0.1:0", "--transport", "native") as server:
        yield server


def test_the_page_counts_what_was_sent(server: LocalServer) -> None:
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    for i in range(5):
        stub.Score(make_request(f"t{i}"), timeout=10)
    requests = [make_request(f"b{i}", amount_minor=i) for i in range(40)]
    requests[7].features["amount_minor"].double_value = 1.0
    stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=requests), timeout=10)
    list(stub.ScoreStream((scoring_pb2.ScoreStreamRequest(request=make_request(f"s{i}")) for i in range(3)), timeout=10))
    server.puppet.fail_next(1)
    for request in (make_request("fails"), make_request("refused", model="none"), make_request("refused", model="none")):
        with pytest.raises(grpc.RpcError):
            stub.Score(request, timeout=10)
    page = page_of(server)
    of = {"model": "puppet", "version": "1"}
    one, many = {**of, "priority": "interactive"}, {**of, "priority": "bulk"}
    assert page.value("assay_accepted_rows_total") == 5 + 40 + 3 + 1
    assert page.value("assay_rows_total", outcome="answered") == 5 + 39 + 3
    assert page.value("assay_rows_total", outcome="failed") == 2
    assert page.value("assay_failed_rows_total", reason="INVALID_REQUEST") == 1
    assert page.value("assay_failed_rows_total", reason="MODEL_RUN_FAILED") == 1
    assert page.value("assay_refused_calls_total", reason="UNKNOWN_MODEL") == 2
    assert page.sum("assay_rows_total") == page.value("assay_accepted_rows_total")
    assert page.value("inference_latency_seconds_count", **one) == 5 + 3
    assert page.value("inference_latency_seconds_count", **many) == 39  # a batch is bulk
    assert page.value("inference_latency_seconds_bucket", le="+Inf", **many) == 39
    stages = [page.value("assay_stage_seconds_sum", stage=stage, **of) for stage, _, _ in STAGES]
    assert sum(stages) == pytest.approx(page.sum("inference_latency_seconds_sum"), rel=1e-9)  # they leave nothing out
    for stage, _, _ in STAGES:
        explained = 0  # nobody asked
        assert page.value("assay_stage_seconds_count", stage=stage, **of) == (explained if stage == "explain" else 5 + 39 + 3)
    assert page.value("assay_batch_rows_sum", **of) == server.engine.stats().batched_rows
    assert page.value("assay_batch_rows_count", **of) == server.engine.stats().batch_count
    assert page.value("assay_slots_used") == 0


def test_the_reads_of_the_post_mortems_rule_stand_on_the_page(server: LocalServer) -> None:
    """histogram_quantile(0.99, sum(rate(inference_latency_seconds_bucket[5m])) by (le)) > 0.5: the bound must be a bucket's."""
    page = page_of(server)
    samples = page.families["inference_latency_seconds"].samples
    bounds = [
        float(sample.labels["le"]) for sample in samples if sample.labels.get("priority") == "bulk" and "le" in sample.labels
    ]
    assert bounds == sorted(set(bounds))
    assert {0.5, 0.012, float("inf")} <= set(bounds)


def test_every_metric_stands_in_the_document_and_the_other_way_round(demo: ServeProcess) -> None:
    with grpc.insecure_channel(demo.target) as channel, pytest.raises(grpc.RpcError):  # so that the tables by reason have a row
        scoring_pb2_grpc.ScoringServiceStub(channel).Score(scoring_pb2.ScoreRequest(), timeout=10)
    page = Page(scrape(demo.ready["metrics"]))
    # What this server has no use for: a store elsewhere, a certificate, a sink of its audit log, cards.
    gpus = GpuWatch(FakeNvml(FakeCard()))
    wait_until(lambda: bool(list(gpus.families())), "the first reading")
    elsewhere = [*remote_store_families(False), *security_families({}, datetime.now(UTC), {}), *gpus.families()]
    elsewhere += [*shipping_families(0, 0, 0.0), *card_families({0: Card().stats()})]
    gpus.close()
    live = {}
    for family in [*elsewhere, *page.families.values()]:
        name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(family.type, family.name)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        live[name] = ("gauge" if family.type == "info" else family.type, labels)
    rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", DOCUMENT.read_text(), re.MULTILINE)
    said = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert set(said) == set(live)
    for name, (kind, labels) in live.items():
        assert said[name][0] == kind, name
        assert labels <= said[name][1], name  # a family without samples shows no labels
        if page.text.count(f"\n{name}{{"):
            assert labels == said[name][1], name


def test_promtool_has_nothing_to_say(demo: ServeProcess) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    page = scrape(demo.ready["metrics"])
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_openmetrics_is_spoken_to_those_who_ask(demo: ServeProcess) -> None:
    request = urllib.request.Request(
        f"http://{demo.ready['metrics']}/metrics", headers={"Accept": "application/openmetrics-text"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.read().endswith(b"# EOF\n")


def test_nothing_that_a_client_chose_becomes_a_label(demo: ServeProcess) -> None:
    with grpc.insecure_channel(demo.target) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        for fields in ({"model": CARD_NUMBER}, {"version": CARD_NUMBER}, {"entities": {CARD_NUMBER: CARD_NUMBER}}, {}):
            with pytest.raises(grpc.RpcError):
                stub.Score(
                    scoring_pb2.ScoreRequest(transaction_id=CARD_NUMBER, **fields),
                    metadata=[(f"x{CARD_NUMBER}", "x")],
                    timeout=10,
                )
    assert CARD_NUMBER not in scrape(demo.ready["metrics"])


def test_a_busy_default_port_costs_a_line_and_a_busy_named_one_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(metrics_server, "DEFAULT_ADDRESS", address)
        assert open_metrics("auto", (), reuse_port=False) is None
        assert "no metrics" in caplog.text
        with pytest.raises(ConfigError, match=rf"metrics_listen: {re.escape(address)} cannot be bound"):
            open_metrics(address, (), reuse_port=False)
    assert open_metrics("off", (), reuse_port=False) is None
    with pytest.raises(ConfigError, match="metrics_listen"):
        open_metrics("no.such.host.invalid:1", (), reuse_port=False)


def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        server = open_metrics("[::1]:0", (), reuse_port=False)
    except ConfigError:
        pytest.skip("no IPv6 loopback here")
    assert server is not None
    assert "process_cpu_seconds_total" in scrape(server.address)
    server.close()


def test_models_and_build_are_told(demo: ServeProcess) -> None:
    families: dict[str, Any] = Page(scrape(demo.ready["metrics"])).families
    (model,) = families["assay_model_info"].samples
    assert (model.labels["model"], model.labels["version"]) == ("card_fraud", "1")
    assert re.fullmatch("[0-9a-f]{64}", model.labels["sha256"])
    (build,) = families["assay_build_info"].samples
    assert set(build.labels) == {"version", "compiler", "onnxruntime"}


def test_latencies_are_those_of_the_page(server: LocalServer) -> None:
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    for i in range(20):
        stub.Score(make_request(f"t{i}"), timeout=10)
    page = page_of(server)
    assert server.telemetry.metrics_address
    with urllib.request.urlopen(f"http://{server.telemetry.metrics_address}/latencies", timeout=20) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        fine = parse_fine(answer.read())
    assert set(fine) == {"inference_latency_seconds", "assay_stage_seconds"}
    for name, histograms in fine.items():
        for labels, counts in histograms.items():
            of = dict(labels)
            if of.get("priority") == "shadow":
                continue
            assert sum(counts.values()) == page.value(f"{name}_count", **of)
            mean_s = sum(count * middle_s(index) for index, count in counts.items())
            assert mean_s == pytest.approx(page.value(f"{name}_sum", **of), rel=0.016, abs=1e-12)


def test_top_tells_of_a_live_server(demo: ServeProcess) -> None:
    command = [sys.executable, "-m", "assay", "top", "--metrics", demo.ready["metrics"], "--interval", "0.3", "--once"]
    as_text = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    as_json = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
    with grpc.insecure_channel(demo.target) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        while as_json.poll() is None or as_text.poll() is None:
            stub.Score(demo_request(), timeout=10)
    text, document = as_text.communicate()[0], json.loads(as_json.communicate()[0])
    assert (as_text.returncode, as_json.returncode) == (0, 0)
    assert "card_fraud 1" in text
    (model,) = document["models"]
    assert (model["model"], model["version"]) == ("card_fraud", "1")
    assert model["scores_per_s"] > 0
    assert 0 < model["total_ms"]["p50"] <= model["total_ms"]["p99_9"]
    assert document["rows_per_s"]["answered"] == pytest.approx(model["scores_per_s"], rel=0.01)


def test_top_redraws_a_terminal_until_it_is_stopped(demo: ServeProcess) -> None:
    own, terminal = pty.openpty()
    command = [sys.executable, "-m", "assay", "top", "--metrics", demo.ready["metrics"], "--interval", "0.1"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    while shown.count(b"card_fraud 1") < 3:  # a look each
        shown += os.read(own, 65536)
    process.send_signal(signal.SIGINT)
    with suppress(OSError):  # EIO: the other end is closed
        while os.read(own, 65536):
            continue
    os.close(own)
    assert process.wait(20) == 130


def test_top_says_where_nobody_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "assay", "top", "--metrics", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3
    assert "http://127.0.0.1:1/metrics cannot be read" in done.stderr
    assert "metrics_listen" in done.stderr
