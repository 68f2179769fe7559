"""What a Redis that confirms records does not promise is said, once: that a disk has them, that it keeps them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from assay.audit import redis_sink
from assay.audit.redis_sink import PROBE_S, RedisSink
from assay.audit.sinks import ShippedRecord, SinkAwayError
from assay.features.redis_servers import Part
from assay.store_url import parse_store_url

RECORD = ShippedRecord("writer-0-1", "", 0, b"{}")
AOF, NO_AOF = b"# Persistence\r\naof_enabled:1\r\n", b"# Persistence\r\naof_enabled:0\r\n"
KNOWN, UNKNOWN = [[b"waitaof", 4]], [None]
KEEPS = b"# Memory\r\nmaxmemory:100\r\nmaxmemory_policy:noeviction\r\n"
DENIED = NoPermissionError("this user has no permissions to run the 'info' command")
NOT_SYNCED, EVICTS = "the audit sink confirms records before a disk has them", "the audit sink may evict records"


class Server:
    """Answers as it is told to. `now_s`: of the sink's clock."""

    def __init__(self, persistence: Any = AOF, waitaof: Any = KNOWN, memory: Any = KEEPS) -> None:
        self.answers: dict[tuple[Any, ...], Any] = {
            ("INFO", "persistence"): persistence,
            ("COMMAND", "INFO", "WAITAOF"): waitaof,
            ("INFO", "memory"): memory,
        }
        self.xadd: Any = b"1-1"
        self.synced = 0
        self.now_s = 0.0
        self.client: Any = object()

    def split(self, keys: Sequence[bytes]) -> list[Part]:
        return [Part("here", self.client, list(keys), [0])]

    def forget_slots(self) -> None: ...

    def answer(self, command: tuple[Any, ...]) -> Any:
        if command[0] == "WAITAOF":
            self.synced += 1
            return [1, 0]
        return self.xadd if command[0] == "XADD" else self.answers[command]


def sink_of(server: Server, monkeypatch: pytest.MonkeyPatch) -> RedisSink:
    monkeypatch.setattr(redis_sink, "_answers", lambda _, commands: [server.answer(command) for command in commands])
    url = parse_store_url("redis://:hunter2@here:1/0?stream=s")
    assert url is not None
    servers: Any = server
    return RedisSink(servers, b"s", url, clock=lambda: server.now_s)


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """(message, the reason or the policy)"""
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    fields: list[Any] = [record.assay_fields for record in caplog.records]  # type: ignore[attr-defined]
    assert all(found["sink"] == "redis://here:1/0" for found in fields)
    return [
        (record.getMessage(), (found.get("reason") or found["policy"]))
        for record, found in zip(caplog.records, fields, strict=True)
    ]


def test_of_one_that_syncs_and_keeps_nothing_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    sink_of(server, monkeypatch).deliver([RECORD])
    assert server.synced == 1
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (Server(persistence=DENIED), "INFO and COMMAND"),
        (Server(waitaof=DENIED), "INFO and COMMAND"),
        (Server(persistence=NO_AOF), "keeps no append-only file"),
        (Server(persistence=b""), "keeps no append-only file"),
        (Server(waitaof=UNKNOWN), "does not know WAITAOF"),
        (Server(waitaof=[]), "does not know WAITAOF"),
    ],
)
def test_that_nothing_is_synced_is_said_once(
    server: Server, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sink = sink_of(server, monkeypatch)
    for _ in range(3):
        sink.deliver([RECORD])
        server.now_s += PROBE_S
    assert server.synced == 0
    ((message, why),) = said(caplog)
    assert message == NOT_SYNCED
    assert reason in why


def test_one_that_stops_to_sync_says_so_when_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failover may lead to one without the file."""
    server = Server()
    sink = sink_of(server, monkeypatch)
    sink.deliver([RECORD])
    server.answers["INFO", "persistence"] = NO_AOF
    server.now_s += PROBE_S
    sink.deliver([RECORD])
    assert [message for message, _ in said(caplog)] == [NOT_SYNCED]


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_that_records_may_be_evicted_is_said_once(
    policy: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(memory=f"maxmemory:100\r\nmaxmemory_policy:{policy}\r\n".encode())
    sink = sink_of(server, monkeypatch)
    for _ in range(3):
        sink.deliver([RECORD])
        server.now_s += PROBE_S
    assert said(caplog) == [(EVICTS, policy)]


@pytest.mark.parametrize(
    "memory",
    [
        b"maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n",  # no limit: nothing is evicted
        b"maxmemory:100\r\nmaxmemory_policy:volatile-lru\r\n",  # keys with a time to live, which the stream has not
        b"",
        DENIED,
        7,
    ],
)
def test_of_what_cannot_be_read_or_does_no_harm_nothing_is_said(
    memory: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sink_of(Server(memory=memory), monkeypatch).deliver([RECORD])
    assert said(caplog) == []


def test_nothing_is_said_of_what_is_not_confirmed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A server that refuses everything refuses INFO too; why it is away is said by itself."""
    server = Server(persistence=DENIED)
    server.xadd = redis.ResponseError("LOADING")
    sink = sink_of(server, monkeypatch)
    with pytest.raises(SinkAwayError):
        sink.deliver([RECORD])
    assert said(caplog) == []
    server.xadd = b"1-1"
    sink.deliver([RECORD])
    assert [message for message, _ in said(caplog)] == [NOT_SYNCED]
