"""traceparent and sampling against OpenTelemetry's own implementations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from assay import _core
from assay.features.compile import compile_plan
from assay.features.feature_set import FeatureSet
from tests.support.server import FEATURE_SET, INLINE, make_request

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MESSAGE = make_request().SerializeToString()
HEX = "0123456789abcdef"


class House:
    """An engine that answers at once."""

    def __init__(self, **tracing: object) -> None:
        plan = compile_plan(FeatureSet.parse(FEATURE_SET))
        reader = _core.FeatureReader(plan, _core.EmbeddedStore())
        self.engine = _core.Engine(tracing=True, **tracing)  # type: ignore[arg-type]
        self.engine.add_lane(model="m", version="1", model_sha256="0" * 64, reader=reader, runner=_core.PuppetModel(), **INLINE)
        self.queue = self.engine.open_queue()

    def record(self, traceparent: str | None) -> _core.CallRecord | None:
        """What is told about one call; None: nothing."""
        assert isinstance(self.engine.submit_score(MESSAGE, 0, self.queue, 1, traceparent), bytes)
        records = self.engine.drain_records()
        assert len(records) <= 1
        return records[0] if records else None


@pytest.fixture(scope="module")
def always() -> Iterator[House]:
    """A call without a decision is told; so nothing told means that a caller said no."""
    house = House(sample_ratio=1.0)
    yield house
    house.engine.stop()


# Like the real thing, but for one place; and text of the same alphabet.
def near_misses() -> st.SearchStrategy[str]:
    good = st.builds(
        lambda version, trace_id, span_id, flags, rest: f"{version}-{trace_id}-{span_id}-{flags}{rest}",
        st.sampled_from(["00", "01", "cc", "fe", "ff"]),
        st.text(HEX, min_size=32, max_size=32) | st.just("0" * 32),
        st.text(HEX, min_size=16, max_size=16) | st.just("0" * 16),
        st.text(HEX, min_size=2, max_size=2),
        st.sampled_from(["", "", "-", "-what-follows", "x", "-00"]),
    )

    def break_at(text: str, at: int, new: str) -> str:
        at %= len(text)
        return text[:at] + new + text[at + 1 :]

    broken = st.builds(break_at, good, st.integers(0), st.text("0Af-g.", max_size=2))
    return good | broken | st.text(HEX + "-", max_size=80)


@given(header=near_misses())
@example(header=f"00-{TRACE_ID}-{SPAN_ID}-01")
@example(header=f"00-{TRACE_ID}-{SPAN_ID}-fe")
@example(header=f"ff-{TRACE_ID}-{SPAN_ID}-01")
@example(header=f"01-{TRACE_ID}-{SPAN_ID}-01-more")
@example(header=f"00-{TRACE_ID}-{SPAN_ID}-01-")
@example(header=f"00-{TRACE_ID}-{'0' * 16}-01")
@example(header="")
def test_traceparent_is_read_as_opentelemetry_reads_it(always: House, header: str) -> None:
    expected = trace.get_current_span(TraceContextTextMapPropagator().extract({"traceparent": header})).get_span_context()
    refused = always.engine.metrics().refused_traceparents
    record = always.record(header)
    assert always.engine.metrics().refused_traceparents == refused + (not expected.is_valid and header != "")
    if not expected.is_valid:
        assert record is not None
        assert record.parent_span_id == 0
        assert record.trace_id not in (0, int(TRACE_ID, 16))
    elif expected.trace_flags.sampled:
        assert record is not None
        assert (record.trace_id, record.parent_span_id) == (expected.trace_id, expected.span_id)
        assert record.is_sampled
    else:
        assert record is None


@pytest.mark.parametrize("ratio", [0.0, 1e-19, 0.01, 0.25, 0.5, 1 / 3, 0.999999, 1.0])
def test_the_ratio_takes_the_traces_that_opentelemetry_takes(ratio: float) -> None:
    sampler = TraceIdRatioBased(ratio)
    house = House(sample_ratio=ratio, follows_parent=False)
    bound = sampler.bound

    @given(low=st.integers(0, 2**64 - 1) | st.sampled_from([max(0, bound - 1), min(bound, 2**64 - 1), 0, 2**64 - 1]))
    def check(low: int) -> None:
        trace_id = 7 << 64 | low
        expected = sampler.should_sample(None, trace_id, "a call").decision is Decision.RECORD_AND_SAMPLE
        for flags in ("00", "01"):  # what the caller decided does not matter here
            assert (house.record(f"00-{trace_id:032x}-{SPAN_ID}-{flags}") is not None) == expected

    check()
    house.engine.stop()


def test_calls_that_begin_a_trace_are_taken_by_the_ratio() -> None:
    house = House(sample_ratio=0.25)
    taken = [record for record in (house.record(None) for _ in range(4000)) if record]
    assert 800 < len(taken) < 1200  # 7 standard deviations
    assert all(record.trace_id & (2**64 - 1) < TraceIdRatioBased(0.25).bound for record in taken)
    assert len({record.trace_id for record in taken} | {record.span_id for record in taken}) == 2 * len(taken)
    house.engine.stop()
