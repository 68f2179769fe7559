import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from assay.v1 import scoring_pb2 as _scoring_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ViewKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VIEW_KIND_UNSPECIFIED: _ClassVar[ViewKind]
    VIEW_KIND_WINDOW: _ClassVar[ViewKind]
    VIEW_KIND_ATTRIBUTES: _ClassVar[ViewKind]
VIEW_KIND_UNSPECIFIED: ViewKind
VIEW_KIND_WINDOW: ViewKind
VIEW_KIND_ATTRIBUTES: ViewKind

class RecordEventsRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("transaction_id", "event_time", "entities", "features", "is_fraud", "label_time", "is_label")
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
        value: _scoring_pb2.FeatureValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_scoring_pb2.FeatureValue, _Mapping]] = ...) -> None: ...
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    IS_FRAUD_FIELD_NUMBER: _ClassVar[int]
    LABEL_TIME_FIELD_NUMBER: _ClassVar[int]
    IS_LABEL_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    event_time: _timestamp_pb2.Timestamp
    entities: _containers.ScalarMap[str, str]
    features: _containers.MessageMap[str, _scoring_pb2.FeatureValue]
    is_fraud: bool
    label_time: _timestamp_pb2.Timestamp
    is_label: bool
    def __init__(self, transaction_id: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., entities: _Optional[_Mapping[str, str]] = ..., features: _Optional[_Mapping[str, _scoring_pb2.FeatureValue]] = ..., is_fraud: _Optional[bool] = ..., label_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., is_label: _Optional[bool] = ...) -> None: ...

class RecordEventsResponse(_message.Message):
    __slots__ = ("recorded_count", "duplicate_count", "late_count", "rejected_count", "rejected_events")
    RECORDED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    REJECTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    REJECTED_EVENTS_FIELD_NUMBER: _ClassVar[int]
    recorded_count: int
    duplicate_count: int
    late_count: int
    rejected_count: int
    rejected_events: _containers.RepeatedCompositeFieldContainer[RejectedEvent]
    def __init__(self, recorded_count: _Optional[int] = ..., duplicate_count: _Optional[int] = ..., late_count: _Optional[int] = ..., rejected_count: _Optional[int] = ..., rejected_events: _Optional[_Iterable[_Union[RejectedEvent, _Mapping]]] = ...) -> None: ...

class RejectedEvent(_message.Message):
    __slots__ = ("index", "transaction_id", "status")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    index: int
    transaction_id: str
    status: _status_pb2.Status
    def __init__(self, index: _Optional[int] = ..., transaction_id: _Optional[str] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class GetFeaturesRequest(_message.Message):
    __slots__ = ("model", "version", "event_time", "entities", "features", "transaction_id")
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
        value: _scoring_pb2.FeatureValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_scoring_pb2.FeatureValue, _Mapping]] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    event_time: _timestamp_pb2.Timestamp
    entities: _containers.ScalarMap[str, str]
    features: _containers.MessageMap[str, _scoring_pb2.FeatureValue]
    transaction_id: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., entities: _Optional[_Mapping[str, str]] = ..., features: _Optional[_Mapping[str, _scoring_pb2.FeatureValue]] = ..., transaction_id: _Optional[str] = ...) -> None: ...

class GetFeaturesResponse(_message.Message):
    __slots__ = ("provenance", "views", "inputs", "missing_features", "imputed_features", "needed", "refusal")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FEATURES_FIELD_NUMBER: _ClassVar[int]
    IMPUTED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    provenance: _scoring_pb2.Provenance
    views: _containers.RepeatedCompositeFieldContainer[ViewFeatures]
    inputs: _containers.RepeatedCompositeFieldContainer[_scoring_pb2.ModelInput]
    missing_features: _containers.RepeatedScalarFieldContainer[str]
    imputed_features: _containers.RepeatedScalarFieldContainer[str]
    needed: _containers.RepeatedScalarFieldContainer[str]
    refusal: _status_pb2.Status
    def __init__(self, provenance: _Optional[_Union[_scoring_pb2.Provenance, _Mapping]] = ..., views: _Optional[_Iterable[_Union[ViewFeatures, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[_scoring_pb2.ModelInput, _Mapping]]] = ..., missing_features: _Optional[_Iterable[str]] = ..., imputed_features: _Optional[_Iterable[str]] = ..., needed: _Optional[_Iterable[str]] = ..., refusal: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ViewFeatures(_message.Message):
    __slots__ = ("view", "entity", "is_found", "newest_time", "age", "is_stale", "is_saturated", "is_approximate", "rejected_reason", "rejected_detail", "values")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    IS_FOUND_FIELD_NUMBER: _ClassVar[int]
    NEWEST_TIME_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    IS_STALE_FIELD_NUMBER: _ClassVar[int]
    IS_SATURATED_FIELD_NUMBER: _ClassVar[int]
    IS_APPROXIMATE_FIELD_NUMBER: _ClassVar[int]
    REJECTED_REASON_FIELD_NUMBER: _ClassVar[int]
    REJECTED_DETAIL_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    view: str
    entity: str
    is_found: bool
    newest_time: _timestamp_pb2.Timestamp
    age: _duration_pb2.Duration
    is_stale: bool
    is_saturated: bool
    is_approximate: bool
    rejected_reason: str
    rejected_detail: str
    values: _containers.RepeatedCompositeFieldContainer[StoredFeature]
    def __init__(self, view: _Optional[str] = ..., entity: _Optional[str] = ..., is_found: _Optional[bool] = ..., newest_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., is_stale: _Optional[bool] = ..., is_saturated: _Optional[bool] = ..., is_approximate: _Optional[bool] = ..., rejected_reason: _Optional[str] = ..., rejected_detail: _Optional[str] = ..., values: _Optional[_Iterable[_Union[StoredFeature, _Mapping]]] = ...) -> None: ...

class StoredFeature(_message.Message):
    __slots__ = ("name", "definition", "dtype", "value", "is_null")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    IS_NULL_FIELD_NUMBER: _ClassVar[int]
    name: str
    definition: str
    dtype: str
    value: _scoring_pb2.FeatureValue
    is_null: bool
    def __init__(self, name: _Optional[str] = ..., definition: _Optional[str] = ..., dtype: _Optional[str] = ..., value: _Optional[_Union[_scoring_pb2.FeatureValue, _Mapping]] = ..., is_null: _Optional[bool] = ...) -> None: ...

class GetServedRowsRequest(_message.Message):
    __slots__ = ("model", "version", "after_position")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    after_position: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., after_position: _Optional[int] = ...) -> None: ...

class GetServedRowsResponse(_message.Message):
    __slots__ = ("provenance", "input_names", "rows", "last_position", "newest_position")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    INPUT_NAMES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    NEWEST_POSITION_FIELD_NUMBER: _ClassVar[int]
    provenance: _scoring_pb2.Provenance
    input_names: _containers.RepeatedScalarFieldContainer[str]
    rows: _containers.RepeatedCompositeFieldContainer[ServedRow]
    last_position: int
    newest_position: int
    def __init__(self, provenance: _Optional[_Union[_scoring_pb2.Provenance, _Mapping]] = ..., input_names: _Optional[_Iterable[str]] = ..., rows: _Optional[_Iterable[_Union[ServedRow, _Mapping]]] = ..., last_position: _Optional[int] = ..., newest_position: _Optional[int] = ...) -> None: ...

class ServedRow(_message.Message):
    __slots__ = ("transaction_id", "event_time", "values", "missing_features", "is_degraded")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FEATURES_FIELD_NUMBER: _ClassVar[int]
    IS_DEGRADED_FIELD_NUMBER: _ClassVar[int]
    transaction_id: str
    event_time: _timestamp_pb2.Timestamp
    values: _containers.RepeatedCompositeFieldContainer[_scoring_pb2.FeatureValue]
    missing_features: _containers.RepeatedScalarFieldContainer[str]
    is_degraded: bool
    def __init__(self, transaction_id: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., values: _Optional[_Iterable[_Union[_scoring_pb2.FeatureValue, _Mapping]]] = ..., missing_features: _Optional[_Iterable[str]] = ..., is_degraded: _Optional[bool] = ...) -> None: ...

class DescribeFeatureSetRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class DescribeFeatureSetResponse(_message.Message):
    __slots__ = ("name", "version", "description", "schema_hash", "entities", "request_features", "views", "derived", "inputs", "yaml")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FEATURES_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    DERIVED_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    description: str
    schema_hash: str
    entities: _containers.RepeatedScalarFieldContainer[str]
    request_features: _containers.RepeatedCompositeFieldContainer[RequestFeatureDescription]
    views: _containers.RepeatedCompositeFieldContainer[ViewDescription]
    derived: _containers.RepeatedCompositeFieldContainer[DerivedDescription]
    inputs: _containers.RepeatedCompositeFieldContainer[InputDescription]
    yaml: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., description: _Optional[str] = ..., schema_hash: _Optional[str] = ..., entities: _Optional[_Iterable[str]] = ..., request_features: _Optional[_Iterable[_Union[RequestFeatureDescription, _Mapping]]] = ..., views: _Optional[_Iterable[_Union[ViewDescription, _Mapping]]] = ..., derived: _Optional[_Iterable[_Union[DerivedDescription, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[InputDescription, _Mapping]]] = ..., yaml: _Optional[str] = ...) -> None: ...

class RequestFeatureDescription(_message.Message):
    __slots__ = ("name", "dtype", "is_required", "default_value", "minimum", "maximum", "description", "accepts_int")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    IS_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ACCEPTS_INT_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    is_required: bool
    default_value: _scoring_pb2.FeatureValue
    minimum: _scoring_pb2.FeatureValue
    maximum: _scoring_pb2.FeatureValue
    description: str
    accepts_int: bool
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., is_required: _Optional[bool] = ..., default_value: _Optional[_Union[_scoring_pb2.FeatureValue, _Mapping]] = ..., minimum: _Optional[_Union[_scoring_pb2.FeatureValue, _Mapping]] = ..., maximum: _Optional[_Union[_scoring_pb2.FeatureValue, _Mapping]] = ..., description: _Optional[str] = ..., accepts_int: _Optional[bool] = ...) -> None: ...

class ViewDescription(_message.Message):
    __slots__ = ("name", "kind", "entity", "view_hash", "values", "includes_current", "uses_labels", "delay", "lateness", "horizon", "exact_events_max", "max_age", "description")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    VIEW_HASH_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    INCLUDES_CURRENT_FIELD_NUMBER: _ClassVar[int]
    USES_LABELS_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    LATENESS_FIELD_NUMBER: _ClassVar[int]
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    EXACT_EVENTS_MAX_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: ViewKind
    entity: str
    view_hash: str
    values: _containers.RepeatedCompositeFieldContainer[StoredDescription]
    includes_current: bool
    uses_labels: bool
    delay: _duration_pb2.Duration
    lateness: _duration_pb2.Duration
    horizon: _duration_pb2.Duration
    exact_events_max: int
    max_age: _duration_pb2.Duration
    description: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[ViewKind, str]] = ..., entity: _Optional[str] = ..., view_hash: _Optional[str] = ..., values: _Optional[_Iterable[_Union[StoredDescription, _Mapping]]] = ..., includes_current: _Optional[bool] = ..., uses_labels: _Optional[bool] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lateness: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., horizon: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., exact_events_max: _Optional[int] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., description: _Optional[str] = ...) -> None: ...

class StoredDescription(_message.Message):
    __slots__ = ("name", "definition", "dtype")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    definition: str
    dtype: str
    def __init__(self, name: _Optional[str] = ..., definition: _Optional[str] = ..., dtype: _Optional[str] = ...) -> None: ...

class DerivedDescription(_message.Message):
    __slots__ = ("name", "op", "arguments", "definition")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    name: str
    op: str
    arguments: _containers.RepeatedScalarFieldContainer[str]
    definition: str
    def __init__(self, name: _Optional[str] = ..., op: _Optional[str] = ..., arguments: _Optional[_Iterable[str]] = ..., definition: _Optional[str] = ...) -> None: ...

class InputDescription(_message.Message):
    __slots__ = ("name", "source", "dtype", "when_null", "default_value", "is_missing_flag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    WHEN_NULL_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    IS_MISSING_FLAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    dtype: str
    when_null: str
    default_value: float
    is_missing_flag: bool
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., dtype: _Optional[str] = ..., when_null: _Optional[str] = ..., default_value: _Optional[float] = ..., is_missing_flag: _Optional[bool] = ...) -> None: ...
