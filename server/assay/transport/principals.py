"""Who a verified client certificate belongs to: its names, each with its kind.

Alternative names come first: a SPIFFE ID and DNS names. The common name counts only where a certificate has no alternative name
at all, as in TLS itself: who may choose a common name is often checked by nobody.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

# What gRPC says about a call's connection (ServicerContext.auth_context).
AuthContext = Mapping[str, Sequence[bytes]]

# ASN.1 tags. Of GeneralName (context-specific 2 and 6); of the strings that a common name may be: UTF8String, PrintableString,
# TeletexString, IA5String; of what stands in a certificate (RFC 5280, 4.1).
_SAN_DNS, _SAN_URI = 0x82, 0x86
_CN_STRINGS = (0x0C, 0x13, 0x14, 0x16)
_VERSION, _EXTENSIONS, _UTC_TIME = 0xA0, 0xA3, 0x17
# Object identifiers, encoded: 2.5.4.3 and 2.5.29.17.
_COMMON_NAME, _ALTERNATIVE_NAMES = b"\x55\x04\x03", b"\x55\x1d\x11"
_SUBJECT, _VALIDITY = 4, 3  # places in the TBSCertificate without its version


def certificate_of(auth: AuthContext) -> bytes:
    """The verified client certificate, PEM. Empty: there is none."""
    found = auth.get("x509_pem_cert")
    return found[0] if found and auth.get("transport_security_type") == [b"ssl"] else b""


def principals_of(auth: AuthContext) -> tuple[str, ...]:
    """The principals of a call, best first, as the roles file writes them. Empty: the certificate names nobody."""
    certificate = certificate_of(auth)
    if not certificate:
        return ()
    kinds: list[tuple[str, str, tuple[int, ...]]] = [("", "peer_spiffe_id", (_SAN_URI,)), ("dns:", "peer_dns", (_SAN_DNS,))]
    if "x509_subject_alternative_name" not in auth:
        kinds = [("cn:", "x509_common_name", _CN_STRINGS)]
    whole = _names(_tbs_fields(certificate))
    # gRPC cuts a name at a NUL: `core.bank\0.evil` would be `core.bank`. So the certificate must hold the very name.
    return tuple(
        _principal(prefix, name)
        for prefix, key, tags in kinds
        for name in auth.get(key, ())
        if name and any((tag, name) in whole for tag in tags)
    )


def expires_at_s(certificate: bytes) -> float:
    """When a verified certificate (PEM) expires, in seconds since 1970. TLS looks at that in a full handshake only: a connection
    that stays open, or a session that is resumed, outlives it."""
    _, (tag, text) = _fields(_tbs_fields(certificate)[_VALIDITY][1])  # notBefore, notAfter
    digits = text.decode("ascii").removesuffix("Z")
    if tag == _UTC_TIME:
        digits = ("20" if digits[:2] < "50" else "19") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()


# --- implementation ---

Field = tuple[int, bytes]  # tag, contents


def _tbs_fields(certificate: bytes) -> list[Field]:
    """What a certificate (PEM) says: serial, algorithm, issuer, validity, subject, key, ..."""
    der = ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))
    fields = _fields(_fields(_fields(der)[0][1])[0][1])
    return fields[1:] if fields[0][0] == _VERSION else fields


def _names(tbs: Sequence[Field]) -> set[Field]:
    """The common names and the alternative names, whole."""
    attributes = [_fields(attribute) for _, part in _fields(tbs[_SUBJECT][1]) for _, attribute in _fields(part)]
    names = {value for (_, kind), value in attributes if kind == _COMMON_NAME}
    for tag, contents in tbs:
        if tag == _EXTENSIONS:
            for _, extension in _fields(_fields(contents)[0][1]):
                (_, kind), *_, (_, value) = _fields(extension)
                if kind == _ALTERNATIVE_NAMES:
                    names |= set(_fields(_fields(value)[0][1]))
    return names


def _fields(der: bytes) -> list[Field]:
    """The elements, in order. The certificate was verified: it is well-formed."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        found.append((tag, der[at : at + length]))
        at += length
    return found


def _principal(prefix: str, name: bytes) -> str:
    text = name.decode("utf-8", errors="replace")
    return prefix + (text.lower() if prefix == "dns:" else text)
