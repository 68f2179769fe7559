"""Which listener answers which method: the core's policy table (ext/core/base/policy.h). The one way of a handler to a server.

A method without a row is answered nowhere. Reading is not writing: whatever changes anything stands on the admin listener alone.
Who may call is access.py's business.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import grpc

from assay._core import LISTENERS, POLICY_TABLE

if TYPE_CHECKING:
    from assay.transport.grpc_types import Handler


class Listener(enum.Flag):
    """Where a method answers."""

    PUBLIC = LISTENERS["public"]  # the port that banks' services call
    ADMIN = LISTENERS["admin"]  # the machine's own people: a Unix socket, or a port that wants a client certificate
    HEALTH = LISTENERS["health"]  # plaintext, for probes: health and nothing else


def _places() -> dict[str, Listener]:
    places: dict[str, Listener] = {}
    for row in POLICY_TABLE:  # a method has several rows where its roles depend on the listener
        places[row.method] = places.get(row.method, Listener(0)) | Listener(row.listeners)
    return places


# Full method name -> where it answers.
POLICY: Mapping[str, Listener] = MappingProxyType(_places())


class MethodTable(grpc.GenericRpcHandler):
    """The methods of one listener. gRPC asks it once a call. `refusing` makes a handler for a method not answered here."""

    def __init__(self, handlers: Mapping[str, Handler], refusing: Callable[[str], Handler]) -> None:
        self._handlers = dict(handlers)
        self._refusing = refusing

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        return self._handlers.get(handler_call_details.method) or self._refusing(handler_call_details.method)

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(sorted(self._handlers))


def answered_on(listener: Listener, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """Of all handlers those that the table lets answer on `listener`. One without a row is left out."""
    return {method: handler for method, handler in handlers.items() if method in POLICY and listener in POLICY[method]}


def services_of(methods: Mapping[str, Handler]) -> tuple[str, ...]:
    """Full names of the services of these methods."""
    return tuple(sorted({method.split("/")[1] for method in methods}))
