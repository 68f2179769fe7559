"""The roles file: which client certificate may do what.

    version: 1
    principals:
      spiffe://bank.example/core-banking: [score, read]
      dns:events.bank.internal: [write]
      cn:fraud-operations: [read, admin]

A principal is one name of a certificate, with its kind: the same text that the log shows. Names are compared as a whole; there
are no patterns. The log of a refusal has the principal's text, ready to be pasted here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay._core import ROLES, printable
from assay.config_file import parse_config
from assay.errors import ConfigError
from assay.transport.proved_files import ProvedFiles

VERSION = 1
PRINCIPALS_MAX = 4096
ROLE_NAMES = tuple(name for name in ROLES if name != "anyone")

# How a principal is written: a SPIFFE ID (X.509-SVID), a DNS name, a common name.
_PRINCIPAL = re.compile(
    r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+|dns:[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){0,16}|cn:[^\x00-\x1f\x7f]{1,64}"
)

# Principal -> its roles, as a sum of ROLES.
Roles = Mapping[str, int]


def roles_file(path: Path) -> ProvedFiles[Roles]:
    """The file, reloaded when it changes. Raises ConfigError."""
    return ProvedFiles("roles", [path], lambda contents: parse_roles(path, contents[0]))


def read_roles(path: Path) -> Roles:
    """Raises ConfigError that names the entry and what was expected."""
    return roles_file(path).value


def parse_roles(path: Path, contents: bytes) -> Roles:
    """The file's contents. Raises ConfigError."""
    document = parse_config(path, contents)
    try:
        if unknown := sorted(str(key) for key in document.keys() - {"version", "principals"}):
            raise ConfigError(f"{_shown(unknown[0])}: no such key; expected version and principals")
        version = document.get("version")
        if type(version) is not int or version != VERSION:
            raise ConfigError(f"version: expected {VERSION}")
        principals = document.get("principals")
        if not isinstance(principals, dict):
            raise ConfigError(f"principals: expected a mapping of principals to roles, found {type(principals).__name__}")
        if len(principals) > PRINCIPALS_MAX:
            raise ConfigError(f"principals: {len(principals)} of them, the limit is {PRINCIPALS_MAX}")
        return dict(_entry(principal, names) for principal, names in principals.items())
    except ConfigError as error:
        raise ConfigError(f"roles: {path}: {error}") from None


# --- implementation ---


def _entry(principal: Any, names: Any) -> tuple[str, int]:
    if not isinstance(principal, str) or not _PRINCIPAL.fullmatch(principal):
        raise ConfigError(
            f"principals: {_shown(principal)}: expected spiffe://TRUST_DOMAIN/PATH, dns:NAME (lower case) or cn:NAME, no patterns"
        )
    if not isinstance(names, list) or not names:
        raise ConfigError(f"principals: {_shown(principal)}: expected a list of roles, found {type(names).__name__}")
    roles = 0
    for name in names:
        if name not in ROLE_NAMES:
            raise ConfigError(f"principals: {_shown(principal)}: {_shown(name)} is no role; there are {', '.join(ROLE_NAMES)}")
        roles |= ROLES[name]
    return principal, roles


def _shown(value: Any) -> str:
    return printable(str(value).encode(errors="replace"))
