"""Those who should not get in, certificates that change or break under load, names that lie. The server serves on."""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from assay.observe.logs import TextFormatter
from assay.transport import access
from assay.v1 import scoring_pb2_grpc
from tests.support.certificates import SERVER_NAMES, Authority, Pair, TlsFolder
from tests.support.server import LocalServer, ServeProcess, make_request, reason_of, status_of, wait_until

pytestmark = pytest.mark.usefixtures("transport")

CORE = "core.bank.internal"


@pytest.fixture
def folder(tmp_path: Path) -> TlsFolder:
    return TlsFolder(tmp_path)


@pytest.fixture
def server(folder: TlsFolder) -> Iterator[LocalServer]:
    with LocalServer(**folder.config()) as server:
        yield server


def score(channel: grpc.Channel) -> Any:
    return scoring_pb2_grpc.ScoringServiceStub(channel).Score(make_request(), timeout=20)


def code_of(call: Callable[..., Any], *arguments: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    code: grpc.StatusCode = caught.value.code()
    return code


def serial_of(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.certificate).serial_number


def shown_serial(server: LocalServer) -> int:
    """Serial number of the certificate that a new connection is shown."""
    server.settle()
    host, _, port = server.addresses.public.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain) as wrapped:
        der = wrapped.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


# --- who does not get in


@pytest.mark.parametrize(
    "intruder",
    ["plaintext", "no certificate", "another authority's", "expired", "not valid yet", "self-signed", "the server's own"],
)
def test_who_is_not_known_fails_the_handshake_and_the_server_serves_on(
    server: LocalServer, folder: TlsFolder, intruder: str
) -> None:
    credentials = {
        "plaintext": lambda: None,
        "no certificate": lambda: folder.credentials(),
        "another authority's": lambda: folder.credentials(Authority().issue(CORE)),
        "expired": lambda: folder.credentials(folder.clients.issue(CORE, days=(-2, -1))),
        "not valid yet": lambda: folder.credentials(folder.clients.issue(CORE, days=(1, 2))),
        "self-signed": lambda: folder.credentials(_self_signed(CORE)),
        "the server's own": lambda: folder.credentials(folder.authority.issue(*SERVER_NAMES)),
    }[intruder]()
    assert code_of(score, server.channel(credentials=credentials)) is grpc.StatusCode.UNAVAILABLE
    assert score(server.channel(credentials=folder.client(CORE))).HasField("score")
    assert server.engine.stats().accepted_rows == 1


def _self_signed(name: str) -> Pair:
    """Of an authority that signed itself and is the client too."""
    authority = Authority()
    return Pair(authority.certificate, authority.issue(name).key)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 100, b"\0" * 5000, b""])
def test_bytes_that_are_no_handshake_harm_nobody(server: LocalServer, folder: TlsFolder, data: bytes) -> None:
    host, _, port = server.addresses.public.rpartition(":")
    for _ in range(50):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(data)
    assert score(server.channel(credentials=folder.client(CORE))).HasField("score")


def test_connections_that_never_shake_hands_do_not_lock_others_out(server: LocalServer, folder: TlsFolder) -> None:
    host, _, port = server.addresses.public.rpartition(":")
    silent = [socket.create_connection((host, int(port)), timeout=10) for _ in range(200)]
    assert score(server.channel(credentials=folder.client(CORE))).HasField("score")
    for connection in silent:
        connection.close()


def test_a_name_with_a_nul_is_not_the_name_before_it(server: LocalServer, folder: TlsFolder) -> None:
    """gRPC cuts names at a NUL: a certificate for `core.bank.internal\\0.evil.example` would pass for core.bank.internal."""
    twice = {"common_name": "old-service\0x", "organization": "old-service"}  # the very name stands elsewhere
    for names in ({"dns": (CORE + "\0.evil.example",)}, {"common_name": "old-service\0x"}, twice):
        pair = folder.clients.issue_names(**names)  # type: ignore[arg-type]
        with pytest.raises(grpc.RpcError) as caught:
            score(server.channel(credentials=folder.credentials(pair)))
        assert reason_of(status_of(caught.value)) == "MISSING_ROLE"
    assert score(server.channel(credentials=folder.credentials(folder.clients.issue_names(dns=(CORE,))))).HasField("score")


# --- certificates that change


class Load:
    """Callers, each over and over: half keep a connection, half make a new one for each call. Every failure is kept."""

    def __init__(self, server: LocalServer, folder: TlsFolder, callers: int = 4) -> None:
        self.call_count = 0
        self.failures: list[str] = []
        self._end = threading.Event()
        self._credentials = folder.client(CORE)
        self._target = server.addresses.public
        self._threads = [threading.Thread(target=self._run, args=(index % 2 == 0,)) for index in range(callers)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, calls: int) -> None:
        wanted = self.call_count + calls
        wait_until(lambda: self.call_count >= wanted or bool(self.failures), f"{calls} calls")

    def close(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, keeps_connection: bool) -> None:
        while not self._end.is_set():
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
            with grpc.secure_channel(self._target, self._credentials, options=options) as channel:
                stub = scoring_pb2_grpc.ScoringServiceStub(channel)
                while not self._end.is_set():
                    try:
                        stub.Score(make_request(), timeout=20)
                        self.call_count += 1
                    except grpc.RpcError as error:
                        self.failures.append(str(error))
                    if not keeps_connection:
                        break


def test_a_certificate_that_is_swapped_under_load_loses_no_call_and_new_connections_see_it(
    server: LocalServer, folder: TlsFolder
) -> None:
    with Load(server, folder) as load:
        for _ in range(5):
            fresh = folder.authority.issue(*SERVER_NAMES)
            assert shown_serial(server) != serial_of(fresh)
            folder.put(fresh)
            load.wait_for(20)
            assert shown_serial(server) == serial_of(fresh)
    assert load.failures == []
    assert server.security_stats().certificate_reloads == 5


def test_kubernetes_swaps_a_link(tmp_path: Path) -> None:
    """A secret's volume: the files are links into ..data, which is a link that is replaced by a rename."""
    mount, ready = tmp_path / "mount", TlsFolder(_made(tmp_path / "v1"))
    mount.mkdir()
    (mount / "..data").symlink_to(tmp_path / "v1")
    for name in ("server.pem", "server.key", "clients.pem", "roles.yaml"):
        (mount / name).symlink_to(Path("..data") / name)
    config = ready.config()
    config["tls"] = {key: mount / path.name for key, path in config["tls"].items()}
    with LocalServer(**config) as server:
        second = TlsFolder(_made(tmp_path / "v2"))
        fresh = ready.authority.issue(*SERVER_NAMES)
        second.put(fresh)
        second.client_ca.write_bytes(ready.clients.certificate)
        (mount / "..data_tmp").symlink_to(tmp_path / "v2")
        os.replace(mount / "..data_tmp", mount / "..data")
        assert shown_serial(server) == serial_of(fresh)
        assert score(server.channel(credentials=ready.client(CORE))).HasField("score")


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_the_clients_authority_is_rotated_through_a_bundle_of_two(server: LocalServer, folder: TlsFolder) -> None:
    old, new = folder.clients, Authority()

    def outcome(authority: Authority) -> grpc.StatusCode:
        server.settle()
        try:
            score(server.channel(credentials=folder.credentials(authority.issue(CORE))))
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK

    let_in, refused = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
    assert (outcome(old), outcome(new)) == (let_in, refused)
    folder.client_ca.write_bytes(old.certificate + new.certificate)
    assert (outcome(old), outcome(new)) == (let_in, let_in)
    folder.client_ca.write_bytes(new.certificate)
    assert (outcome(old), outcome(new)) == (refused, let_in)


# --- certificates that break


def _encrypted(key: bytes) -> bytes:
    loaded: Any = serialization.load_pem_private_key(key, None)
    wanted = serialization.BestAvailableEncryption(b"password")
    data: bytes = loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, wanted)
    return data


BROKEN: dict[str, tuple[str, Callable[[TlsFolder], None]]] = {
    "half a certificate": ("PEM", lambda it: it.certificate.write_bytes(it.certificate.read_bytes()[:300])),
    "half a key": ("PEM", lambda it: it.key.write_bytes(it.key.read_bytes()[:100])),
    "an empty file": ("holds no PEM block", lambda it: it.certificate.write_bytes(b"")),
    "no file": ("is not there", lambda it: it.certificate.unlink()),
    "a directory": ("is not there, or not a file", lambda it: (it.key.unlink(), it.key.mkdir())[1]),
    "another key": ("is not the key of", lambda it: it.key.write_bytes(Authority().issue("x").key)),
    "an expired pair": ("certificate has expired", lambda it: it.put(it.authority.issue(*SERVER_NAMES, days=(-2, -1)))),
    "a future pair": ("not yet valid", lambda it: it.put(it.authority.issue(*SERVER_NAMES, days=(1, 2)))),
    "an encrypted key": ("encrypted", lambda it: it.key.write_bytes(_encrypted(it.key.read_bytes()))),
    "bytes": ("holds no PEM block", lambda it: it.key.write_bytes(os.urandom(1000))),
    "a huge file": ("more than", lambda it: it.client_ca.write_bytes(b"x" * (1 << 21))),
    "half an authority": ("clients.pem", lambda it: it.client_ca.write_bytes(it.client_ca.read_bytes()[:300])),
    "no authority": ("none of an authority", lambda it: it.client_ca.write_bytes(it.certificate.read_bytes())),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_keep_the_old_and_are_said_once(
    server: LocalServer, folder: TlsFolder, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    says, spoil = BROKEN[kind]
    before = shown_serial(server)
    with caplog.at_level(logging.INFO, logger="assay"):
        spoil(folder)
        for _ in range(3):
            assert shown_serial(server) == before
            assert score(server.channel(credentials=folder.client(CORE))).HasField("score")
    lines = [record.getMessage() for record in caplog.records if "not reloaded" in record.getMessage()]
    # Two files of a pair are put one after the other, and somebody may look between.
    assert len(lines) == server.security_stats().certificate_rejections in (1, 2)
    assert says in lines[-1]
    assert "PRIVATE KEY" not in caplog.text.replace("-----BEGIN PRIVATE KEY-----", "")
    # A good pair mends it at once.
    if folder.key.is_dir():
        folder.key.rmdir()
    folder.client_ca.write_bytes(folder.clients.certificate)
    fresh = folder.authority.issue(*SERVER_NAMES)
    folder.put(fresh)
    assert shown_serial(server) == serial_of(fresh)
    assert server.security_stats().certificate_reloads == 1


def test_a_role_is_taken_away_though_the_authorities_are_not_taken(server: LocalServer, folder: TlsFolder) -> None:
    """The native transport takes 256 authorities, gRPC's own server more. Where it keeps those that it has, roles count all the
    same."""
    core = server.channel(credentials=folder.client(CORE))
    assert score(core).HasField("score")
    others = b"".join(Authority().certificate for _ in range(256))
    folder.client_ca.write_bytes(folder.clients.certificate + others)
    folder.roles.write_text("version: 1\nprincipals: {dns:stranger.bank.internal: [score]}\n")
    wait_until(lambda: server.security_stats().roles_reloads == 1, "the roles are noticed")
    server.settle()
    assert code_of(score, core) is grpc.StatusCode.PERMISSION_DENIED
    assert (server.security_stats().certificate_rejections > 0) == server.is_native


def test_a_pair_written_in_place_byte_by_byte_under_load_loses_no_call(server: LocalServer, folder: TlsFolder) -> None:
    fresh = folder.authority.issue(*SERVER_NAMES)
    with Load(server, folder, callers=2) as load:
        for path, data in ((folder.certificate, fresh.certificate), (folder.key, fresh.key)):
            with path.open("wb", buffering=0) as file:
                for start in range(0, len(data), 100):
                    file.write(data[start : start + 100])
                    load.wait_for(2)
        load.wait_for(10)
        assert shown_serial(server) == serial_of(fresh)
    assert load.failures == []


# --- floods


def test_a_flood_of_refusals_is_counted_but_cannot_fill_the_log(
    server: LocalServer, folder: TlsFolder, caplog: pytest.LogCaptureFixture
) -> None:
    channel = server.channel(credentials=folder.client("stranger.bank.internal"))
    with caplog.at_level(logging.INFO, logger="assay"):
        for index in range(100):
            assert code_of(score, channel) is grpc.StatusCode.PERMISSION_DENIED
            # HTTP/2 allows no line break and no space in a path; gRPC's own server lets both pass.
            number = "-4111-1111-1111-1111" if server.is_native else "\n4111 1111 1111 1111"
            unknown = channel.unary_unary(f"/no.such/Method{index}{number}" + "x" * 500)
            assert code_of(lambda unknown=unknown: unknown(b"", timeout=10)) is grpc.StatusCode.UNIMPLEMENTED
        server.settle()
    lines = [TextFormatter().format(record) for record in caplog.records if record.getMessage() == "denied"]
    assert 1 <= len(lines) <= 2 * access.LOG_LINES_MAX  # the interval may have changed on the way
    assert "principal=dns:stranger.bank.internal reason=MISSING_ROLE" in lines[0]
    assert all("\n" not in line and not re.search("4111.?1111", line) and len(line) < 300 for line in lines)
    assert server.security_stats().denied_calls == {"MISSING_ROLE": 100, "UNKNOWN_METHOD": 100}


def test_failed_handshakes_write_no_log(folder: TlsFolder) -> None:
    """gRPC's own line for each of them was 200 bytes of disk for a packet from anybody."""
    with ServeProcess(*folder.arguments()) as server:
        before = server.stderr()
        host, _, port = server.target.rpartition(":")
        for _ in range(100):
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                connection.recv(100)
        with grpc.secure_channel(server.target, folder.client(CORE)) as channel:
            grpc.channel_ready_future(channel).result(10)
        assert server.stderr() == before


def test_bad_headers_write_no_log() -> None:
    """gRPC has a line for each header that it cannot parse, and a header block holds many."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def literal(name: bytes, value: bytes) -> bytes:
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

    headers = literal(b":method", b"POST") + literal(b":scheme", b"http") + literal(b":path", b"/grpc.health.v1.Health/Check")
    headers += literal(b":authority", b"x") + literal(b"content-type", b"application/grpc") + literal(b"te", b"x") * 200
    with ServeProcess("--set", "health_listen=127.0.0.1:0") as server:
        before = server.stderr()
        for target in (server.target, server.ready["health_listen"]):
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
                connection.sendall(b"".join(frame(1, 5, 2 * i + 1, headers) for i in range(20)))
                connection.recv(1000)
            with grpc.insecure_channel(target) as channel:
                grpc.channel_ready_future(channel).result(10)
        assert server.stderr() == before
