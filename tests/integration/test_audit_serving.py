"""A server and its audit log, as users run it: told where records go, they get there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from assay import _core
from assay.audit.labels import LabelRecords
from assay.audit.opening import OpenAudit, open_audit
from assay.audit.shipped import Shipped, write_shipped
from assay.audit.shipper_process import ShipperProcess
from assay.config import AuditConfig
from assay.demo.paths import bundle_path
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.support.audit_logs import label
from tests.support.recorded_scores import KEY, open_log, read_log
from tests.support.server import LocalServer, ServeProcess, make_event, wait_until


def demo_request(transaction_id: str, amount_minor: int = 5716) -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(transaction_id=transaction_id, entities={"customer_id": "596", "terminal_id": "3156"})
    request.event_time.FromJsonString("2018-05-09T10:30:00Z")
    request.features["amount_minor"].int64_value = amount_minor
    return request


@pytest.mark.parametrize(
    ("sink", "expected"),
    [
        ((), "say where the records of scores go"),
        (("--audit-sink", "ftp://x"), "audit.sink"),
        (("--audit-sink", "kafka:x"), "audit.sink"),
    ],
)
def test_a_server_of_own_models_wants_to_be_told_where_records_go(sink: tuple[str, ...], expected: str) -> None:
    command = [
        sys.executable,
        "-m",
        "assay",
        "serve",
        str(bundle_path()),
        "--listen",
        "127.0.0.1:0",
        "--admin-socket",
        "off",
        *sink,
    ]
    done = subprocess.run([*command, "--set", "metrics_listen=off"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert expected in done.stdout + done.stderr


@pytest.mark.usefixtures("transport")
def test_every_score_reaches_the_sink(tmp_path: Path) -> None:
    files, spool = tmp_path / "files", tmp_path / "spool"
    options = ["--set", f"audit.sink=jsonl:{files}", "--set", f"audit.spool={spool}", "--set", "metrics_listen=127.0.0.1:0"]
    with ServeProcess(*options) as server:
        answers = {}
        with grpc.insecure_channel(server.target) as channel:
            stub = scoring_pb2_grpc.ScoringServiceStub(channel)
            for number in range(20):
                answers[f"one-{number}"] = stub.Score(demo_request(f"one-{number}", 100 * number), timeout=20)
            rows = [demo_request(f"row-{number}", 50 * number) for number in range(100)]
            for result in stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=rows), timeout=20).results:
                answers[result.transaction_id] = result.response
        wait_until(lambda: unshipped(server) == 0, "all is shipped while it serves")
        with grpc.insecure_channel(server.target) as channel:
            answers["last"] = scoring_pb2_grpc.ScoringServiceStub(channel).Score(demo_request("last"), timeout=20)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    records = [json.loads(line) for path in sorted(files.glob("*.jsonl")) for line in path.read_text().splitlines()]
    assert [record["sequence"] for record in records] == list(range(1, len(records) + 1))
    scores = {record["transaction_id"]: record for record in records if record["type"] == "score"}
    assert scores.keys() == answers.keys()
    for name, answer in answers.items():
        assert scores[name]["score"] == answer.score
        assert scores[name]["decision"] == scoring_pb2.Decision.Name(answer.decision).removeprefix("DECISION_").lower()
    (writer,) = spool.glob("writer-*")
    log = read_log(writer)
    assert log.faults == []
    assert len(log.records) == len(records)


def unshipped(server: ServeProcess) -> float:
    with urllib.request.urlopen(f"http://{server.ready['metrics']}/metrics", timeout=20) as page:
        families = {family.name: family for family in text_string_to_metric_families(page.read().decode())}
    return float(families["assay_audit_unshipped_records"].samples[0].value)


def opened(spool: Path, **changes: object) -> OpenAudit:
    config = AuditConfig(spool=str(spool), sink=f"jsonl:{spool / 'files'}", spool_bytes_max=16 << 20, **changes)
    audit = open_audit(config, is_demo=True, software="test")
    assert audit is not None
    return audit


def test_two_servers_share_a_spool_directory_and_the_next_goes_on(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    assert (first.writer.path.name, second.writer.path.name) == ("writer-0", "writer-1")
    assert first.writer.key == second.writer.key
    first.close()
    third = opened(tmp_path)
    assert third.writer.path.name == "writer-0"
    assert third.log.stats().next_sequence == 4  # behind the first one's start and end, and its own start
    second.close()
    third.close()


def test_what_was_shipped_of_records_that_a_power_cut_took_is_not_of_those_that_came_after(tmp_path: Path) -> None:
    first = opened(tmp_path)
    log_id = _core.AuditSegment(next(first.writer.path.glob("*.audit")).read_bytes()).log_id
    first.close()
    write_shipped(first.writer.path, Shipped(50, log_id, bytes(32)))  # the log ends at 2
    second = opened(tmp_path)
    assert second.log.stats().shipped_sequence == 0
    write_shipped(second.writer.path, Shipped(1, log_id, bytes(32)))  # the shipper has noticed
    second.take_shipped()
    second.log.append_record(b"")
    second.log.flush()
    wait_until(lambda: second.log.stats().shipped_sequence == 1, "it is taken")
    second.close()


def test_a_shipper_that_ends_is_started_again_and_a_hung_one_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.audit.shipper_process.TICK_S", 0.05)
    monkeypatch.setattr("assay.audit.shipper_process.RESTART_S_MIN", 0.01)
    monkeypatch.setattr("assay.audit.shipper_process.LAST_RECORDS_S", 0.2)
    starts = tmp_path / "starts"
    script = (
        "import pathlib, sys, time\n"
        f"path = pathlib.Path({str(starts)!r})\n"
        "count = int(path.read_text()) if path.exists() else 0\n"
        "path.write_text(str(count + 1))\n"
        "time.sleep(60) if count >= 2 else sys.exit(7)\n"
    )
    ticks = threading.Semaphore(0)
    shipper = ShipperProcess(tmp_path, "jsonl:x", ticks.release, command=[sys.executable, "-c", script])
    wait_until(lambda: starts.exists() and starts.read_text() == "3", "it is started a third time")
    assert ticks.acquire(timeout=20)
    started = time.monotonic()
    shipper.close()  # though it does not end when its stdin closes
    assert shipper.restarts == 2
    assert time.monotonic() - started < 20


def test_labels_that_cannot_be_put_on_record_are_refused(tmp_path: Path) -> None:
    """Before anything is recorded where the log has no room already; where it fails after that, the caller comes again."""
    audit = open_log(tmp_path / "log", bytes_max=4 << 20, has_sink=True)
    labels = LabelRecords(audit, KEY)
    event, fraud, filling = make_event("e1"), make_event("e2"), label("filling", 60_000)
    fraud.is_fraud = True
    with LocalServer(audit=audit, labels=labels) as server:
        stub = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())

        def record(*events: feature_pb2.Event) -> feature_pb2.RecordEventsResponse:
            answer: feature_pb2.RecordEventsResponse = stub.RecordEvents(
                iter([feature_pb2.RecordEventsRequest(events=events)]), timeout=20
            )
            return answer

        while not audit.is_refusing:
            audit.commit([filling])
        assert record(event).recorded_count == 1
        with pytest.raises(grpc.RpcError) as refused:
            record(fraud)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "audit log has no room" in str(refused.value.details())
        while audit.commit([filling]):  # the reserve, too
            pass
        assert not labels.record(feature_pb2.RecordEventsRequest(events=[fraud]).SerializeToString(), [0])
        audit.set_shipped(audit.stats().next_sequence - 1)
        wait_until(lambda: audit.step() or not audit.is_refusing, "there is room again")
        assert record(fraud).recorded_count == 1
    found = [record.label.transaction_id for _, record in read_log(tmp_path / "log").records if record.HasField("label")]
    assert [name for name in found if name != "filling"] == ["e2"]


def test_labels_that_come_by_rpc_are_on_record(tmp_path: Path) -> None:
    audit = open_log(tmp_path / "log")
    labels = LabelRecords(audit, KEY)
    events = [make_event(f"e{number}") for number in range(3)]
    events[1].is_fraud = True
    events[2].transaction_id = "4111111111111111"
    events[2].is_fraud = False
    with LocalServer(audit=audit, labels=labels) as server:
        stub = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
        request = feature_pb2.RecordEventsRequest(events=events)
        assert stub.RecordEvents(iter([request]), timeout=20).recorded_count == 3
        assert stub.RecordEvents(iter([request]), timeout=20).duplicate_count == 3
    found = [record.label for _, record in read_log(tmp_path / "log").records if record.HasField("label")]
    once = [("e1", True), (_core.tokenised("4111111111111111", KEY), False)]
    assert [(label.transaction_id, label.is_fraud) for label in found] == 2 * once
    assert found[0].event_time_us == events[1].event_time.ToMicroseconds()
