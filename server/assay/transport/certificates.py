"""The server's certificate, its key and the clients' authorities: PEM files, proved before use, changed without a restart.

A pair is proved by rehearsing a handshake with it in memory: that finds a key of another certificate, an expired certificate and
one that was not made for a server, with nothing but the standard library. gRPC asks for the files' state at each handshake.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

from assay.config import TlsConfig
from assay.errors import ConfigError
from assay.private_file import exposure
from assay.transport.proved_files import ProvedFiles

_HANDSHAKE_ROUNDS_MAX = 10
_PEM_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PEM_KEY_END = b"PRIVATE KEY-----"

log = logging.getLogger("assay")


@dataclass(frozen=True)
class Pem:
    """What gRPC wants, proved."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expires_at: datetime


class Certificates:
    """The files of config.tls, which must name a certificate. Thread-safe: gRPC's threads ask during handshakes."""

    def __init__(self, config: TlsConfig) -> None:
        """Raises ConfigError where a file is missing or wrong."""
        if config.certificate is None or config.key is None:
            raise ConfigError("tls.certificate and tls.key: expected both")
        self._certificate, self._key, self._client_ca = config.certificate, config.key, config.client_ca
        paths = [path for path in (config.certificate, config.key, config.client_ca) if path is not None]
        self.files = ProvedFiles("certificate", paths, self._prove)
        warning = key_warning(config.key)
        if warning:
            log.warning("%s", warning)

    @property
    def expires_at(self) -> datetime:
        """When the certificate in use does."""
        return self.files.value.expires_at

    @property
    def wants_clients(self) -> bool:
        """Whether clients must have a certificate: mTLS."""
        return self._client_ca is not None

    def credentials(self) -> grpc.ServerCredentials:
        """For one listener. Each handshake from then on is made with the newest files that are good."""
        given = self.files.value

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            newest = self.files.refresh()
            if newest is given:
                return None  # no change
            given = newest
            return _configuration(newest)

        # The stub does not know that None is an answer.
        return grpc.dynamic_ssl_server_credentials(_configuration(given), fetch, self.wants_clients)  # type: ignore[arg-type]

    # --- implementation ---

    def _prove(self, contents: tuple[bytes, ...]) -> Pem:
        certificate, key, *rest = contents
        expires_at = prove_pair(self._certificate, self._key, certificate, key)
        if self._client_ca is not None:
            prove_authorities(self._client_ca, rest[0])
        return Pem(certificate, key, rest[0] if rest else None, expires_at)


def prove_pair(certificate_path: Path, key_path: Path, certificate: bytes, key: bytes) -> datetime:
    """When the certificate expires. Raises ConfigError unless a client that trusts it would shake hands with it now. The paths
    hold the given contents: the standard library reads pairs from files only."""
    _check_pem("tls.certificate", certificate_path, certificate, _PEM_CERTIFICATE, "a certificate")
    _check_pem("tls.key", key_path, key, _PEM_KEY_END, "a private key")
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate_path, key_path, password=_no_password)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is trusted, whoever signed it
        client.load_verify_locations(cadata=certificate.decode("ascii"))
        return _expiry(_rehearse(client, server))
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(f"tls.certificate: {certificate_path}: {error.verify_message}") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"tls.key: {key_path} is not the key of {certificate_path}") from None
        raise ConfigError(f"tls.certificate, tls.key: {certificate_path}, {key_path}: {error.reason or 'damaged PEM'}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"tls.certificate: {certificate_path}: not ASCII text") from None


def prove_authorities(path: Path, contents: bytes) -> None:
    """Raises ConfigError unless the file holds certificates of authorities of which at least one is valid now."""
    _check_pem("tls.client_ca", path, contents, _PEM_CERTIFICATE, "a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=contents.decode("ascii"))
    except ssl.SSLError as error:
        raise ConfigError(f"tls.client_ca: {path}: {error.reason or 'damaged PEM'}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"tls.client_ca: {path}: not ASCII text") from None
    authorities = context.get_ca_certs()
    if not authorities:
        raise ConfigError(f"tls.client_ca: {path}: holds certificates, but none of an authority (CA:TRUE)")
    if all(_expiry(authority) <= datetime.now(UTC) for authority in authorities):
        raise ConfigError(f"tls.client_ca: {path}: every authority in it has expired")


def key_warning(path: Path) -> str:
    """What is wrong with who may read the key; empty: nothing."""
    found = exposure(path)
    return f"tls.key: {found}" if found else ""


# --- implementation ---


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], root_certificates=pem.client_ca)


def _check_pem(key: str, path: Path, contents: bytes, mark: bytes, what: str) -> None:
    if mark not in contents:
        raise ConfigError(f"{key}: {path}: holds no PEM block of {what}")


def _no_password() -> str:
    raise ConfigError("tls.key: the key is encrypted; the server has nobody to ask for the password: decrypt it, mode 0600")


def _rehearse(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, object]:
    """Shakes hands in memory. Returns the server's certificate as the client saw it."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for _ in range(_HANDSHAKE_ROUNDS_MAX):
        done = [_is_done(end) for end in ends]
        if all(done):
            return dict(ends[0].getpeercert() or {})
    raise ConfigError("tls.certificate: the rehearsed handshake does not end")


def _is_done(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _expiry(certificate: Mapping[str, object]) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
