"""assay.client: scores transactions on a running server, from threads (Client) or from asyncio (AsyncClient).

    with Client("scoring:50051", timeout_s=0.2, fallback=Decision.REVIEW) as client:
        score = client.score(Transaction("t1", event_time, {"customer_id": "596"}, {"amount_minor": 5716}))

Every call has a deadline. What may be tried again is, within that deadline. Without an answer, `fallback` decides and the Score
says so. What is wrong with a request comes back as InvalidRequest with every violation. Light: nothing of the server is loaded.
"""

from assay.client.aio import AsyncClient
from assay.client.calls import Fallback, Options
from assay.client.channel import Tls
from assay.client.client import Client
from assay.client.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NoAnswer,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ScoreError,
    ServerFailed,
    Unavailable,
    Violation,
)
from assay.client.values import Decision, Degradation, Refused, Score, Timings, Transaction, Value

__all__ = [
    "AsyncClient",
    "Client",
    "DeadlineExceeded",
    "Decision",
    "Degradation",
    "Fallback",
    "InvalidRequest",
    "NoAnswer",
    "NotFound",
    "Options",
    "PermissionDenied",
    "Refused",
    "ResourceExhausted",
    "Score",
    "ScoreError",
    "ServerFailed",
    "Timings",
    "Tls",
    "Transaction",
    "Unavailable",
    "Value",
    "Violation",
]
