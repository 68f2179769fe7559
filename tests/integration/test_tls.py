"""TLS, mTLS, roles and the listeners beside the public one, over real sockets: who gets in, and what each may call."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay.transport.policy import POLICY, Listener
from assay.transport.security import Protection
from assay.v1 import feature_pb2, feature_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from tests.integration.test_health_reflection import PUBLIC_SERVICES, describe
from tests.support.certificates import Pair, TlsFolder
from tests.support.server import LocalServer, ServeProcess, make_event, make_request, reason_of, status_of, wait_until

pytestmark = pytest.mark.usefixtures("transport")

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
EXTRA_PORTS = {"health_listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> TlsFolder:
    return TlsFolder(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(folder: TlsFolder, transport: str) -> Iterator[LocalServer]:
    with LocalServer(**folder.config(), **EXTRA_PORTS) as server:
        yield server


def score(channel: grpc.Channel) -> Any:
    return scoring_pb2_grpc.ScoringServiceStub(channel).Score(make_request(), timeout=10)


def explain(channel: grpc.Channel, **subject: Any) -> Any:
    return scoring_pb2_grpc.ScoringServiceStub(channel).Explain(scoring_pb2.ExplainRequest(**subject), timeout=10)


def record(channel: grpc.Channel) -> Any:
    request = feature_pb2.RecordEventsRequest(events=[make_event("e1")])
    return feature_pb2_grpc.FeatureServiceStub(channel).RecordEvents(iter([request]), timeout=10)


def look(channel: grpc.Channel) -> Any:
    request = feature_pb2.GetFeaturesRequest(entities={"customer_id": "c1"}, event_time=make_request().event_time)
    return feature_pb2_grpc.FeatureServiceStub(channel).GetFeatures(request, timeout=10)


def served_rows(channel: grpc.Channel) -> Any:
    request = feature_pb2.GetServedRowsRequest()
    return feature_pb2_grpc.FeatureServiceStub(channel).GetServedRows(request, timeout=10)


def describe_features(channel: grpc.Channel) -> Any:
    request = feature_pb2.DescribeFeatureSetRequest()
    return feature_pb2_grpc.FeatureServiceStub(channel).DescribeFeatureSet(request, timeout=10)


def check(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status


def refusal(call: Any, *arguments: Any) -> tuple[grpc.StatusCode, str]:
    """Status and reason of a call that must be refused by the policy."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code(), reason_of(status_of(caught.value))


# --- TLS


def test_tls_without_client_certificates_answers_whoever_trusts_it(folder: TlsFolder) -> None:
    with LocalServer(**folder.config(mtls=False)) as server:
        assert server.addresses.protection is Protection.TLS
        assert score(server.channel(credentials=folder.credentials())).HasField("score")
        assert score(server.channel(credentials=folder.client("stranger"))).HasField("score")  # nobody asked for it
        refused = refusal(record, server.channel(credentials=folder.credentials()))
        assert refused == (grpc.StatusCode.UNIMPLEMENTED, "WRONG_LISTENER")


def test_plaintext_stays_as_it_was() -> None:
    with LocalServer() as server:
        assert server.addresses.protection is Protection.PLAINTEXT
        assert (server.addresses.health, server.addresses.admin_port) == (None, None)
        assert score(server.channel()).HasField("score")
        assert refusal(record, server.channel()) == (grpc.StatusCode.UNIMPLEMENTED, "WRONG_LISTENER")
        # No door in front of the hot path: the handler is the service's own.
        score_handler = server._transport._public.methods._handlers["/assay.v1.ScoringService/Score"]
        assert score_handler.unary_unary.__qualname__ == "unary_handler.<locals>.handle"


# --- roles

OK = (grpc.StatusCode.OK, "")
NO_ROLE = (grpc.StatusCode.PERMISSION_DENIED, "MISSING_ROLE")
ELSEWHERE = (grpc.StatusCode.UNIMPLEMENTED, "WRONG_LISTENER")


def outcome(call: Any, channel: grpc.Channel) -> tuple[grpc.StatusCode, str]:
    try:
        call(channel)
    except grpc.RpcError as error:
        return error.code(), reason_of(status_of(error))
    return OK


@pytest.mark.parametrize(
    ("name", "may_score", "may_read", "may_record"),
    [
        ("core", OK, OK, NO_ROLE),  # score, read
        ("reader", NO_ROLE, OK, NO_ROLE),
        ("events", NO_ROLE, NO_ROLE, OK),  # write
        ("operations", NO_ROLE, OK, OK),  # admin
        ("stranger", NO_ROLE, NO_ROLE, NO_ROLE),  # a good certificate, and no row in the roles file
    ],
)
def test_a_role_may_call_what_the_policy_says(
    server: LocalServer, folder: TlsFolder, name: str, may_score: Any, may_read: Any, may_record: Any
) -> None:
    credentials = folder.client(f"{name}.bank.internal")
    public = server.channel(credentials=credentials)
    admin = server.channel_to(server.addresses.admin_port, credentials=credentials)
    assert outcome(score, public) == may_score
    assert outcome(lambda channel: describe(channel, "v1"), public) == may_read
    assert outcome(describe_features, public) == outcome(describe_features, admin) == may_read
    assert outcome(look, admin) == outcome(served_rows, admin) == may_read
    assert outcome(record, admin) == may_record
    # Reading is not writing, whoever asks; and scoring is not for the admin port.
    assert outcome(record, public) == ELSEWHERE
    assert outcome(look, public) == outcome(served_rows, public) == ELSEWHERE  # what is known of a customer is for the admin port
    assert outcome(score, admin) == ELSEWHERE
    # Who may score has one explained, who may read is told what somebody was scored; the puppet and this server can do neither.
    can, cannot = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), (grpc.StatusCode.FAILED_PRECONDITION, "NO_AUDIT_LOG")
    assert outcome(lambda channel: explain(channel, request=make_request()), public) == (can if may_score == OK else NO_ROLE)
    assert outcome(lambda channel: explain(channel, transaction_id="t"), admin) == (cannot if may_read == OK else NO_ROLE)
    assert outcome(lambda channel: explain(channel, transaction_id="t"), public) == (ELSEWHERE if may_score == OK else NO_ROLE)
    # Health is for every certificate.
    for channel in (public, admin):
        assert check(channel) == SERVING
        assert next(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=10)).status == SERVING


@pytest.mark.parametrize("method", ["ScoreBatch", "ScoreStream"])
def test_every_kind_of_call_passes_the_same_door(server: LocalServer, folder: TlsFolder, method: str) -> None:
    def call(channel: grpc.Channel) -> None:
        list(channel.stream_stream(f"/assay.v1.ScoringService/{method}")(iter([b""]), timeout=10))

    stranger, known = (server.channel(credentials=folder.client(f"{name}.bank.internal")) for name in ("stranger", "core"))
    assert outcome(call, stranger) == NO_ROLE
    assert outcome(call, known) != NO_ROLE


def test_a_refusal_names_the_principal_and_its_roles(server: LocalServer, folder: TlsFolder) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        score(server.channel(credentials=folder.client("reader.bank.internal")))
    assert "principal dns:reader.bank.internal; its roles: read" in caught.value.details()


def test_principals_are_spiffe_ids_dns_names_and_as_a_last_resort_the_common_name(server: LocalServer, folder: TlsFolder) -> None:
    def may_score(**names: Any) -> tuple[grpc.StatusCode, str]:
        return outcome(score, server.channel(credentials=folder.credentials(folder.clients.issue_names(**names))))

    assert may_score(uris=("spiffe://bank.example/core-banking",)) == OK
    assert may_score(dns=("other.bank.internal", "core.bank.internal")) == OK
    assert may_score(dns=("CORE.bank.internal",)) == OK
    assert may_score(common_name="old-service") == OK
    # A name of another kind is another name, a longer one too; a common name beside alternative names counts for nothing.
    assert may_score(common_name="core.bank.internal") == NO_ROLE
    assert may_score(common_name="dns:core.bank.internal") == NO_ROLE
    assert may_score(dns=("old-service",)) == NO_ROLE
    assert may_score(dns=("core.bank.internal.evil.example",)) == NO_ROLE
    assert may_score(uris=("spiffe://bank.example/core-banking/x",)) == NO_ROLE
    assert may_score(uris=("https://bank.example/core-banking",)) == NO_ROLE
    assert may_score(common_name="old-service", dns=("x.bank.internal",)) == NO_ROLE
    assert may_score() == NO_ROLE


def test_the_roles_file_is_reloaded_and_a_bad_one_keeps_the_old(tmp_path: Path) -> None:
    folder = TlsFolder(tmp_path)
    with LocalServer(**folder.config()) as server:
        core = server.channel(credentials=folder.client("core.bank.internal"))
        stranger = server.channel(credentials=folder.client("stranger.bank.internal"))
        assert (outcome(score, core), outcome(score, stranger)) == (OK, NO_ROLE)
        folder.roles.write_text("version: 1\nprincipals: {dns:core.bank.internal: [scores]}\n")
        wait_until(lambda: server.security_stats().roles_rejections == 1, "the bad file is noticed")
        assert (outcome(score, core), outcome(score, stranger)) == (OK, NO_ROLE)
        # The next good file counts for connections that are open: a role can be taken away.
        folder.roles.write_text("version: 1\nprincipals: {dns:stranger.bank.internal: [score]}\n")
        wait_until(lambda: server.security_stats().roles_reloads == 1, "the good file is noticed")
        server.settle()
        assert (outcome(score, core), outcome(score, stranger)) == (NO_ROLE, OK)


# --- the table against what answers


def ports_of(server: LocalServer, folder: TlsFolder) -> list[tuple[Listener, grpc.Channel]]:
    operations = folder.client("operations.bank.internal")
    return [
        (Listener.PUBLIC, server.channel(credentials=operations)),
        (Listener.ADMIN, server.channel_to(server.addresses.admin_port, credentials=operations)),
        (Listener.ADMIN, server.admin_channel()),
        (Listener.HEALTH, server.channel_to(server.addresses.health)),
    ]


def is_answered(channel: grpc.Channel, method: str) -> bool:
    """Whether the first thing that comes back is something other than the policy's UNIMPLEMENTED."""
    call = channel.stream_stream(method)(iter([b""]), timeout=10)
    try:
        next(call)
    except grpc.RpcError as error:
        return error.code() is not grpc.StatusCode.UNIMPLEMENTED
    call.cancel()
    return True


def test_every_method_that_a_listener_describes_has_a_row_and_answers_where_the_row_says(
    server: LocalServer, folder: TlsFolder
) -> None:
    for listener, channel in ports_of(server, folder):
        if listener is Listener.HEALTH:
            services, methods = set(), set(POLICY)  # it describes nothing: ask for everything
        else:
            services, pool = describe(channel, "v1")
            methods = {f"/{name}/{method.name}" for name in services for method in pool.FindServiceByName(name).methods}
        for method in methods:
            assert method in POLICY, f"{method} has no row in ext/core/base/policy.cc"
            assert is_answered(channel, method) == (listener in POLICY[method]), f"{method} on {listener}"


@pytest.mark.parametrize("method", ["/assay.v1.ScoringService/Forgotten", "/no.such.Service/Method", "/x", "/" + "x" * 3000])
def test_a_method_without_a_row_is_answered_nowhere(server: LocalServer, folder: TlsFolder, method: str) -> None:
    for _, channel in ports_of(server, folder):
        unary, stream = channel.unary_unary(method), channel.stream_stream(method)
        for call in (lambda unary=unary: unary(b"x", timeout=10), lambda stream=stream: list(stream(iter([b"x"]), timeout=10))):
            assert refusal(call) == (grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD")


# --- the health listener


def test_the_health_listener_answers_health_and_nothing_else(server: LocalServer) -> None:
    channel = server.channel_to(server.addresses.health)
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", *PUBLIC_SERVICES):
        assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status == SERVING
    assert set(stub.List(health_pb2.HealthListRequest(), timeout=10).statuses) == {"", *PUBLIC_SERVICES}
    for call in (score, record, lambda channel: describe(channel, "v1"), lambda channel: describe(channel, "v1alpha")):
        assert refusal(call, channel) == (grpc.StatusCode.UNIMPLEMENTED, "WRONG_LISTENER")
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"\x0a" + b"\x80\x10" + b"x" * 2048, timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_health_listener_says_not_serving_until_the_last_call_has_ended(folder: TlsFolder) -> None:
    with LocalServer(**folder.config(), **EXTRA_PORTS) as server:
        stub = health_pb2_grpc.HealthStub(server.channel_to(server.addresses.health))
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == SERVING
        server.puppet.hold()
        core = scoring_pb2_grpc.ScoringServiceStub(server.channel(credentials=folder.client("core.bank.internal")))
        call = core.Score.future(make_request(), timeout=20)
        wait_until(lambda: server.waiting_count() == 1, "the call is in flight")
        finish = server.start_drain(grace_s=20)
        assert next(watch).status == NOT_SERVING
        # Public and admin listeners refuse by now or soon; the probe is answered as long as the call runs.
        for _ in range(3):
            assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == NOT_SERVING
            statuses = stub.List(health_pb2.HealthListRequest(), timeout=10).statuses
            assert {status.status for status in statuses.values()} == {NOT_SERVING}
        server.puppet.release()
        assert call.result(20).HasField("score")
        finish()
        assert list(watch) == []


def test_plaintext_beyond_loopback_is_said_aloud(folder: TlsFolder, caplog: pytest.LogCaptureFixture) -> None:
    for config, is_loud in (
        ({"listen": "127.0.0.1:0"}, False),
        ({"listen": "localhost:0"}, False),
        ({"listen": "0.0.0.0:0"}, True),
        ({"listen": "[::]:0"}, True),
        ({"listen": "0.0.0.0:0", **folder.config()}, False),
    ):
        caplog.clear()
        with LocalServer(**config):
            assert any("PLAINTEXT on" in record.getMessage() for record in caplog.records) is is_loud, config


# --- as users run it


def grpcurl(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "grpcurl"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def pem_files(folder: TlsFolder, client: Pair) -> dict[str, str]:
    """What a client needs, under the names that `assay serve` prints."""
    contents = {"CA.pem": folder.authority.certificate, "CLIENT.pem": client.certificate, "CLIENT.key": client.key}
    for name, data in contents.items():
        (folder.key.parent / name).write_bytes(data)
    return {name: str(folder.key.parent / name) for name in contents}


def test_the_grpcurl_line_that_serve_prints_scores_over_mtls(tmp_path: Path) -> None:
    folder = TlsFolder(tmp_path)
    files = pem_files(folder, folder.clients.issue("core.bank.internal"))
    command = [
        sys.executable,
        "-m",
        "assay",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin-socket",
        "off",
        "--set",
        "log_format=text",
        "--set",
        "metrics_listen=off",
        *folder.arguments(),
    ]
    command += ["--set", "health_listen=127.0.0.1:0", "--set", "admin_listen=127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stderr:
                lines.append(line.strip())
                if line.startswith("Ctrl-C"):
                    break
            shown = {line.split()[0]: line for line in lines if line.startswith(("listen ", "health ", "admin "))}
            assert re.fullmatch(r"listen +127.0.0.1:[0-9]+ \(mTLS, (grpcio|native)\)", shown["listen"])
            assert re.fullmatch(r"health +127.0.0.1:[0-9]+ \(plaintext, health only\)", shown["health"])
            assert re.fullmatch(r"admin +127.0.0.1:[0-9]+ \(mTLS\)", shown["admin"])
            (pasted,) = [line for line in lines if line.startswith("grpcurl ")]
            done = grpcurl(*(files.get(word, word) for word in shlex.split(pasted)[1:]))
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["decision"] == "DECISION_APPROVE"
            (ours,) = [shlex.split(line) for line in lines if " score --target " in line]
            words = [files.get(word, word) for word in ours[1:]]
            done = subprocess.run(
                [sys.executable, "-m", "assay", *words], capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "APPROVE" in done.stdout
        finally:
            process.kill()


def test_serve_tells_scripts_where_and_how_it_listens(tmp_path: Path) -> None:
    folder = TlsFolder(tmp_path)
    ports = ["--set", "health_listen=127.0.0.1:0", "--set", "admin_listen=127.0.0.1:0"]
    with ServeProcess(*folder.arguments(), *ports) as server:
        assert server.ready["protection"] == "mTLS"
        with grpc.insecure_channel(server.ready["health_listen"]) as channel:
            assert check(channel) == SERVING
        with grpc.secure_channel(server.ready["admin_listen"], folder.client("events.bank.internal")) as channel:
            answer = feature_pb2_grpc.FeatureServiceStub(channel).RecordEvents(iter(()), timeout=10)
            assert answer.recorded_count == 0
        with grpc.insecure_channel(server.admin_target) as channel:
            assert check(channel) == SERVING


@pytest.mark.parametrize("spoil", ["key", "roles"])
def test_serve_says_which_file_is_wrong(tmp_path: Path, spoil: str) -> None:
    folder = TlsFolder(tmp_path)
    path: Path = getattr(folder, spoil)
    path.write_text("nonsense")
    command = [sys.executable, "-m", "assay", "serve", "--listen", "127.0.0.1:0", "--admin-socket", "off", *folder.arguments()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
