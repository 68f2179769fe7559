"""GPU metrics, with cards and a driver that are not there."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from assay.observe import gpu
from assay.observe.gpu import AGE_S_MAX, GpuWatch, load_nvml
from tests.support.fake_nvml import FakeCard, FakeNvml
from tests.support.server import wait_until


def samples(watch: GpuWatch) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in watch.families()
        for sample in family.samples
    }


@pytest.fixture
def cards() -> tuple[FakeCard, FakeCard]:
    return FakeCard(), FakeCard(temperature=88, throttled=0x20 | 0x40)


@pytest.fixture
def nvml(cards: tuple[FakeCard, FakeCard]) -> FakeNvml:
    return FakeNvml(*cards)


@pytest.fixture
def watch(nvml: FakeNvml) -> Iterator[GpuWatch]:
    watch = GpuWatch(nvml, interval_s=0.01)
    wait_until(lambda: bool(samples(watch)), "the first reading")
    yield watch
    nvml.may_answer.set()
    watch.close()


def test_what_the_cards_say_is_told(watch: GpuWatch) -> None:
    found = samples(watch)
    assert found["assay_gpu_utilization_ratio", "0"] == 0.42
    assert found["assay_gpu_memory_used_bytes", "1"] == 3 << 30
    assert found["assay_gpu_memory_limit_bytes", "1"] == 80 << 30
    assert (found["assay_gpu_temperature_celsius", "0"], found["assay_gpu_temperature_celsius", "1"]) == (61, 88)
    assert found["assay_gpu_slowdown_temperature_celsius", "0"] == 92
    assert found["assay_gpu_lost", "0"] == 0
    assert found["assay_gpu_xid_errors_total", "1"] == 0
    held = {(labels[1], labels[2]) for labels, value in found.items() if labels[0] == "assay_gpu_throttled" and value}
    assert held == {("1", "sw_thermal"), ("1", "hw_thermal")}  # an idle card is not held down


def test_errors_of_a_card_are_counted_and_logged_once(watch: GpuWatch, nvml: FakeNvml, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        nvml.report_xid(1, 79)
    wait_until(lambda: samples(watch)["assay_gpu_xid_errors_total", "1"] == 3, "three errors")
    assert samples(watch)["assay_gpu_xid_errors_total", "0"] == 0
    assert [record.getMessage() for record in caplog.records] == ["the driver reports an error of a GPU"]


def test_a_lost_card_breaks_no_scrape_and_says_so(watch: GpuWatch, nvml: FakeNvml, cards: tuple[FakeCard, FakeCard]) -> None:
    cards[1].is_lost = True
    wait_until(lambda: samples(watch)["assay_gpu_lost", "1"] == 1, "the card is lost")
    found = samples(watch)
    assert ("assay_gpu_temperature_celsius", "1") not in found  # no reading is better than an old one
    assert found["assay_gpu_temperature_celsius", "0"] == 61
    nvml.report_xid(1, 79)  # whose index the driver does not tell any more
    wait_until(lambda: samples(watch).get(("assay_gpu_xid_errors_total", "unknown")) == 1, "its error")


def test_what_a_card_does_not_know_is_left_out() -> None:
    nvml = FakeNvml(FakeCard(missing={"slowdown", "utilization"}, has_events=False))
    watch = GpuWatch(nvml, interval_s=0.01)
    wait_until(lambda: bool(samples(watch)), "the first reading")
    found = samples(watch)
    assert found["assay_gpu_lost", "0"] == 0
    assert found["assay_gpu_temperature_celsius", "0"] == 61
    names = {labels[0] for labels in found}
    assert not names & {"assay_gpu_slowdown_temperature_celsius", "assay_gpu_utilization_ratio", "assay_gpu_xid_errors_total"}
    reads = nvml.reads
    wait_until(lambda: nvml.reads > reads, "another reading, without events to wait for")
    watch.close()
    assert nvml.is_shut_down


def test_a_driver_that_hangs_costs_the_values_and_not_the_scrape(nvml: FakeNvml) -> None:
    now = [0.0]
    nvml.report_xid(0, 13)
    watch = GpuWatch(nvml, interval_s=0.01, now_s=lambda: now[0])
    wait_until(lambda: bool(samples(watch)), "the first reading")
    nvml.may_answer.clear()
    now[0] = AGE_S_MAX + 1  # the present wait ends, and the next question hangs
    wait_until(lambda: samples(watch)["assay_gpu_lost", "0"] == 1, "what is old is not told")
    assert ("assay_gpu_temperature_celsius", "0") not in samples(watch)
    nvml.may_answer.set()
    wait_until(lambda: samples(watch)["assay_gpu_lost", "0"] == 0, "it answers again")
    watch.close()


def test_without_a_driver_or_a_card_there_is_nothing_and_no_line(caplog: pytest.LogCaptureFixture) -> None:
    for nvml in (FakeNvml(has_driver=False), FakeNvml()):
        watch = GpuWatch(nvml)
        watch.close()
        assert samples(watch) == {}
    assert caplog.records == []


def test_bindings_that_are_not_installed_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert load_nvml() is None
    monkeypatch.setitem(sys.modules, "pynvml", gpu)
    assert load_nvml() is gpu
