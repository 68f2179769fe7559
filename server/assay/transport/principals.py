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

_SAN_DNS, _SAN_URI = b"\x82", b"\x86"  # GeneralName, context-specific tags 2 and 6
_CN_STRINGS = (b"\x0c", b"\x13", b"\x14", b"\x16")  # UTF8String, PrintableString, TeletexString, IA5String


def certificate_of(auth: AuthContext) -> bytes:
    """The verified client certificate, PEM. Empty: there is none."""
    found = auth.get("x509_pem_cert")
    return found[0] if found and auth.get("transport_security_type") == [b"ssl"] else b""


def principals_of(auth: AuthContext) -> tuple[str, ...]:
    """The principals of a call, best first, as the roles file writes them. Empty: the certificate names nobody."""
    certificate = certificate_of(auth)
    if not certificate:
        return ()
    der = ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))
    kinds: list[tuple[str, str, tuple[bytes, ...]]] = [("", "peer_spiffe_id", (_SAN_URI,)), ("dns:", "peer_dns", (_SAN_DNS,))]
    if "x509_subject_alternative_name" not in auth:
        kinds = [("cn:", "x509_common_name", _CN_STRINGS)]
    return tuple(
        _principal(prefix, name)
        for prefix, key, tags in kinds
        for name in auth.get(key, ())
        if name and _is_whole(name, tags, der)
    )


def expires_at_s(certificate: bytes) -> float:
    """When a verified certificate (PEM) expires, in seconds since 1970. TLS looks at that in a full handshake only: a connection
    that stays open, or a session that is resumed, outlives it."""
    der = ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))
    fields = _fields(_fields(_fields(der)[0][1])[0][1])  # of the TBSCertificate (RFC 5280, 4.1)
    if fields[0][0] == _VERSION:
        fields = fields[1:]
    tag, text = _fields(fields[3][1])[1]  # serial, algorithm, issuer, validity: notBefore, notAfter
    digits = text.decode("ascii").removesuffix("Z")
    if tag == _UTC_TIME:
        digits = ("20" if digits[:2] < "50" else "19") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()


# --- implementation ---

_VERSION, _UTC_TIME = 0xA0, 0x17


def _fields(der: bytes) -> list[tuple[int, bytes]]:
    """(tag, contents) of each element. The certificate was verified: it is well-formed."""
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


def _is_whole(name: bytes, tags: Sequence[bytes], der: bytes) -> bool:
    """gRPC cuts a name at a NUL: `core.bank\\0.evil` would be `core.bank`. So the certificate must hold the very name, and
    nowhere the name with a NUL behind it: what comes after a whole one in DER is the tag of the next field, never 0."""
    return name + b"\0" not in der and any(tag + _der_length(len(name)) + name in der for tag in tags)


def _der_length(length: int) -> bytes:
    if length < 0x80:
        return bytes([length])
    size = (length.bit_length() + 7) // 8
    return bytes([0x80 | size]) + length.to_bytes(size, "big")
