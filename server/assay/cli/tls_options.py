"""The options of commands that call a server: whom to trust, who to be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from assay.client import Tls

TlsOn = Annotated[
    bool,
    typer.Option("--tls", help="Speak TLS, trusting public authorities. Other --tls options imply it.", show_default=False),
]
TlsCa = Annotated[Path | None, typer.Option("--tls-ca", metavar="FILE", help="Authorities to trust instead, PEM.")]
TlsCertificate = Annotated[Path | None, typer.Option("--tls-certificate", metavar="FILE", help="Own certificate for mTLS, PEM.")]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key, PEM.")]
TlsServerName = Annotated[
    str | None,
    typer.Option("--tls-server-name", metavar="NAME", help="The name in the server's certificate, if it is not the target's."),
]


def make_tls(is_on: bool, ca: Path | None, certificate: Path | None, key: Path | None, server_name: str | None) -> Tls | None:
    """None: plaintext. Raises ConfigError."""
    from assay.client import Tls
    from assay.errors import ConfigError

    if not is_on and (ca, certificate, key, server_name) == (None, None, None, None):
        return None
    if (certificate is None) != (key is None):
        raise ConfigError("--tls-certificate and --tls-key go together; give both (mTLS) or neither")
    return Tls(ca, certificate, key, server_name)
