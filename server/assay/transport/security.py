"""What the configuration says about TLS and roles, ready for the listeners; and the watch over its files."""

from __future__ import annotations

import asyncio
import enum
import logging
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import grpc

from assay._core import Engine
from assay.config import Config
from assay.errors import ConfigError, CoreError
from assay.transport.access import Access, Denials
from assay.transport.certificates import Certificates, Pem
from assay.transport.policy import Listener
from assay.transport.proved_files import ProvedFiles
from assay.transport.roles import Roles, roles_file

WATCH_INTERVAL_S = 1.0

log = logging.getLogger("assay")


class Protection(enum.Enum):
    """What stands between a port and the network."""

    PLAINTEXT = "plaintext"
    TLS = "TLS"
    MTLS = "mTLS"


@dataclass(frozen=True)
class SecurityStats:
    """For metrics."""

    denied_calls: Mapping[str, int]  # by reason
    certificate_expires_at: datetime | None
    certificate_reloads: int
    certificate_rejections: int  # states of the files that were not good enough to use
    roles_reloads: int
    roles_rejections: int


class Security:
    """Of all listeners of one server. Everything but the certificates' fetching happens on one event loop."""

    def __init__(self, config: Config, engine: Engine) -> None:
        """Reads and proves the files. Raises ConfigError."""
        self._engine = engine
        self._denials = Denials()
        self._certificates = Certificates(config.tls) if config.tls.certificate is not None else None
        self._roles: ProvedFiles[Roles] | None = roles_file(config.roles) if config.roles is not None else None
        self._watch: asyncio.Task[None] | None = None
        self._followers: list[Callable[[Pem, Roles | None], None]] = []
        self._told: tuple[Any, ...] = ()  # what the followers were told last
        self._followed_pem: Pem | None = None  # what they use
        self._follower_rejections = 0
        self._counts_elsewhere: Callable[[], Mapping[str, int]] = dict

    @property
    def protection(self) -> Protection:
        """Of the public port."""
        if self._certificates is None:
            return Protection.PLAINTEXT
        return Protection.MTLS if self._certificates.wants_clients else Protection.TLS

    def credentials(self) -> grpc.ServerCredentials | None:
        """For one port; None: plaintext."""
        return self._certificates.credentials() if self._certificates is not None else None

    def access(self, listener: Listener, *, asks_for_roles: bool) -> Access:
        """The door of one listener. It asks for roles if `asks_for_roles` and where clients have certificates."""
        return Access(listener, self._engine, self._denials, self._roles if asks_for_roles else None)

    def follow(self, protect: Callable[[Pem, Roles | None], None]) -> None:
        """Calls `protect` now and whenever certificates or roles have changed, if the ports have certificates. Raises ConfigError
        where it does not take what is there now."""
        if self._certificates is None:
            return
        self._followers.append(protect)
        try:
            self._tell_followers()
        except CoreError as error:
            raise ConfigError(f"tls: {error}") from error

    def count_elsewhere(self, counts: Callable[[], Mapping[str, int]]) -> Denials:
        """Calls of the public port are refused by somebody who counts them; what is returned logs them (Denials.tell)."""
        self._counts_elsewhere = counts
        return self._denials

    def start_watch(self) -> None:
        """From now on looks at the files every second, so that a change is taken, or a bad file said, before somebody calls."""
        if self._files():
            self._watch = asyncio.create_task(self._watch_files())

    async def refresh(self) -> None:
        """Looks at the files once."""
        for files in self._files():
            await asyncio.to_thread(files.refresh)  # may be slow: a disk, a long file
        try:
            self._tell_followers()
        except CoreError as error:
            self._follower_rejections += 1
            log.error("certificate not reloaded by the native transport, the previous stays in use: %s", error)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    def stats(self) -> SecurityStats:
        certificates, roles = self._certificates, self._roles
        return SecurityStats(
            denied_calls=self._denials.counts + Counter(self._counts_elsewhere()),
            certificate_expires_at=certificates.expires_at if certificates else None,
            certificate_reloads=certificates.files.reload_count if certificates else 0,
            certificate_rejections=self._follower_rejections + (certificates.files.rejection_count if certificates else 0),
            roles_reloads=roles.reload_count if roles else 0,
            roles_rejections=roles.rejection_count if roles else 0,
        )

    # --- implementation ---

    def _files(self) -> list[ProvedFiles[Any]]:
        certificates = self._certificates.files if self._certificates is not None else None
        return [files for files in (certificates, self._roles) if files is not None]

    async def _watch_files(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            await self.refresh()

    def _tell_followers(self) -> None:
        """Others look at the files too (gRPC at handshakes), so what counts is what was told last."""
        found = tuple(files.value for files in self._files())
        if not self._followers or (len(found) == len(self._told) and all(map(operator.is_, found, self._told))):
            return
        self._told = found
        assert self._certificates is not None
        pem = self._certificates.files.value
        roles = self._roles.value if self._roles is not None and pem.client_ca is not None else None
        for protect in self._followers:
            try:
                protect(pem, roles)
            except CoreError:
                if self._followed_pem is not None:  # roles count all the same: one may have been taken away
                    protect(self._followed_pem, roles)
                raise
        self._followed_pem = pem
