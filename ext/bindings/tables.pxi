# Limits and enum numbers, as the core has them: there is no second copy in Python.

LIMITS = {
    "id_bytes_max": kIdBytesMax,
    "name_bytes_max": kNameBytesMax,
    "string_value_bytes_max": kStringValueBytesMax,
    "violations_max": kViolationsMax,
    "violations_bytes_max": kViolationsBytesMax,
    "map_entries_max": kMapEntriesMax,
    "wire_depth_max": kWireDepthMax,
    "batch_rows_wire_max": kBatchRowsWireMax,
    "events_per_message_max": kEventsPerMessageMax,
    "event_line_bytes_max": kEventLineBytesMax,
    "json_depth_max": kJsonDepthMax,
    "entities_max": kEntitiesMax,
    "request_features_max": kRequestFeaturesMax,
    "views_max": kViewsMax,
    "columns_max": kColumnsMax,
    "windows_max": kWindowsMax,
    "aggregates_max": kAggregatesMax,
    "attributes_max": kAttributesMax,
    "nodes_max": kNodesMax,
    "model_inputs_max": kModelInputsMax,
    "tensors_max": kTensorsMax,
    "vocabulary_max": kVocabularyMax,
    "exact_events_min": kExactEventsMin,
    "exact_events_max": kExactEventsMax,
    "tiles_max": kTilesMax,
    "tile_events_max": kTileEventsMax,
    "background_rows_max": kBackgroundRowsMax,
    "lanes_max": kLanesMax,
    "tensor_rank_max": kTensorRankMax,
    "tensor_row_bytes_max": kTensorRowBytesMax,
    "audit_row_bytes_max": kAuditRowBytesMax,
    "audit_outputs_bytes_max": kAuditOutputsBytesMax,
    "window_us_max": kWindowUsMax,
    "ahead_us_max": kAheadUsMax,
    "time_us_min": kTimeUsMin,
    "time_us_max": kTimeUsMax,
}

cdef extern from *:
    const char* _compiler_version "__VERSION__"

BUILD = {
    "compiler": _compiler_version.decode(),
    "flags": str_of_string(build_flags()),
    "cpu": str_of_string(cpu_class()),
}

DTYPES = {
    "float64": <int>Dtype.kFloat64,
    "int64": <int>Dtype.kInt64,
    "bool": <int>Dtype.kBool,
    "string": <int>Dtype.kString,
}

TENSOR_TYPES = {
    "float32": <int>TensorType.kFloat32,
    "int32": <int>TensorType.kInt32,
    "int64": <int>TensorType.kInt64,
    "bool": <int>TensorType.kBool,
    "float64": <int>TensorType.kFloat64,
}

AGGREGATES = {
    "count": <int>AggregateOp.kCount,
    "sum": <int>AggregateOp.kSum,
    "avg": <int>AggregateOp.kAvg,
    "min": <int>AggregateOp.kMin,
    "max": <int>AggregateOp.kMax,
    "last": <int>AggregateOp.kLast,
    "rate_true": <int>AggregateOp.kRateTrue,
    "distinct": <int>AggregateOp.kDistinct,
}

OPERATIONS = {
    "scale": <int>DerivedOp.kScale,
    "ratio": <int>DerivedOp.kRatio,
    "difference": <int>DerivedOp.kDifference,
    "log1p": <int>DerivedOp.kLog1p,
    "hour": <int>DerivedOp.kHour,
    "weekday": <int>DerivedOp.kWeekday,
    "is_night": <int>DerivedOp.kIsNight,
    "is_weekend": <int>DerivedOp.kIsWeekend,
    "days_since": <int>DerivedOp.kDaysSince,
    "haversine_km": <int>DerivedOp.kHaversineKm,
    "speed_kmh": <int>DerivedOp.kSpeedKmh,
    "equals": <int>DerivedOp.kEquals,
    "vocabulary": <int>DerivedOp.kVocabulary,
    "hash_bucket": <int>DerivedOp.kHashBucket,
    "is_missing": <int>DerivedOp.kIsMissing,
    "constant": <int>DerivedOp.kConstant,
}

WHEN_NULL = {
    "error": <int>WhenNull.kError,
    "default": <int>WhenNull.kDefault,
    "nan": <int>WhenNull.kNan,
}

DECISIONS = {
    "approve": <int>Decision.kApprove,
    "challenge": <int>Decision.kChallenge,
    "review": <int>Decision.kReview,
    "decline": <int>Decision.kDecline,
}

PRIORITIES = {
    "interactive": <int>Priority.kInteractive,
    "bulk": <int>Priority.kBulk,
}

CALL_KINDS = {
    "score": <int>CallKind.kUnary,
    "batch": <int>CallKind.kBatch,
    "stream": <int>CallKind.kStream,
    "infer": <int>CallKind.kInfer,
    "probe": <int>CallKind.kProbe,
}

RECORD_REASONS = {
    "sampled": <int>RecordReason.kSampled,
    "slow": <int>RecordReason.kSlow,
    "failed": <int>RecordReason.kFailed,
    "declined": <int>RecordReason.kDeclined,
    "logged": <int>RecordReason.kLogged,
}

AUDIT_LEVELS = {
    "memory": <int>CAuditLevel.kMemory,
    "spool": <int>CAuditLevel.kSpool,
    "fsync": <int>CAuditLevel.kFsync,
}

AUDIT_INPUTS = {
    "full": <int>CAuditInputs.kFull,
    "sample": <int>CAuditInputs.kSample,
    "digest": <int>CAuditInputs.kDigest,
}


cdef tuple _stages():
    cdef vector[Stage] found = stages()
    cdef size_t i
    return tuple([(found[i].name.decode(), <int>found[i].start, <int>found[i].end) for i in range(found.size())])


STAGES = _stages()
LATENCY_BOUNDS_NS = tuple(latency_bounds_ns())
BATCH_ROWS_BOUNDS = tuple(batch_rows_bounds())
FINE_UPPER_NS = tuple(fine_upper_ns())


# An enum's number from Python, checked against its table before it becomes the enum.
cdef int enum_number(int number, dict table, str what) except -1:
    if number not in table.values():
        raise ValueError(f"{what}: expected one of {table}, not {number}")
    return number


def xxh64(data: bytes) -> int:
    """XXH64 with seed 0."""
    return c_xxh64(view_of_bytes(data))


def printable(text: bytes) -> str:
    """Text from outside made safe to show in an error."""
    return str_of_string(c_printable(view_of_bytes(text)))


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli)."""
    return c_crc32c(PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))


# Name -> count, in the core's order.
cdef dict _named(const vector[string]& names, const vector[uint64_t]& counts):
    cdef size_t i
    return {str_of_string(names[i]): counts[i] for i in range(names.size())}
