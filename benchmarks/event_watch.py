"""What it costs an ingestion to look on (`assay ingest --kafka --bundle`): CPU time of its thread."""

from __future__ import annotations

import json
import random
import time

from assay.demo.paths import bundle_path
from assay.models.bundle import read_bundle
from assay.models.event_check import training_data
from assay.models.event_watch import SampledEventWatch
from benchmarks.measure import Ratio
from benchmarks.run import Run

EVENTS_PER_S = 5_000
EVENTS = 21 * EVENTS_PER_S  # so two samples are looked at
FLUSH_EVENTS = 50  # what comes in 10 ms
CORE_MS_PER_S = 10.0
SEED = 7


def watch(run: Run) -> list[Ratio]:
    """CPU time of looking on at 5,000 events a second."""
    lines = _lines()
    ratio = Ratio("looking on at 5,000 events/s, CPU over 1 % of a core", "<= 1", "ms per s")
    for index in range(run.pairs):
        ratio.pairs.append((_cost_ms_per_s(lines), CORE_MS_PER_S))
        run.report(f"watch: {index + 1}/{run.pairs}, {ratio.pairs[-1][0]:.2f} ms a second")
    return [ratio]


# --- implementation ---


class _Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _cost_ms_per_s(lines: list[bytes]) -> float:
    feature_set, baseline = training_data(read_bundle(bundle_path()))
    clock = _Clock()
    look = SampledEventWatch(feature_set, baseline, clock=clock, rng=random.Random(SEED))
    started_s = time.process_time()
    for first in range(0, EVENTS, FLUSH_EVENTS):
        clock.now_s = first / EVENTS_PER_S
        look.take(lines[first : first + FLUSH_EVENTS])
    cost_s = time.process_time() - started_s
    assert look.observed.sample_count == 2
    return cost_s * 1e3 / (EVENTS / EVENTS_PER_S)


def _lines() -> list[bytes]:
    rng = random.Random(SEED)
    return [_event(number, rng) for number in range(EVENTS)]


def _event(number: int, rng: random.Random) -> bytes:
    event = {
        "transaction_id": str(number),
        "event_time": f"2018-04-01T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z",
        "entities": {"customer_id": str(rng.randrange(5_000)), "terminal_id": str(rng.randrange(10_000))},
        "features": {"amount_minor": rng.randrange(20_000)},
    }
    return json.dumps(event).encode()
