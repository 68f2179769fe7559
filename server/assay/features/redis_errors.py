"""What went wrong with a Redis, for people."""

from __future__ import annotations

import ssl
from typing import TypeVar

import redis
from redis.exceptions import AskError, ClusterCrossSlotError, ClusterDownError, ClusterError, NoPermissionError
from redis.sentinel import MasterNotFoundError

CAUSES_MAX = 8

Cause = TypeVar("Cause", bound=BaseException)


def say(error: Exception) -> str:
    """What went wrong, without what redis-py may quote: host names and commands are fine, credentials never are."""
    if isinstance(error, redis.AuthenticationError):
        return "the user or the password is wrong"
    if isinstance(error, NoPermissionError):
        return "the user may not do this: docs/stores.md says which commands it needs"
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, redis.BusyLoadingError):
        return "the server is loading its data"
    if isinstance(error, MasterNotFoundError):
        return "no Sentinel answers that knows a primary of this service: are hosts and service right?"
    if isinstance(error, ClusterError | ClusterDownError):
        return "the cluster is not whole: some of its slots have no server"
    if isinstance(error, ClusterCrossSlotError | AskError):
        return "it is a node of a cluster: say redis+cluster:// in place of redis://"
    if isinstance(error, redis.ResponseError) and "cluster support disabled" in str(error):
        return "it is no cluster: say redis:// in place of redis+cluster://"
    if isinstance(error, redis.ResponseError):
        return f"the server said {str(error).split(' ')[0][:32]}"
    if tls_error := _cause(error, ssl.SSLError):
        return f"no TLS connection ({tls_error.reason}): is it a port for TLS, and did ssl_ca_certs sign its certificate?"
    if isinstance(error, redis.ConnectionError | OSError):
        return f"nobody answers there ({type(error).__name__}): is Redis running, and is this its host and port?"
    return f"what answers there does not speak as Redis does ({type(error).__name__})"


def _cause(error: BaseException | None, kind: type[Cause]) -> Cause | None:
    """The first exception of `kind` among those that led to this one."""
    for _ in range(CAUSES_MAX):
        if error is None or isinstance(error, kind):
            return error
        error = error.__cause__ or error.__context__
    return None


def is_wrong_type(said: object) -> bool:
    """Whether a server says that a key holds no string. Older ones say it behind "Error running script"."""
    return isinstance(said, redis.ResponseError) and "WRONGTYPE" in str(said)
