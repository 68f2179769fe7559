"""A store that hangs, and callers who do not wait for it: what they sent is held up to a limit, more is refused at once."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from assay.features.local_store import LocalStore
from assay.features.store_writer import LocalWriter
from assay.transport.worker import HELD_BYTES_MAX, HELD_ITEMS_MAX
from assay.v1 import feature_pb2, feature_pb2_grpc
from tests.support.server import EVENT_TIME, WAIT_S, LocalServer, make_event, reason_of, retry_s_of, status_of, wait_until

WAVES, CALLERS = 4, 100  # a wave's deadlines are over before the next one comes
DEADLINE_S = 0.5
LARGE_BYTES = 3 << 20
LARGE_MAX = HELD_BYTES_MAX // LARGE_BYTES  # what of them is held

Call = Callable[[feature_pb2_grpc.FeatureServiceStub, int, float], Any]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as started:
        yield started


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set no event is recorded and no record looked at."""
    is_back = threading.Event()
    for owner, name in ((LocalWriter, "record_events"), (LocalStore, "records_of")):
        real = getattr(owner, name)

        def hang(*arguments: Any, real: Callable[..., Any] = real) -> Any:
            assert is_back.wait(WAIT_S)
            return real(*arguments)

        monkeypatch.setattr(owner, name, hang)
    yield is_back
    is_back.set()


def record(stub: feature_pb2_grpc.FeatureServiceStub, padding: int, timeout_s: float) -> Any:
    message = padded(feature_pb2.RecordEventsRequest(events=[make_event("e1")]), padding)
    return stub.RecordEvents.future(iter([message]), timeout_s)


def look(stub: feature_pb2_grpc.FeatureServiceStub, padding: int, timeout_s: float) -> Any:
    request = feature_pb2.GetFeaturesRequest(entities={"customer_id": "c1"})
    request.event_time.FromDatetime(EVENT_TIME)
    request.features["amount_minor"].int64_value = 1
    return stub.GetFeatures.future(padded(request, padding), timeout=timeout_s)


def padded(message: Any, size: int) -> Any:
    """With an unknown field of so many bytes, which is passed over."""
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21])
    message.MergeFromString(b"\xfa\x7f" + length + bytes(size))
    return message


def outcomes(calls: list[Any]) -> Counter[str]:
    """How they ended, by the reason of a refusal."""
    found: Counter[str] = Counter()
    for call in calls:
        error = call.exception(WAIT_S)
        if error is None or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:  # by whose clock: said with details, or without
            found["OK" if error is None else "DEADLINE_EXCEEDED"] += 1
            continue
        status = status_of(error)
        assert retry_s_of(status) > 0
        found[reason_of(status)] += 1
    return found


@pytest.mark.parametrize("call", [record, look])
@pytest.mark.parametrize(("padding", "held_max"), [(0, HELD_ITEMS_MAX), (LARGE_BYTES, LARGE_MAX)], ids=["many", "large"])
def test_what_hangs_is_held_up_to_a_limit(
    server: LocalServer, hung: threading.Event, call: Call, padding: int, held_max: int
) -> None:
    stub = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
    found: Counter[str] = Counter()
    for _ in range(WAVES):
        found += outcomes([call(stub, padding, DEADLINE_S) for _ in range(CALLERS if padding == 0 else CALLERS // 4)])
        assert server.held_count() <= held_max
    assert set(found) == {"DEADLINE_EXCEEDED", "QUEUE_FULL"}
    assert server.held_count() == held_max  # those who left have not given back what is held for them
    assert server.engine.stats().refused_calls >= found["QUEUE_FULL"]
    hung.set()
    wait_until(lambda: server.held_count() == 0, "what was held is worked off, or passed by")
    answered = call(stub, padding, WAIT_S).result(WAIT_S)
    assert isinstance(answered, (feature_pb2.RecordEventsResponse, feature_pb2.GetFeaturesResponse))


@contextmanager
def allocations() -> Iterator[Callable[[], int]]:
    """Gives how many bytes of Python's are in use, more than at first. No garbage is collected meanwhile."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    first = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - first
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("method", ["ScoringService/Score", "FeatureService/RecordEvents", "FeatureService/GetFeatures"])
def test_a_refused_call_leaves_no_message_behind(method: str) -> None:
    """Each once was part of a ring of references, to be found by the collector: hundreds of megabytes later."""
    message, count = b"\xff" * (1 << 20), 20  # no message of protobuf
    with LocalServer(transport="grpcio") as server:
        channel = server.channel() if method.startswith("Scoring") else server.admin_channel()
        stub: Any = channel.stream_unary if method.endswith("RecordEvents") else channel.unary_unary
        with allocations() as allocated_bytes:
            for _ in range(count):
                with pytest.raises(grpc.RpcError) as caught:
                    stub(f"/assay.v1.{method}")(iter([message]) if method.endswith("RecordEvents") else message, timeout=WAIT_S)
                assert reason_of(status_of(caught.value)) == "MALFORMED_MESSAGE"
            wait_until(lambda: allocated_bytes() < 3 * len(message), "the messages are let go")


@pytest.mark.parametrize("call", [record, look])
def test_a_call_that_was_given_up_leaves_no_message_behind(
    server: LocalServer, hung: threading.Event, caplog: pytest.LogCaptureFixture, call: Call
) -> None:
    stub = feature_pb2_grpc.FeatureServiceStub(server.admin_channel())
    with allocations() as allocated_bytes:
        outcomes([call(stub, LARGE_BYTES, DEADLINE_S) for _ in range(LARGE_MAX)])
        hung.set()
        wait_until(lambda: server.held_count() == 0, "they are passed by")
        wait_until(lambda: allocated_bytes() < 3 * LARGE_BYTES, "the messages are let go")
    assert not caplog.records  # nor is it logged that nobody heard the answer
