"""Cards as they are told of: heat with hysteresis, death once, faults in one line of many."""

from __future__ import annotations

import logging

import pytest

from assay._core import Card, run_fault
from assay.observe.card_watch import CardWatch
from tests.support.cuda_messages import ILLEGAL_ADDRESS_AT_RUN, MEMORY_AT_RUN, MEMORY_OF_CUBLAS


class House:
    """A watch over one card, whose temperature a test sets."""

    def __init__(self) -> None:
        self.card = Card()
        self.celsius: int | None = None
        self.heat: list[bool] = []
        self.deaths = 0
        self.watch = CardWatch(
            {0: self.card},
            lambda index: self.celsius,
            hot_celsius=80,
            cool_celsius=70,
            on_dead=self._die,
            on_heat=self.heat.append,
        )

    def _die(self) -> None:
        self.deaths += 1

    def at(self, celsius: int | None) -> bool:
        self.celsius = celsius
        self.watch.look()
        return self.card.stats().is_hot


def test_heat_has_hysteresis_and_comes_back_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    with caplog.at_level(logging.WARNING, "assay.card"):
        walk = [
            (None, False),
            (79, False),
            (80, True),
            (75, True),
            (None, True),
            (71, True),
            (70, False),
            (79, False),
            (90, True),
        ]
        assert [house.at(celsius) for celsius, _ in walk] == [is_hot for _, is_hot in walk]
    assert house.heat == [True, False, True]
    assert len(caplog.records) == 3
    (check,) = house.watch.checks()
    assert (check.name, check.value, check.is_ok) == ("card_0", "hot", False)


def test_a_card_that_works_is_well() -> None:
    house = House()
    assert house.at(50) is False
    assert [check.is_ok for check in house.watch.checks()] == [True]
    samples = {sample.name: sample.value for family in house.watch.families() for sample in family.samples}
    assert samples["assay_card_dead"] == samples["assay_card_hot"] == 0
    assert house.deaths == 0


def test_the_table_knows_the_texts_of_the_wheels() -> None:
    assert run_fault(MEMORY_AT_RUN.text) == run_fault(MEMORY_OF_CUBLAS.text) == "out of memory"
    assert run_fault(ILLEGAL_ADDRESS_AT_RUN.text) == "sticky"
    assert run_fault("Non-zero status code returned while running Gather node") == "other"
