"""The simulator has the distributions it claims, and the same parameters give the same events."""

from __future__ import annotations

import hashlib
import json
from datetime import date

import numpy as np
import pytest

from assay.demo.simulator import AMOUNT_FACTOR, SECONDS_PER_DAY, SimulatorParameters, Transactions, simulate

SMALL = SimulatorParameters(seed=3, customers=400, terminals=1_000, days=60)


@pytest.fixture(scope="module")
def small() -> Transactions:
    return simulate(SMALL)


def sha256(transactions: Transactions) -> str:
    digest = hashlib.sha256()
    for block in transactions.json_lines():
        digest.update(block)
    return digest.hexdigest()


def test_same_seed_same_events_other_seed_other_events(small: Transactions) -> None:
    assert sha256(simulate(SMALL)) == sha256(small)
    assert sha256(simulate(SimulatorParameters(seed=4, customers=400, terminals=1_000, days=60))) != sha256(small)


def test_time_order_and_ranges(small: Transactions) -> None:
    assert (np.diff(small.seconds) >= 0).all()
    assert small.seconds.min() > 0
    assert small.seconds.max() < SMALL.days * SECONDS_PER_DAY
    assert (small.seconds % SECONDS_PER_DAY != 0).all()
    assert small.customer_ids.min() >= 0
    assert small.customer_ids.max() < SMALL.customers
    assert small.terminal_ids.max() < SMALL.terminals
    assert small.amounts_cents.min() >= 0


def test_volume_and_shape(small: Transactions) -> None:
    """Two payments a customer and day on average, 3 % lost outside the day; times around noon; amounts 5 to 100 on average."""
    per_customer_day = len(small) / SMALL.customers / SMALL.days
    assert 1.7 < per_customer_day < 2.2
    second_of_day = small.seconds % SECONDS_PER_DAY
    assert abs(second_of_day.mean() - SECONDS_PER_DAY / 2) < 400
    assert 17_000 < second_of_day.std() < 20_000
    assert 45_00 < small.amounts_cents[~small.is_fraud].mean() < 60_00
    per_customer = np.bincount(small.customer_ids, minlength=SMALL.customers) / SMALL.days
    assert per_customer.max() < 5
    assert per_customer.min() < 0.3


def test_customers_stay_within_reach(small: Transactions) -> None:
    """A circle of radius 5 in a square of 100 by 100 holds about 8 of 1,000 terminals."""
    pairs = np.unique(np.stack([small.customer_ids, small.terminal_ids]), axis=1)
    terminals_per_customer = np.bincount(pairs[0], minlength=SMALL.customers)
    assert 5 < terminals_per_customer[terminals_per_customer > 0].mean() < 9


def test_scenario_1_is_a_rule(small: Transactions) -> None:
    assert small.is_fraud[small.amounts_cents > 220_00].all()
    assert (small.amounts_cents[small.scenarios == 1] > 220_00).all()
    assert (small.scenarios == 1).any()


def test_scenario_2_takes_whole_terminals_for_28_days(small: Transactions) -> None:
    """From a terminal's first fraud of its kind everything there is fraud for a while; about 2 terminals a day begin."""
    days = small.days
    terminals = np.unique(small.terminal_ids[small.scenarios == 2])
    assert 40 < len(terminals) < 2 * SMALL.days
    for terminal in terminals[:20]:
        own = np.flatnonzero(small.terminal_ids == terminal)
        first = days[own][small.scenarios[own] == 2].min()
        # Its 28 days may have begun before its first payment; each payment between that and the end is fraud.
        last = days[own][small.scenarios[own] == 2].max()
        inside = own[(days[own] >= first) & (days[own] <= min(last, first + 27))]
        if last - first < 28:
            assert small.is_fraud[inside].all()


def test_scenario_3_multiplies_a_third(small: Transactions) -> None:
    taken = small.scenarios == 3
    assert taken.any()
    assert (small.amounts_cents[taken] % AMOUNT_FACTOR == 0).all()
    means = np.bincount(small.customer_ids[~small.is_fraud], small.amounts_cents[~small.is_fraud], SMALL.customers)
    means /= np.maximum(np.bincount(small.customer_ids[~small.is_fraud], minlength=SMALL.customers), 1)
    ratio = small.amounts_cents[taken].mean() / means[small.customer_ids[taken]].mean()
    assert 4 < ratio < 6.5


def test_more_days_change_no_population() -> None:
    """Every subject has its own random stream: who pays where does not depend on the number of days."""
    short = simulate(SimulatorParameters(seed=3, customers=400, terminals=1_000, days=20))
    reached = set(zip(short.customer_ids.tolist(), short.terminal_ids.tolist(), strict=True))
    long = simulate(SMALL)
    terminals_of = {customer: set() for customer in range(SMALL.customers)}  # type: dict[int, set[int]]
    for customer, terminal in zip(long.customer_ids.tolist(), long.terminal_ids.tolist(), strict=True):
        terminals_of[customer].add(terminal)
    shared = sum(terminal in terminals_of[customer] for customer, terminal in reached)
    assert shared > 0.9 * len(reached)


def test_json_lines_are_events(small: Transactions) -> None:
    blocks = list(small.json_lines(rows_per_block=1_000))
    assert all(block.endswith(b"\n") for block in blocks)
    lines = b"".join(blocks).splitlines()
    assert len(lines) == len(small)
    position = int(np.flatnonzero(small.is_fraud)[0])
    event = json.loads(lines[position])
    seconds = int(small.seconds[position])
    assert event == {
        "transaction_id": str(position),
        "event_time": event["event_time"],
        "entities": {"customer_id": str(small.customer_ids[position]), "terminal_id": str(small.terminal_ids[position])},
        "features": {"amount_minor": int(small.amounts_cents[position])},
        "is_fraud": True,
    }
    expected = np.datetime64(SMALL.start.isoformat(), "s") + np.timedelta64(seconds, "s")
    assert event["event_time"] == f"{expected}Z"


def test_select_numbers_anew(small: Transactions) -> None:
    kept = small.select(small.days == 3)
    assert (kept.days == 3).all()
    assert json.loads(next(kept.json_lines()).splitlines()[0])["transaction_id"] == "0"


@pytest.mark.parametrize("parameters", [{"customers": 0}, {"terminals": 0}, {"days": 0}, {"radius": 0.0}])
def test_bad_parameters(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        SimulatorParameters(**parameters)  # type: ignore[arg-type]


def test_smallest_simulation() -> None:
    """One of everything; most likely nobody reaches anything, and that is an answer too."""
    empty = simulate(SimulatorParameters(customers=1, terminals=1, days=1, start=date(2020, 2, 29), radius=1e-6))
    assert len(empty) == 0
    assert list(empty.json_lines()) == []


@pytest.mark.parametrize("seed", [0])
def test_full_size_has_the_published_numbers(seed: int) -> None:
    """The Handbook: 1,754,155 transactions, 0.837 % fraud, 973 / 9,077 / 4,631 of the three kinds. Ours is another draw."""
    transactions = simulate(SimulatorParameters(seed=seed))
    assert abs(len(transactions) / 1_754_155 - 1) < 0.03
    assert 0.007 < transactions.is_fraud.mean() < 0.0095
    counts = np.bincount(transactions.scenarios, minlength=4)[1:]
    assert (np.abs(counts / np.array([973, 9_077, 4_631]) - 1) < 0.15).all(), counts
