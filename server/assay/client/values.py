"""What goes in and what comes out, as plain frozen values. Nothing here knows gRPC or protobuf."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from assay.client.errors import ScoreError

# A feature's value. Its type must be the declared one: 5716 is an int64, 5716.0 a float64, True a bool. Nothing is converted.
Value: TypeAlias = bool | int | float | str


class Decision(enum.StrEnum):
    """What to do with a transaction."""

    UNSPECIFIED = "UNSPECIFIED"  # no decision was made, or one that this version of the client does not know
    APPROVE = "APPROVE"
    CHALLENGE = "CHALLENGE"
    REVIEW = "REVIEW"
    DECLINE = "DECLINE"


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction to score. `event_time` has a time zone. Customers' data stay out of repr(), and so out of logs."""

    transaction_id: str
    event_time: datetime
    entities: Mapping[str, str] = field(repr=False)  # entity name ("customer_id") to id
    features: Mapping[str, Value] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Degradation:
    """Something that was not as it should be, though a score could be given. `kind` as in the proto: STORE_UNAVAILABLE, ..."""

    kind: str
    subject: str  # the view or the feature
    detail: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the server's time went, in seconds. A stage ends where the next one starts."""

    decode_s: float
    lookup_s: float
    queue_s: float
    assemble_s: float
    infer_s: float
    commit_s: float
    respond_s: float
    total_s: float
    batch_rows: int  # rows of the batch that this one ran in


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The answer to one transaction: the model's, or (is_fallback) the caller's own decision in its place."""

    transaction_id: str
    score: float | None  # None is not 0.0: no model scored
    decision: Decision
    model: str = ""
    version: str = ""
    model_sha256: str = ""
    feature_set: str = ""
    feature_set_version: str = ""
    schema_hash: str = ""
    degradations: tuple[Degradation, ...] = ()  # empty on a good day
    missing: frozenset[str] = frozenset()  # model inputs whose source had no value
    imputed: frozenset[str] = frozenset()  # those of them that took a declared default; the others went in as NaN
    view_ages: Mapping[str, timedelta | None] = field(default_factory=dict)  # None: there is no record of this entity
    inputs: Mapping[str, Value] | None = None  # what the model saw, if asked for
    timings: Timings | None = None  # if asked for
    fallback_cause: ScoreError | None = None  # why the fallback decided

    @property
    def is_fallback(self) -> bool:
        """No model decided this: the caller's fallback did."""
        return self.fallback_cause is not None


@dataclass(frozen=True, slots=True)
class Refused:
    """A row of a batch without a score, and why. It never fails the others."""

    transaction_id: str
    error: ScoreError
