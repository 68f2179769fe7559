"""Feature stores by URL: what any of them can do, and the one place that knows their schemes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from assay import _core
from assay.errors import StoreError
from assay.features.line import OpenLine
from assay.features.local_store import BYTES_MAX_DEFAULT, open_local_store
from assay.features.records import Records
from assay.features.store_writer import ALL_VIEWS, StoreWriter, WriterOptions
from assay.store_url import REMOTE_SCHEMES

SCHEMES = (
    "embedded: (in memory), embedded:PATH (with a snapshot file), redis://HOST:PORT/DB, redis+unix:///PATH, "
    "redis+sentinel://HOST,HOST/SERVICE, redis+cluster://HOST,HOST, and with rediss the same over TLS; Valkey speaks redis"
)

Progress = Callable[[int, int], None]

Fetch = Callable[[Sequence[bytes]], list[bytes | int | None] | None]
"""The records under these keys, in order: None where there is none; where one could not be had, the number of the code that says
why. None for all: the store did not answer in time. Never raises, comes back in bounded time. Any thread."""

Forget = Callable[[Sequence[bytes]], None]
"""Told the keys of records that were written, or may have been. Any thread."""


class Store(Protocol):
    """An open store. Close it; it can be used in `with`."""

    url: str  # without user and password

    @property
    def core(self) -> _core.EmbeddedStore | None:
        """The records in this process; None: they are elsewhere."""

    @property
    def is_away(self) -> bool:
        """Whether it is known not to answer."""

    def writer(self, plan: _core.FeaturePlan, options: WriterOptions = ALL_VIEWS) -> StoreWriter:
        """The way in for events and attributes of this plan's views."""

    def records_of(self, plan: _core.FeaturePlan, entities: Mapping[str, str]) -> Records:
        """At least the records that the plan's views hold of these entities (name to id). A remote store takes seconds not to
        answer. Raises StoreError."""

    def describe(self) -> str:
        """What it holds, or whether it answers: one line for people. Never raises; a remote store may take seconds."""

    def save(self, progress: Progress | None = None) -> bool:
        """Makes what was written durable, if that is this process's business (else False). Raises StoreError."""

    def close(self) -> None: ...
    def __enter__(self) -> Store: ...
    def __exit__(self, *_: object) -> None: ...


class RemoteStore(Store, Protocol):
    """A store elsewhere."""

    @property
    def fetch(self) -> Fetch:
        """Brings its records."""

    @property
    def open_line(self) -> OpenLine:
        """Lends a connection to who fetches by itself."""

    def check(self) -> None:
        """Raises StoreError unless the store answers."""

    def tell_writes(self, forget: Forget) -> None:
        """Has `forget` told of every write of this process, before its outcome is known. Once, before anything is written."""


def open_store(
    url: str,
    bytes_max: int = BYTES_MAX_DEFAULT,
    *,
    mode: Literal["write", "read"] = "write",
    progress: Progress | None = None,
) -> Store:
    """Opens a store. `bytes_max` bounds what is held in this process. A remote store need not answer yet.

    Raises StoreError: unknown scheme, or what open_local_store() and connect() say."""
    scheme = scheme_of(url)
    if scheme == "embedded":
        return open_local_store(url, bytes_max, mode=mode, progress=progress)
    return open_remote_store(url, bytes_max)


def open_remote_store(url: str, bytes_max: int = BYTES_MAX_DEFAULT, *, lookup_timeout_ms: int = 50) -> RemoteStore:
    """A store elsewhere. `lookup_timeout_ms`: how long one fetch() may take. Raises StoreError where the URL is wrong."""
    from assay.features.redis_store import connect  # takes a while to load

    return connect(url, bytes_max=bytes_max, lookup_timeout_ms=lookup_timeout_ms)


def is_remote(url: str) -> bool:
    return scheme_of(url) in REMOTE_SCHEMES


def scheme_of(url: str) -> str:
    """One of the known schemes. Raises StoreError."""
    scheme, colon, _ = url.partition(":")
    if colon and scheme in ("embedded", *REMOTE_SCHEMES):
        return scheme
    # Not the URL itself: a URL of another store may hold a password.
    found = f"scheme {scheme[:20]}" if colon else "a text without a scheme"
    raise StoreError(f"store URL: {found} is not supported; this version has {SCHEMES}")
