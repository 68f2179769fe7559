"""Simulated card transactions with three kinds of fraud: the demo's history and the training data of examples/card_fraud.

Customers and terminals lie on a square of 100 by 100; a customer pays at terminals within `radius`, with an own mean amount and
an own number of payments a day. The distributions are those of Le Borgne, Siblini, Lebichot, Bontempi, *Reproducible Machine
Learning for Credit Card Fraud Detection - Practical Handbook* (ULB, 2022); code and random streams are our own. Three frauds, in
this order:

1. every amount above 220;
2. each day two terminals are compromised: all their payments of 28 days are fraud;
3. each day three customers are compromised: a third of their payments of 14 days have five times the amount and are fraud.

The same parameters give the same transactions wherever NumPy's `PCG64` streams are the same (they are fixed by NumPy's policy for
bit generators; the distributions built on them may change with a NumPy release, which `sha256` of the events would show).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

# Part of the cache key of everything made from simulated events: raise it when the events change.
SIMULATOR_VERSION = 1

SECONDS_PER_DAY = 86_400
AMOUNT_FRAUD_CENTS = 22_000  # amounts above are fraud (scenario 1)
TERMINALS_COMPROMISED_PER_DAY, TERMINAL_COMPROMISED_DAYS = 2, 28
CUSTOMERS_COMPROMISED_PER_DAY, CUSTOMER_COMPROMISED_DAYS = 3, 14
AMOUNT_FACTOR = 5  # of a compromised customer's fraudulent payments


@dataclass(frozen=True)
class SimulatorParameters:
    """What is simulated. The defaults are the full size: about 1.75 million transactions."""

    seed: int = 0
    customers: int = 5_000
    terminals: int = 10_000
    days: int = 183
    start: date = date(2018, 4, 1)
    radius: float = 5.0

    def __post_init__(self) -> None:
        for name in ("customers", "terminals", "days"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1")
        if self.radius <= 0:
            raise ValueError("radius: expected a number above 0")


@dataclass(frozen=True)
class Transactions:
    """n transactions in time order; the position is the transaction id. All arrays have shape (n,)."""

    start: date
    seconds: NDArray[np.int64]  # since start, 00:00 UTC
    customer_ids: NDArray[np.int32]
    terminal_ids: NDArray[np.int32]
    amounts_cents: NDArray[np.int64]
    scenarios: NDArray[np.int8]  # 0 genuine, 1..3 as above. Never a model input.

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def days(self) -> NDArray[np.int64]:
        """Whole days since start, shape (n,)."""
        return self.seconds // SECONDS_PER_DAY

    @property
    def is_fraud(self) -> NDArray[np.bool_]:
        """The label, shape (n,). In life it is known about a week later."""
        return self.scenarios > 0

    def select(self, mask: NDArray[np.bool_]) -> Transactions:
        """The transactions where `mask` (n,) holds, numbered anew."""
        return Transactions(
            self.start,
            self.seconds[mask],
            self.customer_ids[mask],
            self.terminal_ids[mask],
            self.amounts_cents[mask],
            self.scenarios[mask],
        )

    def json_lines(self, rows_per_block: int = 50_000) -> Iterator[bytes]:
        """The events as JSON lines, in blocks of whole lines."""
        day_names = [(self.start + timedelta(days=day)).isoformat() for day in range(int(self.days.max(initial=0)) + 1)]
        times = [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(SECONDS_PER_DAY)]
        for first in range(0, len(self), rows_per_block):
            block = slice(first, first + rows_per_block)
            columns = zip(
                self.days[block].tolist(),
                (self.seconds[block] % SECONDS_PER_DAY).tolist(),
                self.customer_ids[block].tolist(),
                self.terminal_ids[block].tolist(),
                self.amounts_cents[block].tolist(),
                self.is_fraud[block].tolist(),
                strict=True,
            )
            lines = [
                f'{{"transaction_id":"{number}","event_time":"{day_names[day]}T{times[second]}Z",'
                f'"entities":{{"customer_id":"{customer}","terminal_id":"{terminal}"}},'
                f'"features":{{"amount_minor":{cents}}},"is_fraud":{"true" if is_fraud else "false"}}}\n'
                for number, (day, second, customer, terminal, cents, is_fraud) in enumerate(columns, first)
            ]
            yield "".join(lines).encode("ascii")

    @property
    def midnight(self) -> datetime:
        """The moment that `seconds` counts from."""
        return datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC)


def simulate(parameters: SimulatorParameters) -> Transactions:
    """Simulates all transactions, in time order."""
    # One stream a subject, so that asking for more days or other frauds moves nothing else.
    streams = [np.random.default_rng(seed) for seed in np.random.SeedSequence(parameters.seed).spawn(5)]
    population = _Population.draw(parameters, streams[0], streams[1])
    genuine = _draw_payments(parameters, population, streams[2])
    return _add_frauds(parameters, genuine, streams[3], streams[4])


# --- implementation ---


@dataclass(frozen=True)
class _Population:
    """Customers (c,) and what they can reach: terminals reach[reach_start[i]:reach_start[i + 1]] for customer i."""

    amount_means: NDArray[np.float64]
    payments_per_day: NDArray[np.float64]
    reach_start: NDArray[np.int64]
    reach: NDArray[np.int32]

    @staticmethod
    def draw(
        parameters: SimulatorParameters, customer_stream: np.random.Generator, terminal_stream: np.random.Generator
    ) -> _Population:
        places = customer_stream.uniform(0, 100, (parameters.customers, 2))
        amount_means = customer_stream.uniform(5, 100, parameters.customers)
        payments_per_day = customer_stream.uniform(0, 4, parameters.customers)
        terminal_places = terminal_stream.uniform(0, 100, (parameters.terminals, 2))

        found: list[NDArray[np.int32]] = []
        counts: list[NDArray[np.int64]] = []
        for first in range(0, parameters.customers, 500):  # bounded memory: 500 x terminals at a time
            differences = places[first : first + 500, None, :] - terminal_places[None, :, :]
            is_near = np.einsum("ctd,ctd->ct", differences, differences) < parameters.radius**2
            found.append(np.nonzero(is_near)[1].astype(np.int32))
            counts.append(np.count_nonzero(is_near, axis=1).astype(np.int64))
        reach_start = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
        return _Population(amount_means, payments_per_day, reach_start, np.concatenate(found))


def _draw_payments(parameters: SimulatorParameters, population: _Population, stream: np.random.Generator) -> Transactions:
    """All genuine payments. Customers that reach no terminal make none."""
    shape = (parameters.customers, parameters.days)
    per_day = stream.poisson(population.payments_per_day[:, None], shape)
    customers = np.repeat(np.arange(parameters.customers, dtype=np.int32), per_day.sum(axis=1))
    days = np.repeat(np.tile(np.arange(parameters.days), parameters.customers), per_day.ravel())

    # Most payments are made around noon; a time that falls outside the day makes no payment.
    second_of_day = stream.normal(SECONDS_PER_DAY / 2, 20_000, len(customers)).astype(np.int64)
    means = population.amount_means[customers]
    amounts = stream.normal(means, means / 2)
    amounts = np.where(amounts < 0, stream.uniform(0, 2 * means), amounts)
    reach_counts = np.diff(population.reach_start)[customers]
    choices = np.floor(stream.random(len(customers)) * reach_counts).astype(np.int64)

    is_made = (second_of_day > 0) & (second_of_day < SECONDS_PER_DAY) & (reach_counts > 0)
    seconds = (days * SECONDS_PER_DAY + second_of_day)[is_made]
    terminals = population.reach[(population.reach_start[customers] + choices)[is_made]]
    order = np.argsort(seconds, kind="stable")
    return Transactions(
        parameters.start,
        seconds[order],
        customers[is_made][order],
        terminals[order],
        np.rint(amounts[is_made][order] * 100).astype(np.int64),
        np.zeros(len(seconds), np.int8),
    )


def _add_frauds(
    parameters: SimulatorParameters,
    payments: Transactions,
    terminal_stream: np.random.Generator,
    customer_stream: np.random.Generator,
) -> Transactions:
    amounts = payments.amounts_cents.copy()
    scenarios = np.where(amounts > AMOUNT_FRAUD_CENTS, 1, 0).astype(np.int8)
    days = payments.days
    first_days = range(max(parameters.days - 1, 1))

    of_terminal = _Positions.group(payments.terminal_ids, parameters.terminals)
    for day in first_days:
        for terminal in _draw_distinct(terminal_stream, parameters.terminals, TERMINALS_COMPROMISED_PER_DAY):
            scenarios[of_terminal.in_days(terminal, days, day, TERMINAL_COMPROMISED_DAYS)] = 2

    of_customer = _Positions.group(payments.customer_ids, parameters.customers)
    for day in first_days:
        for customer in _draw_distinct(customer_stream, parameters.customers, CUSTOMERS_COMPROMISED_PER_DAY):
            positions = of_customer.in_days(customer, days, day, CUSTOMER_COMPROMISED_DAYS)
            taken = customer_stream.choice(positions, len(positions) // 3, replace=False)
            amounts[taken] *= AMOUNT_FACTOR
            scenarios[taken] = 3
    return Transactions(payments.start, payments.seconds, payments.customer_ids, payments.terminal_ids, amounts, scenarios)


def _draw_distinct(stream: np.random.Generator, population: int, count: int) -> list[int]:
    return [int(chosen) for chosen in stream.choice(population, min(count, population), replace=False)]


@dataclass(frozen=True)
class _Positions:
    """Positions of the payments of each id, in time order: order[start[id]:start[id + 1]]."""

    order: NDArray[np.int64]
    start: NDArray[np.int64]

    @staticmethod
    def group(ids: NDArray[np.int32], id_count: int) -> _Positions:
        counts = np.bincount(ids, minlength=id_count)
        return _Positions(np.argsort(ids, kind="stable"), np.concatenate([[0], np.cumsum(counts)]))

    def in_days(self, entity: int, days: NDArray[np.int64], first_day: int, day_count: int) -> NDArray[np.int64]:
        """Positions of one id's payments on days [first_day, first_day + day_count)."""
        own = self.order[self.start[entity] : self.start[entity + 1]]
        low, high = np.searchsorted(days[own], [first_day, first_day + day_count])
        return own[low:high]
