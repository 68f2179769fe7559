"""assay doctor --server: whether a server serves. One health check, quick enough for a container."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from assay.cli.connection_hints import connection_hint
from assay.cli.finding import Finding

if TYPE_CHECKING:
    from assay.client import ScoreError, Tls

TIMEOUT_S = 0.8  # of a second: the rest is for starting Python
# By gRPC status: of a server that can be reached and does not say how it is.
ANSWER_MENDS = {
    "DEADLINE_EXCEEDED": "it takes the connection and does not answer: is it frozen, or overloaded?",
    "UNIMPLEMENTED": "what answers there has no health service: is it assay?",
}


def check_server(target: str, tls: Tls | None) -> Finding:
    """Serving, not serving, or not reachable. The client's service config is left out: it would try again. Raises ConfigError
    where a file of `tls` cannot be read."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from assay.client.channel import connection_options, open_channel
    from assay.client.errors import decode_failure

    with open_channel(target, tls, connection_options(tls)) as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            failure = decode_failure(cast(grpc.Call, error))
            return Finding("server", "failed", f"{target}: {failure}", _mend(failure, target))
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        found = f"{target}: {health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)}"
        return Finding("server", "failed", found, "it starts or drains; its log says which")
    return Finding("server", "ok", f"{target}: SERVING")


# --- implementation ---


def _mend(failure: ScoreError, target: str) -> str:
    from assay.client import Unavailable

    if isinstance(failure, Unavailable) and not failure.reason:
        return connection_hint(failure.message, target)
    return ANSWER_MENDS.get(failure.status.name, f"docs/errors.md, {failure.reason or failure.status.name}")
