"""Which models are run by the thread that takes the request, and how many runners a lane has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from assay.config import LaneConfig
from assay.models.device import CPU, Device, Placement
from assay.scoring.scoring import inline_overrun_ns, runner_count

CARD = Device(0)


def model(row_run_us: float, *, has_fixed_work: bool = True, device: Device = CPU) -> Any:
    return SimpleNamespace(row_run_ns=round(row_run_us * 1000), has_fixed_work=has_fixed_work, placement=Placement(device))


def test_a_quick_model_is_run_inline_with_a_millisecond_to_spare() -> None:
    assert inline_overrun_ns(model(50.0), LaneConfig(inline_run_us_max=50)) == 1_050_000
    assert inline_overrun_ns(model(9.0), LaneConfig(inline_run_us_max=10)) == 1_010_000


@pytest.mark.parametrize(
    ("quick_or_not", "lane"),
    [
        (model(50.001), LaneConfig(inline_run_us_max=50)),
        (model(1.0, has_fixed_work=False), LaneConfig(inline_run_us_max=50)),  # its values may make a run long
        (model(1.0), LaneConfig(inline_run_us_max=50, queue_delay_us_max=1)),  # rows are meant to wait for each other
        (model(0.0), LaneConfig(inline_run_us_max=0)),
        (model(1.0, device=CARD), LaneConfig(inline_run_us_max=50)),  # a card may hang
    ],
)
def test_others_are_left_to_the_runners(quick_or_not: Any, lane: LaneConfig) -> None:
    assert inline_overrun_ns(quick_or_not, lane) == 0


def test_a_card_has_one_runner() -> None:
    assert runner_count(model(1.0), 7) == 7
    assert runner_count(model(1.0, device=CARD), 7) == 1
