# What the engine tells about itself: histograms and counters, records of single calls. Off the hot path: objects may be made.

Histogram = _namedtuple("Histogram", "counts sum", module="assay._core")
LatencyHistogram = _namedtuple("LatencyHistogram", "counts sum fine", module="assay._core")
LaneMetrics = _namedtuple("LaneMetrics", "model version inference stages batch_rows oldest_queued_ns failed_rows missed_rows explanations is_explaining_suspended", module="assay._core")
EngineMetrics = _namedtuple(
    "EngineMetrics",
    "lanes refused_calls failed_rows degraded_rows expired_rows dropped_records refused_traceparents",
    module="assay._core",
)
CallRecord = _namedtuple(
    "CallRecord",
    "kind reasons trace_id span_id parent_span_id is_sampled model version answer failure decision priority row_count "
    "failed_rows batch_rows is_degraded stamps_ns ended_ns",
    module="assay._core",
)
ServedRow = _namedtuple(
    "ServedRow", "position model version transaction_id event_time_us row missing is_degraded", module="assay._core"
)

DriftEdges = _namedtuple("DriftEdges", "inputs score", module="assay._core")
DriftCounts = _namedtuple(
    "DriftCounts", "model version scores score alerts inputs nulls imputed", module="assay._core"
)


cdef object _drift_counts(const CLaneDrift& lane):
    cdef const DriftTotals* totals = &lane.totals
    cdef size_t i
    return DriftCounts(
        str_of_string(lane.model),
        str_of_string(lane.version),
        totals.scores,
        tuple(totals.score_counts),
        tuple([(<int>lane.decisions[i], totals.alert_counts[i]) for i in range(lane.decisions.size())]),
        tuple([tuple(totals.input_counts[i]) for i in range(totals.input_counts.size())]),
        tuple(totals.null_counts),
        tuple(totals.imputed_counts),
    )


cdef object _latencies(const CLatencyHistogram& histogram):
    return LatencyHistogram(tuple(counts_of(histogram)), histogram.sum(), tuple(fine_counts_of(histogram)))


cdef object _lane_metrics(const LaneSnapshot& lane):
    cdef size_t i
    return LaneMetrics(
        str_of_string(lane.model),
        str_of_string(lane.version),
        tuple([_latencies(lane.histograms.inference[i]) for i in range(3)]),
        tuple([_latencies(lane.histograms.stages[i]) for i in range(stages().size())]),
        Histogram(tuple(counts_of(lane.histograms.batch_rows)), lane.histograms.batch_rows.sum),
        lane.oldest_queued_ns,
        lane.failed_rows,
        lane.missed_rows,
        _named(explanation_status_names(), explanations_of(lane)) if lane.can_explain else None,
        bool(lane.is_explaining_suspended),
    )


# Reason -> count, of the codes that occurred.
cdef dict _counts_by_reason(const uint64_t* counts):
    cdef int number
    return {
        code_info(<Code>number).reason.decode(): counts[number] for number in range(<int>Code.kCount_) if counts[number] > 0
    }


# Cause -> rows, of the causes that occurred.
cdef dict _degraded_rows(const CEngineMetrics& metrics):
    cdef vector[string] names = degradation_names()
    cdef size_t i
    causes = {str_of_string(names[i]): metrics.degradations[i] for i in range(names.size()) if metrics.degradations[i] > 0}
    return causes | _counts_by_reason(&metrics.left_out_records[0])


cdef object _engine_metrics(const CEngineMetrics& metrics):
    cdef size_t i
    return EngineMetrics(
        tuple([_lane_metrics(metrics.lanes[i]) for i in range(metrics.lanes.size())]),
        _counts_by_reason(&metrics.refused_calls[0]),
        _counts_by_reason(&metrics.failed_rows[0]),
        _degraded_rows(metrics),
        metrics.expired_rows,
        metrics.dropped_records,
        metrics.refused_traceparents,
    )


cdef object _call_record(const CCallRecord& record):
    cdef const LaneName* lane = record.lane.get()
    cdef size_t i
    return CallRecord(
        <int>record.kind,
        record.reasons,
        (int(record.trace.trace_id_high) << 64) | record.trace.trace_id_low,
        record.span_id,
        record.trace.parent_span_id,
        bool(record.trace.is_sampled),
        "" if lane == NULL else str_of_string(lane.model),
        "" if lane == NULL else str_of_string(lane.version),
        <int>record.answer,
        <int>record.failure,
        <int>record.decision,
        <int>record.priority,
        record.row_count,
        record.failed_rows,
        record.batch_rows,
        bool(record.is_degraded),
        tuple([record.stamps[i] for i in range(9)]),
        record.ended_ns,
    )


cdef object _served_row(const CServedRow& row):
    cdef const LaneName* lane = row.lane.get()
    return ServedRow(
        row.position,
        str_of_string(lane.model),
        str_of_string(lane.version),
        str_of_string(row.transaction_id),
        row.event_time_us,
        PyBytes_FromStringAndSize(<const char*>row.row.data(), <Py_ssize_t>row.row.size()),
        tuple(row.missing),
        bool(row.is_degraded),
    )
