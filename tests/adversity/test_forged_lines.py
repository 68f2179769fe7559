"""Whatever text clients send, and wherever, no line of the log is theirs: JSON and text, at level debug, a line for each call."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from assay.v1 import feature_pb2, feature_pb2_grpc, operations_pb2, operations_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.support.server import ServeProcess

pytestmark = pytest.mark.usefixtures("transport")

# Ends of lines, as somebody or other sees them; terminal escapes; marks that turn text around; ends of strings.
BREAKS = (
    "\n",
    "\r\n",
    "\r",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x85",
    "\u2028",
    "\u2029",
    "\0",
    "\x1b[2J\x1b[1;1H",
    "\u202e",
    "\x7f",
    '"',
    "\\n",
)
FORGED = "2026-03-01T12:00:00.123Z INFO assay forged"
EVIL = [f'x{stop}{FORGED}{stop}{{"message":"forged"}}' for stop in BREAKS]


def attempts(text: str) -> Iterator[scoring_pb2.ScoreRequest]:
    """A request for each place in which a client may put text."""
    for place in ("transaction_id", "model", "version", "entity", "entity name", "feature", "feature name"):
        request = scoring_pb2.ScoreRequest(transaction_id="t", entities={"customer_id": "1", "terminal_id": "2"})
        request.event_time.FromSeconds(1_525_860_000)
        request.features["amount_minor"].int64_value = 5716
        if place == "entity":
            request.entities["customer_id"] = text
        elif place == "entity name":
            request.entities[text] = "1"
        elif place == "feature":
            request.features["amount_minor"].string_value = text
        elif place == "feature name":
            request.features[text].int64_value = 1
        else:
            setattr(request, place, text)
        yield request


def attack(server: ServeProcess) -> None:
    with grpc.insecure_channel(server.target) as public, grpc.insecure_channel(server.admin_target) as admin:
        scoring = scoring_pb2_grpc.ScoringServiceStub(public)
        features = feature_pb2_grpc.FeatureServiceStub(admin)
        operations = operations_pb2_grpc.OperationsServiceStub(admin)
        for text in EVIL:
            latin = "".join(c for c in text if " " <= c <= "~")  # what HTTP/2 lets through in metadata
            for request in attempts(text):
                ask(scoring.Score, request, latin)
                ask(scoring.ScoreBatch, scoring_pb2.ScoreBatchRequest(requests=[request]), latin)
            event = feature_pb2.Event(transaction_id=text, entities={text: text})
            ask(features.RecordEvents, iter([feature_pb2.RecordEventsRequest(events=[event])]), latin)
            ask(features.GetFeatures, feature_pb2.GetFeaturesRequest(model=text, entities={text: text}), latin)
            ask(operations.SetLogging, operations_pb2.SetLoggingRequest(level=text), latin)
            for channel in (public, admin):
                ask(channel.unary_unary(f"/{latin}/{latin}"), b"x", latin)


def ask(call: Any, message: Any, metadata: str) -> None:
    with contextlib.suppress(grpc.RpcError):
        call(message, metadata=[("traceparent", metadata), ("user-agent", metadata), ("x-text", metadata)], timeout=10)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_line_is_theirs(log_format: str) -> None:
    options = ["--log-level", "debug", "--drain-delay", "0", "--set", f"log_format={log_format}"]
    options += ["--set", "log_requests=1", "--set", "log_request_lines_per_s_max=1000", "--set", "status_interval_s=1"]
    with ServeProcess(*options) as server:
        attack(server)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        log = server.stderr()
    lines = log.removesuffix("\n").split("\n")
    assert len(lines) > len(EVIL)
    assert [c for c in log if not c.isprintable() and c != "\n"] == []
    for line in lines:
        if log_format == "json":
            said = json.loads(line)
            assert said["message"] != "forged"
            assert said["logger"].startswith(("assay", "asyncio", "grpc"))
        else:
            assert re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ (assay|asyncio|grpc)|  )", line), line
            assert not line.startswith(FORGED)
