"""A record that this sink has confirmed is on the disk, under a name that is there too: whoever was killed before, and whoever
moves files away meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.audit.jsonl_sink import JsonlSink
from assay.audit.sinks import ShippedRecord, SinkAwayError

NAME = "1970-01-01T00.jsonl"


def records(*numbers: int, written_us: int = 0) -> list[ShippedRecord]:
    return [ShippedRecord(f"id-{number}", "", written_us, b'{"n":%d}' % number) for number in numbers]


class Syncs:
    """What os.fsync() is called with, by name. `then`: called after each sync of a file, as somebody else would come between."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, then: Callable[[Path], None] = lambda _: None) -> None:
        self.paths: list[Path] = []
        self.then = then
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self.sync)

    def sync(self, handle: int) -> None:
        self._fsync(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        self.paths.append(path)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            self.then(path)


# --- names


def test_directories_that_are_made_are_synced_where_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = Syncs(monkeypatch)
    sink = JsonlSink(tmp_path / "a" / "b")
    sink.deliver(records(1))
    sink.close()
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(syncs.paths)


@pytest.mark.parametrize("makes", [(), ("a/b",), ("a/b", f"a/b/{NAME}")], ids=["nothing", "directories", "the file too"])
def test_names_that_a_killed_shipper_has_made_are_synced_by_the_next(
    makes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before it had done so: that they are there does not mean that they stay."""
    for name in makes:
        (tmp_path / name).write_bytes(b"") if name.endswith(".jsonl") else (tmp_path / name).mkdir(parents=True)
    syncs = Syncs(monkeypatch)
    sink = JsonlSink(tmp_path / "a" / "b")
    sink.deliver(records(1))
    sink.close()
    directory = tmp_path / "a" / "b"
    assert syncs.paths.index(tmp_path) < syncs.paths.index(directory)
    assert {tmp_path / "a", directory, directory / NAME} <= set(syncs.paths)


def test_where_a_directory_could_not_be_synced_it_is_tried_again_before_anything_is_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = JsonlSink(tmp_path)
    sink.deliver(records(1))
    real = os.fsync

    def fail(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(5, os.strerror(5))
        real(handle)

    later = records(2, written_us=3_600_000_000)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        for _ in range(2):
            with pytest.raises(SinkAwayError, match="Input/output error"):
                sink.deliver(later)
    syncs = Syncs(monkeypatch)
    sink.deliver(later)
    sink.close()
    assert tmp_path in syncs.paths
    assert (tmp_path / "1970-01-01T01.jsonl").read_bytes() == b'{"n":2}\n'


def test_a_directory_that_a_link_names_is_synced_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk" / "audit").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk/audit")
    syncs = Syncs(monkeypatch)
    sink = JsonlSink(tmp_path / "link")
    sink.deliver(records(1))
    sink.close()
    assert {tmp_path / "disk", tmp_path / "disk" / "audit"} <= set(syncs.paths)


# --- files that are moved away


def copied_away(path: Path) -> None:
    """To another file system, as an archiver does: what is written after the copy is in no file that has a name."""
    path.unlink()


def renamed(path: Path) -> None:
    path.rename(path.with_suffix(".archived"))


def replaced(path: Path) -> None:
    path.with_suffix(".new").write_bytes(b'{"n":0}\n')
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("move", [copied_away, renamed, replaced])
def test_a_batch_that_went_into_a_file_without_its_name_is_written_anew(
    move: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = JsonlSink(tmp_path)
    sink.deliver(records(1))
    syncs = Syncs(monkeypatch)

    def once(path: Path) -> None:
        syncs.then = lambda _: None
        move(path)

    syncs.then = once
    sink.deliver(records(2, 3))
    sink.deliver(records(4))
    sink.close()
    lines = (tmp_path / NAME).read_bytes().splitlines()
    assert lines[-3:] == [b'{"n":2}', b'{"n":3}', b'{"n":4}']
    assert syncs.paths.count(tmp_path) == 1, "the new file's name"


@pytest.mark.parametrize("move", [copied_away, replaced])
def test_between_two_batches_too(move: Callable[[Path], None], tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path)
    sink.deliver(records(1))
    move(tmp_path / NAME)
    sink.deliver(records(2))
    sink.close()
    assert (tmp_path / NAME).read_bytes().splitlines()[-1] == b'{"n":2}'


def test_nothing_is_confirmed_while_every_file_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonlSink(tmp_path)
    syncs = Syncs(monkeypatch, copied_away)
    with pytest.raises(SinkAwayError, match="moved away while it was written"):
        sink.deliver(records(1))
    syncs.then = lambda _: None
    sink.deliver(records(1))
    sink.close()
    assert (tmp_path / NAME).read_bytes() == b'{"n":1}\n'
