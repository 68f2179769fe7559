"""Why there is no score. One table: gRPC status -> exception; the details come from google.rpc.Status (docs/errors.md).

ScoreError (AssayError)
+-- InvalidRequest (ValueError)          a field is wrong: `violations` lists them all
+-- NotFound (LookupError)               no such model or version
+-- PermissionDenied (PermissionError)   the server does not know the caller, or does not let it
+-- NoAnswer                             nothing is wrong with the request: where a fallback decides
    +-- Unavailable (ConnectionError)    nobody there, draining, or overloaded
    +-- DeadlineExceeded (TimeoutError)
    +-- ResourceExhausted                a limit of the server
    +-- ServerFailed                     the model or the server failed
"""
# ruff: noqa: N818 (they are named as gRPC names the statuses)

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from assay.errors import AssayError


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field. `reason` is a section of docs/errors.md; the description never holds the value."""

    field: str
    reason: str
    description: str


class ScoreError(AssayError):
    """What the server (or the client, before it sent anything) says. A status that the table lacks is a plain ScoreError."""

    def __init__(
        self,
        status: grpc.StatusCode,
        message: str,
        reason: str = "",
        violations: tuple[Violation, ...] = (),
        retry_delay: timedelta | None = None,
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason  # ErrorInfo.reason, a section of docs/errors.md; empty where gRPC itself failed
        self.violations = violations
        self.retry_delay = retry_delay  # None: trying again is no use, or nobody said when
        self.metadata = dict(metadata)  # ErrorInfo.metadata, for example byte_offset

    def __str__(self) -> str:
        reason = f" {self.reason}" if self.reason not in ("", self.status.name) else ""
        again = f" (try again in {self.retry_delay.total_seconds():g} s)" if self.retry_delay else ""
        return f"{self.status.name}{reason}: {self.message}{again}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross processes: a pool of workers would hang on one that does not."""
        return type(self), (self.status, self.message, self.reason, self.violations, self.retry_delay, self.metadata)


class InvalidRequest(ScoreError, ValueError):
    pass


class NotFound(ScoreError, LookupError):
    pass


class PermissionDenied(ScoreError, PermissionError):
    pass


class NoAnswer(ScoreError):
    """The request may be right, and yet there is no score."""


class Unavailable(NoAnswer, ConnectionError):
    pass


class DeadlineExceeded(NoAnswer, TimeoutError):
    pass


class ResourceExhausted(NoAnswer):
    pass


class ServerFailed(NoAnswer):
    pass


class RpcFailure(Protocol):
    """What the errors of grpc and of grpc.aio have in common."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def decode_failure(failure: RpcFailure) -> ScoreError:
    """The exception for a call that failed."""
    details = status_pb2.Status()
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            details = _parse(value)
    return _make(failure.code(), failure.details() or "", details)


def decode_status(status: status_pb2.Status) -> ScoreError:
    """The exception for a row that has a status instead of an answer."""
    return _make(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status)


# --- implementation ---

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

# CANCELLED is the server's doing: a caller that cancels gets no error of ours.
_CLASSES: dict[grpc.StatusCode, type[ScoreError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDenied,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.INTERNAL: ServerFailed,
    grpc.StatusCode.UNKNOWN: ServerFailed,
    grpc.StatusCode.DATA_LOSS: ServerFailed,
    grpc.StatusCode.ABORTED: ServerFailed,
    grpc.StatusCode.CANCELLED: ServerFailed,
}


def _parse(data: bytes) -> status_pb2.Status:
    """A proxy may have put anything there: what is no Status is as if absent."""
    try:
        return status_pb2.Status.FromString(data)
    except DecodeError:
        return status_pb2.Status()


def _make(code: grpc.StatusCode, message: str, details: status_pb2.Status) -> ScoreError:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    retry_delay = None
    for detail in details.details:
        try:
            if detail.Unpack(retry):
                retry_delay = retry.retry_delay.ToTimedelta()
            else:
                _ = detail.Unpack(info) or detail.Unpack(bad)
        except (DecodeError, OverflowError):
            continue
    violations = tuple(Violation(item.field, item.reason, item.description) for item in bad.field_violations)
    return _CLASSES.get(code, ScoreError)(code, message, info.reason, violations, retry_delay, info.metadata)
