"""assay.client, `assay score` and `assay doctor --server` over TLS and mTLS, against a small server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2

from assay.cli.server_check import check_server
from assay.client import Tls, Unavailable
from tests.support.clients import CLIENTS, ScriptedServer, make_transaction

pytestmark = pytest.mark.usefixtures("transport")

Make = Callable[..., Any]


@pytest.fixture(params=CLIENTS)
def make(request: pytest.FixtureRequest) -> Make:
    return CLIENTS[request.param]


class Certificates:
    """One authority; a server's certificate for 127.0.0.1, one for a name, a client's; and a stranger's."""

    def __init__(self, directory: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        self.ca = authority.cert_pem.bytes()
        self.strange_ca = stranger.cert_pem.bytes()
        self.client, self.stranger = (ca.issue_cert("client.test") for ca in (authority, stranger))
        self.by_address, self.by_name = authority.issue_cert("127.0.0.1"), authority.issue_cert("scoring.test")
        self.ca_file, self.certificate_file, self.key_file = (directory / name for name in ("ca.pem", "own.pem", "own.key"))
        self.ca_file.write_bytes(self.ca)
        self.certificate_file.write_bytes(self.client.cert_chain_pems[0].bytes())
        self.key_file.write_bytes(self.client.private_key_pem.bytes())

    def server(self, leaf: trustme.LeafCert, *, mutual: bool = False) -> ScriptedServer:
        pair = (leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes())
        return ScriptedServer(tls=grpc.ssl_server_credentials([pair], self.ca if mutual else None, mutual))

    def own(self, leaf: trustme.LeafCert) -> Tls:
        """Trusts the authority and shows `leaf`."""
        return Tls(ca=self.ca, certificate=leaf.cert_chain_pems[0].bytes(), key=leaf.private_key_pem.bytes())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "assay", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


# --- the client


def test_tls(certificates: Certificates, make: Make) -> None:
    with certificates.server(certificates.by_address) as server:
        for ca in (certificates.ca, certificates.ca_file, str(certificates.ca_file)):
            with make(server.target, tls=Tls(ca=ca), timeout_s=10) as client:
                assert client.score(make_transaction()).score == 0.25


def test_mutual_tls(certificates: Certificates, make: Make) -> None:
    files = Tls(certificates.ca_file, certificates.certificate_file, certificates.key_file)
    with certificates.server(certificates.by_address, mutual=True) as server:
        for tls in (files, certificates.own(certificates.client)):
            with make(server.target, tls=tls, timeout_s=10) as client:
                assert client.score(make_transaction()).score == 0.25


def test_a_server_under_another_name(certificates: Certificates, make: Make) -> None:
    with certificates.server(certificates.by_name) as server:
        tls = Tls(ca=certificates.ca, server_name="scoring.test")
        with make(server.target, tls=tls, timeout_s=10) as client:
            assert client.score(make_transaction()).score == 0.25
        with make(server.target, tls=Tls(ca=certificates.ca), timeout_s=10) as client, pytest.raises(Unavailable):
            client.score(make_transaction())
        assert len(server.attempts) == 1


@pytest.mark.parametrize("case", ["plaintext", "strange authority", "no certificate", "strange certificate"])
def test_whoever_is_not_trusted_gets_no_score(certificates: Certificates, make: Make, case: str) -> None:
    tls = {
        "plaintext": None,
        "strange authority": Tls(ca=certificates.strange_ca),
        "no certificate": Tls(ca=certificates.ca),
        "strange certificate": certificates.own(certificates.stranger),
    }[case]
    with certificates.server(certificates.by_address, mutual=True) as server:
        with make(server.target, tls=tls, timeout_s=10) as client, pytest.raises(Unavailable):
            client.score(make_transaction())
        assert server.attempts == []


# --- the command


def test_score_and_doctor_over_mutual_tls(certificates: Certificates) -> None:
    options = ["--tls-ca", str(certificates.ca_file)]
    own = ["--tls-certificate", str(certificates.certificate_file), "--tls-key", str(certificates.key_file)]
    name = ["--tls-server-name", "scoring.test"]
    with certificates.server(certificates.by_name, mutual=True) as server:
        score = ["score", "--target", server.target, "--id", "t1", "--json"]
        found = run(*score, *options, *own, *name)
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout) == {"transaction_id": "t1", "score": 0.25, "decision": "DECISION_APPROVE"}
        for arguments in ([], ["--tls"], [*options, *name], [*options, *own]):
            assert run(*score, *arguments).returncode == 3, arguments
        assert len(server.attempts) == 1
        doctor = ["doctor", "--server", server.target]
        assert run(*doctor, *options, *own, *name).returncode == 0
        assert run(*doctor, *options, *name).returncode == 3
        assert run(*doctor).returncode == 3
        server.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert "NOT_SERVING" in run(*doctor, *options, *own, *name).stdout


def test_a_failed_connection_says_what_to_do(certificates: Certificates) -> None:
    ca, strange = Tls(ca=certificates.ca, server_name="scoring.test"), Tls(ca=certificates.strange_ca, server_name="scoring.test")
    with certificates.server(certificates.by_name, mutual=True) as server, ScriptedServer() as plain:
        for target, tls, mend in (
            (server.target, None, "the server may speak TLS (--tls-ca CA.pem), or want a client certificate"),
            (server.target, ca, "or want a client certificate (--tls-certificate, --tls-key)"),
            (server.target, strange, "the authority in --tls-ca did not sign the server's certificate"),
            (server.target, Tls(ca=certificates.ca), "the server's certificate is for another name: --tls-server-name NAME"),
            (plain.target, ca, "the server speaks plaintext: leave the --tls options out"),
        ):
            finding = check_server(target, tls)
            assert finding.status == "failed"
            assert mend in finding.mend, finding.found


def test_a_file_that_is_not_there_is_wrong_usage() -> None:
    for command in (["score", "--target", "127.0.0.1:1"], ["doctor", "--server", "127.0.0.1:1"]):
        found = run(*command, "--tls-ca", "no-such.pem")
        assert found.returncode == 2
        assert "no-such.pem" in found.stderr
        found = run(*command, "--tls-key", "own.key")
        assert found.returncode == 2
        assert "--tls-certificate" in found.stderr
