"""Who starts the shipper again lives, whatever becomes of the shipper and of those who are told how far it has come."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.audit import shipper_process
from assay.audit.shipper_process import TELL_S, ShipperProcess
from tests.support.server import wait_until

WAITS = (sys.executable, "-S", "-c", "import sys; sys.stdin.read()")
FAILED = "how far the audit sink has come was not told"


class Ticks:
    """Counts, and always fails. A minute passes with each, or no time."""

    def __init__(self, minutes: int) -> None:
        self.count = 0
        self.minutes = minutes

    def __call__(self) -> None:
        self.count += 1
        raise RuntimeError("of a test")

    def now_s(self) -> float:
        return 1e6 + self.minutes * self.count * TELL_S


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TICK_S", "RESTART_S_MIN", "RESTART_S_MAX"):
        monkeypatch.setattr(shipper_process, name, 0.001)


@pytest.fixture(params=[0, 1])
def ticks(request: pytest.FixtureRequest) -> Ticks:
    return Ticks(request.param)


@pytest.fixture
def shipper(ticks: Ticks, tmp_path: Path) -> Iterator[ShipperProcess]:
    made = ShipperProcess(tmp_path, "none", ticks, command=WAITS, clock=ticks.now_s)
    yield made
    made.close()


def test_a_shipper_that_ends_is_started_again_though_nobody_could_be_told(
    shipper: ShipperProcess, ticks: Ticks, caplog: pytest.LogCaptureFixture
) -> None:
    wait_until(lambda: ticks.count >= 3, "it goes on after a failure")
    assert shipper._process is not None
    shipper._process.kill()
    wait_until(lambda: shipper.restarts > 0, "it is started again")
    before = ticks.count
    wait_until(lambda: ticks.count >= before + 3, "and watched")
    heard = [*caplog.get_records("setup"), *caplog.get_records("call")]  # it may tick before the test itself begins
    said = [record for record in heard if record.getMessage() == FAILED]
    assert {record.levelno for record in said} == {logging.ERROR}
    assert all(record.exc_info for record in said)
    assert len(said) == 1 or ticks.minutes, "a line a minute"
    assert len(said) >= 3 or not ticks.minutes


def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No environment holds a NUL. What could not be started is not shown: it may be a password."""
    shipper = ShipperProcess(tmp_path, "hunter2\0", lambda: None, command=WAITS)
    try:
        wait_until(lambda: shipper.restarts > 1, "it is tried again")
    finally:
        shipper.close()
    assert "the audit shipper cannot be started" in caplog.messages
    assert "hunter2" not in caplog.text
