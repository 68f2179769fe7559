"""What to do about a server that could not be reached, by what gRPC says of it."""

from __future__ import annotations

# Part of gRPC's text, and the mend.
HINTS = (
    ("CERTIFICATE_VERIFY_FAILED", "the authority in --tls-ca did not sign the server's certificate, or it has expired"),
    ("Hostname Verification Check failed", "the server's certificate is for another name: --tls-server-name NAME"),
    ("not in peer certificate", "the server's certificate is for another name: --tls-server-name NAME"),
    ("WRONG_VERSION_NUMBER", "the server speaks plaintext: leave the --tls options out"),
    ("Socket closed", "the server may speak TLS (--tls-ca CA.pem), or want a client certificate (--tls-certificate, --tls-key)"),
)


def connection_hint(message: str, target: str) -> str:
    """The mend that fits `message`, gRPC's text; without one: whether a server runs at `target`."""
    for text, mend in HINTS:
        if text in message:
            return mend
    return f"is a server running at {target}? `assay serve` starts one"
