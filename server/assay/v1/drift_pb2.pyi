import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from assay.v1 import scoring_pb2 as _scoring_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetDriftRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class GetDriftResponse(_message.Message):
    __slots__ = ("provenance", "baseline_rows", "window_scores", "scores_min", "window_end_time", "window_duration", "prediction_drift_score", "score_psi", "score_decile_psi", "score", "inputs", "alerts")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    BASELINE_ROWS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_SCORES_FIELD_NUMBER: _ClassVar[int]
    SCORES_MIN_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_TIME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_DURATION_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_DRIFT_SCORE_FIELD_NUMBER: _ClassVar[int]
    SCORE_PSI_FIELD_NUMBER: _ClassVar[int]
    SCORE_DECILE_PSI_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    ALERTS_FIELD_NUMBER: _ClassVar[int]
    provenance: _scoring_pb2.Provenance
    baseline_rows: int
    window_scores: int
    scores_min: int
    window_end_time: _timestamp_pb2.Timestamp
    window_duration: _duration_pb2.Duration
    prediction_drift_score: float
    score_psi: float
    score_decile_psi: float
    score: BinsDrift
    inputs: _containers.RepeatedCompositeFieldContainer[BinsDrift]
    alerts: _containers.RepeatedCompositeFieldContainer[AlertDrift]
    def __init__(self, provenance: _Optional[_Union[_scoring_pb2.Provenance, _Mapping]] = ..., baseline_rows: _Optional[int] = ..., window_scores: _Optional[int] = ..., scores_min: _Optional[int] = ..., window_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., window_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., prediction_drift_score: _Optional[float] = ..., score_psi: _Optional[float] = ..., score_decile_psi: _Optional[float] = ..., score: _Optional[_Union[BinsDrift, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[BinsDrift, _Mapping]]] = ..., alerts: _Optional[_Iterable[_Union[AlertDrift, _Mapping]]] = ...) -> None: ...

class BinsDrift(_message.Message):
    __slots__ = ("name", "edges", "baseline_counts", "window_counts", "baseline_nulls", "window_nulls", "window_imputed", "psi", "follows_clock")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    BASELINE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_COUNTS_FIELD_NUMBER: _ClassVar[int]
    BASELINE_NULLS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_NULLS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_IMPUTED_FIELD_NUMBER: _ClassVar[int]
    PSI_FIELD_NUMBER: _ClassVar[int]
    FOLLOWS_CLOCK_FIELD_NUMBER: _ClassVar[int]
    name: str
    edges: _containers.RepeatedScalarFieldContainer[float]
    baseline_counts: _containers.RepeatedScalarFieldContainer[int]
    window_counts: _containers.RepeatedScalarFieldContainer[int]
    baseline_nulls: int
    window_nulls: int
    window_imputed: int
    psi: float
    follows_clock: bool
    def __init__(self, name: _Optional[str] = ..., edges: _Optional[_Iterable[float]] = ..., baseline_counts: _Optional[_Iterable[int]] = ..., window_counts: _Optional[_Iterable[int]] = ..., baseline_nulls: _Optional[int] = ..., window_nulls: _Optional[int] = ..., window_imputed: _Optional[int] = ..., psi: _Optional[float] = ..., follows_clock: _Optional[bool] = ...) -> None: ...

class AlertDrift(_message.Message):
    __slots__ = ("decision", "baseline_rate", "window_alerts", "ratio", "ratio_low", "ratio_high")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    BASELINE_RATE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_ALERTS_FIELD_NUMBER: _ClassVar[int]
    RATIO_FIELD_NUMBER: _ClassVar[int]
    RATIO_LOW_FIELD_NUMBER: _ClassVar[int]
    RATIO_HIGH_FIELD_NUMBER: _ClassVar[int]
    decision: str
    baseline_rate: float
    window_alerts: int
    ratio: float
    ratio_low: float
    ratio_high: float
    def __init__(self, decision: _Optional[str] = ..., baseline_rate: _Optional[float] = ..., window_alerts: _Optional[int] = ..., ratio: _Optional[float] = ..., ratio_low: _Optional[float] = ..., ratio_high: _Optional[float] = ...) -> None: ...
