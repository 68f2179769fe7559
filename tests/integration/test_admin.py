"""The admin listener: a Unix socket that records events; the public port does not."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from assay.errors import ConfigError
from assay.features.store_writer import LocalWriter
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2_grpc
from tests.support.server import WAIT_S, LocalServer, make_event, make_request, reason_of, status_of, violations_of, wait_until


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


def record(server: LocalServer, *messages: Message) -> Any:
    return feature_pb2_grpc.FeatureServiceStub(server.admin_channel()).RecordEvents(iter(messages), timeout=20)


def events(*items: feature_pb2.Event) -> feature_pb2.RecordEventsRequest:
    return feature_pb2.RecordEventsRequest(events=items)


def counts(response: Any) -> tuple[int, int, int, int]:
    return response.recorded_count, response.duplicate_count, response.late_count, response.rejected_count


def window(server: LocalServer, customer_id: str) -> float:
    request = make_request("probe", customer_id, include_features=True)
    answer = scoring_pb2_grpc.ScoringServiceStub(server.channel()).Score(request, timeout=10)
    return float({item.name: item.value.double_value for item in answer.inputs}["tx_count_1d"])


def test_recorded_events_count_in_the_next_score(server: LocalServer) -> None:
    assert window(server, "c1") == 1
    answer = record(server, events(make_event("e1"), make_event("e2")), events(make_event("e3"), make_event("e4", "c2")))
    assert counts(answer) == (4, 0, 0, 0)
    assert window(server, "c1") == 4
    assert window(server, "c2") == 2


def test_a_repeat_changes_nothing(server: LocalServer) -> None:
    record(server, events(make_event("e1")))
    assert counts(record(server, events(make_event("e1"), make_event("e2")))) == (1, 1, 0, 0)
    assert window(server, "c1") == 3


def test_a_rejected_event_is_named_and_stops_no_other(server: LocalServer) -> None:
    wrong = make_event("wrong")
    wrong.features["amount_minor"].double_value = 10.0
    answer = record(server, events(make_event("e1")), events(wrong, make_event("e2")))
    assert counts(answer) == (2, 0, 0, 1)
    (rejected,) = answer.rejected_events
    assert (rejected.index, rejected.transaction_id) == (1, "wrong")
    assert list(violations_of(rejected.status).values()) == ["WRONG_TYPE"]


def test_only_the_first_hundred_rejections_are_listed(server: LocalServer) -> None:
    wrong = [make_event(f"w{i}") for i in range(150)]
    for event in wrong:
        event.ClearField("event_time")
    answer = record(server, events(*wrong[:90]), events(*wrong[90:]))
    assert counts(answer) == (0, 0, 0, 150)
    assert [rejected.index for rejected in answer.rejected_events] == list(range(100))


@pytest.mark.parametrize(("count", "reason"), [(1000, None), (1001, "TOO_MANY_ROWS")])
def test_a_message_has_at_most_a_thousand_events(server: LocalServer, count: int, reason: str | None) -> None:
    message = events(*(make_event(f"e{i}", f"c{i % 50}") for i in range(count)))
    if reason is None:
        assert counts(record(server, message)) == (count, 0, 0, 0)
        return
    with pytest.raises(grpc.RpcError) as caught:
        record(server, message)
    assert reason_of(status_of(caught.value)) == reason


def test_garbage_ends_the_call_with_the_byte_but_keeps_what_was_recorded(server: LocalServer) -> None:
    raw = server.admin_channel().stream_unary(
        "/assay.v1.FeatureService/RecordEvents", response_deserializer=feature_pb2.RecordEventsResponse.FromString
    )
    with pytest.raises(grpc.RpcError) as caught:
        raw(iter([events(make_event("e1")).SerializeToString(), b"\x0a\x7f"]), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(status_of(caught.value)) == "MALFORMED_MESSAGE"
    assert window(server, "c1") == 2
    assert server.engine.stats().refused_calls == 1
    assert server.event_counts() == {"recorded": 1, "duplicate": 0, "too_late": 0, "rejected": 0, "rejected_by_tried": 0}


def test_events_of_a_caller_who_left_meanwhile_count(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    has_begun, may_go_on = threading.Event(), threading.Event()
    record_events = LocalWriter.record_events

    def slow(writer: LocalWriter, message: bytes) -> Any:
        has_begun.set()
        assert may_go_on.wait(WAIT_S)
        return record_events(writer, message)

    monkeypatch.setattr(LocalWriter, "record_events", slow)
    call = feature_pb2_grpc.FeatureServiceStub(server.admin_channel()).RecordEvents.future(iter([events(make_event("e1"))]))
    assert has_begun.wait(WAIT_S)
    call.cancel()
    may_go_on.set()
    wait_until(lambda: server.event_counts()["recorded"] == 1, "the event is counted")
    assert server.store.stats().event_count == 1


def test_no_messages_no_change(server: LocalServer) -> None:
    assert counts(record(server)) == (0, 0, 0, 0)


def test_reading_is_not_writing(server: LocalServer) -> None:
    """The public port does not record events; the socket does not score."""
    for call in (
        lambda: feature_pb2_grpc.FeatureServiceStub(server.channel()).RecordEvents(iter([events(make_event("e1"))]), timeout=10),
        lambda: scoring_pb2_grpc.ScoringServiceStub(server.admin_channel()).Score(make_request(), timeout=10),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert server.store.stats().event_count == 0


def test_only_its_user_may_open_the_socket(server: LocalServer) -> None:
    assert server.addresses.admin is not None
    assert stat.S_IMODE(server.addresses.admin.stat().st_mode) == 0o600


def test_the_socket_is_gone_after_the_drain() -> None:
    with LocalServer() as server:
        path = server.addresses.admin
        assert path is not None
        assert path.is_socket()
        server.start_drain()()
        assert not path.exists()


def test_admin_can_be_switched_off() -> None:
    with LocalServer(admin_socket="off") as server:
        assert server.addresses.admin is None


def test_a_dead_socket_is_replaced_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with LocalServer(admin_socket=str(path)) as server:
        assert server.addresses.admin == path
        with pytest.raises(ConfigError, match="a running server answers"):
            LocalServer(admin_socket=str(path))
        assert counts(record(server, events(make_event("e1")))) == (1, 0, 0, 0)


def test_a_file_or_an_open_directory_in_the_sockets_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ConfigError, match="not a socket"):
        LocalServer(admin_socket=str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match="other users"):
        LocalServer(admin_socket=str(tmp_path / "open" / "admin.sock"))


def test_a_port_that_is_taken_is_refused_with_advice(server: LocalServer) -> None:
    with pytest.raises(ConfigError, match="choose another"):
        LocalServer(listen=server.addresses.public)
