"""What an ingestion says of the events that it reads: samples, each looked at as --check looks at one."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from assay.demo.paths import bundle_path
from assay.features.feature_set import FeatureSet
from assay.features.field_report import FieldReport
from assay.features.observed_events import ObservedEvents, null_share, type_shares
from assay.models.baseline import Baseline, Histogram
from assay.models.bundle import read_bundle
from assay.models.event_check import EventChecker, training_data
from assay.models.event_watch import EVENT_BYTES_MAX, SAMPLE_EVENTS, SAMPLE_S_MIN, SampledEventWatch
from assay.models.reservoir import Reservoir
from assay.models.shift import LARGE_PSI, NOTABLE_PSI, VALUES_MIN
from tests.support.clock import Clock


def make_rng() -> random.Random:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


# --- reservoirs


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 1_000])
def test_a_reservoir_has_at_most_its_size(count: int) -> None:
    reservoir: Reservoir[int] = Reservoir(10, make_rng())
    reservoir.show(range(count))
    assert (len(reservoir.items), reservoir.seen_count) == (min(10, count), count)
    assert len(set(reservoir.items)) == len(reservoir.items)
    assert set(reservoir.items) <= set(range(count))


def test_a_reservoir_does_not_care_how_its_items_come() -> None:
    rng = make_rng()
    seed = rng.randrange(1 << 32)
    whole: Reservoir[int] = Reservoir(50, random.Random(seed))
    whole.show(range(5_000))
    parts: Reservoir[int] = Reservoir(50, random.Random(seed))
    at = 0
    while at < 5_000:
        step = rng.choice([0, 1, 7, 49, 50, 51, 400])
        parts.show(range(at, min(5_000, at + step)))
        at += step
    assert parts.items == whole.items


def test_every_item_is_taken_with_the_same_probability() -> None:
    rng = make_rng()
    taken: Counter[int] = Counter()
    for _ in range(4_000):
        reservoir: Reservoir[int] = Reservoir(5, rng)
        reservoir.show(range(40))
        taken.update(reservoir.items)
    expected = 4_000 * 5 / 40  # 500, and a standard deviation of 21
    assert sorted(taken) == list(range(40))
    assert all(abs(count - expected) < 6 * 21 for count in taken.values())


class NoChance(random.Random):
    """Draws 0.0 always."""

    def random(self) -> float:
        return 0.0


def test_no_number_that_is_drawn_is_an_error() -> None:
    reservoir: Reservoir[int] = Reservoir(3, NoChance())
    reservoir.show(range(1_000))
    assert len(reservoir.items) == 3


# --- shares


def report_of(values: Iterable[Any], missing: int = 0) -> FieldReport:
    report = FieldReport(missing_count=missing)
    for value in values:
        report.add(value)
    return report


def test_shares_of_nulls_and_types() -> None:
    report = report_of([1, 2.0, 3.0, 4.0, None], missing=3)
    assert null_share(report) == 4 / 8
    assert type_shares(report) == {"int64": 1 / 4, "float64": 3 / 4}
    assert (null_share(report_of([])), type_shares(report_of([]))) == (None, {})
    assert (null_share(report_of([None])), type_shares(report_of([None]))) == (1.0, {})


# --- samples of a stream

SMALL = """
name: small
version: "1"
entities: [customer_id]
request_features:
  amount: {dtype: float64, accept_int: true}
  channel: {dtype: string, required: false}
inputs: [amount]
"""


def small_watch(clock: Clock, rng: random.Random) -> SampledEventWatch:
    edges = [10.0, 20.0, 30.0]
    amount = Histogram(edges=edges, counts=[100, 100, 100, 100], nulls=0)
    baseline = Baseline(format=1, rows=400, inputs={"amount": amount}, score=amount, alert_rates={})
    return SampledEventWatch(FeatureSet.parse(SMALL), baseline, clock=clock, rng=rng)


def line(number: int, **features: Any) -> bytes:
    head = {"transaction_id": str(number), "event_time": "2026-01-01T00:00:00Z", "entities": {"customer_id": "c"}}
    return json.dumps({**head, "features": features}).encode()


def trained(rng: random.Random, number: int) -> bytes:
    return line(number, amount=rng.uniform(0.0, 40.0), channel="web")


def test_a_sample_ends_when_it_is_full_and_old_enough() -> None:
    rng, clock = make_rng(), Clock()
    watch = small_watch(clock, rng)
    watch.take([trained(rng, number) for number in range(SAMPLE_EVENTS - 1)])
    clock.now_s += 10 * SAMPLE_S_MIN
    watch.take([])
    assert watch.observed == ObservedEvents()  # too few events
    watch.take([trained(rng, SAMPLE_EVENTS)])
    first = watch.observed
    assert (first.sample_count, first.null_shares) == (1, {"amount": 0.0, "channel": 0.0})
    assert first.type_shares == {("amount", "float64"): 1.0, ("channel", "string"): 1.0}
    assert first.shifts["amount"] < NOTABLE_PSI
    many = [line(number, amount=1) for number in range(3 * SAMPLE_EVENTS)]
    clock.now_s += SAMPLE_S_MIN - 0.1
    watch.take(many)
    assert watch.observed is first  # too young
    clock.now_s += 0.1
    watch.take([])
    second = watch.observed
    assert (second.sample_count, second.null_shares) == (2, {"amount": 0.0, "channel": 1.0})
    assert second.type_shares == {("amount", "int64"): 1.0}
    assert second.shifts["amount"] > LARGE_PSI


def test_what_is_no_event_is_looked_at_and_is_no_value() -> None:
    rng, clock = make_rng(), Clock()
    for good_count in (VALUES_MIN, VALUES_MIN - 1):
        watch = small_watch(clock, rng)
        bad = [b"{", b"", b"[1]", line(0, amount="1"), line(0, amount=None)]
        lines = [trained(rng, number) for number in range(good_count)]
        lines += [bad[number % len(bad)] for number in range(SAMPLE_EVENTS - good_count)]
        rng.shuffle(lines)
        clock.now_s += SAMPLE_S_MIN
        watch.take(lines)
        clock.now_s += SAMPLE_S_MIN
        watch.take([])
        observed = watch.observed
        assert observed.sample_count == 1
        assert set(observed.shifts) == ({"amount"} if good_count >= VALUES_MIN else set())
        assert observed.type_shares["amount", "string"] > 0.05
        assert observed.null_shares["amount"] > 0.05


def test_it_says_what_check_says_of_the_same_events() -> None:
    """On the demo's bundle, whose inputs from views need the past and have no shift."""
    rng, clock = make_rng(), Clock()
    feature_set, baseline = training_data(read_bundle(bundle_path()))
    watch = SampledEventWatch(feature_set, baseline, clock=clock, rng=rng)
    lines = [
        json.dumps(
            {
                "transaction_id": str(number),
                "event_time": f"2018-04-{1 + number % 28:02}T{number % 24:02}:00:00Z",
                "entities": {"customer_id": "1", "terminal_id": "2"},
                "features": {"amount_minor": rng.randrange(20_000)},
            }
        ).encode()
        for number in range(SAMPLE_EVENTS)
    ]
    clock.now_s += SAMPLE_S_MIN
    watch.take(lines)
    assert watch.observed.shifts == EventChecker(feature_set, baseline).check(lines).shifts
    assert set(watch.observed.shifts) == {"amount", "is_weekend", "is_night"}


def test_long_events_take_no_memory() -> None:
    rng, clock = make_rng(), Clock()
    watch = small_watch(clock, rng)
    longest = line(1, amount=1.0, channel="x" * (EVENT_BYTES_MAX - len(line(1, amount=1.0, channel=""))))
    clock.now_s += SAMPLE_S_MIN
    watch.take([longest + b" "] * SAMPLE_EVENTS)
    assert watch.observed.sample_count == 0
    watch.take([longest] * SAMPLE_EVENTS)
    assert watch.observed.sample_count == 1
