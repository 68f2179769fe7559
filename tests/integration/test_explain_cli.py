"""`assay explain` as users run it: of a real server, of the demo's bundle, of audit logs; and of servers that answer anything."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from assay.audit.records import Entry
from assay.audit.searching import find_transaction
from assay.audit.segments import log_directories
from assay.cli.explain_bundle import load_explainer, tell_row
from assay.demo.paths import bundle_path
from assay.v1 import audit_pb2, scoring_pb2, scoring_pb2_grpc
from tests.support import bundles
from tests.support.commands import run_command
from tests.support.explained_records import explanation_record, hand_made, score_record
from tests.support.onnx_models import tree_model
from tests.support.server import LocalServer, ServeProcess, wait_until

GIVEN = scoring_pb2.EXPLANATION_STATUS_GIVEN
INPUTS = yaml.safe_load((bundle_path() / "manifest.yaml").read_text())["inputs"][0]


def run(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return run_command("explain", *map(str, arguments), **more)


def answer(*arguments: str | Path, exit_code: int = 0, **more: Any) -> Any:
    found = run(*arguments, "--json", **more)
    assert found.returncode == exit_code, found.stderr
    return json.loads(found.stdout)


def refused(*arguments: str | Path, exit_code: int, **more: Any) -> str:
    found = run(*arguments, **more)
    assert found.returncode == exit_code, found.stdout + found.stderr
    return re.sub(r"\s+", " ", found.stderr)


def request(transaction_id: str, amount_minor: int = 90_000, **fields: Any) -> dict[str, Any]:
    return {
        "transaction_id": transaction_id,
        "event_time": "2018-05-09T23:30:00Z",
        "entities": {"customer_id": "596", "terminal_id": "3156"},
        "features": {"amount_minor": {"int64_value": str(amount_minor)}},
        **fields,
    }


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


# --- a server, and what it puts on record


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "spool"


@pytest.fixture(scope="module")
def server(spool: Path) -> Iterator[ServeProcess]:
    options = ("explain.inline_ms_max=1000", f"audit.spool={spool}")  # tests share their machine
    with ServeProcess("--drain-delay", "0", *(part for option in options for part in ("--set", option))) as server:
        yield server


@pytest.fixture(scope="module")
def recorded(server: ServeProcess, spool: Path) -> Path:
    """The spool, with: inline (by groups), later (by inputs), plain (not explained), twice (explained, then not)."""
    with grpc.insecure_channel(server.target) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)

        def score(transaction_id: str, **explain: str) -> None:
            message = scoring_pb2.ScoreRequest(
                transaction_id=transaction_id, entities={"customer_id": "596", "terminal_id": "3156"}
            )
            message.event_time.FromJsonString("2018-05-09T23:30:00Z")
            message.features["amount_minor"].int64_value = 90_000
            if explain:
                message.explain.CopyFrom(scoring_pb2.ExplainOptions(**explain))  # type: ignore[arg-type]
            stub.Score(message, timeout=20)

        score("inline", when="EXPLAIN_WHEN_ALWAYS")
        score("later", mode="EXPLAIN_MODE_LATER", players="EXPLAIN_PLAYERS_INPUTS")
        score("plain")
        score("twice", when="EXPLAIN_WHEN_ALWAYS")
        score("twice")
    wait_until(lambda: [entry.type for entry in entries_of(spool, "later")] == ["score", "explanation"], "it is on record")
    wait_until(lambda: len(entries_of(spool, "twice")) == 2, "all are on record")
    return spool


def entries_of(spool: Path, transaction_id: str) -> list[Entry]:
    return find_transaction(log_directories(spool), transaction_id, lambda _: None) if spool.exists() else []


def test_a_server_explains_what_it_scores(server: ServeProcess, tmp_path: Path) -> None:
    file = write(tmp_path / "request.json", request("t"))
    found = answer(file, "--target", server.target)
    assert list(found) == [
        *("source", "transaction_id", "received", "file", "row", "model", "version", "score", "decision"),
        *("explanation_status", "explanation"),
    ]
    assert (found["source"], found["transaction_id"], found["explanation_status"]) == ("server", "t", "given")
    assert (found["model"], found["version"], found["decision"]) == ("card_fraud", "1", "decline")
    explanation = found["explanation"]
    assert list(explanation) == [
        *("method", "background_sha256", "base_margin", "margin", "base_score", "residual", "players"),
        *("contributions", "rest_contribution", "reasons_version", "reasons"),
    ]
    total = explanation["base_margin"] + sum(one["contribution"] for one in explanation["contributions"])
    assert total == pytest.approx(explanation["margin"], abs=1e-9)
    assert 1 / (1 + math.exp(-explanation["margin"])) == pytest.approx(found["score"], abs=1e-6)
    assert explanation["players"] == "groups"
    assert list(explanation["contributions"][0]) == ["player", "contribution", "standard_error", "score_contribution"]
    assert list(explanation["reasons"][0]) == ["code", "player", "contribution", "analyst_text", "customer_text"]


def test_a_person_sees_the_way_the_reasons_and_where_they_come_from(server: ServeProcess, tmp_path: Path) -> None:
    file = write(tmp_path / "request.json", request("t"))
    found = run(file, "--target", server.target)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert re.match(r"of +transaction t *$", lines[0])
    assert re.match(r"score +0\.99\d+ +DECLINE", lines[1])
    assert re.match(r"method +exact, from the model's trees", lines[3])
    assert re.search(r"\namount = 900 +\+1\d\.\d{3} +\+0\.\d{4} +█+", found.stdout)
    assert re.search(r"\nAMOUNT_UNUSUAL +amount \+1\d", found.stdout)
    assert "may be told to the customer  The amount of this payment was unusual." in found.stdout
    assert found.stderr == ""


def test_players_and_top_k_are_asked_of_the_server(server: ServeProcess, tmp_path: Path) -> None:
    file = write(tmp_path / "request.json", request("t"))
    every = answer(file, "--target", server.target, "--players", "inputs")["explanation"]
    assert every["players"] == "inputs"
    assert {one["player"] for one in every["contributions"]} <= set(INPUTS["features"])
    assert every["reasons"] == []
    two = answer(file, "--target", server.target, "--players", "inputs", "--top-k", "2")["explanation"]
    assert two["contributions"] == every["contributions"][:2]
    assert two["rest_contribution"] == pytest.approx(sum(one["contribution"] for one in every["contributions"][2:]), abs=1e-9)


def test_the_command_decides_whether_it_is_explained_and_not_the_request(server: ServeProcess, tmp_path: Path) -> None:
    never = request("t", explain={"when": "EXPLAIN_WHEN_NEVER", "mode": "EXPLAIN_MODE_LATER", "top_k": 1})
    found = answer("-", "--target", server.target, stdin=json.dumps(never).encode())
    assert found["explanation_status"] == "given"
    assert len(found["explanation"]["contributions"]) > 1


def test_a_picture_and_a_page_are_written(server: ServeProcess, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = write(tmp_path / "request.json", request("t"))
    found = run(file, "--target", server.target, "--png", tmp_path / "a.png", "--html", tmp_path / "a.html")
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "a.html").read_text()
    assert "Why transaction t scores as it does" in page
    assert "The amount of this payment was unusual." in page
    missing = refused(file, "--target", server.target, "--html", tmp_path / "none" / "a.html", exit_code=1)
    assert "No such file or directory" in missing


def test_without_matplotlib_a_picture_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = refused(tmp_path / "none.json", "--png", tmp_path / "a.png", exit_code=1)
    assert "--png needs matplotlib: pip install matplotlib hint: --html needs nothing" in said


def test_what_a_server_refuses_and_where_none_is(server: ServeProcess, tmp_path: Path) -> None:
    wrong = write(tmp_path / "wrong.json", request("t", features={"amount_minor": {"double_value": 1.5}}))
    assert "INVALID_ARGUMENT" in refused(wrong, "--target", server.target, exit_code=1)
    found = answer(wrong, "--target", server.target, exit_code=1)
    assert found["error"]["code"] == "INVALID_ARGUMENT"
    file = write(tmp_path / "request.json", request("t"))
    assert "is a server running" in refused(file, "--target", f"unix:{tmp_path}/none.sock", exit_code=3)
    assert "REQUEST.json: " in refused(tmp_path / "none.json", exit_code=2)
    assert "is not a ScoreRequest" in refused(write(tmp_path / "other.json", {"nothing": 1}), exit_code=2)


def test_a_model_that_cannot_be_explained_is_an_error_of_the_server(tmp_path: Path) -> None:
    message = {**request("t"), "entities": {"customer_id": "c1"}}
    with LocalServer() as local:
        said = refused(write(tmp_path / "request.json", message), "--target", local.addresses.public, exit_code=1)
    assert "EXPLAIN_UNSUPPORTED" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("--bundle", "b", "rows.npz", "--target", "127.0.0.1:1"),
        ("--bundle", "b", "rows.npz", "--timeout", "1"),
        ("--bundle", "b", "rows.npz", "--row", "1", "--rows-max", "5"),
        ("--audit", ".", "t", "--tls"),
        ("--audit", ".", "t", "--bundle", "b", "--row", "1"),
        ("--audit", "none", "t"),
        ("request.json", "--row", "1"),
        ("request.json", "--rows-max", "1"),
        ("request.json", "--top-k", "0"),
        ("request.json", "--top-k", "257"),
        ("request.json", "--players", "none"),
        (),
    ],
)
def test_an_option_that_would_do_nothing_is_usage(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2


# --- a server that answers anything


@contextmanager
def answering(response: scoring_pb2.ScoreResponse, requests: list[scoring_pb2.ScoreRequest] | None = None) -> Iterator[str]:
    """`requests`: those that come are put there."""

    class Service(scoring_pb2_grpc.ScoringServiceServicer):
        def Score(self, request: Any, context: Any) -> scoring_pb2.ScoreResponse:  # noqa: N802 (gRPC's name)
            if requests is not None:
                requests.append(request)
            return response

    fake = grpc.server(futures.ThreadPoolExecutor(1))
    scoring_pb2_grpc.add_ScoringServiceServicer_to_server(Service(), fake)  # type: ignore[no-untyped-call]
    port = fake.add_insecure_port("127.0.0.1:0")
    fake.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        fake.stop(None).wait()


@pytest.mark.parametrize("status", [*scoring_pb2.ExplanationStatus.values(), 99])
def test_where_there_is_none_it_says_what_became_of_it_and_what_to_do(status: int, tmp_path: Path) -> None:
    file = write(tmp_path / "request.json", request("t"))
    response = scoring_pb2.ScoreResponse(transaction_id="t", score=0.25, explanation_status=status)  # type: ignore[arg-type]
    with answering(response) as target:
        found = run(file, "--target", target, "--html", tmp_path / "a.html")
        document = answer(file, "--target", target, exit_code=4)
    assert found.returncode == 4
    assert "0.25" in found.stdout
    assert "error: there is no explanation: " in found.stderr
    assert "hint: " in found.stderr
    assert not (tmp_path / "a.html").exists()
    assert document["explanation"] is None
    assert document["score"] == 0.25


def test_what_is_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "request.json", request("t", priority="PRIORITY_INTERACTIVE", explain={"min_score": 1.0}))
    requests: list[scoring_pb2.ScoreRequest] = []
    with answering(scoring_pb2.ScoreResponse(transaction_id="t"), requests) as target:
        run(file, "--target", target, "--players", "inputs", "--top-k", "7")
    (sent,) = requests
    assert sent.explain == scoring_pb2.ExplainOptions(
        when=scoring_pb2.EXPLAIN_WHEN_ALWAYS,
        players=scoring_pb2.EXPLAIN_PLAYERS_INPUTS,
        mode=scoring_pb2.EXPLAIN_MODE_INLINE,
        top_k=7,
    )
    assert sent.priority == scoring_pb2.PRIORITY_BULK  # nobody waits at a till: it has the time of the call
    assert sent.include_features


def test_a_hostile_server_moves_no_cursor_and_writes_no_markup(tmp_path: Path) -> None:
    evil = "\x1b[2J[bold]x[/]</title><script>alert(1)</script>\u202e\r\n"
    response = scoring_pb2.ScoreResponse(transaction_id=evil, score=0.5, explanation_status=GIVEN)
    response.provenance.model = response.provenance.version = evil
    found = response.explanation
    found.background_sha256 = found.reasons_version = evil
    found.base_margin, found.margin, found.base_score = -1.0, 0.0, 0.25
    for number in range(5_000):
        found.contributions.add(player=f"{evil}{number}", contribution=1.0 / 5_000, score_contribution=0.25 / 5_000)
        found.reasons.add(code=evil, player=evil, contribution=1.0, analyst_text=evil, customer_text=evil)
    response.inputs.add(name=f"{evil}0").value.string_value = evil
    file = write(tmp_path / "request.json", request("t"))
    with answering(response) as target:
        shown = run(file, "--target", target, "--html", tmp_path / "a.html")
        document = answer(file, "--target", target)
    assert shown.returncode == 0, shown.stderr
    assert "[bold]x[/]" in shown.stdout
    assert all(character.isprintable() or character == "\n" for character in shown.stdout + shown.stderr)
    assert "<script" not in (tmp_path / "a.html").read_text()
    assert len(document["explanation"]["contributions"]) == 20  # however many it sends
    assert document["explanation"]["rest_contribution"] == pytest.approx(4_980 / 5_000)
    assert len(document["explanation"]["reasons"]) == 4


def test_a_server_that_sends_no_numbers_is_not_drawn(tmp_path: Path) -> None:
    response = scoring_pb2.ScoreResponse(transaction_id="t", score=0.5, explanation_status=GIVEN)
    response.explanation.contributions.add(player="a", contribution=math.nan)
    with answering(response) as target:
        said = refused(write(tmp_path / "request.json", request("t")), "--target", target, exit_code=1)
    assert "no number" in said


# --- a bundle and rows


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's golden rows, as training rows would be: Parquet."""
    values = np.load(bundle_path() / "golden.npz")["tensor_0"]
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table({name: values[:, at].astype(np.float64) for at, name in enumerate(INPUTS["features"])}), path)
    return path


def test_a_bundle_explains_one_row_as_a_server_would(rows: Path, tmp_path: Path) -> None:
    golden = np.load(bundle_path() / "golden.npz")
    found = answer("--bundle", bundle_path(), rows, "--row", "3")
    assert (found["source"], found["file"], found["row"]) == ("bundle", str(rows), 3)
    assert found["score"] == golden["score"][3]
    explainer = load_explainer(bundle_path())
    row = np.ascontiguousarray(golden["tensor_0"][3]).tobytes()
    data = explainer.explained.explain(row.ljust(explainer.candidate.plan.row_bytes, b"\0"), found["score"])
    assert data is not None
    expected = scoring_pb2.Explanation.FromString(data)
    assert [one["contribution"] for one in found["explanation"]["contributions"]] == [
        one.contribution for one in expected.contributions
    ]
    assert [one["code"] for one in found["explanation"]["reasons"]] == [one.code for one in expected.reasons]
    np.savez(tmp_path / "rows.npz", **{INPUTS["tensor"]: golden["tensor_0"]})
    same = answer("--bundle", bundle_path(), tmp_path / "rows.npz", "--row", "3")
    assert same == {**found, "file": str(tmp_path / "rows.npz")}


@pytest.mark.parametrize("players", ["groups", "inputs"])
def test_importance_is_the_mean_over_the_rows(players: str, rows: Path) -> None:
    found = answer("--bundle", bundle_path(), rows, "--players", players, "--rows-max", "40", "--top-k", "256")
    assert list(found) == [
        *("model", "version", "file", "rows", "rows_in_file", "rows_withheld", "method", "background_sha256", "base_margin"),
        *("players", "player_count", "importance", "rest_mean_absolute_contribution"),
    ]
    assert (found["rows"], found["rows_in_file"], found["rows_withheld"], found["players"]) == (40, 255, 0, players)
    strengths = [one["mean_absolute_contribution"] for one in found["importance"]]
    assert strengths == sorted(strengths, reverse=True)
    assert len(strengths) == found["player_count"]
    places = [0, 100, 254]
    explainer, values = load_explainer(bundle_path()), dict[str, list[float]]()
    for place in places:
        told = tell_row(explainer, rows, place, is_by_input=players == "inputs", top_k=256)
        assert told.explanation is not None
        for part in told.explanation.contributions:
            values.setdefault(part.player, []).append(part.contribution)
    few = answer("--bundle", bundle_path(), _some(rows, places), "--players", players, "--top-k", "256")
    assert few["rows"] == len(places)
    by_player = {one["player"]: one for one in few["importance"]}
    assert set(values) <= set(by_player)
    for name, parts in values.items():
        assert by_player[name]["mean_absolute_contribution"] == pytest.approx(sum(map(abs, parts)) / few["rows"])
        assert by_player[name]["mean_contribution"] == pytest.approx(sum(parts) / few["rows"], abs=1e-12)


def _some(rows: Path, places: list[int]) -> Path:
    path = rows.parent / "some.parquet"
    pq.write_table(pq.read_table(rows).take(pa.array(places)), path)
    return path


def test_importance_is_shown_drawn_and_shortened(rows: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = ("--png", tmp_path / "b.png", "--html", tmp_path / "b.html")
    found = run("--bundle", bundle_path(), rows, "--players", "inputs", "--top-k", "3", *files)
    assert found.returncode == 0, found.stderr
    assert re.match(r"of +255 of 255 rows of ", found.stdout)
    assert re.search(r"\namount +\d\.\d{3} +[+-]\d\.\d{3} +█+", found.stdout)
    assert re.search(r"\n12 others together +\d\.\d{3} +█", found.stdout)
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert "What matters over 255 rows" in (tmp_path / "b.html").read_text()


def test_rows_that_are_none_are_refused(rows: Path, tmp_path: Path) -> None:
    assert "255 rows, counted from 0" in refused("--bundle", bundle_path(), rows, "--row", "255", exit_code=1)
    assert "cannot be read as rows" in refused("--bundle", bundle_path(), tmp_path / "none.parquet", exit_code=1)
    pq.write_table(pa.table({"amount": [1.0]}), tmp_path / "few.parquet")
    assert "no numeric column for" in refused("--bundle", bundle_path(), tmp_path / "few.parquet", exit_code=1)


def test_a_bundle_that_is_none_or_explains_nothing_is_refused(rows: Path, tmp_path: Path) -> None:
    assert "hint: " in refused("--bundle", tmp_path / "none" / "1", rows, exit_code=4)
    silent = bundles.pack(tree_model(), tmp_path, background_rows=0)
    said = refused("--bundle", silent, rows, exit_code=4)
    assert "cannot be explained: there is no background.npz (assay model pack makes one)" in said


# --- a server's own audit log


def test_a_server_is_asked_for_a_score_on_record(server: ServeProcess, recorded: Path) -> None:
    found = answer("--transaction", "inline", "--target", server.admin_target)
    assert found == answer("--audit", recorded, "inline", "--bundle", bundle_path())
    two = answer("--transaction", "inline", "--target", server.admin_target, "--top-k", "2")
    assert two["explanation"]["contributions"] == found["explanation"]["contributions"][:2]
    shown = run("--transaction", "inline", "--target", server.admin_target)
    assert re.match(r"of +transaction inline, received ", shown.stdout)
    assert "amount = 900" in shown.stdout
    assert "may be told to the customer" in shown.stdout


def test_a_server_explains_a_recorded_row_now(server: ServeProcess, recorded: Path) -> None:
    found = answer("--transaction", "inline", "--target", server.admin_target, "--players", "inputs")
    bundle = answer("--audit", recorded, "inline", "--players", "inputs", "--bundle", bundle_path())
    assert found == {**bundle, "source": "server"}


def test_the_one_server_of_this_machine_is_asked_where_none_is_named(
    server: ServeProcess, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assay").mkdir()
    (tmp_path / "assay" / "admin-1.sock").symlink_to(server.admin_target.removeprefix("unix:"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert answer("--transaction", "inline")["source"] == "record"


def test_what_a_server_has_no_record_of_is_said(server: ServeProcess, recorded: Path) -> None:
    said = refused("--transaction", "none", "--target", server.admin_target, exit_code=4)
    assert "NOT_FOUND SCORE_UNKNOWN" in said
    assert "docs/errors.md, SCORE_UNKNOWN" in said
    said = refused("--transaction", "inline", "--target", server.target, exit_code=1)
    assert "the admin listener answers this: --target unix:PATH" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "expected WHAT or --transaction, and one of them"),
        (("request.json", "--transaction", "t"), "expected WHAT or --transaction, and one of them"),
        (("--transaction", "t", "--bundle", "models/m/1"), "--bundle: --transaction asks a server"),
        (("--transaction", "t", "--audit", "."), "--audit: --transaction asks a server"),
        (("--transaction", "t", "--row", "1"), "--row: it is of the rows of a file"),
    ],
)
def test_a_transaction_takes_the_place_of_what_and_asks_a_server(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(*arguments, exit_code=2)


# --- the audit log


def test_what_was_explained_is_read_from_its_record(recorded: Path, server: ServeProcess, tmp_path: Path) -> None:
    given = answer(write(tmp_path / "request.json", request("t")), "--target", server.target)
    found = answer("--audit", recorded, "inline")
    assert (found["source"], found["transaction_id"], found["explanation_status"]) == ("record", "inline", "given")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found["received"])
    assert found["score"] == given["score"]
    ours, theirs = found["explanation"], given["explanation"]
    assert {name: ours[name] for name in ("method", "background_sha256", "players", "reasons_version")} == {
        name: theirs[name] for name in ("method", "background_sha256", "players", "reasons_version")
    }
    assert ours["base_score"] == pytest.approx(theirs["base_score"], rel=1e-9)
    for one, other in zip(ours["contributions"], theirs["contributions"], strict=True):
        assert one["player"] == other["player"]
        assert one["contribution"] == pytest.approx(other["contribution"], abs=1e-9)
        assert one["score_contribution"] == pytest.approx(other["score_contribution"], abs=1e-6)  # of a float32 score
    assert [one["code"] for one in ours["reasons"]] == [one["code"] for one in theirs["reasons"]]
    assert ours["reasons"][0]["analyst_text"] is None  # a record has codes; the bundle has their words
    told = answer("--audit", recorded, "inline", "--bundle", bundle_path())
    assert told["source"] == "record"
    assert told["explanation"]["reasons"] == [
        {**one, "contribution": pytest.approx(one["contribution"], abs=1e-9)} for one in theirs["reasons"]
    ]


def test_an_explanation_that_came_later_is_found_with_its_score(recorded: Path) -> None:
    found = answer("--audit", recorded, "later", "--top-k", "2")
    assert (found["source"], found["explanation"]["players"]) == ("record", "inputs")
    assert len(found["explanation"]["contributions"]) == 2
    assert found["explanation"]["rest_contribution"] != 0
    assert "amount = 900" in run("--audit", recorded, "later").stdout


def test_a_recorded_row_is_explained_now_where_no_explanation_is_on_record(recorded: Path) -> None:
    assert "--bundle" in refused("--audit", recorded, "plain", exit_code=4)
    assert answer("--audit", recorded, "plain", exit_code=4)["explanation"] is None
    now = answer("--audit", recorded, "plain", "--bundle", bundle_path())
    then = answer("--audit", recorded, "inline", "--bundle", bundle_path())
    assert (now["source"], then["source"]) == ("bundle", "record")
    assert [one["player"] for one in now["explanation"]["contributions"]] == [
        one["player"] for one in then["explanation"]["contributions"]
    ]
    assert now["explanation"]["reasons"] == [
        {**one, "contribution": pytest.approx(one["contribution"], abs=1e-9)} for one in then["explanation"]["reasons"]
    ]


def test_other_players_than_those_on_record_are_explained_now(recorded: Path) -> None:
    assert "leave --players out" in refused("--audit", recorded, "inline", "--players", "inputs", exit_code=4)
    found = answer("--audit", recorded, "inline", "--players", "inputs", "--bundle", bundle_path())
    assert (found["source"], found["explanation"]["players"]) == ("bundle", "inputs")
    assert answer("--audit", recorded, "inline", "--players", "groups")["source"] == "record"


def test_of_several_scores_it_is_the_newest_with_an_explanation(recorded: Path) -> None:
    found = run("--audit", recorded, "twice", "--json")
    explained, plain = entries_of(recorded, "twice")
    assert explained.record.score.HasField("explanation")
    assert not plain.record.score.HasField("explanation")
    assert json.loads(found.stdout)["explanation_status"] == "given"
    assert "2 scores of this transaction are on record; this is the newest of them with an explanation" in found.stderr


def test_what_is_not_on_record_or_of_another_model_is_refused(recorded: Path, tmp_path: Path) -> None:
    assert "no score of this transaction" in refused("--audit", recorded, "none", exit_code=4)
    (tmp_path / "empty").mkdir()
    assert "no server has written an audit log there yet" in refused("--audit", tmp_path / "empty", "t", exit_code=1)
    other = bundles.pack(tree_model(), tmp_path)
    for transaction in ("plain", "inline"):
        said = refused("--audit", recorded, transaction, "--bundle", other, exit_code=1)
        assert "another model gave the score: card_fraud 1" in said


def test_of_a_digest_nothing_is_explained(tmp_path: Path) -> None:
    spool = hand_made(tmp_path, score_record(row_digest=b"1" * 32))
    assert "only a digest of its inputs was kept" in refused("--audit", spool, "t", "--bundle", bundle_path(), exit_code=4)


def test_a_record_without_a_score_is_not_explained(tmp_path: Path) -> None:
    spool = hand_made(tmp_path, score_record(score=math.nan, row=bytes(8)))
    assert "no score that could be explained" in refused("--audit", spool, "t", "--bundle", bundle_path(), exit_code=4)


@pytest.mark.parametrize("status", scoring_pb2.ExplanationStatus.values()[2:])
def test_what_became_of_a_recorded_scores_explanation_is_said(status: int, tmp_path: Path) -> None:
    spool = hand_made(tmp_path, score_record(row=bytes(8), explanation_status=status))
    found = answer("--audit", spool, "t", exit_code=4)
    assert found["explanation_status"] == scoring_pb2.ExplanationStatus.Name(status).removeprefix("EXPLANATION_STATUS_").lower()  # type: ignore[arg-type]


def test_estimates_are_shown_with_their_errors_and_names_as_text(tmp_path: Path) -> None:
    explained = explanation_record(standard_errors=[0.25, 0.0], reason_codes=["CODE"])
    spool = hand_made(tmp_path, score_record(explanation_status=1, explanation=explained))
    found = answer("--audit", spool, "t")["explanation"]
    assert found["method"] == "permutation"
    assert [one["standard_error"] for one in found["contributions"]] == [0.25, 0.0]
    assert found["base_score"] == pytest.approx(1 / (1 + math.e))
    assert sum(one["score_contribution"] for one in found["contributions"]) == pytest.approx(0.5 - found["base_score"])
    assert found["reasons"] == [
        {"code": "CODE", "player": None, "contribution": None, "analyst_text": None, "customer_text": None}
    ]
    shown = run("--audit", spool, "t")
    assert "std. error" in shown.stdout
    assert re.search(r"both +\+1\.500 +0\.25 ", shown.stdout)
    assert "[bold]x\\x1b[2J" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "CODE" in shown.stdout


def test_a_score_that_is_its_own_margin_stays_one(tmp_path: Path) -> None:
    explained = explanation_record(base_margin=-1.0, margin=0.0)
    spool = hand_made(tmp_path, score_record(score=0.0, explanation_status=1, explanation=explained))
    found = answer("--audit", spool, "t")["explanation"]
    assert found["base_score"] == -1.0
    assert [one["score_contribution"] for one in found["contributions"]] == [1.5, -0.5]


def test_an_explanation_whose_players_are_not_those_of_the_model_is_not_shown(tmp_path: Path) -> None:
    wrong = explanation_record(contributions=[1.0, 2.0, 3.0])
    spool = hand_made(tmp_path, score_record(row=bytes(8), explanation_status=1, explanation=wrong))
    assert answer("--audit", spool, "t", exit_code=4)["explanation"] is None


def test_a_score_in_shadow_is_no_score_of_the_transaction(tmp_path: Path) -> None:
    shadow = audit_pb2.AuditRecord(shadow=audit_pb2.ScoreRecord(transaction_id="t", lineage=1, score=0.5))
    assert "no score of this transaction" in refused("--audit", hand_made(tmp_path, shadow), "t", exit_code=4)
