"""The door of a listener: what is asked, what is remembered and for how long, how refusals are counted and logged."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from importlib.resources import files
from typing import Any, NoReturn

import grpc
import pytest
from cryptography import x509
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_health.v1 import health_pb2

from assay._core import LISTENERS, POLICY_TABLE, ROLES, Engine, check_access
from assay.observe.logs import TextFormatter
from assay.transport import access
from assay.transport.access import LOG_INTERVAL_S, LOG_LINES_MAX, Access, Denials
from assay.transport.policy import Listener, answered_on
from assay.transport.principals import expires_at_s, principals_of
from tests.support.certificates import Authority
from tests.support.clock import Clock

SCORE = "/assay.v1.ScoringService/Score"
WATCH = "/grpc.health.v1.Health/Watch"


class Roles:
    """Stands where ProvedFiles does."""

    def __init__(self, **roles: int) -> None:
        self.value: Mapping[str, int] = {f"dns:{name}": bits for name, bits in roles.items()}


class RefusedError(Exception):
    pass


class Context:
    """The part of a ServicerContext that the door needs."""

    def __init__(self, auth: Mapping[str, Any] | None) -> None:
        self._auth = auth

    def auth_context(self) -> Mapping[str, Any] | None:
        return self._auth

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> NoReturn:
        raise RefusedError(code)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(slots=4, batch_call_rows_max=1)
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def auth_of(authority: Authority, name: str) -> dict[str, Any]:
    """What gRPC says of a connection with a certificate for this name."""
    certificate = authority.issue(name).certificate
    return {
        "transport_security_type": [b"ssl"],
        "x509_pem_cert": [certificate],
        "x509_subject_alternative_name": [name.encode()],
        "peer_dns": [name.encode()],
    }


async def score(request: bytes, context: Any) -> bytes:
    return b"scored " + request


async def watch(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


def guarded(door: Access) -> dict[str, Any]:
    handlers = {SCORE: grpc.unary_unary_rpc_method_handler(score), WATCH: grpc.unary_stream_rpc_method_handler(watch)}
    return door.guard(handlers)


def test_the_bindings_ask_the_core() -> None:
    def ask(roles: int, **options: Any) -> int:
        return check_access(
            LISTENERS["public"], SCORE, roles=roles, **{"needs_certificate": True, "has_certificate": True, **options}
        )

    assert ask(ROLES["score"]) == 0 != ask(ROLES["read"])
    assert ask(0, needs_certificate=False) == 0
    with pytest.raises(ValueError, match="without anyone"):
        ask(ROLES["anyone"])
    with pytest.raises(ValueError, match="listener"):
        check_access(3, SCORE, needs_certificate=False, has_certificate=False, roles=0)
    assert {row.method for row in POLICY_TABLE} >= {SCORE, WATCH}


async def test_without_roles_handlers_stand_as_they_are(engine: Engine) -> None:
    door = Access(Listener.PUBLIC, engine, Denials(), None)
    handlers = {SCORE: grpc.unary_unary_rpc_method_handler(score)}
    assert door.guard(handlers)[SCORE] is handlers[SCORE]


async def test_calls_and_streams_pass_or_not(engine: Engine, authority: Authority) -> None:
    denials = Denials()
    handlers = guarded(Access(Listener.PUBLIC, engine, denials, Roles(core=ROLES["score"])))  # type: ignore[arg-type]
    core, other = Context(auth_of(authority, "core")), Context(auth_of(authority, "other"))
    assert await handlers[SCORE].unary_unary(b"x", core) == b"scored x"
    with pytest.raises(RefusedError, match="PERMISSION_DENIED"):
        await handlers[SCORE].unary_unary(b"x", other)
    for context in (core, other):
        assert [answer async for answer in handlers[WATCH].unary_stream(b"", context)] == [b"one", b"two"]
    # No certificate, or no TLS at all: cannot be, behind a handshake. The door does not rely on it.
    for auth in (None, {}, {**auth_of(authority, "core"), "transport_security_type": [b"insecure"]}):
        for call in (handlers[SCORE].unary_unary(b"x", Context(auth)), anext(handlers[WATCH].unary_stream(b"", Context(auth)))):
            with pytest.raises(RefusedError, match="UNAUTHENTICATED"):
                await call
    assert denials.counts == {"MISSING_ROLE": 1, "MISSING_CERTIFICATE": 6}


async def test_answers_are_remembered_until_the_roles_change(
    engine: Engine, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def count(auth: Any) -> tuple[str, ...]:
        asked.append(auth)
        return principals_of(auth)

    monkeypatch.setattr(access, "principals_of", count)
    roles = Roles(core=ROLES["score"])
    handlers = guarded(Access(Listener.PUBLIC, engine, Denials(), roles))  # type: ignore[arg-type]
    context = Context(auth_of(authority, "core"))
    for _ in range(3):
        await handlers[SCORE].unary_unary(b"x", context)
    assert len(asked) == 1
    await handlers[SCORE].unary_unary(b"x", Context(auth_of(authority, "core")))  # another certificate of the same name
    assert len(asked) == 2
    roles.value = {}
    with pytest.raises(RefusedError):
        await handlers[SCORE].unary_unary(b"x", context)
    assert len(asked) == 3


async def test_a_certificate_that_expires_while_it_is_used_is_refused_from_then_on(engine: Engine, authority: Authority) -> None:
    """TLS does not look at it again on an open connection, nor in a session that is resumed."""
    clock = Clock()
    denials = Denials()
    handlers = guarded(Access(Listener.PUBLIC, engine, denials, Roles(core=ROLES["score"]), clock))  # type: ignore[arg-type]
    auth = auth_of(authority, "core")
    context = Context(auth)
    ends = x509.load_pem_x509_certificate(auth["x509_pem_cert"][0]).not_valid_after_utc.timestamp()
    clock.now_s = ends - 1
    assert await handlers[SCORE].unary_unary(b"x", context) == b"scored x"
    clock.now_s = ends
    with pytest.raises(RefusedError, match="UNAUTHENTICATED"):
        await handlers[SCORE].unary_unary(b"x", context)
    assert denials.counts == {"MISSING_CERTIFICATE": 1}


@pytest.mark.parametrize("name", ["B", "old-service", "x" * 64])
def test_names_are_looked_for_where_names_stand(authority: Authority, name: str) -> None:
    """Not anywhere in the certificate: a key may hold any byte behind any other."""
    certificate = authority.issue_names(common_name=name).certificate
    auth = {"transport_security_type": [b"ssl"], "x509_pem_cert": [certificate], "x509_common_name": [name.encode()]}
    assert principals_of(auth) == (f"cn:{name}",)
    assert principals_of({**auth, "x509_common_name": [b"other"]}) == ()
    both = authority.issue_names(common_name=name, dns=("core.test",), uris=("spiffe://bank.test/core",)).certificate
    auth = {
        **auth,
        "x509_pem_cert": [both],
        "x509_subject_alternative_name": [b"core.test", b"spiffe://bank.test/core"],
        "peer_spiffe_id": [b"spiffe://bank.test/core"],
        "peer_dns": [b"core.test"],
    }
    assert principals_of(auth) == ("spiffe://bank.test/core", "dns:core.test")


@pytest.mark.parametrize("days", [1, 400, 365 * 40])  # past 2049 the time has another form
def test_when_a_certificate_expires(authority: Authority, days: int) -> None:
    pair = authority.issue("core", "spiffe.example", days=(-1, days))
    certificate = pair.certificate[: pair.certificate.index(b"-----END CERTIFICATE-----") + 26]
    assert expires_at_s(certificate) == x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()


async def test_what_is_remembered_is_bounded(engine: Engine, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "ANSWERS_MAX", 3)
    door = Access(Listener.PUBLIC, engine, Denials(), Roles(core=ROLES["score"]))  # type: ignore[arg-type]
    handlers = guarded(door)
    for _ in range(10):
        await handlers[SCORE].unary_unary(b"x", Context(auth_of(authority, "core")))
        assert len(door._answers) <= 3
    monkeypatch.setattr(access, "CERTIFICATE_BYTES_MAX", 10)  # a longer certificate is asked for each time
    door._answers.clear()
    await handlers[SCORE].unary_unary(b"x", Context(auth_of(authority, "core")))
    assert door._answers == {}


async def test_a_method_that_nothing_answers_is_refused_with_the_reason(engine: Engine) -> None:
    denials = Denials()
    door = Access(Listener.PUBLIC, engine, denials, None)
    for method in ("/no/Such", "/assay.v1.FeatureService/RecordEvents", SCORE):  # the last has a row, but no handler
        with pytest.raises(RefusedError, match="UNIMPLEMENTED"):
            await door.refusing(method).stream_stream(None, Context(None))
    assert denials.counts == {"UNKNOWN_METHOD": 2, "WRONG_LISTENER": 1}


def test_refusals_are_logged_some_at_a_time_and_the_rest_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    denials = Denials(clock)
    for _ in range(LOG_LINES_MAX + 5):
        denials.record(Listener.PUBLIC, SCORE, "dns:other", "MISSING_ROLE")
    assert len(caplog.records) == LOG_LINES_MAX
    denials.record(Listener.ADMIN, SCORE, "dns:other", "WRONG_LISTENER")  # another listener has lines of its own
    assert len(caplog.records) == LOG_LINES_MAX + 1
    clock.now_s += LOG_INTERVAL_S
    denials.record(Listener.PUBLIC, "/x\n4929 4929 4929 4929", "", "UNKNOWN_METHOD")
    assert len(caplog.records) == LOG_LINES_MAX + 2
    line = TextFormatter().format(caplog.records[-1]).partition("assay ")[2]
    assert line == r"denied listener=public method=/x\x0a<digits> principal=- reason=UNKNOWN_METHOD not_logged_before=5"
    assert caplog.records[-1].levelno == logging.WARNING
    assert denials.counts == {"MISSING_ROLE": LOG_LINES_MAX + 5, "WRONG_LISTENER": 1, "UNKNOWN_METHOD": 1}


def test_a_handler_without_a_row_reaches_no_server() -> None:
    handler = grpc.unary_unary_rpc_method_handler(score)
    assert answered_on(Listener.PUBLIC, {"/assay.v1.ScoringService/New": handler, SCORE: handler}) == {SCORE: handler}


def test_the_table_has_a_row_for_each_method_of_the_contract_and_of_the_standard_services_and_no_other() -> None:
    """From the descriptors, so that a service that nobody registered yet is found too."""
    ours = FileDescriptorSet.FromString((files("assay") / "v1" / "assay.binpb").read_bytes())
    contract = [file for file in ours.file if file.package.startswith("assay.") or file.package == "inference"]
    standard = [FileDescriptorProto.FromString(health_pb2.DESCRIPTOR.serialized_pb)]
    methods = {
        f"/{file.package}.{service.name}/{method.name}"
        for file in [*contract, *standard]
        for service in file.service
        for method in service.method
    }
    methods |= {f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")}
    assert methods == {row.method for row in POLICY_TABLE}
