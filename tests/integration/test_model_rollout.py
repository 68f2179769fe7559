"""Rolling models out on a real server with a repository: the commands, the split of a canary, a shadow's comparison, restarts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from assay._core import LIMITS
from assay.cli.main import app
from assay.demo.history import DEMO_TIME
from assay.v1 import model_pb2, model_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.integration.test_metrics_page import Page, scrape
from tests.support.repositories import MODEL, add_version
from tests.support.server import WAIT_S, ServeProcess, reason_of, status_of, wait_until

pytestmark = pytest.mark.usefixtures("transport")


# A guard that has never seen enough: this machine may be slow, and these are no ordinary payments.
QUIET = ("--set", "drain.delay_s=0", "--set", "rollout.guard.rows_min=1000000", "--set", "rollout.guard.drift_max=1000")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Path:
    root = tmp_path_factory.mktemp("repository")
    add_version(root, "1")
    add_version(root, "2", score_more=0.2)
    add_version(root, "2-variant")
    return root


def serve(root: Path, *more: str) -> ServeProcess:
    return ServeProcess("--repository", str(root), "--set", "metrics_listen=127.0.0.1:0", *QUIET, *more)


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[ServeProcess]:
    with serve(root) as server:
        yield server


def run(server: ServeProcess, *arguments: str) -> Any:
    """What a command of `assay model` says with --json."""
    result = CliRunner().invoke(app, ["model", *arguments, "--target", server.admin_target, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def reset(server: ServeProcess, champion: str = "1") -> None:
    """This version answers, the other is loaded too, and nothing else has a label."""
    for version in ("1", "2"):
        run(server, "load", MODEL, version)
    run(server, "promote", MODEL, champion)
    run(server, "canary", MODEL, "", "--share", "0")
    run(server, "shadow", MODEL, "2", "--share", "0")


def request_of(customer: int, version: str = "", amount_minor: int = 5716) -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(transaction_id=f"r{customer}", version=version)
    request.event_time.FromDatetime(DEMO_TIME)
    request.entities["customer_id"] = str(customer)
    request.entities["terminal_id"] = "3156"
    request.features["amount_minor"].int64_value = amount_minor
    return request


def versions_of(server: ServeProcess, requests: list[scoring_pb2.ScoreRequest]) -> list[str]:
    with grpc.insecure_channel(server.target) as channel:
        score = scoring_pb2_grpc.ScoringServiceStub(channel).Score.future
        answers = [score(request, timeout=WAIT_S) for request in requests]
        return [answer.result().provenance.version for answer in answers]


def test_load_promote_rollback(server: ServeProcess) -> None:
    reset(server, champion="2")
    assert versions_of(server, [request_of(1), request_of(1, "1")]) == ["2", "1"]
    promoted = run(server, "promote", MODEL, "1")
    assert (promoted["champion"], promoted["previous"], promoted["guarded"]) == ("1", "2", ["1"])
    assert versions_of(server, [request_of(1), request_of(1, "@champion"), request_of(1, "2")]) == ["1", "1", "2"]
    assert run(server, "rollback", MODEL)["champion"] == "2"
    assert versions_of(server, [request_of(1)]) == ["2"]
    page = Page(scrape(str(server.ready["metrics"])))
    assert page.value("assay_rollbacks_total", by="asked") >= 1
    assert page.value("assay_model_label", model=MODEL, version="2", label="champion") == 1


def test_a_canary_takes_its_share_and_an_entity_keeps_its_side(server: ServeProcess) -> None:
    reset(server)
    run(server, "canary", MODEL, "2", "--share", "0.2")
    customers = list(range(2000))
    first = versions_of(server, [request_of(customer) for customer in customers])
    assert 0.16 < Counter(first)["2"] / len(customers) < 0.24  # 4.5 standard deviations of so few; the native test has 200,000
    assert versions_of(server, [request_of(customer, amount_minor=100) for customer in customers]) == first
    assert set(versions_of(server, [request_of(customer, "@champion") for customer in customers[:50]])) == {"1"}
    assert set(versions_of(server, [request_of(customer, "@challenger") for customer in customers[:50]])) == {"2"}
    run(server, "canary", MODEL, "2", "--share", "0.4")
    wider = versions_of(server, [request_of(customer) for customer in customers])
    assert {after for before, after in zip(first, wider, strict=True) if before == "2"} == {"2"}, Counter(wider)
    batch = scoring_pb2.ScoreBatchRequest(requests=[request_of(customer) for customer in customers[:50]])
    with grpc.insecure_channel(server.target) as channel:
        answer = scoring_pb2_grpc.ScoringServiceStub(channel).ScoreBatch(batch, timeout=WAIT_S)
    assert answer.provenance.version == "1"  # a batch is one version's


def test_a_canary_whose_scores_drift_is_ended_by_the_guard(tmp_path: Path) -> None:
    """One payment again and again is far from any baseline."""
    for version in ("1", "2"):
        add_version(tmp_path, version)
    with ServeProcess("--repository", str(tmp_path), "--set", "metrics_listen=127.0.0.1:0", "--set", "drain.delay_s=0") as server:
        run(server, "load", MODEL, "1")
        run(server, "canary", MODEL, "1", "--share", "1")
        sent = [request_of(596) for _ in range(1200)]  # the window of drift begins at 1,000 scores

        def is_taken_back() -> bool:
            versions_of(server, sent)
            (model,) = run(server, "list")["models"]
            return bool(model["last_breach"])

        wait_until(is_taken_back, "the guard")
        (model,) = run(server, "list")["models"]
        assert "1: the drift of its scores from its baseline is" in model["last_breach"]
        assert (model["champion"], model["challenger"], model["canary_share"]) == ("2", "1", 0.0)
        assert set(versions_of(server, sent[:20])) == {"2"}
        assert "rolled back" in server.stderr()
        assert Page(scrape(str(server.ready["metrics"]))).value("assay_rollbacks_total", by="guard") == 1


def test_a_shadow_says_where_it_would_have_decided_otherwise(server: ServeProcess) -> None:
    reset(server)
    run(server, "shadow", MODEL, "2")
    asked = [request_of(customer, amount_minor=50_000) for customer in range(100)]

    def found() -> Any:
        (model,) = run(server, "list")["models"]
        return model["shadow"]

    rounds = 0

    def is_compared() -> bool:
        """Where others want the processor a shadow gets little of it: asked until it had some."""
        nonlocal rounds
        rounds += 1
        assert set(versions_of(server, asked)) == {"1"}
        return bool(found()["compared_rows"] > len(asked))

    def is_over() -> bool:
        return sum(found()[f"{outcome}_rows"] for outcome in ("compared", "failed", "shed")) == rounds * len(asked)

    wait_until(is_compared, "the shadow has scored")
    wait_until(is_over, "nothing is under way")
    shadow = found()
    assert (shadow["failed_rows"], shadow["score_bias"]) == (0, 0.0)  # the same model
    assert sum(shadow["difference_rows"]) == shadow["difference_rows"][0] == shadow["compared_rows"]
    # Higher thresholds: what it decides otherwise is milder.
    order = ["approve", "challenge", "review", "decline"]
    assert all(order.index(flip["shadow"]) < order.index(flip["champion"]) for flip in shadow["flips"])
    page = Page(scrape(str(server.ready["metrics"])))
    assert page.value("assay_shadow_rows_total", outcome="compared", model=MODEL, version="2") == shadow["compared_rows"]
    table = CliRunner().invoke(app, ["model", "list", "--target", server.admin_target])
    assert f"shadow 2: {shadow['compared_rows']:,} rows compared" in table.stdout
    assert run(server, "shadow", MODEL, "2", "--share", "0")["shadow"] is None


def test_refusals_say_what_to_do(server: ServeProcess) -> None:
    reset(server)
    with grpc.insecure_channel(server.admin_target) as channel:
        stub = model_pb2_grpc.ModelServiceStub(channel)
        calls: list[tuple[Any, Any, str, str]] = [
            (stub.LoadModel, model_pb2.LoadModelRequest(model=MODEL, version="9"), "ROLLOUT_REFUSED", "no complete bundle"),
            (stub.LoadModel, model_pb2.LoadModelRequest(model="../x", version="1"), "ROLLOUT_REFUSED", "no complete bundle"),
            (
                stub.PromoteModel,
                model_pb2.PromoteModelRequest(model=MODEL, version="2-variant"),
                "UNKNOWN_VERSION",
                "load it first",
            ),
            (stub.PromoteModel, model_pb2.PromoteModelRequest(model="x", version="1"), "UNKNOWN_MODEL", "no version"),
            (stub.UnloadModel, model_pb2.UnloadModelRequest(model=MODEL, version="1"), "ROLLOUT_REFUSED", "is the champion"),
            (stub.SetCanary, model_pb2.SetCanaryRequest(model=MODEL, version="1", share=2), "ROLLOUT_REFUSED", "expected 0 to 1"),
            (stub.SetShadow, model_pb2.SetShadowRequest(model=MODEL, version="1", share=1), "ROLLOUT_REFUSED", "with itself"),
        ]
        for call, request, reason, text in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call(request, timeout=WAIT_S)
            status = status_of(caught.value)
            assert reason_of(status) == reason
            assert text in status.message
    # Names that came are told of in one line, whatever they hold.
    long_name = "x" * LIMITS["name_bytes_max"] + "\x1b[31m"
    result = CliRunner().invoke(app, ["model", "load", long_name, "1", "--target", server.admin_target])
    assert result.exit_code == 1
    assert "\x1b[31m" not in result.output


def test_a_restart_comes_back_with_what_was_chosen(tmp_path: Path) -> None:
    for version in ("1", "2", "2-variant"):
        add_version(tmp_path, version)
    with serve(tmp_path) as server:
        assert [model["version"] for model in server.ready["models"]] == ["2"]  # the newest number
        (model,) = run(server, "list")["models"]
        states = {one["version"]: one["state"] for one in model["versions"]}
        assert states == {"1": "found", "2": "ready", "2-variant": "found"}
        reset(server)
        run(server, "load", MODEL, "2-variant")
        run(server, "canary", MODEL, "2-variant", "--share", "0.5")
        before = versions_of(server, [request_of(customer) for customer in range(100)])
        server.process.kill()
    with serve(tmp_path) as server:
        assert versions_of(server, [request_of(customer) for customer in range(100)]) == before
        (model,) = run(server, "list")["models"]
        assert (model["champion"], model["challenger"], model["canary_share"]) == ("1", "2-variant", 0.5)
        assert model["guarded"] == ["2-variant"]


def test_a_server_without_a_repository_says_so(tmp_path: Path) -> None:
    with ServeProcess("--set", "drain.delay_s=0") as server:
        (model,) = run(server, "list")["models"]
        assert (model["champion"], model["is_kept"]) == ("1", False)
        result = CliRunner().invoke(app, ["model", "load", MODEL, "2", "--target", server.admin_target])
        assert result.exit_code == 1
        assert "start it with --repository DIR" in result.output
