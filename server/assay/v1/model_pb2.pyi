from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_FOUND: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]
    MODEL_STATE_UNLOADING: _ClassVar[ModelState]
    MODEL_STATE_UNLOADED: _ClassVar[ModelState]
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_FOUND: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_FAILED: ModelState
MODEL_STATE_UNLOADING: ModelState
MODEL_STATE_UNLOADED: ModelState

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelRollout]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelRollout, _Mapping]]] = ...) -> None: ...

class ModelRollout(_message.Message):
    __slots__ = ("model", "versions", "champion", "previous", "challenger", "canary_share", "guarded", "last_breach", "is_kept", "shadow")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_FIELD_NUMBER: _ClassVar[int]
    CANARY_SHARE_FIELD_NUMBER: _ClassVar[int]
    GUARDED_FIELD_NUMBER: _ClassVar[int]
    LAST_BREACH_FIELD_NUMBER: _ClassVar[int]
    IS_KEPT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    model: str
    versions: _containers.RepeatedCompositeFieldContainer[ModelVersion]
    champion: str
    previous: str
    challenger: str
    canary_share: float
    guarded: _containers.RepeatedScalarFieldContainer[str]
    last_breach: str
    is_kept: bool
    shadow: ShadowComparison
    def __init__(self, model: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[ModelVersion, _Mapping]]] = ..., champion: _Optional[str] = ..., previous: _Optional[str] = ..., challenger: _Optional[str] = ..., canary_share: _Optional[float] = ..., guarded: _Optional[_Iterable[str]] = ..., last_breach: _Optional[str] = ..., is_kept: _Optional[bool] = ..., shadow: _Optional[_Union[ShadowComparison, _Mapping]] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("version", "state", "labels", "reason", "device")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    version: str
    state: ModelState
    labels: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    device: str
    def __init__(self, version: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., labels: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class ShadowComparison(_message.Message):
    __slots__ = ("version", "share", "compared_rows", "failed_rows", "shed_rows", "score_bias", "difference_bounds", "difference_rows", "flips")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    COMPARED_ROWS_FIELD_NUMBER: _ClassVar[int]
    FAILED_ROWS_FIELD_NUMBER: _ClassVar[int]
    SHED_ROWS_FIELD_NUMBER: _ClassVar[int]
    SCORE_BIAS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_BOUNDS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_ROWS_FIELD_NUMBER: _ClassVar[int]
    FLIPS_FIELD_NUMBER: _ClassVar[int]
    version: str
    share: float
    compared_rows: int
    failed_rows: int
    shed_rows: int
    score_bias: float
    difference_bounds: _containers.RepeatedScalarFieldContainer[float]
    difference_rows: _containers.RepeatedScalarFieldContainer[int]
    flips: _containers.RepeatedCompositeFieldContainer[DecisionFlip]
    def __init__(self, version: _Optional[str] = ..., share: _Optional[float] = ..., compared_rows: _Optional[int] = ..., failed_rows: _Optional[int] = ..., shed_rows: _Optional[int] = ..., score_bias: _Optional[float] = ..., difference_bounds: _Optional[_Iterable[float]] = ..., difference_rows: _Optional[_Iterable[int]] = ..., flips: _Optional[_Iterable[_Union[DecisionFlip, _Mapping]]] = ...) -> None: ...

class DecisionFlip(_message.Message):
    __slots__ = ("champion", "shadow", "rows")
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    champion: str
    shadow: str
    rows: int
    def __init__(self, champion: _Optional[str] = ..., shadow: _Optional[str] = ..., rows: _Optional[int] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class LoadModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelRollout
    def __init__(self, model: _Optional[_Union[ModelRollout, _Mapping]] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelRollout
    def __init__(self, model: _Optional[_Union[ModelRollout, _Mapping]] = ...) -> None: ...

class PromoteModelRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class PromoteModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelRollout
    def __init__(self, model: _Optional[_Union[ModelRollout, _Mapping]] = ...) -> None: ...

class RollbackModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class RollbackModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelRollout
    def __init__(self, model: _Optional[_Union[ModelRollout, _Mapping]] = ...) -> None: ...

class SetCanaryRequest(_message.Message):
    __slots__ = ("model", "version", "share")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    share: float
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class SetCanaryResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelRollout
    def __init__(self, model: _Optional[_Union[ModelRollout, _Mapping]] = ...) -> None: ...

class SetShadowRequest(_message.Message):
    __slots__ = ("model", "version", "share")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    share: float
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class SetShadowResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelRollout
    def __init__(self, model: _Optional[_Union[ModelRollout, _Mapping]] = ...) -> None: ...
