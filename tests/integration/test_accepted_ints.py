"""`accept_int: true` from end to end: integers for a float64 are taken everywhere, counted, and the same to the bit as floats."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest

from assay.app_metrics import feature_source
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.support.server import FEATURE_SET, LocalServer, make_event, make_request, violations_of

# What a request carries for `ratio` is a model input, and the newest one is stored.
ACCEPTING = (
    FEATURE_SET.replace("ratio: {dtype: float64,", "ratio: {dtype: float64, accept_int: true,")
    .replace("      tx_count_1d:", "      last_ratio: {op: last, of: ratio, window: 1d}\n      tx_count_1d:")
    .replace("inputs: [", "inputs: [{name: last_ratio, when_null: nan}, ")
)
PAST = 2**53 + 1


@pytest.fixture
def server(transport: str) -> Iterator[LocalServer]:
    with LocalServer(feature_set=ACCEPTING) as server:
        yield server


def request(transaction_id: str, ratio: float) -> scoring_pb2.ScoreRequest:
    """With an int64 if `ratio` is an int."""
    made = make_request(transaction_id, include_features=True)
    if isinstance(ratio, int):
        made.features["ratio"].int64_value = ratio
    else:
        made.features["ratio"].double_value = ratio
    return made


def event(transaction_id: str, ratio: int) -> feature_pb2.Event:
    made = make_event(transaction_id)
    made.features["ratio"].int64_value = ratio
    return made


def inputs(answer: Any) -> dict[str, float]:
    return {item.name: item.value.double_value for item in answer.inputs}


def test_scores_take_and_count_integers(server: LocalServer) -> None:
    stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
    assert server.plan.accepted_ints() == {"ratio": 0}
    assert inputs(stub.Score(request("t1", 7), timeout=10)) == inputs(stub.Score(request("t1", 7.0), timeout=10))
    assert server.plan.accepted_ints() == {"ratio": 1}
    rows = [request("b1", -2), request("b2", PAST), request("b3", 2.0), request("b4", 3)]
    for row in rows:
        row.include_features = False
    answer = stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=rows), timeout=10)
    assert violations_of(answer.results[1].status) == {'features["ratio"]': "OUT_OF_RANGE"}
    assert server.plan.accepted_ints() == {"ratio": 3}
    messages = (scoring_pb2.ScoreStreamRequest(request=request(f"s{ratio}", ratio)) for ratio in (1, 2, PAST))
    assert sum(message.HasField("response") for message in stub.ScoreStream(messages, timeout=10)) == 2
    assert server.plan.accepted_ints() == {"ratio": 5}
    (family,) = feature_source([server.plan, server.plan])
    assert [(sample.name, sample.labels, sample.value) for sample in family.samples] == [
        ("assay_accepted_ints_total", {"feature": "ratio"}, 10)
    ]


def test_an_integer_past_what_float64_holds_is_refused_with_its_field(server: LocalServer) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        scoring_pb2_grpc.ScoringServiceStub(server.channel()).Score(request("t1", PAST), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert server.plan.accepted_ints() == {"ratio": 0}


def test_recorded_events_take_and_count_integers(server: LocalServer) -> None:
    stub = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
    message = feature_pb2.RecordEventsRequest(events=[event("e1", 5), event("e2", PAST), make_event("e3", seconds_before=90)])
    answer = stub.RecordEvents(iter([message]), timeout=10)
    assert (answer.recorded_count, answer.rejected_count) == (2, 1)
    assert list(violations_of(answer.rejected_events[0].status).values()) == ["OUT_OF_RANGE"]
    assert server.plan.accepted_ints() == {"ratio": 1}
    scored = scoring_pb2_grpc.ScoringServiceStub(server.channel()).Score(make_request("p", include_features=True), timeout=10)
    assert inputs(scored)["last_ratio"] == 5.0


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def line(transaction_id: str, ratio: float) -> str:
    return json.dumps(
        {
            "transaction_id": transaction_id,
            "event_time": f"2026-03-01T12:00:0{transaction_id}Z",
            "entities": {"customer_id": "c1"},
            "features": {"amount_minor": 5716, "ratio": ratio},
        }
    )


def test_files_and_replays_take_and_count_integers(tmp_path: Path) -> None:
    (tmp_path / "set.yaml").write_text(ACCEPTING)
    (tmp_path / "ints.jsonl").write_text("\n".join([line("1", 3), line("2", 4.5), line("3", -6), line("4", PAST)]))
    (tmp_path / "floats.jsonl").write_text("\n".join([line("1", 3.0), line("2", 4.5), line("3", -6.0)]))
    arguments = ("--events", "ints.jsonl", "--feature-set", "set.yaml", "--rejects", "rejects.jsonl")
    done = run(tmp_path, "ingest", *arguments, "--store", "embedded:store.snapshot", "--json")
    assert done.returncode == 4, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["recorded_count"], summary["rejected_count"], summary["accepted_ints"]) == (3, 1, {"ratio": 2})
    again = run(tmp_path, "ingest", *arguments, "--store", "embedded:other.snapshot")
    assert "2 had an integer for ratio, which accepts those" in again.stderr
    replays = []
    for name in ("ints", "floats"):
        extra = ("--rejects", "replayed.jsonl")
        done = run(
            tmp_path, "features", "replay", "--feature-set", "set.yaml", "--events", f"{name}.jsonl", "--out", name, *extra
        )
        assert done.returncode == (4 if name == "ints" else 0), done.stderr
        replays.append(pq.read_table(tmp_path / name))
    assert replays[0].equals(replays[1])


def test_describe_and_diff_say_it(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(ACCEPTING.replace("accept_int: true,", ""))
    (tmp_path / "new.yaml").write_text(ACCEPTING)
    described = run(tmp_path, "features", "describe", "--feature-set", "new.yaml")
    assert "float64, optional, integers accepted, default 0.5" in described.stdout
    ratio = json.loads(run(tmp_path, "features", "describe", "--feature-set", "new.yaml", "--json").stdout)["request_features"][1]
    assert ratio["accepts_int"] is True
    diff = run(tmp_path, "features", "diff", "old.yaml", "new.yaml")
    assert diff.returncode == 4
    assert "float64, optional, default 0.5 -> float64, optional, integers accepted, default 0.5" in diff.stdout
    assert "view customer: kept" in diff.stdout
