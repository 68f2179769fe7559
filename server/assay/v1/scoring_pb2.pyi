import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MarginSpace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MARGIN_SPACE_UNSPECIFIED: _ClassVar[MarginSpace]
    MARGIN_SPACE_LOG_ODDS: _ClassVar[MarginSpace]
    MARGIN_SPACE_SCORE: _ClassVar[MarginSpace]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]

class ExplainWhen(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLAIN_WHEN_UNSPECIFIED: _ClassVar[ExplainWhen]
    EXPLAIN_WHEN_NEVER: _ClassVar[ExplainWhen]
    EXPLAIN_WHEN_ALWAYS: _ClassVar[ExplainWhen]
    EXPLAIN_WHEN_SCORE_AT_LEAST: _ClassVar[ExplainWhen]
    EXPLAIN_WHEN_NOT_APPROVED: _ClassVar[ExplainWhen]

class ExplainPlayers(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLAIN_PLAYERS_UNSPECIFIED: _ClassVar[ExplainPlayers]
    EXPLAIN_PLAYERS_GROUPS: _ClassVar[ExplainPlayers]
    EXPLAIN_PLAYERS_INPUTS: _ClassVar[ExplainPlayers]

class ExplainMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLAIN_MODE_UNSPECIFIED: _ClassVar[ExplainMode]
    EXPLAIN_MODE_INLINE: _ClassVar[ExplainMode]
    EXPLAIN_MODE_LATER: _ClassVar[ExplainMode]

class ExplanationStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLANATION_STATUS_UNSPECIFIED: _ClassVar[ExplanationStatus]
    EXPLANATION_STATUS_GIVEN: _ClassVar[ExplanationStatus]
    EXPLANATION_STATUS_NOT_WANTED: _ClassVar[ExplanationStatus]
    EXPLANATION_STATUS_LATER: _ClassVar[ExplanationStatus]
    EXPLANATION_STATUS_SHED: _ClassVar[ExplanationStatus]
    EXPLANATION_STATUS_LATE: _ClassVar[ExplanationStatus]
    EXPLANATION_STATUS_WITHHELD: _ClassVar[ExplanationStatus]
    EXPLANATION_STATUS_SUSPENDED: _ClassVar[ExplanationStatus]

class ExplanationSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLANATION_SOURCE_UNSPECIFIED: _ClassVar[ExplanationSource]
    EXPLANATION_SOURCE_SCORED_NOW: _ClassVar[ExplanationSource]
    EXPLANATION_SOURCE_ON_RECORD: _ClassVar[ExplanationSource]
    EXPLANATION_SOURCE_RECORDED_ROW: _ClassVar[ExplanationSource]

class ExplanationMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLANATION_METHOD_UNSPECIFIED: _ClassVar[ExplanationMethod]
    EXPLANATION_METHOD_TREES: _ClassVar[ExplanationMethod]
    EXPLANATION_METHOD_LINEAR: _ClassVar[ExplanationMethod]
    EXPLANATION_METHOD_PERMUTATION: _ClassVar[ExplanationMethod]

class ReasonDirection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_DIRECTION_UNSPECIFIED: _ClassVar[ReasonDirection]
    REASON_DIRECTION_RAISES_RISK: _ClassVar[ReasonDirection]

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_APPROVE: _ClassVar[Decision]
    DECISION_CHALLENGE: _ClassVar[Decision]
    DECISION_REVIEW: _ClassVar[Decision]
    DECISION_DECLINE: _ClassVar[Decision]

class DegradationKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADATION_KIND_UNSPECIFIED: _ClassVar[DegradationKind]
    DEGRADATION_KIND_STORE_UNAVAILABLE: _ClassVar[DegradationKind]
    DEGRADATION_KIND_VIEW_STALE: _ClassVar[DegradationKind]
    DEGRADATION_KIND_RECORD_REJECTED: _ClassVar[DegradationKind]
    DEGRADATION_KIND_DISTINCT_SATURATED: _ClassVar[DegradationKind]
    DEGRADATION_KIND_WINDOW_APPROXIMATE: _ClassVar[DegradationKind]
    DEGRADATION_KIND_CACHE_STALE: _ClassVar[DegradationKind]
MARGIN_SPACE_UNSPECIFIED: MarginSpace
MARGIN_SPACE_LOG_ODDS: MarginSpace
MARGIN_SPACE_SCORE: MarginSpace
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority
EXPLAIN_WHEN_UNSPECIFIED: ExplainWhen
EXPLAIN_WHEN_NEVER: ExplainWhen
EXPLAIN_WHEN_ALWAYS: ExplainWhen
EXPLAIN_WHEN_SCORE_AT_LEAST: ExplainWhen
EXPLAIN_WHEN_NOT_APPROVED: ExplainWhen
EXPLAIN_PLAYERS_UNSPECIFIED: ExplainPlayers
EXPLAIN_PLAYERS_GROUPS: ExplainPlayers
EXPLAIN_PLAYERS_INPUTS: ExplainPlayers
EXPLAIN_MODE_UNSPECIFIED: ExplainMode
EXPLAIN_MODE_INLINE: ExplainMode
EXPLAIN_MODE_LATER: ExplainMode
EXPLANATION_STATUS_UNSPECIFIED: ExplanationStatus
EXPLANATION_STATUS_GIVEN: ExplanationStatus
EXPLANATION_STATUS_NOT_WANTED: ExplanationStatus
EXPLANATION_STATUS_LATER: ExplanationStatus
EXPLANATION_STATUS_SHED: ExplanationStatus
EXPLANATION_STATUS_LATE: ExplanationStatus
EXPLANATION_STATUS_WITHHELD: ExplanationStatus
EXPLANATION_STATUS_SUSPENDED: ExplanationStatus
EXPLANATION_SOURCE_UNSPECIFIED: ExplanationSource
EXPLANATION_SOURCE_SCORED_NOW: ExplanationSource
EXPLANATION_SOURCE_ON_RECORD: ExplanationSource
EXPLANATION_SOURCE_RECORDED_ROW: ExplanationSource
EXPLANATION_METHOD_UNSPECIFIED: ExplanationMethod
EXPLANATION_METHOD_TREES: ExplanationMethod
EXPLANATION_METHOD_LINEAR: ExplanationMethod
EXPLANATION_METHOD_PERMUTATION: ExplanationMethod
REASON_DIRECTION_UNSPECIFIED: ReasonDirection
REASON_DIRECTION_RAISES_RISK: ReasonDirection
DECISION_UNSPECIFIED: Decision
DECISION_APPROVE: Decision
DECISION_CHALLENGE: Decision
DECISION_REVIEW: Decision
DECISION_DECLINE: Decision
DEGRADATION_KIND_UNSPECIFIED: DegradationKind
DEGRADATION_KIND_STORE_UNAVAILABLE: DegradationKind
DEGRADATION_KIND_VIEW_STALE: DegradationKind
DEGRADATION_KIND_RECORD_REJECTED: DegradationKind
DEGRADATION_KIND_DISTINCT_SATURATED: DegradationKind
DEGRADATION_KIND_WINDOW_APPROXIMATE: DegradationKind
DEGRADATION_KIND_CACHE_STALE: DegradationKind

class ScoreRequest(_message.Message):
    __slots__ = ("transaction_id", "event_time", "entities", "features", "model", "version", "priority", "timeout", "include_features", "include_timings", "explain")
    class EntitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FeatureValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FeatureValue, _Mapping]] = ...) -> None: ...
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FEATURES_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_TIMINGS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    event_time: _timestamp_pb2.Timestamp
    entities: _containers.ScalarMap[str, str]
    features: _containers.MessageMap[str, FeatureValue]
    model: str
    version: str
    priority: Priority
    timeout: _duration_pb2.Duration
    include_features: bool
    include_timings: bool
    explain: ExplainOptions
    def __init__(self, transaction_id: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., entities: _Optional[_Mapping[str, str]] = ..., features: _Optional[_Mapping[str, FeatureValue]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., include_features: _Optional[bool] = ..., include_timings: _Optional[bool] = ..., explain: _Optional[_Union[ExplainOptions, _Mapping]] = ...) -> None: ...

class ExplainOptions(_message.Message):
    __slots__ = ("when", "min_score", "top_k", "players", "mode")
    WHEN_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    PLAYERS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    when: ExplainWhen
    min_score: float
    top_k: int
    players: ExplainPlayers
    mode: ExplainMode
    def __init__(self, when: _Optional[_Union[ExplainWhen, str]] = ..., min_score: _Optional[float] = ..., top_k: _Optional[int] = ..., players: _Optional[_Union[ExplainPlayers, str]] = ..., mode: _Optional[_Union[ExplainMode, str]] = ...) -> None: ...

class FeatureValue(_message.Message):
    __slots__ = ("double_value", "int64_value", "bool_value", "string_value")
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT64_VALUE_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    double_value: float
    int64_value: int
    bool_value: bool
    string_value: str
    def __init__(self, double_value: _Optional[float] = ..., int64_value: _Optional[int] = ..., bool_value: _Optional[bool] = ..., string_value: _Optional[str] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("transaction_id", "score", "decision", "provenance", "degradations", "missing_features", "imputed_features", "view_ages", "inputs", "timings", "explanation", "explanation_status")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    DEGRADATIONS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FEATURES_FIELD_NUMBER: _ClassVar[int]
    IMPUTED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    VIEW_AGES_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_STATUS_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    score: float
    decision: Decision
    provenance: Provenance
    degradations: _containers.RepeatedCompositeFieldContainer[Degradation]
    missing_features: _containers.RepeatedScalarFieldContainer[str]
    imputed_features: _containers.RepeatedScalarFieldContainer[str]
    view_ages: _containers.RepeatedCompositeFieldContainer[ViewAge]
    inputs: _containers.RepeatedCompositeFieldContainer[ModelInput]
    timings: StageTimings
    explanation: Explanation
    explanation_status: ExplanationStatus
    def __init__(self, transaction_id: _Optional[str] = ..., score: _Optional[float] = ..., decision: _Optional[_Union[Decision, str]] = ..., provenance: _Optional[_Union[Provenance, _Mapping]] = ..., degradations: _Optional[_Iterable[_Union[Degradation, _Mapping]]] = ..., missing_features: _Optional[_Iterable[str]] = ..., imputed_features: _Optional[_Iterable[str]] = ..., view_ages: _Optional[_Iterable[_Union[ViewAge, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[ModelInput, _Mapping]]] = ..., timings: _Optional[_Union[StageTimings, _Mapping]] = ..., explanation: _Optional[_Union[Explanation, _Mapping]] = ..., explanation_status: _Optional[_Union[ExplanationStatus, str]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("method", "background_sha256", "base_margin", "margin", "base_score", "residual", "contributions", "rest_contribution", "reasons", "reasons_version", "margin_space")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_SHA256_FIELD_NUMBER: _ClassVar[int]
    BASE_MARGIN_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    BASE_SCORE_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    REST_CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    REASONS_VERSION_FIELD_NUMBER: _ClassVar[int]
    MARGIN_SPACE_FIELD_NUMBER: _ClassVar[int]
    method: ExplanationMethod
    background_sha256: str
    base_margin: float
    margin: float
    base_score: float
    residual: float
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    rest_contribution: float
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    reasons_version: str
    margin_space: MarginSpace
    def __init__(self, method: _Optional[_Union[ExplanationMethod, str]] = ..., background_sha256: _Optional[str] = ..., base_margin: _Optional[float] = ..., margin: _Optional[float] = ..., base_score: _Optional[float] = ..., residual: _Optional[float] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., rest_contribution: _Optional[float] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., reasons_version: _Optional[str] = ..., margin_space: _Optional[_Union[MarginSpace, str]] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("player", "contribution", "standard_error", "score_contribution")
    PLAYER_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    SCORE_CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    player: str
    contribution: float
    standard_error: float
    score_contribution: float
    def __init__(self, player: _Optional[str] = ..., contribution: _Optional[float] = ..., standard_error: _Optional[float] = ..., score_contribution: _Optional[float] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("code", "player", "direction", "contribution", "analyst_text", "customer_text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    PLAYER_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    ANALYST_TEXT_FIELD_NUMBER: _ClassVar[int]
    CUSTOMER_TEXT_FIELD_NUMBER: _ClassVar[int]
    code: str
    player: str
    direction: ReasonDirection
    contribution: float
    analyst_text: str
    customer_text: str
    def __init__(self, code: _Optional[str] = ..., player: _Optional[str] = ..., direction: _Optional[_Union[ReasonDirection, str]] = ..., contribution: _Optional[float] = ..., analyst_text: _Optional[str] = ..., customer_text: _Optional[str] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("model", "version", "model_sha256", "feature_set", "feature_set_version", "schema_hash")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_VERSION_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    model_sha256: str
    feature_set: str
    feature_set_version: str
    schema_hash: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., model_sha256: _Optional[str] = ..., feature_set: _Optional[str] = ..., feature_set_version: _Optional[str] = ..., schema_hash: _Optional[str] = ...) -> None: ...

class Degradation(_message.Message):
    __slots__ = ("kind", "subject", "detail")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    kind: DegradationKind
    subject: str
    detail: str
    def __init__(self, kind: _Optional[_Union[DegradationKind, str]] = ..., subject: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class ViewAge(_message.Message):
    __slots__ = ("view", "age", "cache_age")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    CACHE_AGE_FIELD_NUMBER: _ClassVar[int]
    view: str
    age: _duration_pb2.Duration
    cache_age: _duration_pb2.Duration
    def __init__(self, view: _Optional[str] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cache_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ModelInput(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: FeatureValue
    def __init__(self, name: _Optional[str] = ..., value: _Optional[_Union[FeatureValue, _Mapping]] = ...) -> None: ...

class StageTimings(_message.Message):
    __slots__ = ("decode_duration", "lookup_duration", "queue_duration", "assemble_duration", "infer_duration", "respond_duration", "total_duration", "batch_rows", "commit_duration", "explain_duration")
    DECODE_DURATION_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_DURATION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DURATION_FIELD_NUMBER: _ClassVar[int]
    ASSEMBLE_DURATION_FIELD_NUMBER: _ClassVar[int]
    INFER_DURATION_FIELD_NUMBER: _ClassVar[int]
    RESPOND_DURATION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_DURATION_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    COMMIT_DURATION_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_DURATION_FIELD_NUMBER: _ClassVar[int]
    decode_duration: _duration_pb2.Duration
    lookup_duration: _duration_pb2.Duration
    queue_duration: _duration_pb2.Duration
    assemble_duration: _duration_pb2.Duration
    infer_duration: _duration_pb2.Duration
    respond_duration: _duration_pb2.Duration
    total_duration: _duration_pb2.Duration
    batch_rows: int
    commit_duration: _duration_pb2.Duration
    explain_duration: _duration_pb2.Duration
    def __init__(self, decode_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lookup_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queue_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., assemble_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., infer_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., respond_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., total_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., batch_rows: _Optional[int] = ..., commit_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., explain_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ScoreBatchRequest(_message.Message):
    __slots__ = ("requests", "model", "version", "priority", "timeout", "include_features", "include_timings", "explain")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FEATURES_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_TIMINGS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[ScoreRequest]
    model: str
    version: str
    priority: Priority
    timeout: _duration_pb2.Duration
    include_features: bool
    include_timings: bool
    explain: ExplainOptions
    def __init__(self, requests: _Optional[_Iterable[_Union[ScoreRequest, _Mapping]]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., include_features: _Optional[bool] = ..., include_timings: _Optional[bool] = ..., explain: _Optional[_Union[ExplainOptions, _Mapping]] = ...) -> None: ...

class ScoreBatchResponse(_message.Message):
    __slots__ = ("provenance", "results")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    provenance: Provenance
    results: _containers.RepeatedCompositeFieldContainer[ScoreResult]
    def __init__(self, provenance: _Optional[_Union[Provenance, _Mapping]] = ..., results: _Optional[_Iterable[_Union[ScoreResult, _Mapping]]] = ...) -> None: ...

class ScoreResult(_message.Message):
    __slots__ = ("transaction_id", "status", "response")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    status: _status_pb2.Status
    response: ScoreResponse
    def __init__(self, transaction_id: _Optional[str] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., response: _Optional[_Union[ScoreResponse, _Mapping]] = ...) -> None: ...

class ScoreStreamRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: ScoreRequest
    def __init__(self, request: _Optional[_Union[ScoreRequest, _Mapping]] = ...) -> None: ...

class ScoreStreamResponse(_message.Message):
    __slots__ = ("transaction_id", "status", "response")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    status: _status_pb2.Status
    response: ScoreResponse
    def __init__(self, transaction_id: _Optional[str] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., response: _Optional[_Union[ScoreResponse, _Mapping]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("request", "transaction_id", "players", "top_k")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    PLAYERS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    request: ScoreRequest
    transaction_id: str
    players: ExplainPlayers
    top_k: int
    def __init__(self, request: _Optional[_Union[ScoreRequest, _Mapping]] = ..., transaction_id: _Optional[str] = ..., players: _Optional[_Union[ExplainPlayers, str]] = ..., top_k: _Optional[int] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("response", "source", "received_time", "players")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_TIME_FIELD_NUMBER: _ClassVar[int]
    PLAYERS_FIELD_NUMBER: _ClassVar[int]
    response: ScoreResponse
    source: ExplanationSource
    received_time: _timestamp_pb2.Timestamp
    players: ExplainPlayers
    def __init__(self, response: _Optional[_Union[ScoreResponse, _Mapping]] = ..., source: _Optional[_Union[ExplanationSource, str]] = ..., received_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., players: _Optional[_Union[ExplainPlayers, str]] = ...) -> None: ...
