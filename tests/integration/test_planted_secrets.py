"""Card numbers and passwords, planted wherever somebody can put one, stand in nothing that a server tells.

PLACES is the list of what it tells: whoever adds a place (a log, an export, a file) adds a line there.
"""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from assay._core import HAS_NATIVE_TRANSPORT
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.support.otlp_sink import OtlpSink
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import ServeProcess, wait_until

CARD = "4111111111111111"
CARDS = (CARD, "4111 1111 1111 1111", "4111-1111-1111-1111")
STORE_PASSWORD = "planted-store-password"
COLLECTOR_TOKEN = "planted-collector-token"
SECRETS: tuple[bytes, ...] = (
    *(card.encode() for card in CARDS),
    struct.pack("<q", int(CARD)),
    struct.pack("<d", float(CARD)),
    STORE_PASSWORD.encode(),
    COLLECTOR_TOKEN.encode(),
)


@dataclass
class House:
    """A server that was told secrets, and what came out of it."""

    server: ServeProcess
    sink: OtlpSink
    spool: Path  # of its audit log
    errors: list[bytes] = field(default_factory=list)  # of calls, as clients see them
    pages: list[bytes] = field(default_factory=list)  # of /metrics
    statuses: list[bytes] = field(default_factory=list)
    codes: set[grpc.StatusCode] = field(default_factory=set)


# What a server tells, and how to get it.
PLACES: dict[str, Callable[[House], bytes]] = {
    "log": lambda house: house.server.stderr().encode(),
    "spans": lambda house: str(house.sink.spans).encode() + str(house.sink.resources).encode(),
    "metrics": lambda house: b"".join(house.pages),
    "errors": lambda house: b"".join(house.errors),
    "status": lambda house: b"".join(house.statuses),
    "black box": lambda house: house.server.black_box.read_bytes(),
    "audit log": lambda house: b"".join(path.read_bytes() for path in house.spool.rglob("*.audit")),
    "crash show": lambda house: command("crash", "show", str(house.server.black_box)),
    "crash show --json": lambda house: command("crash", "show", str(house.server.black_box), "--json"),
}


def command(*arguments: str) -> bytes:
    done = subprocess.run([sys.executable, "-m", "assay", *arguments], capture_output=True, timeout=60, check=False)
    return done.stdout + done.stderr


@pytest.fixture(scope="module", params=["grpcio", "native"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    if request.param == "native" and not HAS_NATIVE_TRANSPORT:
        pytest.skip("this build has no native transport")
    sink = OtlpSink()
    spool = tmp_path_factory.mktemp("spool")
    with redis_server("--requirepass", STORE_PASSWORD) as store:
        environment = {
            "ASSAY_STORE__URL": f"redis://default:{STORE_PASSWORD}@127.0.0.1:{store.port}/0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {COLLECTOR_TOKEN}",
            "OTEL_TRACES_SAMPLER": "always_on",
        }
        options = ["--transport", request.param, "--log-level", "debug"]
        keys = ("log_requests=1", "log_request_lines_per_s_max=1000", "metrics_listen=127.0.0.1:0", "status_interval_s=1")
        for key in (*keys, f"audit.spool={spool}"):
            options += ["--set", key]
        with ServeProcess(*options, environment=environment) as server:
            found = House(server, sink, spool)
            tell_secrets(found, store)
            server.signal(signal.SIGSEGV)
            assert server.wait() == -signal.SIGSEGV
            yield found
    sink.close()


def tell_secrets(house: House, store: RedisServer) -> None:
    with grpc.insecure_channel(house.server.target) as public, grpc.insecure_channel(house.server.admin_target) as admin:
        send_all(house, public, admin)
        look(house)
        store.kill()  # what a store that is away is told of, with its URL
        send_all(house, public, admin)
        wait_until(lambda: b"STORE_UNAVAILABLE" in b"".join(house.errors) or b"store" in PLACES["log"](house), "it is missed")
        look(house)
    expected = sum("Score" in span.name for span in house.sink.servers())
    assert expected > 0
    house.sink.refuses = True  # the collector's refusal is logged, too
    with grpc.insecure_channel(house.server.target) as public:
        send_all(house, public, None)
    wait_until(lambda: b"does not take traces" in PLACES["log"](house), "the collector's refusal is told")


def send_all(house: House, public: grpc.Channel, admin: grpc.Channel | None) -> None:
    for card in CARDS:
        send_scores(house, public, card)
        if admin is not None:
            send_events(house, admin, card)
    raw = public.unary_unary("/assay.v1.ScoringService/Score", request_serializer=lambda data: data)
    send(house, raw, CARD.encode(), CARD)  # not a message


def send_scores(house: House, public: grpc.Channel, card: str) -> None:
    """Calls that succeed, that are refused in every way that repeats what came, and that fail."""
    scoring = scoring_pb2_grpc.ScoringServiceStub(public)
    for fields in (
        {},
        {"model": card},
        {"version": card},
        {"priority": 77},
        {"timeout": 1},
        {"entity": f"card_{card}"},
        {"feature": card},
        {"text": card},
        {"number": int(CARD)},
    ):
        send(house, scoring.Score, a_request(card, **fields), card)
    batch = scoring_pb2.ScoreBatchRequest(requests=[a_request(card), a_request(card, text=card)])
    send(house, scoring.ScoreBatch, batch, card)
    stream = scoring_pb2.ScoreStreamRequest(request=a_request(card, feature=card))
    send(house, lambda sent, **more: list(scoring.ScoreStream(iter([sent]), **more)), stream, card)
    for method in (f"/{card}/Score", f"/assay.v1.ScoringService/{card.replace(' ', '')}"):
        send(house, public.unary_unary(method, request_serializer=lambda _: CARD.encode()), None, card)


def send_events(house: House, admin: grpc.Channel, card: str) -> None:
    features = feature_pb2_grpc.FeatureServiceStub(admin)
    event = feature_pb2.Event(transaction_id=card, entities={"customer_id": card, f"x{card}": card})
    event.features[card].string_value = card
    events = feature_pb2.RecordEventsRequest(events=[event])
    send(house, lambda sent, **more: features.RecordEvents(iter([sent]), **more), events, card)
    send(house, features.GetFeatures, feature_pb2.GetFeaturesRequest(model=card, entities={"customer_id": card}), card)


def a_request(card: str, **fields: Any) -> scoring_pb2.ScoreRequest:
    request = scoring_pb2.ScoreRequest(transaction_id=card, entities={"customer_id": card, "terminal_id": card})
    request.event_time.FromSeconds(1_525_860_000)
    request.features["amount_minor"].int64_value = fields.get("number", 5716)
    if "feature" in fields:
        request.features[fields["feature"]].double_value = float(CARD)
    if "text" in fields:
        request.features["amount_minor"].string_value = fields["text"]
    if "entity" in fields:
        request.entities[fields["entity"]] = card
    if "timeout" in fields:
        request.timeout.FromNanoseconds(fields["timeout"])
    request.model, request.version = fields.get("model", ""), fields.get("version", "")
    request.priority = fields.get("priority", 0)
    return request


def send(house: House, call: Callable[..., Any], message: Message | bytes | None, card: str) -> None:
    """With a card number in the metadata: in a value, in a name, in what is no trace context. Whatever comes back is kept, if it
    is an error; an answer may repeat the id that it is asked for."""
    metadata = [
        ("traceparent", f"00-{card}-{card}-01"),
        ("tracestate", f"bank={card}"),
        ("x-card", card),
        (f"x-{card.replace(' ', '')}", "1"),
        ("authorization", f"Bearer {card}"),
        ("user-agent", card),
    ]
    try:
        call(message, metadata=metadata, timeout=10)
        house.codes.add(grpc.StatusCode.OK)
    except grpc.RpcError as error:
        failure: Any = error
        house.codes.add(failure.code())
        trailing = [value if isinstance(value, bytes) else value.encode() for _, value in failure.trailing_metadata() or ()]
        house.errors += [(failure.details() or "").encode(), *trailing]


def look(house: House) -> None:
    for arguments in (["status", house.server.admin_target], ["status", house.server.admin_target, "--json"]):
        house.statuses.append(command(*arguments))
    with urllib.request.urlopen(f"http://{house.server.ready['metrics']}/metrics", timeout=20) as answer:
        house.pages.append(answer.read())
    house.server.signal(signal.SIGUSR1)


def test_secrets_were_told_and_calls_ended_in_many_ways(house: House) -> None:
    """Else the other tests would prove nothing."""
    assert house.codes >= {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
    log = PLACES["log"](house).decode()
    for message in ("request", "status", "calls failed", "the collector does not take traces"):
        assert f'"message":"{message}' in log
    assert b'"level": "debug"' in PLACES["status"](house)
    assert house.sink.headers[0]["authorization"] == f"Bearer {COLLECTOR_TOKEN}"
    assert b"assay_refused_calls_total" in PLACES["metrics"](house)
    assert PLACES["crash show"](house).startswith(b"SIGSEGV")


@pytest.mark.parametrize("place", PLACES)
def test_it_holds_none_of_them(house: House, place: str) -> None:
    told = PLACES[place](house)
    assert told, "there is nothing in it"
    for secret in SECRETS:
        at = told.find(secret)
        assert at < 0, told[max(0, at - 300) : at + 100]
