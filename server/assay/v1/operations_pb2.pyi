import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ServerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVER_STATE_UNSPECIFIED: _ClassVar[ServerState]
    SERVER_STATE_SERVING: _ClassVar[ServerState]
    SERVER_STATE_NOT_SERVING: _ClassVar[ServerState]
    SERVER_STATE_DRAINING: _ClassVar[ServerState]
SERVER_STATE_UNSPECIFIED: ServerState
SERVER_STATE_SERVING: ServerState
SERVER_STATE_NOT_SERVING: ServerState
SERVER_STATE_DRAINING: ServerState

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("state", "is_healthy", "start_time", "pid", "assay_version", "python_version", "onnxruntime_version", "cuda_build", "driver_version", "window", "rows_per_second", "p50", "p99", "queued_rows", "slots_used", "slots", "models", "checks", "logging")
    STATE_FIELD_NUMBER: _ClassVar[int]
    IS_HEALTHY_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    ASSAY_VERSION_FIELD_NUMBER: _ClassVar[int]
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    ONNXRUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    CUDA_BUILD_FIELD_NUMBER: _ClassVar[int]
    DRIVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    P50_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    QUEUED_ROWS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_USED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    LOGGING_FIELD_NUMBER: _ClassVar[int]
    state: ServerState
    is_healthy: bool
    start_time: _timestamp_pb2.Timestamp
    pid: int
    assay_version: str
    python_version: str
    onnxruntime_version: str
    cuda_build: str
    driver_version: str
    window: _duration_pb2.Duration
    rows_per_second: float
    p50: _duration_pb2.Duration
    p99: _duration_pb2.Duration
    queued_rows: int
    slots_used: int
    slots: int
    models: _containers.RepeatedCompositeFieldContainer[ModelStatus]
    checks: _containers.RepeatedCompositeFieldContainer[StatusCheck]
    logging: Logging
    def __init__(self, state: _Optional[_Union[ServerState, str]] = ..., is_healthy: _Optional[bool] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pid: _Optional[int] = ..., assay_version: _Optional[str] = ..., python_version: _Optional[str] = ..., onnxruntime_version: _Optional[str] = ..., cuda_build: _Optional[str] = ..., driver_version: _Optional[str] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., rows_per_second: _Optional[float] = ..., p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queued_rows: _Optional[int] = ..., slots_used: _Optional[int] = ..., slots: _Optional[int] = ..., models: _Optional[_Iterable[_Union[ModelStatus, _Mapping]]] = ..., checks: _Optional[_Iterable[_Union[StatusCheck, _Mapping]]] = ..., logging: _Optional[_Union[Logging, _Mapping]] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("model", "version", "sha256", "device", "scores", "rows_per_second", "p50", "p99")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    P50_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    sha256: str
    device: str
    scores: int
    rows_per_second: float
    p50: _duration_pb2.Duration
    p99: _duration_pb2.Duration
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., sha256: _Optional[str] = ..., device: _Optional[str] = ..., scores: _Optional[int] = ..., rows_per_second: _Optional[float] = ..., p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StatusCheck(_message.Message):
    __slots__ = ("name", "value", "is_ok")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    IS_OK_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    is_ok: bool
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., is_ok: _Optional[bool] = ...) -> None: ...

class Logging(_message.Message):
    __slots__ = ("level", "trace_sample_ratio", "request_log_ratio", "revert_time")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    TRACE_SAMPLE_RATIO_FIELD_NUMBER: _ClassVar[int]
    REQUEST_LOG_RATIO_FIELD_NUMBER: _ClassVar[int]
    REVERT_TIME_FIELD_NUMBER: _ClassVar[int]
    level: str
    trace_sample_ratio: float
    request_log_ratio: float
    revert_time: _timestamp_pb2.Timestamp
    def __init__(self, level: _Optional[str] = ..., trace_sample_ratio: _Optional[float] = ..., request_log_ratio: _Optional[float] = ..., revert_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SetLoggingRequest(_message.Message):
    __slots__ = ("level", "trace_sample_ratio", "request_log_ratio", "revert_after")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    TRACE_SAMPLE_RATIO_FIELD_NUMBER: _ClassVar[int]
    REQUEST_LOG_RATIO_FIELD_NUMBER: _ClassVar[int]
    REVERT_AFTER_FIELD_NUMBER: _ClassVar[int]
    level: str
    trace_sample_ratio: float
    request_log_ratio: float
    revert_after: _duration_pb2.Duration
    def __init__(self, level: _Optional[str] = ..., trace_sample_ratio: _Optional[float] = ..., request_log_ratio: _Optional[float] = ..., revert_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class SetLoggingResponse(_message.Message):
    __slots__ = ("before", "now")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    before: Logging
    now: Logging
    def __init__(self, before: _Optional[_Union[Logging, _Mapping]] = ..., now: _Optional[_Union[Logging, _Mapping]] = ...) -> None: ...
