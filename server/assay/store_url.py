"""URLs of remote stores: their parts, and what may be shown of one that carries a password."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

PASSWORD_MEND = "In a password / @ : # ? % , are written %2F %40 %3A %23 %3F %25 %2C"
PORT_DEFAULT, SENTINEL_PORT_DEFAULT = 6379, 26379
HOSTS_MAX = 64


PATH_SCHEMES = ("embedded", "jsonl")  # what follows is a path, whatever stands in it


class StoreKind(enum.Enum):
    """How the servers behind a URL share the records among them."""

    ONE = "one server"
    SOCKET = "one server on a Unix socket"
    SENTINEL = "one server at a time, which Sentinels name"
    CLUSTER = "a cluster"


REMOTE_SCHEMES: Mapping[str, tuple[StoreKind, bool]] = {  # and whether it is TLS
    "redis": (StoreKind.ONE, False),
    "rediss": (StoreKind.ONE, True),
    "redis+unix": (StoreKind.SOCKET, False),
    "redis+sentinel": (StoreKind.SENTINEL, False),
    "rediss+sentinel": (StoreKind.SENTINEL, True),
    "redis+cluster": (StoreKind.CLUSTER, False),
    "rediss+cluster": (StoreKind.CLUSTER, True),
}

Address = tuple[str, int]


class Place(NamedTuple):
    """Where on a server, by kind."""

    database: int = 0
    path: str = ""  # of the Unix socket
    service: str = ""  # that the Sentinels watch


@dataclass(frozen=True)
class StoreUrl:
    """A remote store's URL, taken apart. `location` is what may be shown."""

    kind: StoreKind
    is_tls: bool
    location: str  # without user, password and options
    addresses: tuple[Address, ...]  # the server's, the Sentinels', or some of the cluster's
    username: str | None
    password: str | None = field(repr=False)
    place: Place
    options: Mapping[str, str] = field(repr=False)
    has_user: bool


def parse_store_url(url: str) -> StoreUrl | None:
    """Its parts, decoded. None: it is not one of the forms below. A password that was not encoded ends up in any part of the
    URL, so nothing of such a URL may be shown.

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]              rediss:// for TLS
    redis+unix://[[USER]:PASSWORD@]/PATH[?db=DB]
    redis+sentinel://[...@]HOST[:PORT][,...]/SERVICE[/DB]   rediss+sentinel://
    redis+cluster://[...@]HOST[:PORT][,...]                 rediss+cluster://"""
    try:
        parts = urlsplit(url)
    except ValueError:  # of the brackets
        return None
    if parts.scheme not in REMOTE_SCHEMES or parts.fragment or "@" in parts.path + parts.query + parts.fragment:
        return None
    kind, is_tls = REMOTE_SCHEMES[parts.scheme]
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    place = _place_of(kind, parts, options)
    user, at, hosts = parts.netloc.rpartition("@")
    addresses = _addresses(hosts, kind)
    if place is None or addresses is None:
        return None
    username, colon, password = user.partition(":")
    return StoreUrl(
        kind=kind,
        is_tls=is_tls,
        location=f"{parts.scheme}://{hosts}{parts.path}",
        addresses=addresses,
        username=unquote(username) or None,
        password=unquote(password) if colon else None,
        place=place,
        options=options,
        has_user=bool(at),
    )


def has_password(url: str) -> bool:
    """Whether a URL of a store or of a sink must not stand where others see it, such as a command line: it names a user, or an
    option with a password. Of a wrong URL too."""
    if url.partition(":")[0] in PATH_SCHEMES:
        return False
    options = parse_qsl(url.partition("?")[2], keep_blank_values=True)
    return "@" in url or any("password" in name.lower() for name, _ in options)


# --- implementation ---


def _place_of(kind: StoreKind, parts: SplitResult, options: dict[str, str]) -> Place | None:
    """Takes `db` out of `options` where the path has no room for it."""
    if kind is StoreKind.SOCKET:
        database = options.pop("db", "0")
        is_right = len(parts.path) > 1 and re.fullmatch("[0-9]{1,5}", database)
        return Place(int(database), path=unquote(parts.path)) if is_right else None
    if kind is StoreKind.SENTINEL:
        found = re.fullmatch(r"/([A-Za-z0-9._-]{1,128})(?:/([0-9]{0,5}))?", parts.path)
        return Place(int(found[2] or 0), service=found[1]) if found else None
    # A cluster has database 0 alone.
    found = re.fullmatch("/?(0?)" if kind is StoreKind.CLUSTER else "/?([0-9]{0,5})", parts.path)
    return Place(int(found[1] or 0)) if found else None


def _addresses(hosts: str, kind: StoreKind) -> tuple[Address, ...] | None:
    if kind is StoreKind.SOCKET:
        return None if hosts else ()
    named = hosts.split(",")
    if len(named) > (1 if kind is StoreKind.ONE else HOSTS_MAX):
        return None
    port = SENTINEL_PORT_DEFAULT if kind is StoreKind.SENTINEL else PORT_DEFAULT
    found = [_address(one, port) for one in named]
    return tuple(one for one in found if one is not None) if None not in found else None


def _address(text: str, port_default: int) -> Address | None:
    """HOST, HOST:PORT or [IPV6]:PORT."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
        is_whole = bool(host.encode("idna")) and not parts.path and "@" not in text and port != 0
    except ValueError:  # of the brackets, of the name or of the port
        return None
    return (host, port or port_default) if is_whole else None
