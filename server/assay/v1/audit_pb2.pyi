from assay.v1 import scoring_pb2 as _scoring_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditCall(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIT_CALL_UNSPECIFIED: _ClassVar[AuditCall]
    AUDIT_CALL_SCORE: _ClassVar[AuditCall]
    AUDIT_CALL_SCORE_BATCH: _ClassVar[AuditCall]
    AUDIT_CALL_SCORE_STREAM: _ClassVar[AuditCall]
    AUDIT_CALL_MODEL_INFER: _ClassVar[AuditCall]

class CheckpointReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECKPOINT_REASON_UNSPECIFIED: _ClassVar[CheckpointReason]
    CHECKPOINT_REASON_START: _ClassVar[CheckpointReason]
    CHECKPOINT_REASON_MINUTE: _ClassVar[CheckpointReason]
    CHECKPOINT_REASON_NO_ROOM: _ClassVar[CheckpointReason]
    CHECKPOINT_REASON_ROOM_AGAIN: _ClassVar[CheckpointReason]
    CHECKPOINT_REASON_END: _ClassVar[CheckpointReason]
AUDIT_CALL_UNSPECIFIED: AuditCall
AUDIT_CALL_SCORE: AuditCall
AUDIT_CALL_SCORE_BATCH: AuditCall
AUDIT_CALL_SCORE_STREAM: AuditCall
AUDIT_CALL_MODEL_INFER: AuditCall
CHECKPOINT_REASON_UNSPECIFIED: CheckpointReason
CHECKPOINT_REASON_START: CheckpointReason
CHECKPOINT_REASON_MINUTE: CheckpointReason
CHECKPOINT_REASON_NO_ROOM: CheckpointReason
CHECKPOINT_REASON_ROOM_AGAIN: CheckpointReason
CHECKPOINT_REASON_END: CheckpointReason

class AuditRecord(_message.Message):
    __slots__ = ("lineage", "score", "shadow", "explanation", "label", "checkpoint")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    lineage: LineageRecord
    score: ScoreRecord
    shadow: ScoreRecord
    explanation: ExplanationRecord
    label: LabelRecord
    checkpoint: CheckpointRecord
    def __init__(self, lineage: _Optional[_Union[LineageRecord, _Mapping]] = ..., score: _Optional[_Union[ScoreRecord, _Mapping]] = ..., shadow: _Optional[_Union[ScoreRecord, _Mapping]] = ..., explanation: _Optional[_Union[ExplanationRecord, _Mapping]] = ..., label: _Optional[_Union[LabelRecord, _Mapping]] = ..., checkpoint: _Optional[_Union[CheckpointRecord, _Mapping]] = ...) -> None: ...

class LineageRecord(_message.Message):
    __slots__ = ("number", "provenance", "inputs", "views", "thresholds", "row_bytes", "runtime", "groups", "background_sha256", "reasons_version")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    ROW_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_SHA256_FIELD_NUMBER: _ClassVar[int]
    REASONS_VERSION_FIELD_NUMBER: _ClassVar[int]
    number: int
    provenance: _scoring_pb2.Provenance
    inputs: _containers.RepeatedCompositeFieldContainer[AuditInput]
    views: _containers.RepeatedScalarFieldContainer[str]
    thresholds: _containers.RepeatedCompositeFieldContainer[AuditThreshold]
    row_bytes: int
    runtime: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    background_sha256: str
    reasons_version: str
    def __init__(self, number: _Optional[int] = ..., provenance: _Optional[_Union[_scoring_pb2.Provenance, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[AuditInput, _Mapping]]] = ..., views: _Optional[_Iterable[str]] = ..., thresholds: _Optional[_Iterable[_Union[AuditThreshold, _Mapping]]] = ..., row_bytes: _Optional[int] = ..., runtime: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., background_sha256: _Optional[str] = ..., reasons_version: _Optional[str] = ...) -> None: ...

class AuditInput(_message.Message):
    __slots__ = ("name", "type", "offset_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    offset_bytes: int
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class AuditThreshold(_message.Message):
    __slots__ = ("decision", "score")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    decision: _scoring_pb2.Decision
    score: float
    def __init__(self, decision: _Optional[_Union[_scoring_pb2.Decision, str]] = ..., score: _Optional[float] = ...) -> None: ...

class ScoreRecord(_message.Message):
    __slots__ = ("lineage", "transaction_id", "event_time_us", "received_us", "score", "decision", "row", "row_digest", "missing", "imputed", "degradations", "stage_ns", "batch_rows", "trace_id", "priority", "call", "is_tokenised", "outputs_digest", "outputs", "explanation_status", "explanation")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_US_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_US_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    ROW_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    IMPUTED_FIELD_NUMBER: _ClassVar[int]
    DEGRADATIONS_FIELD_NUMBER: _ClassVar[int]
    STAGE_NS_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    IS_TOKENISED_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_STATUS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    lineage: int
    transaction_id: str
    event_time_us: int
    received_us: int
    score: float
    decision: _scoring_pb2.Decision
    row: bytes
    row_digest: bytes
    missing: bytes
    imputed: bytes
    degradations: _containers.RepeatedCompositeFieldContainer[AuditDegradation]
    stage_ns: _containers.RepeatedScalarFieldContainer[int]
    batch_rows: int
    trace_id: bytes
    priority: _scoring_pb2.Priority
    call: AuditCall
    is_tokenised: bool
    outputs_digest: bytes
    outputs: bytes
    explanation_status: _scoring_pb2.ExplanationStatus
    explanation: ExplanationRecord
    def __init__(self, lineage: _Optional[int] = ..., transaction_id: _Optional[str] = ..., event_time_us: _Optional[int] = ..., received_us: _Optional[int] = ..., score: _Optional[float] = ..., decision: _Optional[_Union[_scoring_pb2.Decision, str]] = ..., row: _Optional[bytes] = ..., row_digest: _Optional[bytes] = ..., missing: _Optional[bytes] = ..., imputed: _Optional[bytes] = ..., degradations: _Optional[_Iterable[_Union[AuditDegradation, _Mapping]]] = ..., stage_ns: _Optional[_Iterable[int]] = ..., batch_rows: _Optional[int] = ..., trace_id: _Optional[bytes] = ..., priority: _Optional[_Union[_scoring_pb2.Priority, str]] = ..., call: _Optional[_Union[AuditCall, str]] = ..., is_tokenised: _Optional[bool] = ..., outputs_digest: _Optional[bytes] = ..., outputs: _Optional[bytes] = ..., explanation_status: _Optional[_Union[_scoring_pb2.ExplanationStatus, str]] = ..., explanation: _Optional[_Union[ExplanationRecord, _Mapping]] = ...) -> None: ...

class AuditDegradation(_message.Message):
    __slots__ = ("view", "kind", "reason", "cache_age_us")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CACHE_AGE_US_FIELD_NUMBER: _ClassVar[int]
    view: int
    kind: _scoring_pb2.DegradationKind
    reason: str
    cache_age_us: int
    def __init__(self, view: _Optional[int] = ..., kind: _Optional[_Union[_scoring_pb2.DegradationKind, str]] = ..., reason: _Optional[str] = ..., cache_age_us: _Optional[int] = ...) -> None: ...

class ExplanationRecord(_message.Message):
    __slots__ = ("score_received_us", "transaction_id", "method", "base_margin", "margin", "residual", "players", "contributions", "standard_errors", "reason_codes", "lineage", "margin_space")
    SCORE_RECEIVED_US_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    BASE_MARGIN_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    PLAYERS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERRORS_FIELD_NUMBER: _ClassVar[int]
    REASON_CODES_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    MARGIN_SPACE_FIELD_NUMBER: _ClassVar[int]
    score_received_us: int
    transaction_id: str
    method: _scoring_pb2.ExplanationMethod
    base_margin: float
    margin: float
    residual: float
    players: _scoring_pb2.ExplainPlayers
    contributions: _containers.RepeatedScalarFieldContainer[float]
    standard_errors: _containers.RepeatedScalarFieldContainer[float]
    reason_codes: _containers.RepeatedScalarFieldContainer[str]
    lineage: int
    margin_space: _scoring_pb2.MarginSpace
    def __init__(self, score_received_us: _Optional[int] = ..., transaction_id: _Optional[str] = ..., method: _Optional[_Union[_scoring_pb2.ExplanationMethod, str]] = ..., base_margin: _Optional[float] = ..., margin: _Optional[float] = ..., residual: _Optional[float] = ..., players: _Optional[_Union[_scoring_pb2.ExplainPlayers, str]] = ..., contributions: _Optional[_Iterable[float]] = ..., standard_errors: _Optional[_Iterable[float]] = ..., reason_codes: _Optional[_Iterable[str]] = ..., lineage: _Optional[int] = ..., margin_space: _Optional[_Union[_scoring_pb2.MarginSpace, str]] = ...) -> None: ...

class LabelRecord(_message.Message):
    __slots__ = ("transaction_id", "event_time_us", "label_time_us", "received_us", "is_fraud")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_US_FIELD_NUMBER: _ClassVar[int]
    LABEL_TIME_US_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_US_FIELD_NUMBER: _ClassVar[int]
    IS_FRAUD_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    event_time_us: int
    label_time_us: int
    received_us: int
    is_fraud: bool
    def __init__(self, transaction_id: _Optional[str] = ..., event_time_us: _Optional[int] = ..., label_time_us: _Optional[int] = ..., received_us: _Optional[int] = ..., is_fraud: _Optional[bool] = ...) -> None: ...

class CheckpointRecord(_message.Message):
    __slots__ = ("reason", "time_us", "recorded", "dropped", "ring_dropped", "level", "inputs", "software")
    REASON_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    RING_DROPPED_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    reason: CheckpointReason
    time_us: int
    recorded: int
    dropped: _containers.RepeatedCompositeFieldContainer[AuditDropped]
    ring_dropped: int
    level: str
    inputs: str
    software: str
    def __init__(self, reason: _Optional[_Union[CheckpointReason, str]] = ..., time_us: _Optional[int] = ..., recorded: _Optional[int] = ..., dropped: _Optional[_Iterable[_Union[AuditDropped, _Mapping]]] = ..., ring_dropped: _Optional[int] = ..., level: _Optional[str] = ..., inputs: _Optional[str] = ..., software: _Optional[str] = ...) -> None: ...

class AuditDropped(_message.Message):
    __slots__ = ("cause", "records")
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    cause: str
    records: int
    def __init__(self, cause: _Optional[str] = ..., records: _Optional[int] = ...) -> None: ...
