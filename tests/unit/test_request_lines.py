"""Lines of single calls: which calls get one, how many, and what stands in it."""

from __future__ import annotations

import json
import logging

import pytest

from assay._core import CALL_KINDS, CODE_TABLE, DECISIONS, PRIORITIES, RECORD_REASONS, CallRecord
from assay.observe.logs import JsonFormatter
from assay.observe.request_lines import RequestLines, only_traced, request_fields

CODES = {row.reason: row.number for row in CODE_TABLE}
RECORD = CallRecord(
    kind=CALL_KINDS["score"],
    reasons=RECORD_REASONS["logged"],
    trace_id=0,
    span_id=0,
    parent_span_id=0,
    is_sampled=False,
    model="fraud",
    version="2",
    answer=0,
    failure=0,
    decision=DECISIONS["review"],
    priority=PRIORITIES["bulk"],
    row_count=1,
    failed_rows=0,
    batch_rows=7,
    is_degraded=True,
    stamps_ns=(1_000_000, 1_010_000, 1_030_000, 1_060_000, 1_100_000, 1_150_000, 1_150_000, 1_150_000, 1_210_000),
    ended_ns=1_210_000,
)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [json.loads(JsonFormatter().format(record)) for record in caplog.records]


def test_a_line_has_all_but_who_and_what() -> None:
    assert {name: value for name, value in request_fields(RECORD).items() if value is not None} == {
        "method": "assay.v1.ScoringService/Score",
        "model": "fraud",
        "version": "2",
        "code": "OK",
        "decision": "review",
        "priority": "bulk",
        "total_ms": 0.21,
        "decode_ms": 0.01,
        "look_up_ms": 0.02,
        "queue_ms": 0.03,
        "assemble_ms": 0.04,
        "infer_ms": 0.05,
        "commit_ms": 0.0,
        "respond_ms": 0.06,
        "rows": 1,
        "batch_rows": 7,
        "is_degraded": True,
    }


def test_a_call_that_waited_for_its_explanation_says_how_long() -> None:
    stamps = (1_000_000, 1_010_000, 1_030_000, 1_060_000, 1_100_000, 1_150_000, 1_180_000, 1_180_000, 1_210_000)
    fields = request_fields(RECORD._replace(stamps_ns=stamps))
    assert (fields["infer_ms"], fields["explain_ms"], fields["commit_ms"], fields["respond_ms"]) == (0.05, 0.03, 0.0, 0.03)


def test_a_call_that_did_not_get_far_has_the_stages_that_it_reached() -> None:
    late = RECORD._replace(
        answer=CODES["DEADLINE_EXCEEDED"], stamps_ns=(1_000_000, 1_010_000, 1_030_000, 0, 0, 0, 0, 0, 0), decision=0
    )
    fields = request_fields(late)
    assert (fields["code"], fields["reason"]) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert {name for name in fields if name.endswith("_ms")} == {"total_ms", "decode_ms", "look_up_ms"}
    never = request_fields(RECORD._replace(stamps_ns=(0,) * 9, priority=0, model="", version=""))
    assert (never["total_ms"], never["model"], never["priority"]) == (None, None, None)


def test_a_batch_whose_rows_failed_says_the_first_reason() -> None:
    fields = request_fields(RECORD._replace(kind=CALL_KINDS["batch"], failure=CODES["MODEL_OUTPUT_INVALID"], failed_rows=2))
    assert (fields["code"], fields["reason"], fields["failed_rows"]) == ("OK", "MODEL_OUTPUT_INVALID", 2)


def test_traced_and_chosen_calls_get_one_and_others_none(caplog: pytest.LogCaptureFixture) -> None:
    traced = RECORD._replace(reasons=RECORD_REASONS["sampled"], trace_id=0xABC, span_id=0xD, is_sampled=True)
    with caplog.at_level(logging.INFO):
        RequestLines(10).tell([RECORD, traced, RECORD._replace(reasons=RECORD_REASONS["slow"] | RECORD_REASONS["failed"])])
    found = lines(caplog)
    assert [line.get("trace_flags") for line in found] == [None, "01"]
    assert found[1]["trace_id"] == f"{0xABC:032x}"


@pytest.mark.parametrize(("limit", "count"), [(3, 3), (3, 4), (0, 2)])
def test_at_the_limit(caplog: pytest.LogCaptureFixture, limit: int, count: int) -> None:
    told = RequestLines(limit)
    with caplog.at_level(logging.INFO):
        told.tell([RECORD] * count)
        assert len(lines(caplog)) == min(limit, count)
        told.tell([RECORD])
    left_out = [line.get("left_out_before") for line in lines(caplog)]
    assert left_out == [None] * limit + ([count - limit or None] if limit else [])


def test_none_is_made_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        RequestLines(10).tell([RECORD])
    assert lines(caplog) == []


def test_the_collector_gets_no_call_that_has_no_span() -> None:
    told: list[CallRecord] = []
    tell = only_traced(told.extend)
    tell([RECORD])
    assert told == []
    both = RECORD._replace(reasons=RECORD_REASONS["logged"] | RECORD_REASONS["slow"])
    tell([RECORD, both])
    assert told == [both]
