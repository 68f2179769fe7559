"""A server whose model must be asked: a network says why, its own lane scoring what the explanation wants to know."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.bundles import pack
from tests.support.server import ServeProcess, wait_until
from tests.support.trained_mlp import trained_mlp

pytestmark = pytest.mark.usefixtures("transport")

GIVEN, LATER = scoring_pb2.EXPLANATION_STATUS_GIVEN, scoring_pb2.EXPLANATION_STATUS_LATER
BY_INPUT: dict[str, Any] = {"players": "EXPLAIN_PLAYERS_INPUTS"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(trained_mlp(), tmp_path_factory.mktemp("models"), batch_tolerance=1e-6)


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def server(transport: str, bundle: Path, spool: Path) -> Iterator[ServeProcess]:
    options = ["explain.inline_ms_max=1000", "metrics_listen=127.0.0.1:0", f"audit.spool={spool}"]
    with ServeProcess("--model", str(bundle), *[part for option in options for part in ("--set", option)]) as server:
        yield server


@pytest.fixture(scope="module")
def stub(server: ServeProcess) -> Iterator[Any]:
    with grpc.insecure_channel(server.target) as channel:
        yield scoring_pb2_grpc.ScoringServiceStub(channel)


def request_of(transaction_id: str, amount_minor: int = 28_000, **explain: Any) -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(
        transaction_id=transaction_id, entities={"customer_id": transaction_id}, explain=scoring_pb2.ExplainOptions(**explain)
    )
    request.event_time.FromJsonString("2018-05-09T03:30:00Z")
    request.features["amount_minor"].int64_value = amount_minor
    return request


def metric(server: ServeProcess, name: str) -> float:
    with urllib.request.urlopen(f"http://{server.ready['metrics']}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def test_an_explanation_adds_up_and_says_how_sure_it_is(stub: Any) -> None:
    answer = stub.Score(request_of("a", **BY_INPUT), timeout=20)
    assert answer.explanation_status == GIVEN
    found = answer.explanation
    assert found.method == scoring_pb2.EXPLANATION_METHOD_PERMUTATION
    assert found.margin_space == scoring_pb2.MARGIN_SPACE_LOG_ODDS
    assert {one.player for one in found.contributions} <= {"amount", "is_night", "tx_count_1d"}
    total = found.base_margin + sum(one.contribution for one in found.contributions)
    assert total == pytest.approx(found.margin, abs=1e-6)
    assert found.residual < 1e-6
    assert max(one.standard_error for one in found.contributions) < 0.5 * max(
        abs(one.contribution) for one in found.contributions
    )


def test_what_is_asked_about_is_no_clients_row(server: ServeProcess, stub: Any) -> None:
    before = {name: metric(server, name) for name in ("assay_accepted_rows_total", "assay_explanation_asked_rows_total")}
    assert stub.Score(request_of("counted", **BY_INPUT), timeout=20).explanation_status == GIVEN
    assert metric(server, "assay_accepted_rows_total") == before["assay_accepted_rows_total"] + 1
    assert metric(server, "assay_explanation_asked_rows_total") >= before["assay_explanation_asked_rows_total"] + 8 * 2 * 16 * 2


def test_the_score_is_the_same_with_and_without(stub: Any) -> None:
    plain = request_of("same")
    plain.ClearField("explain")
    assert stub.Score(request_of("same"), timeout=20).score == stub.Score(plain, timeout=20).score


def test_many_at_once_are_all_scored(stub: Any) -> None:
    requests = [request_of(f"many-{i}", amount_minor=i * 1_000, **BY_INPUT) for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda request: stub.Score(request, timeout=20), requests))
    assert [answer.transaction_id for answer in answers] == [request.transaction_id for request in requests]
    assert any(answer.explanation_status == GIVEN for answer in answers)


def test_a_batch_is_explained(stub: Any) -> None:
    rows = []
    for i in range(5):
        row = request_of(f"row-{i}", amount_minor=i * 6_000)
        row.ClearField("explain")
        rows.append(row)
    batch = scoring_pb2.ScoreBatchRequest(requests=rows, explain=scoring_pb2.ExplainOptions())
    answer = stub.ScoreBatch(batch, timeout=30)
    assert [result.response.explanation_status for result in answer.results] == [GIVEN] * 5


def test_who_waits_goes_before_what_comes_later(stub: Any) -> None:
    """Those for the log take most of a second together, which is more than who waits has."""
    flood = [request_of(f"flood-{i}", amount_minor=100 * i, mode="EXPLAIN_MODE_LATER", **BY_INPUT) for i in range(900)]
    waiting = request_of("waits", **BY_INPUT)
    waiting.timeout.FromMilliseconds(200)
    answers = [stub.Score.future(request, timeout=20) for request in flood]
    assert [answer.result().explanation_status for answer in answers].count(LATER) > 500
    assert GIVEN in [stub.Score(waiting, timeout=20).explanation_status for _ in range(2)]


def test_one_that_comes_later_is_on_record_with_its_errors(transport: str, bundle: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    options = ["--set", f"audit.sink=jsonl:{files}", "--set", f"audit.spool={tmp_path / 'spool'}"]
    with ServeProcess("--model", str(bundle), *options) as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = scoring_pb2_grpc.ScoringServiceStub(channel)
            answer = stub.Score(request_of("later", mode="EXPLAIN_MODE_LATER", **BY_INPUT), timeout=20)
            assert answer.explanation_status == LATER
            wait_until(lambda: any(kind == "explanation" for kind, _ in records_in(files)), "it is on record")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    (record,) = (record for kind, record in records_in(files) if kind == "explanation")
    assert record["method"] == "permutation"
    assert record["margin_space"] == "log_odds"
    assert len(record["standard_errors"]) == len(record["contributions"]) == 3
    assert record["base_margin"] + sum(record["contributions"]) == pytest.approx(record["margin"], abs=1e-6)
    scores = [record for kind, record in records_in(files) if kind == "score"]
    assert len(scores) == 1  # what was asked about is on no record


def records_in(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Whole lines alone: the last may still be being written."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines(keepends=True)]
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return [(record["type"], record) for record in records]
