"""How much is said, changed for good and for a while."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from assay.observe.log_control import LogControl
from assay.observe.logs import JsonFormatter, log_level


class Ratios:
    def __init__(self, is_tracing: bool = True) -> None:
        self.is_tracing = is_tracing
        self.sample_ratio: float | None = None
        self.log_ratio: float | None = None

    def set_sample_ratio(self, ratio: float) -> None:
        self.sample_ratio = ratio

    def set_log_ratio(self, ratio: float) -> None:
        self.log_ratio = ratio


class Time:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.INFO)
    yield
    logging.getLogger().setLevel(before)


def test_what_is_left_out_stays() -> None:
    ratios = Ratios()
    control = LogControl(ratios, 0.01, 0.02)
    before, now = control.change(level="debug")
    assert (before.level, before.trace_sample_ratio, before.request_log_ratio) == ("info", 0.01, 0.02)
    assert (now.level, now.trace_sample_ratio, now.request_log_ratio, now.revert_at_s) == ("debug", 0.01, 0.02, None)
    assert (log_level(), ratios.sample_ratio, ratios.log_ratio) == ("debug", 0.01, 0.02)
    _, now = control.change(trace_sample_ratio=1.0, request_log_ratio=0.5)
    assert (now.level, ratios.sample_ratio, ratios.log_ratio) == ("debug", 1.0, 0.5)
    assert control.revert_in_s == float("inf")


def test_for_a_while_and_back() -> None:
    clock, ratios = Time(), Ratios()
    control = LogControl(ratios, 0.01, 0.02, clock=clock, wall_clock=lambda: 1_000.0)
    control.change(level="debug", revert_after_s=60.0)
    _, now = control.change(request_log_ratio=1.0, revert_after_s=10.0)  # a second one goes back to what was configured
    assert (now.revert_at_s, control.revert_in_s) == (1_010.0, 10.0)
    clock.now_s += 9.9
    control.revert_if_due()
    assert log_level() == "debug"
    clock.now_s += 0.1
    control.revert_if_due()
    assert (log_level(), ratios.sample_ratio, ratios.log_ratio) == ("info", 0.01, 0.02)
    assert (control.now.revert_at_s, control.revert_in_s) == (None, float("inf"))


def test_a_change_for_good_takes_an_end_away() -> None:
    clock = Time()
    control = LogControl(Ratios(), 0.01, 0.0, clock=clock)
    control.change(level="error", revert_after_s=5.0)
    control.change(level="warning")
    clock.now_s += 10
    control.revert_if_due()
    assert log_level() == "warning"


def test_without_tracing_there_is_no_sample_ratio() -> None:
    ratios = Ratios(is_tracing=False)
    control = LogControl(ratios, 0.5, 0.0)
    assert control.now.trace_sample_ratio == 0.0
    control.change(level="debug")
    assert ratios.sample_ratio is None


def test_the_log_says_it_and_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    clock = Time()
    control = LogControl(Ratios(), 0.01, 0.0, clock=clock)
    control.change(level="warning", revert_after_s=1.0, asked_by="spiffe://bank/ops")
    clock.now_s += 1
    control.revert_if_due()
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert [line["message"] for line in lines] == ["logging changed", "logging is as configured again"]
    assert (lines[0]["log_level"], lines[0]["asked_by"]) == ("warning", "spiffe://bank/ops")
    assert lines[1]["log_level"] == "info"
