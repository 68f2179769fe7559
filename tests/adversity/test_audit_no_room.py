"""A disk that fills up under a server that records its scores: what is answered and recorded, and that it goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from assay.v1 import audit_pb2, scoring_pb2, scoring_pb2_grpc
from tests.support.recorded_scores import open_log, read_log
from tests.support.server import WAIT_S, LocalServer, make_request, reason_of, status_of, wait_until
from tests.support.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.usefixtures("transport")

DISK_MIB = 8
BYTES_MAX = 16 << 20  # more than the disk has: 1 MiB a segment
BATCH = 500


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", DISK_MIB) as disk:
        yield disk


def score_many(stub: scoring_pb2_grpc.ScoringServiceStub, prefix: str) -> list[str]:
    """One batch; the ids that got a score. Raises grpc.RpcError where the call was refused."""
    requests = [make_request(f"{prefix}-{row}") for row in range(BATCH)]
    answer = stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=requests), timeout=WAIT_S)
    return [result.transaction_id for result in answer.results if result.HasField("response")]


def checkpoint_reasons(directory: Path) -> list[int]:
    return [record.checkpoint.reason for _, record in read_log(directory).records if record.HasField("checkpoint")]


def test_without_room_scores_are_refused_until_there_is(disk: SmallDisk) -> None:
    directory = disk.path / "writer-0"
    audit = open_log(directory, bytes_max=BYTES_MAX, refuses=True)
    with LocalServer(audit=audit, engine={"batch_call_rows_max": 1024}) as server:
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        answered = score_many(stub, "before")
        disk.fill()
        refused = None
        for number in range(200):
            try:
                answered += score_many(stub, f"full{number}")
            except grpc.RpcError as error:
                refused = status_of(error)
                break
        assert refused is not None, "a full disk was never noticed"
        assert reason_of(refused) == "AUDIT_UNAVAILABLE"
        with pytest.raises(grpc.RpcError) as error:
            stub.Score(make_request("one"), timeout=WAIT_S)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        stats = audit.stats()
        assert stats.state == "reserve"
        assert stats.is_refusing
        assert stats.allocation_failures > 0

        disk.free()
        wait_until(lambda: not audit.stats().is_refusing, "room is noticed")
        answered += score_many(stub, "after")
    log = read_log(directory)
    assert log.faults == []
    assert sorted(log.ids()) == sorted(answered), "what was answered, and nothing else, is on record, once"
    reasons = checkpoint_reasons(directory)
    assert audit_pb2.CHECKPOINT_REASON_NO_ROOM in reasons
    assert audit_pb2.CHECKPOINT_REASON_ROOM_AGAIN in reasons


def test_without_room_scores_are_given_and_counted_where_that_was_chosen(disk: SmallDisk) -> None:
    directory = disk.path / "writer-0"
    audit = open_log(directory, bytes_max=BYTES_MAX, refuses=False, full_one_in=10)
    with LocalServer(audit=audit, engine={"batch_call_rows_max": 1024}) as server:
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        disk.fill()
        answered: list[str] = []
        for number in range(400):
            answered += score_many(stub, f"full{number}")
            if audit.stats().dropped["full"] > 0:
                break
        assert audit.stats().state == "full"
        assert audit.stats().dropped["sampled"] > 0
        disk.free()
        wait_until(lambda: audit.stats().state == "writing", "room is noticed")
        answered += score_many(stub, "after")
        dropped = sum(audit.stats().dropped.values())
    log = read_log(directory)
    assert log.faults == []
    assert len(log.ids()) + dropped == len(answered)
    assert set(log.ids()) <= set(answered)
    assert {f"after-{row}" for row in range(BATCH)} <= set(log.ids())
    last = [record.checkpoint for _, record in log.records if record.HasField("checkpoint")][-1]
    assert {drop.cause: drop.records for drop in last.dropped} == {cause: n for cause, n in audit.stats().dropped.items() if n}


def test_a_server_that_starts_on_a_full_disk_waits_for_room(disk: SmallDisk) -> None:
    disk.fill()
    directory = disk.path / "writer-0"
    (disk.path / "filler").open("r+b").truncate((disk.path / "filler").stat().st_size - (64 << 10))  # for the directory alone
    audit = open_log(directory, bytes_max=BYTES_MAX)
    with LocalServer(audit=audit) as server:
        stub = scoring_pb2_grpc.ScoringServiceStub(server.channel())
        with pytest.raises(grpc.RpcError) as error:
            stub.Score(make_request("one"), timeout=WAIT_S)
        assert reason_of(status_of(error.value)) == "AUDIT_UNAVAILABLE"
        disk.free()
        wait_until(lambda: audit.stats().state == "writing", "room is noticed")
        stub.Score(make_request("two"), timeout=WAIT_S)
    assert read_log(directory).ids() == ["two"]
