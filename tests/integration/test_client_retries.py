"""service_config.json is really applied: what gRPC's core does with it, seen from a server that counts attempts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from assay.client import DeadlineExceeded, Decision, InvalidRequest, ScoreError, Unavailable, channel
from assay.client.calls import TIMEOUT_S_MAX
from assay.client.channel import service_config
from assay.config import Config
from tests.support.clients import CLIENTS, Failure, ScriptedServer, make_transaction

pytestmark = pytest.mark.usefixtures("transport")

UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE)
CONFIG = json.loads(service_config())
ATTEMPTS_MAX = CONFIG["methodConfig"][0]["retryPolicy"]["maxAttempts"]

Make = Callable[..., Any]


@pytest.fixture(params=CLIENTS)
def make(request: pytest.FixtureRequest) -> Make:
    return CLIENTS[request.param]


def test_unavailable_is_tried_again(make: Make) -> None:
    with ScriptedServer([UNAVAILABLE, UNAVAILABLE, None]) as server, make(server.target, timeout_s=10) as client:
        assert client.score(make_transaction()).score == 0.25
        assert [attempt.metadata.get("grpc-previous-rpc-attempts") for attempt in server.attempts] == [None, "1", "2"]


def test_attempts_are_limited(make: Make) -> None:
    with ScriptedServer([UNAVAILABLE]) as server, make(server.target, timeout_s=10) as client:
        with pytest.raises(Unavailable, match="by script"):
            client.score(make_transaction())
        assert len(server.attempts) == ATTEMPTS_MAX == 3


def test_all_attempts_share_one_deadline(make: Make) -> None:
    refusal = Failure(grpc.StatusCode.UNAVAILABLE, [("grpc-retry-pushback-ms", "1000")])
    with ScriptedServer([refusal, None]) as server, make(server.target, timeout_s=10) as client:
        client.score(make_transaction())
        first, second = (attempt.remaining_s for attempt in server.attempts)
        assert 10.1 >= first > second + 0.5  # gRPC's core rounds what is sent up: from 10 s on, to whole tenths


def test_retries_can_be_turned_off(make: Make) -> None:
    with ScriptedServer([UNAVAILABLE, None]) as server, make(server.target, timeout_s=10, retries=False) as client:
        with pytest.raises(Unavailable):
            client.score(make_transaction())
        assert len(server.attempts) == 1


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name not in ("OK", "UNAVAILABLE")])
def test_no_other_status_is_tried_again(make: Make, code: grpc.StatusCode) -> None:
    with ScriptedServer([Failure(code), None]) as server, make(server.target, timeout_s=10) as client:
        with pytest.raises(ScoreError) as caught:
            client.score(make_transaction())
        assert caught.value.status is code
        assert len(server.attempts) == 1


def test_a_pushback_of_minus_one_forbids_another_try(make: Make) -> None:
    refusal = Failure(grpc.StatusCode.UNAVAILABLE, [("grpc-retry-pushback-ms", "-1")])
    with ScriptedServer([refusal, None]) as server, make(server.target, timeout_s=10) as client:
        with pytest.raises(Unavailable):
            client.score(make_transaction())
        assert len(server.attempts) == 1


def test_a_pushback_past_the_deadline_ends_the_call(make: Make) -> None:
    """Without the pushback the second attempt would come after at most 10 ms, and be answered."""
    refusal = Failure(grpc.StatusCode.UNAVAILABLE, [("grpc-retry-pushback-ms", "60000")])
    with ScriptedServer([refusal, None]) as server, make(server.target, timeout_s=0.5) as client:
        with pytest.raises((DeadlineExceeded, Unavailable)):
            client.score(make_transaction())
        assert len(server.attempts) == 1


def test_many_failures_turn_retries_off(make: Make) -> None:
    """retryThrottling: a server in trouble is not asked three times as often. With 10 tokens, retries stop below 5."""
    with ScriptedServer([UNAVAILABLE]) as server, make(server.target, timeout_s=10, fallback=Decision.REVIEW) as client:
        counts = []
        for _ in range(8):
            before = len(server.attempts)
            assert client.score(make_transaction()).is_fallback
            counts.append(len(server.attempts) - before)
        assert counts[0] == ATTEMPTS_MAX
        assert counts[-4:] == [1, 1, 1, 1]


def test_the_config_has_no_timeout() -> None:
    """grpc/grpc#40633: C core counts it from the start of the process. With one second, every call of an older process ended at
    once."""
    assert all("timeout" not in method for method in CONFIG["methodConfig"])


def test_the_longest_deadline_is_the_servers() -> None:
    longest_ms = next(item.le for item in type(Config().lane).model_fields["timeout_ms_max"].metadata if hasattr(item, "le"))
    assert longest_ms == TIMEOUT_S_MAX * 1000


@pytest.mark.parametrize(
    "damage",
    [
        lambda config: config["methodConfig"][0]["retryPolicy"].update(maxAttempts=1),
        lambda config: config["methodConfig"][0]["retryPolicy"].update(initialBackoff="10ms"),
        lambda config: config["methodConfig"][0]["retryPolicy"].update(retryableStatusCodes=["NOWHERE"]),
        lambda config: config.update(retryThrottling={"maxTokens": 0, "tokenRatio": 0.1}),
        lambda config: config.update(loadBalancingConfig=[{"no_such_policy": {}}]),
    ],
)
def test_grpc_refuses_a_config_that_breaks_its_rules(
    make: Make, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Any], None]
) -> None:
    """So a config with which calls succeed obeys them: gRPC checks it when the channel is made, and fails every call."""
    broken = json.loads(service_config())
    damage(broken)
    monkeypatch.setattr(channel, "service_config", lambda: json.dumps(broken))
    with ScriptedServer() as server, make(server.target, timeout_s=10) as client:
        with pytest.raises((ScoreError, ValueError)):
            client.score(make_transaction())
        assert server.attempts == []


def test_a_refusal_keeps_its_class_through_retries(make: Make) -> None:
    script = [UNAVAILABLE, Failure(grpc.StatusCode.INVALID_ARGUMENT)]
    with ScriptedServer(script) as server, make(server.target, timeout_s=10, fallback=Decision.REVIEW) as client:
        with pytest.raises(InvalidRequest):
            client.score(make_transaction())
        assert len(server.attempts) == 2


def test_trace_context_and_metadata_reach_the_server(make: Make) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with ScriptedServer() as server, make(server.target, timeout_s=10) as client:
        client.score(make_transaction(), traceparent=trace, metadata=[("x-branch", "12"), ("x-bytes-bin", b"\x00")])
        client.score(make_transaction())
        first, second = (attempt.metadata for attempt in server.attempts)
        assert (first["traceparent"], first["x-branch"], first["x-bytes-bin"]) == (trace, "12", b"\x00")
        assert "traceparent" not in second
        assert str(first["user-agent"]).startswith("assay-client/")
