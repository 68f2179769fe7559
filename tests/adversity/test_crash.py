"""Servers that die by a fault: what is left of them, that dying is what it was, and that the next one starts."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from assay.config import Config
from assay.errors import ConfigError
from assay.observe.black_box import open_box, read_file
from assay.observe.crash_file import FILE_BYTES, End
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from tests.support.server import ServeProcess, wait_until


def score(channel: grpc.Channel, **fields: Any) -> Any:
    request = scoring_pb2.ScoreRequest(
        transaction_id="crash-1", entities={"customer_id": "4111111111111111", "terminal_id": "3156"}, **fields
    )
    request.event_time.FromSeconds(1_525_860_000)
    request.features["amount_minor"].int64_value = 5716
    return scoring_pb2_grpc.ScoringServiceStub(channel).Score(request, timeout=10)


def show(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay", "crash", "show", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "200"})


def said(server: ServeProcess, message: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, server.stderr().splitlines()) if message in line["message"]]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_under_load_it_leaves_its_last_rows_and_the_next_one_says_so(tmp_path: Path, number: signal.Signals) -> None:
    box = tmp_path / "box"
    setting = ("--set", f"black_box={box}")
    with ServeProcess(*setting) as server:
        stop = threading.Event()

        def load() -> None:
            with grpc.insecure_channel(server.target) as channel:
                while not stop.is_set():
                    try:
                        score(channel)
                    except grpc.RpcError:
                        return

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        with grpc.insecure_channel(server.target) as channel:
            for _ in range(50):
                score(channel)
        server.signal(number)
        assert server.wait() == -number  # as without a black box
        stop.set()
        for thread in threads:
            thread.join()
    report = read_file(box)
    assert (report.end, report.signal) == (End.CRASHED, number.name)
    assert report.how.startswith("sent by process")
    assert report.slot_count >= 50
    assert len(report.slots) >= min(report.slot_count, 4096) - 3
    assert {slot.outcome for slot in report.slots} <= {"OK", "CANCELLED"}
    assert all(slot.model == "card_fraud 1" for slot in report.slots)
    assert b"4111111111111111" not in box.read_bytes()
    assert b"crash-1" not in box.read_bytes()
    with ServeProcess(*setting, "--drain-delay", "0") as server:
        (line,) = said(server, "the last run crashed")
        assert (line["signal"], line["file"]) == (number.name, f"{box}.last")
        shown = show(Path(line["file"]))
        assert shown.returncode == 0, shown.stderr
        for word in (number.name, "card_fraud 1", "answered_rows", "last rows", "approve"):
            assert word in shown.stdout
        document = json.loads(show(Path(line["file"]), "--json").stdout)
        assert len(document["slots"]) == len(report.slots)
        assert {"decoded", "queued", "scored", "done"} <= document["slots"][-1]["stamps_us"].keys()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert read_file(box).end is End.CLEAN


def test_failures_are_in_it(tmp_path: Path) -> None:
    box = tmp_path / "box"
    with ServeProcess("--set", f"black_box={box}") as server, grpc.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.RpcError):
            scoring_pb2_grpc.ScoringServiceStub(channel).Score(_expired(), timeout=10)
        server.signal(signal.SIGSEGV)
        server.wait()
    (error,) = read_file(box).errors
    assert error.reason == "DEADLINE_EXCEEDED"


def _expired() -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(transaction_id="e", entities={"customer_id": "1", "terminal_id": "3156"})
    request.event_time.FromSeconds(1_525_860_000)
    request.features["amount_minor"].int64_value = 1
    request.timeout.FromNanoseconds(1)
    return request


def test_one_that_was_killed_is_missed_and_none_is_lost(tmp_path: Path) -> None:
    box = tmp_path / "box"
    setting = ("--set", f"black_box={box}", "--drain-delay", "0")
    with ServeProcess(*setting) as server:
        server.signal(signal.SIGKILL)
        server.wait()
    with ServeProcess(*setting) as server:
        assert len(said(server, "ended without a word")) == 1
        assert said(server, "crashed") == []
        server.signal(signal.SIGTERM)
        server.wait()
    with ServeProcess(*setting) as server:
        assert said(server, "the last run") == []
        assert not Path(f"{box}.last").exists()


def test_pythons_own_handler_has_its_say_too(tmp_path: Path) -> None:
    with ServeProcess(environment={"PYTHONFAULTHANDLER": "1"}) as server:
        server.signal(signal.SIGSEGV)
        assert server.wait() == -signal.SIGSEGV
        assert "Fatal Python error: Segmentation fault" in server.stderr()
        assert read_file(server.black_box).signal == "SIGSEGV"


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """RLIMIT_FSIZE at the box's own size: whatever is written past it fails."""
    with ServeProcess() as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        server.signal(signal.SIGSEGV)
        assert server.wait() == -signal.SIGSEGV
        assert read_file(server.black_box).end is End.CRASHED


# --- a disk without room


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=1m,mode=700") != 0:
        pytest.skip(f"a file system cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    yield folder
    libc.umount2(os.fsencode(folder), 2)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    return filler


def test_a_crash_on_a_full_disk_is_told_whole(small_disk: Path) -> None:
    box = small_disk / "box"
    with ServeProcess("--set", f"black_box={box}") as server, grpc.insecure_channel(server.target) as channel:
        fill(small_disk)
        score(channel)
        server.signal(signal.SIGSEGV)
        assert server.wait() == -signal.SIGSEGV
    report = read_file(box)
    assert (report.signal, report.slot_count) == ("SIGSEGV", 1)


def test_where_there_is_no_room_at_the_start(small_disk: Path, tmp_path: Path) -> None:
    """auto goes on without one, and says so; a path that was named must be had."""
    filler = fill(small_disk)
    environment = {"STATE_DIRECTORY": str(small_disk)}
    with ServeProcess("--set", "black_box=auto", environment=environment) as server:
        (line,) = said(server, "no black box")
        assert line["why"] == "No space left on device"
        with grpc.insecure_channel(server.target) as channel:
            assert score(channel).HasField("score")
    filler.unlink()
    with ServeProcess("--set", "black_box=auto", environment=environment) as server:
        assert said(server, "no black box") == []
        assert len(list(small_disk.glob("black-box-0.bin"))) == 1


# --- whose file it is


def config(path: Path | str) -> Config:
    return Config(black_box=str(path), listen="127.0.0.1:50051")


@pytest.mark.parametrize("kind", ["folder", "link", "missing folder"])
def test_what_cannot_be_a_box_is_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "box"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path = tmp_path / "none" / "box"
    with pytest.raises(ConfigError, match="black_box"):
        open_box(config(path), "3.11")
    assert not (tmp_path / "elsewhere").exists()


def test_two_servers_do_not_share_one(tmp_path: Path) -> None:
    with ServeProcess() as server, pytest.raises(ConfigError, match="another running server has it"):
        open_box(config(server.black_box), "3.11")


def test_auto_finds_one_for_each_and_only_where_nobody_else_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    environment = {"STATE_DIRECTORY": str(tmp_path)}
    with (
        ServeProcess("--set", "black_box=auto", environment=environment),
        ServeProcess("--set", "black_box=auto", environment=environment),
    ):
        assert sorted(path.name for path in tmp_path.glob("*.bin")) == ["black-box-0-1.bin", "black-box-0.bin"]
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.glob("*.bin"))
    tmp_path.chmod(0o777)
    assert "not a directory of this user alone" in str(open_box(config("auto"), "3.11").problem)


def test_no_more_than_three_files_are_kept(tmp_path: Path) -> None:
    box = tmp_path / "box"
    program = (
        "import os, sys\nfrom assay.config import Config\nfrom assay.observe.black_box import open_box\n"
        "open_box(Config(black_box=sys.argv[1]), '3.11')\nos.abort()\n"
    )
    pids = []
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", program, str(box)], stderr=subprocess.DEVNULL) as process:
            pids.append(process.pid)
        assert process.returncode == -signal.SIGABRT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box", "box.last", "box.older"]
    assert [read_file(tmp_path / name).pid for name in ("box.older", "box.last", "box")] == pids[1:]


def test_the_newest_crash_is_found_without_a_name(tmp_path: Path) -> None:
    environment = {"STATE_DIRECTORY": str(tmp_path)}
    none = subprocess.run(
        [sys.executable, "-m", "assay", "crash", "show"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (none.returncode, "no crash is kept" in none.stderr) == (1, True)
    with ServeProcess("--set", "black_box=auto", environment=environment) as server:
        server.signal(signal.SIGABRT)
        server.wait()
    found = subprocess.run(
        [sys.executable, "-m", "assay", "crash", "show"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (found.returncode, found.stdout.startswith("SIGABRT")) == (0, True)


def test_a_damaged_file_is_no_obstacle(tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.write_bytes(b"ASSAYBOX" + os.urandom(1000))
    with ServeProcess("--set", f"black_box={box}") as server:
        wait_until(lambda: box.stat().st_size == FILE_BYTES, "the box is made anew")
        assert said(server, "the last run") == []
        assert show(box).stdout.startswith(f"{box}: no crash")


@pytest.mark.parametrize("data", [b"\x08\x07\x12\x07pytorch" * 50_000, b"x", bytes(4095) + b"x", bytes(FILE_BYTES + 1)])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(data)
    with pytest.raises(ConfigError, match=r"black_box: .*holds something else.*; choose another path, or off"):
        open_box(config(model), "3.11")
    assert model.read_bytes() == data
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    taken = tmp_path / "black-box-50051.bin"
    taken.write_bytes(data)
    assert "holds something else" in str(open_box(config("auto"), "3.11").problem)
    assert taken.read_bytes() == data


@pytest.mark.parametrize("size_bytes", [0, 4096, FILE_BYTES])
def test_one_that_a_death_at_the_start_left_is_taken(tmp_path: Path, size_bytes: int) -> None:
    """Blocks are taken before anything is written, and the header is written last."""
    box = tmp_path / "box"
    box.write_bytes(bytes(size_bytes))
    with box.open("r+b") as file:
        file.seek(max(0, size_bytes - 1))
        file.write(b"x" if size_bytes > 4096 else b"")
    program = (
        "import sys\nfrom assay.config import Config\nfrom assay.observe.black_box import open_box\n"
        "open_box(Config(black_box=sys.argv[1]), '3.11').close()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(box)], check=True, timeout=60)
    assert read_file(box).end is End.CLEAN
