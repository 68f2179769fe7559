"""How the server is: the numbers of the last minute, the checks of its parts, and when a line is written."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from assay._core import FINE_UPPER_NS
from assay.observe.log_control import LogControl
from assay.observe.logs import JsonFormatter
from assay.observe.status import Check, Identity, ModelIdentity, State, StatusBoard, log_status, status_fields
from assay.observe.status_watch import StatusWatch


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Engine:
    """Counts by fine bucket for each lane."""

    is_tracing = False

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[int, int]] = {}

    def add(self, model: str, version: str, bucket: int, rows: int) -> None:
        counts = self.rows.setdefault((model, version), {})
        counts[bucket] = counts.get(bucket, 0) + rows

    def stats(self) -> Any:
        return SimpleNamespace(queued_rows=3, slots_used=4, slots=64)

    def metrics(self) -> Any:
        lanes = [
            SimpleNamespace(model=model, version=version, inference=[SimpleNamespace(fine=tuple(counts.items()))])
            for (model, version), counts in self.rows.items()
        ]
        return SimpleNamespace(lanes=lanes)

    def set_log_ratio(self, ratio: float) -> None: ...
    def set_sample_ratio(self, ratio: float) -> None: ...


@pytest.fixture
def house() -> tuple[Engine, Clock, StatusBoard]:
    engine, clock = Engine(), Clock()
    board = StatusBoard(engine, clock=clock, wall_clock=lambda: 5.0)
    board.state = State.SERVING
    return engine, clock, board


def test_rates_and_percentiles_are_of_the_last_minute(house: tuple[Engine, Clock, StatusBoard]) -> None:
    engine, clock, board = house
    engine.add("fraud", "1", 0, 1000)  # long ago, and quick
    for _ in range(40):
        clock.now_s += 5
        board.keep_look()
    engine.add("fraud", "1", 10, 60)
    status = board.status()
    assert status.window_s == pytest.approx(60.0)
    assert status.rows_per_s == pytest.approx(1.0)
    assert status.models[0].scores == 1060
    assert status.p50_s is not None
    assert FINE_UPPER_NS[9] / 1e9 < status.p50_s <= FINE_UPPER_NS[10] / 1e9
    assert (status.queued_rows, status.slots_used, status.slots, status.started_at_s) == (3, 4, 64, 5.0)


def test_in_the_first_minute_since_the_start(house: tuple[Engine, Clock, StatusBoard]) -> None:
    engine, clock, board = house
    assert board.status().p99_s is None
    clock.now_s += 2
    engine.add("fraud", "1", 3, 8)
    assert (board.status().window_s, board.status().rows_per_s) == (2.0, 4.0)


def test_models_stand_in_the_order_of_the_configuration(house: tuple[Engine, Clock, StatusBoard]) -> None:
    engine, _, board = house
    board.identity = Identity(models=(ModelIdentity("b", "1", "beef", "cpu"), ModelIdentity("a", "1", "f00d", "cuda:0")))
    for name in ("a", "b", "loaded later"):
        engine.add(name, "1", 0, 1)
    found = board.status().models
    assert [model.identity.model for model in found] == ["b", "a", "loaded later"]
    assert found[1].identity.device == "cuda:0"


def test_one_check_that_says_no_is_enough(house: tuple[Engine, Clock, StatusBoard]) -> None:
    _, _, board = house
    board.add(lambda: [Check("store", "remote")])
    assert board.status().is_healthy
    board.add(lambda: [Check("audit", "full", is_ok=False)])
    status = board.status()
    assert not status.is_healthy
    fields = status_fields(status)
    assert (fields["status"], fields["store"], fields["audit"], fields["failing"]) == ("degraded", "remote", "full", "audit")
    board.state = State.DRAINING
    assert status_fields(board.status())["status"] == "draining"


def test_a_check_that_cannot_be_had_silences_no_other(house: tuple[Engine, Clock, StatusBoard]) -> None:
    def broken() -> Iterable[Check]:
        raise RuntimeError("told to raise")

    _, _, board = house
    board.add(broken)
    board.add(lambda: [Check("store", "remote")])
    assert [(check.name, check.is_ok) for check in board.status().checks] == [("broken", False), ("store", True)]


def test_the_line(house: tuple[Engine, Clock, StatusBoard], caplog: pytest.LogCaptureFixture) -> None:
    engine, clock, board = house
    board.identity = Identity("0.1", "3.12.1", "1.31.1", "13", "580.65.06", (ModelIdentity("fraud", "2", "", "cuda:0"),))
    engine.add("fraud", "2", 20, 10)
    clock.now_s += 10
    with caplog.at_level(logging.INFO):
        log_status(board.status())
    line = json.loads(JsonFormatter().format(caplog.records[0]))
    assert line["severity_text"] == "INFO"
    assert line["message"] == "status"
    assert (line["status"], line["models"], line["python"], line["onnxruntime"]) == ("serving", "fraud 2", "3.12.1", "1.31.1")
    assert (line["cuda"], line["driver"], line["rows_per_s"]) == ("13", "580.65.06", 1.0)
    assert line["p99_ms"] <= FINE_UPPER_NS[20] / 1e6


# --- when


def watch(house: tuple[Engine, Clock, StatusBoard], interval_s: float) -> tuple[StatusWatch, LogControl]:
    engine, clock, board = house
    control = LogControl(engine, 0.0, 0.0, clock=clock)
    return StatusWatch(board, control, interval_s, clock=clock), control


def line_count(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.message == "status" for record in caplog.records)


def test_a_line_each_interval_and_when_asked(house: tuple[Engine, Clock, StatusBoard], caplog: pytest.LogCaptureFixture) -> None:
    _, clock, _ = house
    watching, _ = watch(house, 60.0)
    with caplog.at_level(logging.INFO):
        assert watching.step() == 5.0
        clock.now_s += 59
        watching.step()
        assert line_count(caplog) == 0
        watching.ask()
        watching.step()
        assert line_count(caplog) == 1
        clock.now_s += 1
        watching.step()
        watching.step()
        assert line_count(caplog) == 2  # one asked for does not move the others


def test_none_where_the_interval_is_zero(house: tuple[Engine, Clock, StatusBoard], caplog: pytest.LogCaptureFixture) -> None:
    _, clock, _ = house
    watching, _ = watch(house, 0)
    with caplog.at_level(logging.INFO):
        clock.now_s += 100_000
        watching.step()
        assert line_count(caplog) == 0
        watching.ask()
        watching.step()
        assert line_count(caplog) == 1


def test_it_wakes_for_a_change_that_ends(house: tuple[Engine, Clock, StatusBoard]) -> None:
    _, clock, _ = house
    watching, control = watch(house, 60.0)
    control.change(request_log_ratio=1.0, revert_after_s=2.0)
    assert watching.step() == 2.0
    clock.now_s += 2
    watching.step()
    assert control.now.request_log_ratio == 0.0


def test_its_thread_ends(house: tuple[Engine, Clock, StatusBoard]) -> None:
    watching, _ = watch(house, 60.0)
    watching.start()
    watching.ask()
    watching.close()
    never_started, _ = watch(house, 60.0)
    never_started.close()
