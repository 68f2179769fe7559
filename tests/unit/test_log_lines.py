"""Lines that cannot be written are lost, counted and told of; nobody waits long, and no line is half another."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.observe import logs
from assay.observe.logs import JsonFormatter, LineHandler, log_event, log_level, set_log_level


class Sink:
    """A logger of its own that writes to a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.handler = LineHandler(os.fdopen(os.dup(descriptor), "w"))
        self.handler.setFormatter(JsonFormatter())
        self.logger = logging.Logger("assay.sink", logging.DEBUG)
        self.logger.addHandler(self.handler)

    def log(self, event: str, **fields: object) -> None:
        log_event(self.logger, logging.INFO, event, **fields)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def messages(data: bytes) -> list[str]:
    return [json.loads(line)["message"] for line in data.splitlines()]


def test_a_full_disk_loses_lines_and_says_how_many_when_there_is_room(tmp_path: Path) -> None:
    file = tmp_path / "log"
    full = os.open("/dev/full", os.O_WRONLY)
    sink = Sink(full)
    sink.log("first")
    sink.log("second")
    assert sink.handler.lost_count == 2
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), sink.handler._stream.fileno())  # room again
    sink.log("third")
    sink.log("fourth")
    assert sink.handler.lost_count == 2
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["message"] for line in lines] == ["log lines lost", "third", "fourth"]
    assert lines[0]["count"] == 2


def test_a_reader_that_is_gone_loses_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = Sink(writer)
    sink.log("heard")
    assert messages(os.read(reader, 4096)) == ["heard"]
    os.close(reader)
    sink.log("unheard")
    assert sink.handler.lost_count == 1


def test_a_reader_that_hangs_is_waited_for_once(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits is written whole; a line that was begun is ended before the next one."""
    reader, writer = pipe
    monkeypatch.setattr(logs, "WRITE_TIMEOUT_S", 0.001)
    sink = Sink(writer)
    while sink.handler.lost_count < 3:
        sink.log("x" * 1000)
    os.set_blocking(reader, False)
    taken = os.read(reader, 1 << 20)
    sink.log("again")
    taken += os.read(reader, 1 << 20)
    lines = taken.splitlines()
    whole = []
    for line in lines:
        try:
            whole.append(json.loads(line)["message"])
        except ValueError:
            assert line.startswith(b'{"timestamp"'), "the torn one's beginning, alone on its line"
    assert len(lines) - len(whole) <= 1
    assert whole[-2:] == ["log lines lost", "again"]


def test_a_record_that_cannot_be_made_is_lost_and_not_printed(pipe: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = pipe
    sink = Sink(writer)
    sink.logger.info("%d", "4111111111111111")
    sink.log("next")
    assert messages(os.read(reader, 4096)) == ["log lines lost", "next"]
    assert capsys.readouterr() == ("", "")


def test_lines_longer_than_a_pipe_takes_at_once_come_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = Sink(writer)
    sink.log("long", text="y" * 20_000)
    data = b""
    while not data.endswith(b"\n"):
        data += os.read(reader, 4096)
    assert json.loads(data)["text"] == "y" * 20_000


def test_the_level_is_what_was_set() -> None:
    before = logging.getLogger().level
    try:
        for level in logs.LEVELS:
            set_log_level(level)
            assert log_level() == level
    finally:
        logging.getLogger().setLevel(before)


def test_a_stream_in_memory_that_was_closed_loses_lines_and_raises_nothing() -> None:
    stream = io.StringIO()
    handler = LineHandler(stream)
    stream.close()
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "said to nobody", None, None))
    assert handler.lost_count == 1
