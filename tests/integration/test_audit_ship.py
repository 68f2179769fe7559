"""`assay audit ship` as a process of its own: every record arrives, whatever is killed; sinks that are away; how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from assay.audit.shipped import read_shipped
from assay.audit.shipper_process import ShipperProcess
from tests.support.audit_logs import append, label, open_log, spool_with_key, write_log
from tests.support.mock_kafka import MockKafka, mock_kafka
from tests.support.redis_cluster import redis_cluster, watched_redis
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import WAIT_S, wait_until

PASSWORD = "hunter2hunter2"
STREAM = "assay:audit"
NOT_SYNCED, EVICTS = "the audit sink confirms records before a disk has them", "the audit sink may evict records"
# With everysec, and without WAITAOF, a Redis that is killed may lose what it answered in its last second.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class ShipProcess:
    def __init__(self, spool: Path, sink: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by close()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
        command = [sys.executable, "-m", "assay", "audit", "ship", "--spool", str(spool), *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            text=True,
            env={**clean, "ASSAY_AUDIT__SINK": sink, **(environment or {})},
        )

    def stderr(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read()

    def said(self, message: str) -> bool:
        return any(line["message"] == message for line in self.lines())

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stderr().splitlines() if line.startswith("{") and line.endswith("}")]

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(WAIT_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self._stderr.close()

    def __enter__(self) -> ShipProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def documents_in_files(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(directory.glob("*.jsonl")) for line in path.read_text().splitlines()]


def documents_in_stream(server: RedisServer) -> list[dict[str, Any]]:
    with server.client() as client:
        entries: Any = client.xrange(STREAM)
    found = [json.loads(fields[b"json"]) for _, fields in entries]
    ids = [fields[b"id"].decode() for _, fields in entries]
    assert ids == [f"{item['writer']}-{item['log_id']}-{item['sequence']}" for item in found]
    return found


def assert_all_there(found: list[dict[str, Any]], counts: Mapping[str, int]) -> None:
    """At least once each; in order, once repeats are left out."""
    for writer, count in counts.items():
        theirs = [(item["log_id"], item["sequence"]) for item in found if item["writer"] == writer]
        first_times = list(dict.fromkeys(theirs))
        assert [sequence for _, sequence in first_times] == list(range(1, count + 1))
        assert len({log_id for log_id, _ in first_times}) == 1


def is_shipped(spool: Path, counts: Mapping[str, int]) -> bool:
    return all(read_shipped(spool / writer) == count for writer, count in counts.items())


def kill_at_random(spool: Path, sink: str, rng: random.Random, kills: int) -> None:
    """A shipper is killed again and again while two servers write, then left in peace."""
    # As a server with a sink has it: without one a log is a ring, and on a quick machine overtakes the shipper that was killed.
    as_served: dict[str, Any] = {"has_sink": True, "bytes_max": 256 << 20}
    logs = [open_log(spool_with_key(spool), **as_served), open_log(spool / "writer-1", **as_served)]
    number = 0
    for _ in range(kills):
        with ShipProcess(spool, sink) as shipper:
            wait_until(lambda shipper=shipper: shipper.said("shipping audit records"), "the shipper starts")  # type: ignore[misc]
            until = time.monotonic() + rng.uniform(0.0, 0.25)
            while time.monotonic() < until:
                append(logs[number % 2], (label(f"t{number}-{place}", 300) for place in range(50)))
                number += 1
            shipper.kill()
    counts = {}
    for place, log in enumerate(logs):
        log.close()
        counts[f"writer-{place}"] = log.stats().next_sequence - 1
    with ShipProcess(spool, sink) as shipper:
        wait_until(lambda: is_shipped(spool, counts), "the shipper ships the rest")
        assert shipper.terminate() == 0


def counts_of(spool: Path) -> dict[str, int]:
    return {path.parent.name: read_shipped(path.parent) for path in spool.glob("writer-*/shipped")}


def test_a_shipper_killed_at_random_moments_loses_nothing_in_files(tmp_path: Path, rng: random.Random) -> None:
    kill_at_random(tmp_path / "spool", f"jsonl:{tmp_path / 'out'}", rng, kills=5)
    found = documents_in_files(tmp_path / "out")
    assert_all_there(found, counts_of(tmp_path / "spool"))
    assert len(found) > 500


def test_a_shipper_killed_at_random_moments_loses_nothing_in_redis(tmp_path: Path, rng: random.Random) -> None:
    with redis_server() as server:
        kill_at_random(tmp_path / "spool", f"{server.url}?stream={STREAM}", rng, kills=3)
        assert_all_there(documents_in_stream(server), counts_of(tmp_path / "spool"))


def test_redis_that_hangs_dies_and_comes_back_gets_everything(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    log = open_log(spool_with_key(spool))
    with redis_server(*DURABLE) as server, ShipProcess(spool, f"{server.url}?stream={STREAM}") as shipper:
        append(log, (label(f"a{number}") for number in range(100)))
        wait_until(lambda: is_shipped(spool, {"writer-0": 101}), "the first records")
        server.kill()
        append(log, (label(f"b{number}") for number in range(100)))
        away = "the audit sink is away: records wait in the spool"
        wait_until(lambda: shipper.said(away), "the shipper notices")
        assert read_shipped(spool / "writer-0") == 101
        server.start()
        wait_until(lambda: is_shipped(spool, {"writer-0": 201}), "what came meanwhile")
        assert shipper.terminate() == 0
        messages = [line["message"] for line in shipper.lines()]
        assert [messages.count(away), messages.count("the audit sink is back")] == [1, 1]
        assert_all_there(documents_in_stream(server), {"writer-0": 201})
        assert shipper.lines()[-1]["records"] == 201
    log.close()


def test_a_server_with_an_append_only_file_is_asked_to_sync_it(tmp_path: Path) -> None:
    """WAITAOF where the server knows it (Redis 7.2, Valkey); an older one is taken at its word."""
    write_log(spool_with_key(tmp_path), 10)
    with redis_server(*DURABLE) as server:
        with ShipProcess(tmp_path, f"{server.url}?stream={STREAM}", "--once") as shipper:
            assert shipper.process.wait(WAIT_S) == 0
            messages = [line["message"] for line in shipper.lines()]
        with server.client() as client:
            commands: Any = client.info("commandstats")
            try:
                client.execute_command("WAITAOF", 0, 0, 1)  # type: ignore[no-untyped-call]
                knows = True
            except redis.ResponseError:
                knows = False
        assert ("cmdstat_waitaof" in commands) == knows
        assert (NOT_SYNCED in messages) == (not knows)
        assert EVICTS not in messages
        assert_all_there(documents_in_stream(server), {"writer-0": 12})


def test_what_a_server_does_not_promise_is_said_once(tmp_path: Path) -> None:
    """It keeps no file, and may drop the stream for other keys."""
    log = open_log(spool_with_key(tmp_path))
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with redis_server(*options) as server, ShipProcess(tmp_path, f"{server.url}?stream={STREAM}") as shipper:
        for count in (2, 3, 4):
            append(log, [label("a")])
            wait_until(lambda count=count: is_shipped(tmp_path, {"writer-0": count}), "a record")  # type: ignore[misc]
        assert shipper.terminate() == 0
        messages = [line["message"] for line in shipper.lines() if line["severity_text"] == "WARN"]
        assert messages == [NOT_SYNCED, EVICTS]
    log.close()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda client: client.set(STREAM, "x"), "the stream's name is taken by a key of another type"),
        (lambda client: client.config_set("maxmemory", 1), "the server has no memory left (maxmemory)"),
        (lambda client: client.execute_command("ACL", "SETUSER", "default", "-xadd"), "the user may not do this"),
    ],
)
def test_a_redis_that_refuses_is_waited_for_with_its_reason(tmp_path: Path, spoil: Any, reason: str) -> None:
    write_log(spool_with_key(tmp_path), 10)
    with redis_server() as server, server.client() as client:
        spoil(client)
        with ShipProcess(tmp_path, f"{server.url}?stream={STREAM}") as shipper:
            wait_until(lambda: any(reason in line.get("reason", "") for line in shipper.lines()), reason)
            client.execute_command("ACL", "SETUSER", "default", "+xadd")  # type: ignore[no-untyped-call]
            client.config_set("maxmemory", 0)
            client.delete(STREAM)
            wait_until(lambda: is_shipped(tmp_path, {"writer-0": 12}), "somebody mended it")


def test_a_stream_of_a_cluster_is_found_wherever_its_slot_moves(tmp_path: Path) -> None:
    log = open_log(spool_with_key(tmp_path))
    with redis_cluster() as cluster:
        owner = cluster.primary_of(STREAM.encode())
        other = next(node for node in cluster.primaries if node is not owner)
        with ShipProcess(tmp_path, f"{cluster.url}?stream={STREAM}") as shipper:
            append(log, [label("before")])
            wait_until(lambda: is_shipped(tmp_path, {"writer-0": 2}), "the first records")
            cluster.move_slot(STREAM.encode(), other)
            append(log, [label("after")])
            wait_until(lambda: is_shipped(tmp_path, {"writer-0": 3}), "the slot has moved")
            assert shipper.terminate() == 0
        assert_all_there(documents_in_stream(other), {"writer-0": 3})
    log.close()


def test_the_primary_that_sentinels_name_gets_the_records(tmp_path: Path) -> None:
    write_log(spool_with_key(tmp_path), 10)
    with watched_redis() as watched, ShipProcess(tmp_path, f"{watched.url}?stream={STREAM}", "--once") as shipper:
        assert shipper.process.wait(WAIT_S) == 0, shipper.stderr()
        with redis.Redis(port=watched.port_of_primary()) as client:
            assert client.xlen(STREAM) == 12


def test_a_password_stands_in_no_line_and_no_command_line(tmp_path: Path) -> None:
    write_log(spool_with_key(tmp_path), 10)
    with redis_server("--requirepass", PASSWORD) as server:
        url = f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0?stream={STREAM}"
        with ShipProcess(tmp_path, url) as shipper:
            wait_until(lambda: is_shipped(tmp_path, {"writer-0": 12}), "all records")
            command = Path(f"/proc/{shipper.process.pid}/cmdline").read_bytes()
            server.kill()
            append_more(tmp_path)
            wait_until(lambda: shipper.said("the audit sink is away: records wait in the spool"), "it is away")
            assert shipper.terminate() == 0
            assert PASSWORD.encode() not in command
            assert PASSWORD not in shipper.stderr()
            assert f"127.0.0.1:{server.port}" in shipper.stderr()
        wrong = url.replace(PASSWORD, "wrongwrong")
        server.start()
        with ShipProcess(tmp_path, wrong) as shipper:
            wait_until(lambda: "the user or the password is wrong" in shipper.stderr(), "it says why")
            assert "wrongwrong" not in shipper.stderr()


def append_more(spool: Path) -> None:
    log = open_log(spool / "writer-0")
    append(log, [label("more")])
    log.close()


def test_kafka_gets_all_records_with_the_transaction_as_key(tmp_path: Path) -> None:
    log = open_log(spool_with_key(tmp_path))
    with mock_kafka() as kafka:
        kafka.create("audit", 3)
        with ShipProcess(tmp_path, f"kafka://{kafka.brokers}/audit") as shipper:
            append(log, (label(f"t{number % 7}") for number in range(300)))
            wait_until(lambda: is_shipped(tmp_path, {"writer-0": 301}), "the first records")
            kafka.set_up(False)
            append(log, (label(f"t{number % 7}") for number in range(100)))
            wait_until(lambda: shipper.said("the audit sink is away: records wait in the spool"), "the shipper notices")
            kafka.set_up(True)
            wait_until(lambda: is_shipped(tmp_path, {"writer-0": 401}), "what came meanwhile")
            assert shipper.terminate() == 0
        check_topic(kafka, 401)
    log.close()


def check_topic(kafka: MockKafka, count: int) -> None:
    messages = kafka.read("audit")
    found = [json.loads(message.value()) for message in messages]
    assert {item["sequence"] for item in found} == set(range(1, count + 1))
    keys: dict[bytes, set[int]] = {}
    for message, item in zip(messages, found, strict=True):
        log_name = f"{item['writer']}-{item['log_id']}"
        assert message.key().decode() == item.get("transaction_id", log_name)
        assert dict(message.headers())["assay_id"].decode() == f"{log_name}-{item['sequence']}"
        keys.setdefault(message.key(), set()).add(message.partition())
    assert all(len(partitions) == 1 for partitions in keys.values())
    for partition in range(3):
        first_times = list(
            dict.fromkeys(item["sequence"] for m, item in zip(messages, found, strict=True) if m.partition() == partition)
        )
        assert first_times == sorted(first_times), "in order within a partition, once repeats are left out"


# --- how it begins and ends


def test_it_ends_with_its_parent_and_with_what_stands_there_then(tmp_path: Path) -> None:
    """Ctrl-C in the terminal of both is for the server: it still writes."""
    log = open_log(spool_with_key(tmp_path))
    with ShipProcess(tmp_path, f"jsonl:{tmp_path / 'out'}", "--with-parent") as shipper:
        wait_until(lambda: shipper.said("shipping audit records"), "the shipper starts")
        shipper.process.send_signal(signal.SIGINT)
        append(log, (label(f"t{number}") for number in range(10)))
        wait_until(lambda: is_shipped(tmp_path, {"writer-0": 11}), "it goes on")
        append(log, (label(f"t{number}") for number in range(5_000)))
        log.close()
        assert shipper.process.stdin is not None
        shipper.process.stdin.close()
        assert shipper.process.wait(WAIT_S) == 0
    assert_all_there(documents_in_files(tmp_path / "out"), {"writer-0": 5_012})


def test_ctrl_c_and_sigterm_end_it_in_order(tmp_path: Path) -> None:
    write_log(spool_with_key(tmp_path), 10)
    for number in (signal.SIGINT, signal.SIGTERM):
        with ShipProcess(tmp_path, f"jsonl:{tmp_path / 'out'}") as shipper:
            wait_until(lambda: is_shipped(tmp_path, {"writer-0": 12}), "all records")
            wait_until(lambda shipper=shipper: shipper.said("shipping audit records"), "the shipper starts")  # type: ignore[misc]
            shipper.process.send_signal(number)
            assert shipper.process.wait(WAIT_S) == 0
            assert shipper.said("ended")
    assert_all_there(documents_in_files(tmp_path / "out"), {"writer-0": 12})


def test_a_second_shipper_waits_and_takes_over(tmp_path: Path) -> None:
    write_log(spool_with_key(tmp_path), 10)
    sink = f"jsonl:{tmp_path / 'out'}"
    waiting = "another process ships these audit records: waiting"
    with ShipProcess(tmp_path, sink) as first:
        wait_until(lambda: is_shipped(tmp_path, {"writer-0": 12}), "all records")
        with ShipProcess(tmp_path, sink, "--once") as third:
            assert third.process.wait(WAIT_S) == 1
            assert "another process ships its records already" in third.stderr()
        with ShipProcess(tmp_path, sink) as second:
            wait_until(lambda: second.said(waiting), "the second one waits")
            first.kill()
            append_more(tmp_path)
            wait_until(lambda: is_shipped(tmp_path, {"writer-0": 15}), "the second one took over")
            assert second.terminate() == 0
            assert [line["message"] for line in second.lines()].count(waiting) == 1
    assert_all_there(documents_in_files(tmp_path / "out"), {"writer-0": 15})


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        ("auto", "say where to ship to"),
        ("none", "say where to ship to"),
        ("hunter2:hunter2", "audit.sink: expected"),
        ("redis://:hunter2@host/0", "audit.sink: name the stream"),
    ],
)
def test_a_sink_that_is_none_is_usage(tmp_path: Path, sink: str, said: str) -> None:
    with ShipProcess(tmp_path, sink) as shipper:
        assert shipper.process.wait(WAIT_S) == 2
        assert said in shipper.stderr()
        assert "hunter2" not in shipper.stderr()


def test_a_servers_shipper_runs_nothing_that_stands_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write there would have the sink's password."""
    write_log(spool_with_key(tmp_path / "spool"), 10)
    where = tmp_path / "where"
    where.mkdir()
    for name in ("typer", "orjson", "assay"):
        (where / f"{name}.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    monkeypatch.chdir(where)
    shipper = ShipperProcess(tmp_path / "spool", f"jsonl:{tmp_path / 'out'}", lambda: None)
    try:
        wait_until(lambda: shipper.restarts or is_shipped(tmp_path / "spool", {"writer-0": 12}), "all records")
    finally:
        shipper.close()
    assert shipper.restarts == 0
    assert sorted(path.name for path in where.iterdir()) == ["assay.py", "orjson.py", "typer.py"]


def test_a_password_on_the_command_line_is_refused(tmp_path: Path) -> None:
    with ShipProcess(tmp_path, "auto", "--sink", "redis://:hunter2@host/0?stream=s") as shipper:
        assert shipper.process.wait(WAIT_S) == 2
        assert "other users see command lines" in shipper.stderr()
        assert "hunter2" not in shipper.stderr()
