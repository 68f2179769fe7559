"""The circuit breaker, state by state, on a clock that stands still until told."""

from __future__ import annotations

import pytest

from assay.features.breaker import Breaker, BreakerLimits, BreakerState
from tests.support.clock import Clock


def make_breaker(share: float = 0.5) -> tuple[Breaker, Clock]:
    """Half of the way through its jitter: it stays open for open_s to the dot."""
    clock = Clock()
    limits = BreakerLimits(failures_max=3, window_calls=10, bad_share_max=0.5, open_s=1.0, jitter_share=0.25)
    return Breaker(limits, clock=clock, share=lambda: share), clock


def test_it_opens_at_the_limit_and_not_before() -> None:
    breaker, _ = make_breaker()
    assert [breaker.failed(), breaker.failed()] == [False, False]
    assert breaker.state is BreakerState.CLOSED
    assert breaker.allows()
    assert breaker.failed()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows()


def test_failures_count_in_a_row() -> None:
    breaker, _ = make_breaker()
    for _ in range(10):
        breaker.failed()
        for _ in range(3):
            assert not breaker.succeeded()
        breaker.failed()
        for _ in range(3):
            assert not breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("kind", ["failed", "slow"])
def test_it_opens_when_half_of_the_last_calls_were_of_no_use(kind: str) -> None:
    breaker, _ = make_breaker()

    def one_bad() -> bool:
        return breaker.failed() if kind == "failed" else breaker.succeeded(is_slow=True)

    for number in range(10):
        assert not (one_bad() if number % 2 and number < 9 else breaker.succeeded())
    assert breaker.state is BreakerState.CLOSED  # four of ten
    assert one_bad()  # the oldest, which was good, has left: five
    assert breaker.state is BreakerState.OPEN


def test_a_window_that_is_not_full_opens_nothing() -> None:
    breaker, _ = make_breaker()
    assert not any(breaker.succeeded(is_slow=True) for _ in range(9))
    assert breaker.succeeded(is_slow=True)


def test_a_probe_that_is_slow_keeps_it_open_and_a_quick_one_forgets_the_past() -> None:
    breaker, clock = make_breaker()
    for _ in range(10):
        breaker.succeeded(is_slow=True)
    clock.now_s += 1.0
    assert breaker.allows()
    assert not breaker.succeeded(is_slow=True)
    assert breaker.state is BreakerState.OPEN
    clock.now_s += 1.0
    assert breaker.allows()
    assert breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert not any(breaker.succeeded(is_slow=True) for _ in range(9))


@pytest.mark.parametrize(("share", "open_s"), [(0.0, 0.75), (0.5, 1.0), (1.0, 1.25)])
def test_how_long_it_is_open_is_a_little_at_random(share: float, open_s: float) -> None:
    breaker, clock = make_breaker(share)
    for _ in range(3):
        breaker.failed()
    clock.now_s += open_s - 0.001
    assert not breaker.allows()
    clock.now_s += 0.001
    assert breaker.allows()


def test_it_is_in_doubt_from_a_failure_to_the_next_success() -> None:
    breaker, clock = make_breaker()
    assert not breaker.is_in_doubt
    breaker.failed()
    assert breaker.is_in_doubt
    breaker.succeeded()
    assert not breaker.is_in_doubt
    for _ in range(3):
        breaker.failed()
    clock.now_s += 1.0
    assert breaker.allows()
    assert breaker.is_in_doubt
    breaker.succeeded()
    assert not breaker.is_in_doubt


def test_one_call_finds_out_whether_the_service_is_back() -> None:
    breaker, clock = make_breaker()
    for _ in range(3):
        breaker.failed()
    clock.now_s += 0.999
    assert not breaker.allows()
    clock.now_s += 0.001
    assert breaker.allows()
    assert breaker.state is BreakerState.PROBING
    assert not breaker.allows()  # one at a time
    assert not breaker.failed()  # it was open already: nothing new to say
    assert not breaker.allows()
    clock.now_s += 1.0
    assert breaker.allows()
    assert breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.allows()


def test_a_late_success_of_a_call_made_before_it_opened_closes_it() -> None:
    breaker, _ = make_breaker()
    assert breaker.allows()
    for _ in range(3):
        breaker.failed()
    assert breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
