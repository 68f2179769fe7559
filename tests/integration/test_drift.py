"""Drift on a real server: an hour of ordinary payments raises nothing, alerts that rise tenfold and another population do; what
GetDrift says is what /metrics says, and what the commands show."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from assay.cli.drift import app
from assay.demo.history import DEMO_PARAMETERS, DEMO_TIME
from assay.demo.simulator import Transactions, simulate
from assay.observe.drift import SCORES_MIN, DriftWatch
from assay.transport.worker import HELD_ITEMS_MAX
from assay.v1 import drift_pb2, drift_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.integration.test_metrics_page import Page, scrape
from tests.support.server import WAIT_S, LocalServer, ServeProcess, make_request, reason_of, status_of, wait_until

CALL_ROWS = 500
LINE = 0.15  # PredictionDrift of docs/observability.md
OF = {"model": "card_fraud", "version": "1"}
BASELINE_RATE = 0.0064  # of the demo's challenge


def demo_payments() -> Transactions:
    """What comes after the demo's history: the rest of its last day, 4,755 payments; 2,000 of them in the first 3.3 hours."""
    payments = simulate(DEMO_PARAMETERS)
    return payments.select(payments.seconds >= int((DEMO_TIME - payments.midnight).total_seconds()))


PAYMENTS = demo_payments()
MIDNIGHT = int(PAYMENTS.midnight.timestamp())


def request_of(position: int, amount_factor: float = 1.0) -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(transaction_id=f"later-{position}")
    request.event_time.FromSeconds(MIDNIGHT + int(PAYMENTS.seconds[position]))
    request.entities["customer_id"] = str(PAYMENTS.customer_ids[position])
    request.entities["terminal_id"] = str(PAYMENTS.terminal_ids[position])
    request.features["amount_minor"].int64_value = round(float(PAYMENTS.amounts_cents[position]) * amount_factor)
    return request


def score(target: str, requests: list[scoring_pb2.ScoreRequest]) -> NDArray[np.float64]:
    scores: list[float] = []
    with grpc.insecure_channel(target) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        for first in range(0, len(requests), CALL_ROWS):
            message = scoring_pb2.ScoreBatchRequest(requests=requests[first : first + CALL_ROWS])
            results = stub.ScoreBatch(message, timeout=WAIT_S).results
            assert all(result.response.HasField("score") for result in results)
            scores += [result.response.score for result in results]
    return np.array(scores)


def get_drift(target: str, **fields: str) -> drift_pb2.GetDriftResponse:
    with grpc.insecure_channel(target) as channel:
        answer: drift_pb2.GetDriftResponse = drift_pb2_grpc.DriftServiceStub(channel).GetDrift(
            drift_pb2.GetDriftRequest(**fields), timeout=WAIT_S
        )
        return answer


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@contextmanager
def demo(transport: str) -> Iterator[ServeProcess]:
    with ServeProcess("--transport", transport, "--set", "metrics_listen=127.0.0.1:0") as server:
        yield server


class Shown(HTMLParser):
    """What a page says, and what it would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def alarms(page: Page) -> set[str]:
    """Which of the two alerts would be raised: PredictionDrift, and AlertRate of docs/drift.md."""
    found = {"drift"} if page.value("model_prediction_drift_score", **OF) > LINE else set()
    for decision in ("challenge", "review", "decline"):
        of = {**OF, "decision": decision}
        if page.value("assay_alert_rate_ratio", **of) > max(2.0, page.value("assay_alert_rate_ratio_high", **of)):
            found.add("alerts")
    return found


def test_a_normal_hour_is_quiet_and_a_burst_and_a_shift_are_not(transport: str, tmp_path: Path) -> None:
    with demo(transport) as server:

        def page() -> Page:
            return Page(scrape(server.ready["metrics"]))

        # Too few for any value.
        normal = list(score(server.target, [request_of(position) for position in range(CALL_ROWS)]))
        assert page().value("assay_drift_window_scores", **OF) == CALL_ROWS
        assert not page().families["model_prediction_drift_score"].samples
        assert "no values: 500 of 1,000 scores" in run("show", "--target", server.admin_target).stdout
        assert run("report", "--target", server.admin_target, "--out", tmp_path / "few.html").exit_code == 0
        assert "No values yet: 500 of 1,000 scores" in Shown((tmp_path / "few.html").read_text()).text

        # A normal hour.
        normal += list(score(server.target, [request_of(position) for position in range(CALL_ROWS, 2_000)]))
        assert alarms(page()) == set()
        assert page().value("model_prediction_drift_score", **OF) < LINE / 5
        assert page().value("assay_input_drift_score", feature="amount", **OF) < 0.05
        quiet = run("show", "--target", server.admin_target)
        assert "under the line of 0.15" in quiet.stdout
        assert quiet.stdout.count("as chance has it") == 3
        assert "follows the clock" in quiet.stdout

        # Fraud, ten times as much of it: the payments that alerted come again and again.
        alerting = np.flatnonzero(np.array(normal) >= 0.3)
        share = 10 * BASELINE_RATE
        more = round((share * len(normal) - len(alerting)) / (1 - share))
        score(server.target, [request_of(int(alerting[index % len(alerting)])) for index in range(more)])
        burst = page()
        assert alarms(burst) >= {"alerts"}
        assert burst.value("assay_alert_rate_ratio", decision="challenge", **OF) == pytest.approx(10, rel=0.02)
        answer = get_drift(server.admin_target)
        assert answer.score_decile_psi < 0.1  # deciles see next to nothing
        assert "many more than chance explains" in run("show", "--target", server.admin_target).stdout

        # Amounts in another unit: another population.
        score(server.target, [request_of(position, 2.0) for position in range(2_000)])
        assert alarms(page()) == {"drift", "alerts"}
        assert page().value("assay_input_drift_score", feature="amount", **OF) > LINE

        # Everywhere the same numbers.
        answer, last = get_drift(server.admin_target), page()
        assert last.value("model_prediction_drift_score", **OF) == answer.prediction_drift_score
        assert answer.prediction_drift_score == max(answer.score_psi, answer.score_decile_psi)
        assert last.value("assay_drift_window_scores", **OF) == answer.window_scores == sum(answer.score.window_counts)
        for one in answer.inputs:
            assert last.value("assay_input_drift_score", feature=one.name, **OF) == one.psi
            assert sum(one.window_counts) + one.window_nulls == answer.window_scores
            assert sum(one.baseline_counts) + one.baseline_nulls == answer.baseline_rows == 271_892
            imputed = last.value("assay_imputed_values_total", feature=one.name, **OF)
            assert imputed == one.window_imputed  # the window is all there was
        assert {one.name for one in answer.inputs if one.follows_clock} == {"is_weekend", "is_night"}
        for alert in answer.alerts:
            of = {**OF, "decision": alert.decision}
            assert last.value("assay_alert_rate_ratio", **of) == alert.ratio
            assert last.value("assay_alert_rate_ratio_low", **of) == alert.ratio_low
            assert last.value("assay_alert_rate_ratio_high", **of) == alert.ratio_high
        shown = json.loads(run("show", "--target", server.admin_target, "--json").stdout)
        assert shown["prediction_drift_score"] == answer.prediction_drift_score
        assert [one["psi"] for one in shown["inputs"]] == [one.psi for one in answer.inputs]
        assert shown["alerts"][0]["ratio"] == answer.alerts[0].ratio
        check_page(server, tmp_path / "drift.html", answer)


def check_page(server: ServeProcess, path: Path, answer: drift_pb2.GetDriftResponse) -> None:
    assert run("report", "--target", server.admin_target, "--out", path).exit_code == 0
    page = Shown(path.read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 2 + len(answer.inputs)  # the score, its upper end, each input
    assert page.fetched == []
    assert "script" not in page.tags
    assert f"Prediction drift {answer.prediction_drift_score:.3f} : over the line of 0.15" in page.text
    for one in answer.inputs:
        assert f"{one.name} PSI {one.psi:.3f}:" in page.text
    amount = next(one for one in answer.inputs if one.name == "amount")
    first = f"{amount.baseline_counts[3] / answer.baseline_rows:.3%} of the baseline"
    now = f"{amount.window_counts[3] / answer.window_scores:.3%} now"
    assert f"10.3 to 18.3: {first}, {now}" in page.text


@pytest.fixture(scope="module")
def plain(transport: str) -> Iterator[LocalServer]:
    """A server whose model has no baseline."""
    with LocalServer(metrics_listen="127.0.0.1:0") as server:
        yield server


def test_a_model_without_a_baseline_has_no_drift(plain: LocalServer) -> None:
    stub = scoring_pb2_grpc.ScoringServiceStub(plain.channel())
    stub.ScoreBatch(
        scoring_pb2.ScoreBatchRequest(requests=[make_request(f"t{number}") for number in range(SCORES_MIN)]), timeout=WAIT_S
    )
    target = f"unix:{plain.addresses.admin}"
    answer = get_drift(target)
    assert (answer.provenance.model, answer.baseline_rows, answer.window_scores) == ("puppet", 0, 0)
    assert not answer.HasField("prediction_drift_score")
    assert "no values: the model has no baseline" in run("show", "--target", target).stdout
    assert json.loads(run("show", "--target", target, "--json").stdout)["prediction_drift_score"] is None
    assert plain.telemetry.metrics_address
    page = Page(scrape(plain.telemetry.metrics_address))
    for name in ("model_prediction_drift_score", "assay_input_drift_score", "assay_drift_window_scores", "assay_imputed_values"):
        assert not page.families[name].samples


def test_other_models_are_unknown_and_other_bytes_malformed(plain: LocalServer) -> None:
    stub = drift_pb2_grpc.DriftServiceStub(plain.admin_channel())
    for fields, reason in (({"model": "none"}, "UNKNOWN_MODEL"), ({"version": "9"}, "UNKNOWN_VERSION")):
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetDrift(drift_pb2.GetDriftRequest(**fields), timeout=WAIT_S)
        assert reason_of(status_of(caught.value)) == reason
    with pytest.raises(grpc.RpcError) as caught:
        plain.admin_channel().unary_unary("/assay.v1.DriftService/GetDrift")(b"\xff", timeout=WAIT_S)
    assert reason_of(status_of(caught.value)) == "MALFORMED_MESSAGE"


def test_the_public_listener_does_not_answer(plain: LocalServer) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        drift_pb2_grpc.DriftServiceStub(plain.channel()).GetDrift(drift_pb2.GetDriftRequest(), timeout=WAIT_S)
    assert reason_of(status_of(caught.value)) == "WRONG_LISTENER"
    shown = run("show", "--target", plain.addresses.public)
    assert shown.exit_code == 1
    assert "the admin listener answers this" in " ".join(shown.output.split())


def test_at_most_so_many_calls_wait(plain: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(DriftWatch, "report", lambda *_: release.wait(WAIT_S) and None)
    stub = drift_pb2_grpc.DriftServiceStub(plain.admin_channel())
    request = drift_pb2.GetDriftRequest()
    waiting = [stub.GetDrift.future(request, timeout=WAIT_S) for _ in range(HELD_ITEMS_MAX)]
    wait_until(lambda: plain.held_count() == HELD_ITEMS_MAX, "all calls have come")
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetDrift(request, timeout=WAIT_S)
    assert reason_of(status_of(caught.value)) == "QUEUE_FULL"
    release.set()
    assert {call.result(WAIT_S).baseline_rows for call in waiting} == {0}


EVIL = "a\x1b[2Jb[/x]<script>c\nFORGED"


def test_what_a_server_says_is_shown_as_text(tmp_path: Path) -> None:
    answer = drift_pb2.GetDriftResponse(baseline_rows=5_000, window_scores=2_000, scores_min=1_000, prediction_drift_score=0.2)
    answer.provenance.model = answer.provenance.version = EVIL
    answer.score.MergeFrom(drift_pb2.BinsDrift(name=EVIL, baseline_counts=[5_000], window_counts=[2_000], psi=0.0))
    answer.inputs.add(name=EVIL, edges=[1.0], baseline_counts=[5_000, 0], window_counts=[0, 2_000], psi=1.0)
    answer.alerts.add(decision=EVIL, baseline_rate=0.1, window_alerts=100, ratio=0.5, ratio_low=0.9, ratio_high=1.1)
    with answering(answer) as target:
        shown = run("show", "--target", target)
        assert (shown.exit_code, "\x1b" in shown.output) == (0, False), shown.output
        assert shown.output.count("a\\x1b[2Jb[/x]") == 4
        assert not [line for line in shown.output.splitlines() if line.startswith("FORGED")]
        assert "fewer than chance explains" in shown.output
        assert run("report", "--target", target, "--out", tmp_path / "page.html").exit_code == 0
    page = Shown((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "another population" in page.text


@contextmanager
def answering(answer: drift_pb2.GetDriftResponse) -> Iterator[str]:
    """The target of a server that answers so."""
    servicer = drift_pb2_grpc.DriftServiceServicer()
    servicer.GetDrift = lambda _request, _context: answer
    server = grpc.server(ThreadPoolExecutor(1))
    drift_pb2_grpc.add_DriftServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_a_page_that_cannot_be_written_and_a_server_that_is_not_there(tmp_path: Path) -> None:
    with answering(drift_pb2.GetDriftResponse()) as target:
        failed = run("report", "--target", target, "--out", tmp_path / "no" / "page.html")
    assert failed.exit_code == 1
    assert "--out" in failed.output
    assert run("show", "--target", target).exit_code == 3
