"""Certificates for tests: an authority, what it signs, and a folder of PEM files as `tls.*` and `roles` want them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SERVER_NAMES = ("localhost", "127.0.0.1")

ROLES = """
version: 1
principals:
  spiffe://bank.example/core-banking: [score]
  dns:core.bank.internal: [score, read]
  dns:events.bank.internal: [write]
  dns:operations.bank.internal: [admin]
  dns:reader.bank.internal: [read]
  cn:old-service: [score]
"""


@dataclass(frozen=True)
class Pair:
    """A certificate with its chain, and its key; both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority of its own."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.certificate: bytes = self._ca.cert_pem.bytes()

    def issue(self, *names: str, days: tuple[float, float] = (-1, 30), **options: Any) -> Pair:
        """For DNS names and addresses. `days`: valid from and until, counted from now."""
        now = datetime.now(UTC)
        made = self._ca.issue_cert(
            *names,
            not_before=now + timedelta(days=days[0]),
            not_after=now + timedelta(days=days[1]),
            **options,
        )
        return Pair(b"".join(part.bytes() for part in made.cert_chain_pems), made.private_key_pem.bytes())

    def issue_names(
        self, *, common_name: str = "", organization: str = "", dns: tuple[str, ...] = (), uris: tuple[str, ...] = ()
    ) -> Pair:
        """A client certificate with exactly these names, odd ones too."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        parts = ((NameOID.COMMON_NAME, common_name), (NameOID.ORGANIZATION_NAME, organization))
        subject = [x509.NameAttribute(kind, text) for kind, text in parts if text]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(x509.load_pem_x509_certificate(self.certificate).subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
        )
        names = [*map(x509.DNSName, dns), *map(x509.UniformResourceIdentifier, uris)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signer: Any = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        return Pair(
            builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )


class TlsFolder:
    """server.pem, server.key, clients.pem and roles.yaml in `folder`. `authority` signs the server, `clients` the clients."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority()
        self.clients = Authority()
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        self.client_ca, self.roles = folder / "clients.pem", folder / "roles.yaml"
        self.put(self.authority.issue(*SERVER_NAMES))
        self.client_ca.write_bytes(self.clients.certificate)
        self.roles.write_text(ROLES)

    def put(self, pair: Pair) -> None:
        """Another server certificate, each file replaced by a rename, the key first: what lies there between does not fit."""
        for path, data in ((self.key, pair.key), (self.certificate, pair.certificate)):
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(data)
            os.replace(fresh, path)

    def config(self, *, mtls: bool = True) -> dict[str, Any]:
        """Fields of Config."""
        tls: dict[str, Any] = {"certificate": self.certificate, "key": self.key}
        return {"tls": {**tls, "client_ca": self.client_ca}, "roles": self.roles} if mtls else {"tls": tls}

    def arguments(self, *, mtls: bool = True) -> list[str]:
        """The same for `assay serve`."""
        pairs = {"tls.certificate": self.certificate, "tls.key": self.key}
        if mtls:
            pairs |= {"tls.client_ca": self.client_ca, "roles": self.roles}
        return [word for key, path in pairs.items() for word in ("--set", f"{key}={path}")]

    def credentials(self, pair: Pair | None = None) -> grpc.ChannelCredentials:
        """For a client that trusts the server, and shows `pair`."""
        return grpc.ssl_channel_credentials(self.authority.certificate, pair and pair.key, pair and pair.certificate)

    def client(self, name: str) -> grpc.ChannelCredentials:
        """For a client with this DNS name."""
        return self.credentials(self.clients.issue(name))
