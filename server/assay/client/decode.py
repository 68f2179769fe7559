"""Protobuf -> plain values."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from assay.client.errors import decode_status
from assay.client.values import Decision, Degradation, Refused, Score, Timings, Value
from assay.v1 import scoring_pb2
from assay.v1.scoring_pb2 import FeatureValue, Provenance, ScoreResponse, ScoreResult, StageTimings


def decode_score(response: ScoreResponse, made_by: Provenance | None = None) -> Score:
    """`made_by`: where a batch says it once for all rows."""
    made_by = made_by or response.provenance
    return Score(
        transaction_id=response.transaction_id,
        score=response.score if response.HasField("score") else None,
        decision=_decision(response.decision),
        model=made_by.model,
        version=made_by.version,
        model_sha256=made_by.model_sha256,
        feature_set=made_by.feature_set,
        feature_set_version=made_by.feature_set_version,
        schema_hash=made_by.schema_hash,
        degradations=tuple(Degradation(_kind(item.kind), item.subject, item.detail) for item in response.degradations),
        missing=frozenset(response.missing_features),
        imputed=frozenset(response.imputed_features),
        view_ages={item.view: item.age.ToTimedelta() if item.HasField("age") else None for item in response.view_ages},
        inputs=_inputs(response),
        timings=_timings(response.timings) if response.HasField("timings") else None,
    )


def decode_result(result: ScoreResult, made_by: Provenance) -> Score | Refused:
    """One row of a batch."""
    if result.HasField("status"):
        return Refused(result.transaction_id, decode_status(result.status))
    return decode_score(result.response, made_by)


def decode_value(value: FeatureValue) -> Value | None:
    """None: no value, or one of a kind that this version of the client does not know."""
    kind = value.WhichOneof("value")
    found: Value | None = None if kind is None else getattr(value, kind)
    return found


# --- implementation ---


def _inputs(response: ScoreResponse) -> dict[str, Value] | None:
    if not response.inputs:
        return None
    decoded = ((item.name, decode_value(item.value)) for item in response.inputs)
    return {name: value for name, value in decoded if value is not None}


def _decision(number: int) -> Decision:
    known = scoring_pb2.Decision.values()
    return Decision(scoring_pb2.Decision.Name(number).removeprefix("DECISION_")) if number in known else Decision.UNSPECIFIED


def _kind(number: int) -> str:
    known = scoring_pb2.DegradationKind.values()
    return scoring_pb2.DegradationKind.Name(number).removeprefix("DEGRADATION_KIND_") if number in known else f"KIND_{number}"


def _timings(timings: StageTimings) -> Timings:
    return Timings(
        decode_s=_seconds(timings.decode_duration),
        lookup_s=_seconds(timings.lookup_duration),
        queue_s=_seconds(timings.queue_duration),
        assemble_s=_seconds(timings.assemble_duration),
        infer_s=_seconds(timings.infer_duration),
        commit_s=_seconds(timings.commit_duration),
        respond_s=_seconds(timings.respond_duration),
        total_s=_seconds(timings.total_duration),
        batch_rows=timings.batch_rows,
    )


def _seconds(duration: Duration) -> float:
    return float(duration.seconds + duration.nanos * 1e-9)
