"""A million scores over ten thousand connections (torture; else a hundredth), many given up half-way: nothing is left of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assay import _core
from assay.cli.bench_messages import write_messages
from tests.support.server import LocalServer, make_request, wait_until

pytestmark = pytest.mark.skipif(not _core.HAS_NATIVE_TRANSPORT, reason="this build has no native transport")

CONNECTIONS_EACH = 50


def descriptor_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def run_load(server: LocalServer, messages: Path, seed: int, timeout_s: float) -> _core.LoadResult:
    run = _core.LoadRun(
        target=server.addresses.public,
        method="/assay.v1.ScoringService/Score",
        messages=str(messages),
        connections=CONNECTIONS_EACH,
        streams=8,
        duration_s=0.2,
        drain_s_max=0.0,  # what is open then is cut off
        timeout_s=timeout_s,
        seed=seed,
    )
    run.start()
    assert run.wait(60)
    return run.result()


@pytest.mark.parametrize(
    ("call_count", "connection_count"), [(10_000, 100), pytest.param(1_000_000, 10_000, marks=pytest.mark.torture)]
)
def test_many_calls_leave_nothing_behind(tmp_path: Path, call_count: int, connection_count: int) -> None:
    messages = tmp_path / "messages.bin"
    requests = [make_request(transaction_id=f"many-{number}").SerializeToString() for number in range(1_000)]
    write_messages(messages, iter(requests), len(requests))
    with LocalServer(transport="native") as server:
        run_load(server, messages, 0, 0.0)  # whatever is made once is made
        wait_until(lambda: server.native_stats.open_connections == 0, "they have gone")
        descriptors = descriptor_count()
        answered, connections, outcomes = 0, 0, set()
        while answered < call_count or connections < connection_count:
            timeout_s = (0.0, 0.002)[connections // CONNECTIONS_EACH % 2]  # every second run gives calls up
            result = run_load(server, messages, connections, timeout_s)
            assert not result.failure
            answered += sum(result.outcomes.values())
            connections += CONNECTIONS_EACH
            outcomes |= set(result.outcomes)
        assert "OK" in outcomes
        assert outcomes <= {"OK", "DEADLINE_EXCEEDED", "UNAVAILABLE", "timed out", "unanswered"}, outcomes
        wait_until(lambda: server.native_stats.open_connections == 0, "no connection is left")
        wait_until(lambda: server.native_stats.lingering_sockets == 0, "no socket lingers")
        wait_until(lambda: server.native_stats.waiting_calls == 0, "no call waits")
        wait_until(lambda: server.engine.stats().slots_used == 0, "no slot is left")
        wait_until(lambda: descriptor_count() <= descriptors, "no descriptor is left")
        assert server.native_stats.held_bytes == 0
        assert server.native_stats.accepted_connections >= connections
