"""When events of a file or a pipe are applied, and what a stop leaves out."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from assay.cli.stop_signals import stop_signals
from assay.features.attributes import ingest_attributes
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.ingest import EventIngestion, ingest_events, never
from assay.features.line_blocks import BLOCK_BYTES, LineBlock
from assay.features.rejects import Rejects
from assay.features.store import open_store
from tests.support.clock import Clock
from tests.support.feature_sets import SHOP
from tests.support.server import wait_until

SET = FeatureSet.parse(SHOP)
PLAN = compile_plan(SET)
PROFILE = """
name: profile
version: "1"
entities: [customer_id]
views: {profile: {kind: attributes, entity: customer_id, attributes: {orders: int64}}}
inputs: [{name: orders, when_null: nan, dtype: float64}]
"""


def line(number: int) -> bytes:
    document = {
        "transaction_id": f"t{number}",
        "event_time": "2026-01-01T00:00:00Z",
        "entities": {"customer_id": f"c{number}", "terminal_id": f"m{number}"},
        "features": {"amount_minor": number},
    }
    return json.dumps(document).encode() + b"\n"


class Feed:
    """Gives bytes as a pipe does; a number is so many seconds without any."""

    def __init__(self, clock: Clock, *steps: bytes | float, is_pipe: bool = True) -> None:
        self.is_pipe = is_pipe
        self.steps = list(steps)
        self._clock = clock

    def read(self, _: int) -> bytes | None:
        step = self.steps.pop(0) if self.steps else b""
        if isinstance(step, bytes):
            return step
        self._clock.now_s += step
        return None


class House:
    """An ingestion into a store in memory."""

    def __init__(self, *steps: bytes | float, is_pipe: bool = True) -> None:
        self.clock = Clock()
        self.feed = Feed(self.clock, *steps, is_pipe=is_pipe)
        self.flushed_s: list[float] = []
        store = open_store("embedded:")
        self.ingestion = EventIngestion(
            store.writer(PLAN),
            PLAN,
            SET,
            "stdin",
            Rejects(),
            lambda _: self.flushed_s.append(round(self.clock.now_s - 100, 3)),
            self.clock,
        )

    def run(self, *, stops_after: int | None = None) -> Sequence[int]:
        """Events, lines, rejects."""
        reads = 0

        def count(_: LineBlock) -> None:
            nonlocal reads
            reads += 1

        self.ingestion.run(self.feed, 1_000, count, never if stops_after is None else lambda: reads >= stops_after)
        summary = self.ingestion.summary()
        assert summary.is_stopped == (stops_after is not None)
        return summary.event_count, summary.line_count, summary.rejected_count


def test_what_a_pipe_brought_is_applied_within_a_second() -> None:
    """Nothing was, before a million events or the end."""
    house = House(line(1), 0.7, line(2), 0.2, 0.2, 5.0, line(3), 0.9, 0.2, line(4))
    assert house.run() == (4, 4, 0)
    assert house.flushed_s == [1.1, 7.2, 7.2]


def test_rejects_alone_are_told_too() -> None:
    house = House(b"\n\n", 5.0, b"{}\n", 0.5, 0.6, 9.0)
    assert house.run() == (0, 3, 1)
    assert house.flushed_s == [6.1]


def test_a_file_is_applied_in_large_slices_however_slow_it_is() -> None:
    house = House(line(1), 5.0, line(2), 5.0, is_pipe=False)
    assert house.run() == (2, 2, 0)
    assert house.flushed_s == [10.0]


def test_a_stop_takes_what_was_read_and_no_half_line() -> None:
    house = House(line(1) + line(2) + line(3)[:20], 0.1, line(3)[20:], line(4))
    assert house.run(stops_after=1) == (2, 2, 0)
    assert len(house.feed.steps) == 2


def test_a_writer_that_ends_with_the_stop_leaves_no_half_line_as_a_reject() -> None:
    house = House(line(1), line(2)[:20])
    assert house.run(stops_after=2) == (1, 1, 0)


def test_a_pipe_that_ends_with_the_stop_was_stopped() -> None:
    house = House(line(1))
    assert house.run(stops_after=1) == (1, 1, 0)


def test_a_file_stops_between_two_blocks(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(line(number) for number in range(4_000)))
    assert path.stat().st_size > 2 * BLOCK_BYTES
    with open_store("embedded:") as store:
        stopped = ingest_events(path, store.writer(PLAN), PLAN, SET, is_stopped=lambda: True)
        whole = ingest_events(path, store.writer(PLAN), PLAN, SET)
    assert stopped.is_stopped
    assert 0 < stopped.line_count == stopped.recorded_count < 4_000
    assert (whole.line_count, whole.is_stopped) == (4_000, False)
    assert (whole.recorded_count, whole.duplicate_count) == (4_000 - stopped.line_count, stopped.line_count)


def test_attributes_stop_too(tmp_path: Path) -> None:
    path, profile = tmp_path / "rows.jsonl", FeatureSet.parse(PROFILE)
    row = '{"customer_id":"c%d","updated_at":"2026-01-01T00:00:00Z","orders":1}\n'
    path.write_text("".join(row % number for number in range(5_000)))
    with open_store("embedded:") as store:
        writer = store.writer(compile_plan(profile))
        reads: list[int] = []
        stopped = ingest_attributes(
            path, "profile", writer, profile, progress=lambda done, _: reads.append(done), is_stopped=lambda: len(reads) > 0
        )
    assert stopped.is_stopped
    assert 0 < stopped.line_count == stopped.recorded_count < 5_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_does_what_it_did_before(number: signal.Signals) -> None:
    told: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("before"))
    try:
        with stop_signals(lambda: told.append("stop")):
            signal.raise_signal(number)
            wait_until(lambda: told == ["stop"], "it is told, by a thread of its own")
            signal.raise_signal(signal.SIGTERM)
            assert told == ["stop", "before"]
        signal.raise_signal(signal.SIGTERM)
        assert told == ["stop", "before", "before"]
    finally:
        signal.signal(signal.SIGTERM, before)
