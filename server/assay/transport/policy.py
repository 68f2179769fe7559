"""Which listener answers which method: one table, one chokepoint.

A method without a row is answered nowhere: `handlers_for` is the only way a handler reaches a server, and it goes by this table.
Reading is not writing: whatever changes anything stands on the admin listener alone.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from assay.transport.grpc_types import Handler


class Listener(enum.Flag):
    """Where a method answers."""

    PUBLIC = enum.auto()  # the port that banks' services call
    ADMIN = enum.auto()  # the Unix socket of the machine's own people
    BOTH = PUBLIC | ADMIN


# Full method name -> where it answers.
POLICY: Mapping[str, Listener] = MappingProxyType(
    {
        "/assay.v1.ScoringService/Score": Listener.PUBLIC,
        "/assay.v1.ScoringService/ScoreBatch": Listener.PUBLIC,
        "/assay.v1.ScoringService/ScoreStream": Listener.PUBLIC,
        "/assay.v1.FeatureService/RecordEvents": Listener.ADMIN,
        "/grpc.health.v1.Health/Check": Listener.BOTH,
        "/grpc.health.v1.Health/List": Listener.BOTH,
        "/grpc.health.v1.Health/Watch": Listener.BOTH,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Listener.BOTH,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Listener.BOTH,
    }
)


class MethodTable(grpc.GenericRpcHandler):
    """The methods of one listener. gRPC asks it once a call; what it does not know is UNIMPLEMENTED."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._handlers.get(handler_call_details.method)

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(sorted(self._handlers))

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of the services of which at least one method answers here."""
        return tuple(sorted({method.split("/")[1] for method in self._handlers}))


def handlers_for(listener: Listener, handlers: Mapping[str, Handler], policy: Mapping[str, Listener] = POLICY) -> MethodTable:
    """Of all handlers those that the policy lets answer on `listener`. One without a row is left out: it answers nowhere."""
    return MethodTable({name: handler for name, handler in handlers.items() if name in policy and listener in policy[name]})
