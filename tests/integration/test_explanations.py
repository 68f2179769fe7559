"""A server says why, as users ask it: by Score, ScoreBatch and ScoreStream, inline or later; and what it keeps of that."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from assay.demo.paths import bundle_path
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.demo_scores import feature_set, onnx_scores, shown_inputs
from tests.support.server import ServeProcess, wait_until

pytestmark = pytest.mark.usefixtures("transport")

GIVEN, NOT_WANTED, LATER = (
    scoring_pb2.EXPLANATION_STATUS_GIVEN,
    scoring_pb2.EXPLANATION_STATUS_NOT_WANTED,
    scoring_pb2.EXPLANATION_STATUS_LATER,
)
CARD = "4111111111111111"  # a test number of the card networks
PATIENT = ("--set", "explain.inline_ms_max=1000")  # tests share their machine


def request_of(transaction_id: str, amount_minor: int = 90_000, **explain: Any) -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(
        transaction_id=transaction_id,
        entities={"customer_id": "596", "terminal_id": "3156"},
        include_features=True,
        explain=scoring_pb2.ExplainOptions(**explain),
    )
    request.event_time.FromJsonString("2018-05-09T23:30:00Z")
    request.features["amount_minor"].int64_value = amount_minor
    return request


@pytest.fixture(scope="module")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    with ServeProcess(*PATIENT, "--set", "metrics_listen=127.0.0.1:0") as server:
        yield server


@pytest.fixture(scope="module")
def stub(server: ServeProcess) -> Iterator[Any]:
    with grpc.insecure_channel(server.target) as channel:
        yield scoring_pb2_grpc.ScoringServiceStub(channel)


def logistic(margin: float) -> float:
    return 1 / (1 + math.exp(-margin))


def test_an_explanation_adds_up_to_the_score_and_says_what_it_is_made_of(stub: Any) -> None:
    answer = stub.Score(request_of("t"), timeout=20)
    assert answer.explanation_status == GIVEN
    found = answer.explanation
    total = found.base_margin + sum(one.contribution for one in found.contributions) + found.rest_contribution
    assert total == pytest.approx(found.margin, abs=1e-9)
    assert found.residual < 1e-9
    assert logistic(found.margin) == pytest.approx(answer.score, abs=1e-6)
    told = found.base_score + sum(one.score_contribution for one in found.contributions)
    assert told == pytest.approx(answer.score, abs=1e-6)
    strengths = [abs(one.contribution) for one in found.contributions]
    assert strengths == sorted(strengths, reverse=True)
    assert found.method == scoring_pb2.EXPLANATION_METHOD_TREES
    assert found.background_sha256 == hashlib.sha256((bundle_path() / "background.npz").read_bytes()).hexdigest()


def test_reasons_push_the_risk_up_and_are_at_most_four(stub: Any) -> None:
    found = stub.Score(request_of("t", 500_000), timeout=20).explanation
    assert 1 <= len(found.reasons) <= 4
    assert found.reasons_version == "1"
    by_player = {one.player: one.contribution for one in found.contributions}
    for reason in found.reasons:
        assert reason.contribution == by_player[reason.player] > 0
        assert reason.direction == scoring_pb2.REASON_DIRECTION_RAISES_RISK
        assert reason.code
        assert reason.analyst_text
    contributions = [reason.contribution for reason in found.reasons]
    assert contributions == sorted(contributions, reverse=True)


def test_inputs_by_themselves_are_the_feature_sets_and_top_k_sums_up_the_rest(stub: Any) -> None:
    everything = stub.Score(request_of("t", players="EXPLAIN_PLAYERS_INPUTS"), timeout=20).explanation
    assert {one.player for one in everything.contributions} <= set(feature_set().input_names)
    assert not everything.reasons
    two = stub.Score(request_of("t", players="EXPLAIN_PLAYERS_INPUTS", top_k=2), timeout=20).explanation
    assert list(two.contributions) == list(everything.contributions[:2])
    assert two.rest_contribution == pytest.approx(sum(one.contribution for one in everything.contributions[2:]), abs=1e-9)


def test_the_score_is_the_same_with_and_without(stub: Any) -> None:
    explained = stub.Score(request_of("t"), timeout=20)
    request = request_of("t")
    request.ClearField("explain")
    plain = stub.Score(request, timeout=20)
    assert plain.explanation_status == scoring_pb2.EXPLANATION_STATUS_UNSPECIFIED
    assert plain.score == explained.score == onnx_scores_of(explained)


def onnx_scores_of(answer: scoring_pb2.ScoreResponse) -> float:
    return float(onnx_scores(np.array([shown_inputs(answer)], dtype=np.float32))[0])


def test_only_what_is_wanted_is_explained(stub: Any) -> None:
    low = stub.Score(request_of("t", 100, when="EXPLAIN_WHEN_NOT_APPROVED"), timeout=20)
    assert low.decision == scoring_pb2.DECISION_APPROVE
    assert low.explanation_status == NOT_WANTED
    assert not low.HasField("explanation")
    at_least = stub.Score(request_of("t", when="EXPLAIN_WHEN_SCORE_AT_LEAST", min_score=0.0), timeout=20)
    assert at_least.explanation_status == GIVEN


def test_batches_and_streams_are_explained_row_by_row(stub: Any) -> None:
    rows = [request_of(f"t{number}", 1_000 * number) for number in range(40)]
    for row in rows:
        row.ClearField("explain")
    batch = scoring_pb2.ScoreBatchRequest(requests=rows, explain=scoring_pb2.ExplainOptions(top_k=1))
    results = stub.ScoreBatch(batch, timeout=20).results
    assert [result.response.explanation_status for result in results] == [GIVEN] * 40
    for result in results:
        assert logistic(result.response.explanation.margin) == pytest.approx(result.response.score, abs=1e-6)
    messages = (scoring_pb2.ScoreStreamRequest(request=request_of(f"t{number}")) for number in range(20))
    answers = list(stub.ScoreStream(messages, timeout=20))
    assert [answer.response.explanation_status for answer in answers] == [GIVEN] * 20


def test_what_became_of_explanations_is_counted(server: ServeProcess, stub: Any) -> None:
    before = samples(server, "assay_explanations")
    stub.Score(request_of("t"), timeout=20)
    wait_until(lambda: samples(server, "assay_explanations")["given"] == before["given"] + 1, "it is counted")
    assert samples(server, "assay_explainer_threads") == {"": 1}


def samples(server: ServeProcess, name: str) -> dict[str, float]:
    """By status, where there are such."""
    with urllib.request.urlopen(f"http://{server.ready['metrics']}/metrics", timeout=20) as page:
        families = {family.name: family for family in text_string_to_metric_families(page.read().decode())}
    return {sample.labels.get("status", ""): sample.value for sample in families[name].samples}


def test_the_audit_log_has_what_was_told_and_what_came_later(tmp_path: Path) -> None:
    files, spool = tmp_path / "files", tmp_path / "spool"
    options = ["--set", f"audit.sink=jsonl:{files}", "--set", f"audit.spool={spool}"]
    with ServeProcess(*PATIENT, *options) as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = scoring_pb2_grpc.ScoringServiceStub(channel)
            inline = stub.Score(request_of("inline"), timeout=20)
            later = stub.Score(request_of(f"later {CARD}", mode="EXPLAIN_MODE_LATER"), timeout=20)
            assert later.explanation_status == LATER
            assert not later.HasField("explanation")
            wait_until(lambda: "explanation" in types_in(files), "the later one is on record")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert CARD not in "".join(path.read_text() for path in files.glob("*.jsonl"))
    records = {(record["type"], str(record.get("transaction_id")).split()[0]): record for record in records_in(files)}
    told = records["score", "inline"]["explanation"]
    assert records["score", "inline"]["explanation_status"] == "given"
    assert told["margin"] == inline.explanation.margin
    kept = {name: value for name, value in zip(told["players"], told["contributions"], strict=True) if value != 0}
    assert kept == {one.player: one.contribution for one in inline.explanation.contributions}
    assert told["reason_codes"] == [reason.code for reason in inline.explanation.reasons]
    assert records["score", "later"]["explanation_status"] == "later"
    assert records["score", "later"]["explanation"] is None
    late = records["explanation", "later"]
    assert late["score_received"] == records["score", "later"]["received"]
    assert late["transaction_id"] == records["score", "later"]["transaction_id"]
    assert late["contributions"] == told["contributions"]  # of the same transaction, but for its name


def records_in(folder: Path) -> list[dict[str, Any]]:
    """Whole lines alone: the last may still be being written."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def types_in(folder: Path) -> set[str]:
    return {record["type"] for record in records_in(folder)} if folder.exists() else set()
