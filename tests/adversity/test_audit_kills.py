"""kill -9 under load, then a cut of the power: what was acknowledged at level fsync is on record.

A killed process leaves its writes with the kernel, which writes them out in peace. So after each kill the spool is made what a
machine without power would have left: every file as long as it was when it was last synced, names that were not synced gone
(what was synced is written down by a preloaded library, tests/support/sync_recorder.c).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from assay._core import HAS_NATIVE_TRANSPORT
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.recorded_scores import SEGMENTS, read_log
from tests.support.server import WAIT_S, make_request

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 4
BYTES_MAX = 64 << 20


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that writes down what was synced."""
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux")
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    source = ROOT / "tests" / "support" / "sync_recorder.c"
    subprocess.run([compiler, "-x", "c", "-shared", "-fPIC", "-O1", str(source), "-o", str(library), "-ldl"], check=True)
    return library


class Journal:
    """What the recorder wrote: what of a directory's files would survive."""

    def __init__(self, path: Path, spool: Path) -> None:
        self.synced: dict[str, int] = {}  # bytes, by name
        self.names: set[str] = {path.name for path in spool.glob(SEGMENTS)}  # that are on the disk
        self._pending: set[str] = set()
        self._path = path

    def replay(self) -> None:
        for line in self._path.read_text().splitlines():
            kind, path, rest = line.rsplit(" ", 2)
            name = Path(path).name
            if kind == "file":
                self.synced[name] = int(rest)
            elif kind == "rename":
                self.synced[rest] = self.synced.pop(name, 0)
                self._pending.add(rest)
            else:
                self.names |= self._pending
                self._pending.clear()


@contextmanager
def audited_server(spool: Path, level: str, recorder: Path, journal: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {**os.environ, "LD_PRELOAD": str(recorder), "ASSAY_SYNC_RECORD": str(journal)}
    command = [sys.executable, "-m", "tests.support.audited_server", str(spool), level, str(BYTES_MAX)]
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, process.communicate()[1]
        yield process, address
    finally:
        process.kill()
        process.communicate()


class Load:
    """Clients that score until their server is gone, and know which answers they got."""

    def __init__(self, address: str, prefix: str) -> None:
        self.acknowledged: list[str] = []
        self._prefix = prefix
        self._lock = threading.Lock()
        self._channels = [
            grpc.insecure_channel(address, options=[("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)])
            for _ in range(CLIENTS)
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(scoring_pb2_grpc.ScoringServiceStub(channel), number))
            for number, channel in enumerate(self._channels)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while len(self.acknowledged) < count:
            assert time.monotonic() < deadline, "no answers"
            time.sleep(0.001)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(WAIT_S)
        for channel in self._channels:
            channel.close()

    def _run(self, stub: scoring_pb2_grpc.ScoringServiceStub, client: int) -> None:
        number = 0
        while True:
            ids = [f"{self._prefix}-{client}-{number}-{row}" for row in range(1 + number % 3)]
            try:
                if len(ids) == 1:
                    stub.Score(make_request(ids[0]), timeout=WAIT_S)
                else:
                    requests = [make_request(one) for one in ids]
                    answer = stub.ScoreBatch(scoring_pb2.ScoreBatchRequest(requests=requests), timeout=WAIT_S)
                    ids = [result.transaction_id for result in answer.results if result.HasField("response")]
            except grpc.RpcError:
                return  # killed
            with self._lock:
                self.acknowledged += ids
            number += 1


def cut_power(spool: Path, journal: Journal) -> None:
    """Of a killed server's files what a machine without power would have kept."""
    for path in spool.glob("*"):
        if path.name in ("lock", "key"):
            continue
        if path.name not in journal.names:
            path.unlink()
        elif path.name in journal.synced and path.stat().st_size > journal.synced[path.name]:
            os.truncate(path, journal.synced[path.name])


def kill_once(spool: Path, level: str, recorder: Path, journal_path: Path, rng: random.Random, life: int) -> list[str]:
    """Serves, is loaded, is killed at a random moment, loses its power. What had been acknowledged until then."""
    journal_path.write_text("")
    journal = Journal(journal_path, spool)
    with audited_server(spool, level, recorder, journal_path) as (process, address):
        load = Load(address, f"life{life}")
        load.wait_for(rng.randrange(1, 400))
        process.kill()
        process.wait()
        load.join()
    journal.replay()
    cut_power(spool, journal)
    return load.acknowledged


def lost_after_kills(kills: int, level: str, recorder: Path, tmp_path: Path, rng: random.Random) -> tuple[set[str], int]:
    """What was acknowledged and is not on record after so many kills of servers on one spool, and how much was acknowledged."""
    spool = tmp_path / "writer-0"
    spool.mkdir()
    acknowledged: set[str] = set()
    for life in range(kills):
        acknowledged |= set(kill_once(spool, level, recorder, tmp_path / "journal", rng, life))
        log = read_log(spool)
        assert log.faults == []
    ids = read_log(spool).ids()
    assert len(ids) == len(set(ids)), "a score is on record twice"
    return acknowledged - set(ids), len(acknowledged)


@pytest.mark.skipif(not HAS_NATIVE_TRANSPORT, reason="one transport is enough, and it is the default one")
@pytest.mark.timeout(600)
def test_level_fsync_loses_nothing_that_was_acknowledged(recorder: Path, tmp_path: Path, rng: random.Random) -> None:
    lost, acknowledged = lost_after_kills(20, "fsync", recorder, tmp_path, rng)
    assert not lost
    assert acknowledged > 200


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_level_fsync_loses_nothing_in_200_kills(recorder: Path, tmp_path: Path, rng: random.Random) -> None:
    lost, acknowledged = lost_after_kills(200, "fsync", recorder, tmp_path, rng)
    assert not lost
    assert acknowledged > 2_000


def test_level_spool_fails_the_same_test(recorder: Path, tmp_path: Path, rng: random.Random) -> None:
    """Which proves that the test could fail."""
    lost, acknowledged = lost_after_kills(2, "spool", recorder, tmp_path, rng)
    assert acknowledged
    assert lost


@pytest.mark.timeout(120)
def test_level_spool_keeps_all_where_only_the_process_dies(recorder: Path, tmp_path: Path, rng: random.Random) -> None:
    spool = tmp_path / "writer-0"
    spool.mkdir()
    acknowledged: set[str] = set()
    for life in range(3):
        with audited_server(spool, "spool", recorder, tmp_path / "journal") as (process, address):
            load = Load(address, f"life{life}")
            load.wait_for(rng.randrange(1, 400))
            process.kill()
            load.join()
        acknowledged |= set(load.acknowledged)
    log = read_log(spool)
    assert log.faults == []
    assert acknowledged <= set(log.ids())
