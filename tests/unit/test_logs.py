"""Log lines: two formats from one place, and one line each whatever is in them."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay._core import CALL_KINDS, CODE_TABLE, RECORD_REASONS, CallRecord
from assay.observe.calls import CallWatch, log_failures
from assay.observe.logs import JsonFormatter, TextFormatter, log_event, set_up
from tests.support.server import wait_until
from tests.unit.test_trace_export import record

CODES = {row.reason: row.number for row in CODE_TABLE}


@pytest.fixture
def capture() -> Callable[[logging.Formatter], tuple[logging.Logger, io.StringIO]]:
    logger = logging.Logger("assay.test")

    def start(formatter: logging.Formatter) -> tuple[logging.Logger, io.StringIO]:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        logger.handlers = [handler]
        return logger, stream

    return start


def test_both_formats_say_the_same(capture: Any) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        logger, stream = capture(formatter)
        log_event(logger, logging.WARNING, "100 % full", listen="127.0.0.1:1", delay_s=0.5, count=3, why="a b", none=None)
        line = stream.getvalue()
        assert line.endswith("\n")
        if isinstance(formatter, TextFormatter):
            time, rest = line[:24], line[24:]
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
            assert rest == ' WARNING assay.test 100 % full listen=127.0.0.1:1 delay_s=0.5 count=3 why="a b"\n'
        else:
            found = json.loads(line)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("timestamp"))
            assert found == {
                "severity_text": "WARN",
                "severity_number": 13,
                "logger": "assay.test",
                "message": "100 % full",
                "listen": "127.0.0.1:1",
                "delay_s": 0.5,
                "count": 3,
                "why": "a b",
            }


@given(text=st.text(), value=st.text())
def test_whatever_is_in_it_a_line_is_one_line(text: str, value: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        made = logging.LogRecord("assay", logging.INFO, "", 0, "said %s", (text,), None)
        made.assay_fields = {"value": value}
        line = formatter.format(made)
        assert line.isprintable()
        if isinstance(formatter, JsonFormatter):
            found = json.loads(line)
            assert (found["message"], found["value"]) == (f"said {text}", value)


def test_lines_of_others_and_tracebacks_cannot_pose_as_ours(capture: Any) -> None:
    forged = "x\n2026-03-01T12:00:00.123Z INFO assay serving\x1b[2J"
    logger, stream = capture(TextFormatter())
    try:
        raise ValueError(forged)
    except ValueError:
        logger.exception("failed: %s", forged)
    lines = stream.getvalue().splitlines()
    assert "\\n2026" in lines[0]
    assert len(lines) > 3
    assert all(line.startswith("  ") for line in lines[1:])
    assert "\x1b" not in stream.getvalue()
    logger, stream = capture(JsonFormatter())
    try:
        raise ValueError(forged)
    except ValueError:
        logger.exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError" in json.loads(stream.getvalue())["exception"]


def test_auto_is_text_for_people_and_json_for_programs() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        for stream, log_format, is_json in (
            (io.StringIO(), "auto", True),
            (Terminal(), "auto", False),
            (Terminal(), "json", True),
            (io.StringIO(), "text", False),
        ):
            set_up("info", log_format, stream)  # type: ignore[arg-type]
            logging.getLogger("assay").info("said")
            logging.getLogger("assay").debug("not said")
            assert stream.getvalue().startswith("{") is is_json
            assert stream.getvalue().count("\n") == 1
    finally:
        root.handlers[:], _ = before
        root.setLevel(before[1])


def test_a_field_that_a_line_has_anyway_is_a_mistake(capture: Any) -> None:
    logger, _ = capture(JsonFormatter())
    with pytest.raises(AssertionError, match="message"):
        log_event(logger, logging.INFO, "x", message="y")


# --- failed calls


def failed(reason: str, **fields: Any) -> CallRecord:
    return record()._replace(reasons=RECORD_REASONS["failed"], answer=CODES[reason], failure=CODES[reason], **fields)


def test_failures_are_one_line_a_reason_with_count_and_trace(caplog: pytest.LogCaptureFixture) -> None:
    calls = [failed("MODEL_RUN_FAILED", trace_id=0xABC, span_id=0xD)] * 3
    calls += [failed("QUEUE_FULL", trace_id=0)] * 500  # no tracing: no ids
    calls += [failed("MODEL_RUN_FAILED", kind=CALL_KINDS["batch"]), record()]
    with caplog.at_level(logging.WARNING):
        log_failures(calls)
    lines = [json.loads(JsonFormatter().format(line)) for line in caplog.records]
    assert len(lines) == 2
    assert lines[0]["message"] == "calls failed"
    assert (lines[0]["reason"], lines[0]["count"], lines[0]["model"]) == ("MODEL_RUN_FAILED", 4, "m")
    assert lines[0]["method"] == "assay.v1.ScoringService/Score"
    assert lines[0]["trace_id"] == f"{0xABC:032x}"
    assert lines[0]["span_id"] == f"{0xD:016x}"
    assert lines[0]["trace_flags"] == "01"
    assert (lines[1]["reason"], lines[1]["count"]) == ("QUEUE_FULL", 500)
    assert "trace_id" not in lines[1]


def test_a_batch_whose_rows_failed_is_told_by_their_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        log_failures([failed("MODEL_OUTPUT_INVALID")._replace(answer=0)])
    assert json.loads(JsonFormatter().format(caplog.records[0]))["reason"] == "MODEL_OUTPUT_INVALID"


def test_the_watch_takes_what_is_left_when_it_ends_and_outlives_one_that_cannot_tell() -> None:
    waiting = [[record()], [], [record(), record()]]
    told: list[int] = []

    def broken(_: Any) -> None:
        raise RuntimeError("told to raise")

    watch = CallWatch(lambda: waiting.pop(0) if waiting else [], [broken, lambda records: told.append(len(records))])
    watch.close()
    assert told == [1]
    watch = CallWatch(lambda: waiting.pop(0) if waiting else [], [lambda records: told.append(len(records))])
    wait_until(lambda: told == [1, 2], "the second drain")  # an empty one is told to nobody
    watch.close()


def test_the_watch_polls_others_and_outlives_one_that_cannot() -> None:
    polled: list[str] = []

    def broken() -> None:
        polled.append("broken")
        raise RuntimeError("told to raise")

    watch = CallWatch(lambda: [], [], [broken, lambda: polled.append("sound")])
    wait_until(lambda: polled[:3] == ["broken", "sound", "broken"], "the second round")
    watch.close()
