"""A thread that proves models beside those that serve."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TypeVar

import pytest

from assay.models import inspection, quiet
from assay.models.refusal import BundleRefusedError

Result = TypeVar("Result")


def quietly(work: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(max_workers=1, initializer=quiet.become_quiet) as threads:
        return threads.submit(work).result()


def test_the_thread_has_the_lowest_priority_and_no_other_has() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    assert quietly(priority) == quiet.NICE
    assert (priority(), quiet.is_quiet()) == (before, False)


@pytest.mark.parametrize(("worked_s", "rested_s"), [(0.001, 0.009), (0.002, 0.018), (3.0, quiet.REST_S_MAX)])
def test_it_rests_after_each_run_but_never_long(monkeypatch: pytest.MonkeyPatch, worked_s: float, rested_s: float) -> None:
    now_s, rests = [100.0], list[float]()
    monkeypatch.setattr(quiet, "time", SimpleNamespace(monotonic=lambda: now_s[0], sleep=rests.append))

    def run() -> None:
        with quiet.rest_after():
            now_s[0] += worked_s

    run()
    assert rests == [], "a thread that is not quiet goes on at once"
    quietly(run)
    assert rests == [pytest.approx(rested_s)]


def policy_of_a_child(start: Callable[[int], None]) -> str:
    tell = "import os, sys; sys.stdin.readline(); print(os.sched_getscheduler(0))"
    with subprocess.Popen([sys.executable, "-c", tell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        start(child.pid)
        return child.communicate("go\n", 30)[0].strip()


def test_a_child_may_be_idle_by_the_kernels_book() -> None:
    assert policy_of_a_child(quiet.make_idle) == str(os.SCHED_IDLE)
    assert policy_of_a_child(lambda pid: None) == str(os.SCHED_OTHER)


def test_a_child_that_has_ended_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait(30)
        quiet.make_idle(child.pid)


@pytest.mark.parametrize("idle_s", [30.0, 0.0])
def test_a_quiet_thread_asks_an_idle_child_and_then_another(monkeypatch: pytest.MonkeyPatch, idle_s: float) -> None:
    idle: list[int] = []
    monkeypatch.setattr(inspection, "make_idle", idle.append)
    monkeypatch.setattr(inspection, "_IDLE_SECONDS_MAX", idle_s)

    def ask() -> list[str]:
        return [problem.check for problem in inspection.inspect_model(b"no model").problems]

    assert ask() == ["onnx"]
    assert idle == [], "nobody is disturbed at a start"
    assert quietly(ask) == ["onnx"]
    assert len(idle) == 1


def test_a_child_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_WALL_SECONDS_MAX", 0.01)
    with pytest.raises(BundleRefusedError, match=r"no answer within 0.01 s"):
        inspection.inspect_model(b"no model")
