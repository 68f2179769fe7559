"""The circuit breaker, state by state, on a clock that stands still until told."""

from __future__ import annotations

from assay.features.breaker import Breaker, BreakerState


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make_breaker() -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(failures_max=3, open_s=1.0, clock=clock), clock


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
        breaker.failed()
        assert not breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


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
