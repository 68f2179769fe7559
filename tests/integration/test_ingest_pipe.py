"""`assay ingest --events -` as a process: a pipe that stays open, SIGTERM, and the rest sent again."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.feature_sets import SHOP
from tests.support.kafka_events import event_counts, make_events, state_of
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import wait_until

EVENTS = make_events(random.Random(1), 900)


def lines(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


class Ingest:
    """The command, reading a pipe that this test holds open."""

    def __init__(self, folder: Path, store: str, source: str = "-", *more: str) -> None:
        feature_set = folder / "features.yaml"
        feature_set.write_text(SHOP)
        command = [sys.executable, "-m", "assay", "ingest", "--events", source, "--store", store, *more]
        command += ["--feature-set", str(feature_set)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def wait_for_flush(self) -> None:
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline())["source_kafka_topic"] == "stdin"

    def wait_until_read(self) -> None:
        """Until nothing stands in the pipe."""
        assert self.process.stdin is not None
        left = array.array("i", [0])

        def is_empty() -> bool:
            fcntl.ioctl(self.process.stdin, termios.FIONREAD, left)
            return left[0] == 0

        wait_until(is_empty, "the pipe is read")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """The pipe stays open."""
        self.process.send_signal(number)
        self.process.wait(60)
        return self.end()

    def end(self) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        out, said = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode(), " ".join(said.decode().split())

    def handles_signals(self) -> bool:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(caught & 1 << (signal.SIGTERM - 1))


@contextlib.contextmanager
def ingesting(folder: Path, store: str, source: str = "-", *more: str) -> Iterator[Ingest]:
    running = Ingest(folder, store, source, *more)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def counts_of_all_again(folder: Path, store: str) -> tuple[int, int]:
    """Recorded and repeated, of all events sent once more."""
    with ingesting(folder, store, "-", "--json") as again:
        again.send(lines(EVENTS))
        code, out, said = again.end()
    assert code == 0, said
    document = json.loads(out)
    assert (document["is_stopped"], document["line_count"]) == (False, len(EVENTS))
    return document["recorded_count"], document["duplicate_count"]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_open_pipe_is_written_soon_and_a_stop_loses_nothing(
    redis: RedisServer, number: signal.Signals, tmp_path: Path
) -> None:
    """Nothing was written before a million events or the end, and a signal lost all of it."""
    with redis.client() as client:
        client.flushall()
        with ingesting(tmp_path, redis.url) as running:
            running.send(lines(EVENTS[:500]))
            wait_until(lambda: event_counts(state_of(client)) == {"customer": 500, "terminal": 500}, "500 are there")
            running.send(lines(EVENTS[500:600]) + lines(EVENTS[600:601])[:40])
            running.wait_until_read()
            code, _, said = running.stop(number)
        assert (code, "stopped after 600 lines" in said, "600 recorded" in said) == (0, True, True), said
        assert event_counts(state_of(client)) == {"customer": 600, "terminal": 600}
        assert counts_of_all_again(tmp_path, redis.url) == (300, 600)
        assert event_counts(state_of(client)) == {"customer": 900, "terminal": 900}


def test_a_stop_saves_an_embedded_store(tmp_path: Path) -> None:
    store = f"embedded:{tmp_path / 'store.snapshot'}"
    with ingesting(tmp_path, store) as running:
        running.send(lines(EVENTS[:500]))
        running.wait_for_flush()
        running.send(lines(EVENTS[500:600]))
        running.wait_until_read()
        code, _, said = running.stop()
    assert (code, "stopped after 600 lines" in said) == (0, True), said
    assert counts_of_all_again(tmp_path, store) == (300, 600)


def test_a_named_pipe_that_nobody_writes_to_can_be_stopped(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ingesting(tmp_path, f"embedded:{tmp_path / 'store.snapshot'}", str(fifo)) as running:
        wait_until(running.handles_signals, "it reads")
        code, _, said = running.stop()
    assert (code, "stopped after 0 lines" in said) == (0, True), said


def test_a_named_pipe_is_read_to_its_writer_s_end(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ingesting(tmp_path, f"embedded:{tmp_path / 'store.snapshot'}", str(fifo)) as running:
        fifo.write_bytes(lines(EVENTS))
        code, _, said = running.end()
    assert (code, "900 recorded" in said, "stopped" in said) == (0, True, False), said
