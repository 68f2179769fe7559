"""Files that change while they are used: what is good is taken, what is not is said once. No clock but a hand's."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.errors import ConfigError
from assay.transport import proved_files
from assay.transport.proved_files import FILE_BYTES_MAX, RETRY_S, ProvedFiles
from tests.support.clock import Clock


def prove(contents: tuple[bytes, ...]) -> bytes:
    """Good is what says so in every file."""
    if not all(data.startswith(b"good") for data in contents):
        raise ConfigError("not good")
    return b"+".join(contents)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"good 1")
    return paths


def test_the_first_state_must_be_good(paths: list[Path]) -> None:
    assert ProvedFiles("thing", paths, prove).value == b"good 1+good 1"
    paths[1].write_bytes(b"bad")
    with pytest.raises(ConfigError, match="not good"):
        ProvedFiles("thing", paths, prove)
    paths[1].unlink()
    with pytest.raises(ConfigError, match="b: is not there"):
        ProvedFiles("thing", paths, prove)


def test_a_change_is_taken_when_all_of_it_is_good(paths: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    files = ProvedFiles("thing", paths, prove)
    caplog.set_level(logging.INFO, logger="assay")
    paths[0].write_bytes(b"half-written")
    assert [files.refresh() for _ in range(3)] == [b"good 1+good 1"] * 3
    assert (files.reload_count, files.rejection_count) == (0, 1)
    paths[0].write_bytes(b"good 2")
    assert files.refresh() == files.value == b"good 2+good 1"
    assert (files.reload_count, files.rejection_count) == (1, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "thing not reloaded, the previous stays in use: not good",
        "thing reloaded",
    ]


def test_a_change_that_keeps_size_and_time_is_seen(paths: list[Path]) -> None:
    files = ProvedFiles("thing", paths, prove)
    before = paths[0].stat()
    paths[0].write_bytes(b"good 2")
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.refresh() == b"good 2+good 1"


def test_what_was_put_back_is_no_change_and_may_break_again(paths: list[Path]) -> None:
    files = ProvedFiles("thing", paths, prove)
    for _ in range(2):
        paths[0].write_bytes(b"bad")
        files.refresh()
        paths[0].write_bytes(b"good 1")
        files.refresh()
    assert (files.reload_count, files.rejection_count) == (0, 2)


def test_a_missing_file_is_said_once(paths: list[Path]) -> None:
    files = ProvedFiles("thing", paths, prove)
    paths[0].unlink()
    assert [files.refresh() for _ in range(3)] == [b"good 1+good 1"] * 3
    assert files.rejection_count == 1


def test_what_was_refused_is_tried_again_after_a_while_and_not_before(paths: list[Path]) -> None:
    """A certificate that is not valid yet becomes valid without a change of the file."""
    clock, tried, is_good = Clock(), [], False

    def moody(contents: tuple[bytes, ...]) -> tuple[bytes, ...]:
        tried.append(contents)
        if len(tried) > 1 and not is_good:
            raise ConfigError("not yet")
        return contents

    files = ProvedFiles("thing", paths, moody, clock)
    paths[0].write_bytes(b"early")
    for _ in range(5):
        files.refresh()
    assert len(tried) == 2
    clock.now_s += RETRY_S
    files.refresh()
    assert (len(tried), files.rejection_count) == (3, 1)
    is_good = True
    clock.now_s += RETRY_S
    assert files.refresh() == (b"early", b"good 1")
    assert (files.reload_count, files.rejection_count) == (1, 1)


def test_a_file_that_changes_while_it_is_proved_is_left_for_the_next_look(paths: list[Path]) -> None:
    meddle: list[Callable[[], object]] = []

    def slow(contents: tuple[bytes, ...]) -> tuple[bytes, ...]:
        if meddle:
            meddle.pop()()
        return contents

    files = ProvedFiles("thing", paths, slow)
    meddle.append(lambda: paths[1].write_bytes(b"good 3"))
    paths[0].write_bytes(b"good 2")
    assert files.refresh() == (b"good 1", b"good 1")
    assert files.refresh() == (b"good 2", b"good 3")
    assert (files.reload_count, files.rejection_count) == (1, 0)


def test_whatever_proving_raises_the_old_stays_and_the_text_is_not_shown(
    paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    def explode(contents: tuple[bytes, ...]) -> tuple[bytes, ...]:
        if contents[0] == b"dynamite":
            raise MemoryError("secret")
        return contents

    files = ProvedFiles("thing", paths, explode)
    paths[0].write_bytes(b"dynamite")
    assert files.refresh() == (b"good 1", b"good 1")
    assert caplog.records[-1].getMessage().endswith("MemoryError")


@pytest.mark.parametrize(("size", "is_taken"), [(FILE_BYTES_MAX, True), (FILE_BYTES_MAX + 1, False)])
def test_a_file_has_a_greatest_size(paths: list[Path], size: int, is_taken: bool) -> None:
    files = ProvedFiles("thing", paths, lambda contents: len(contents[0]))
    paths[0].write_bytes(b"x" * size)
    assert (files.refresh() == size) is is_taken


def test_a_pipe_is_not_waited_for(paths: list[Path]) -> None:
    files = ProvedFiles("thing", paths, prove)
    paths[0].unlink()
    os.mkfifo(paths[0])
    assert files.refresh() == b"good 1+good 1"
    assert proved_files.RETRY_S > 0
