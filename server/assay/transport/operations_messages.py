"""How the server is, as messages of assay.v1."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from assay.observe.log_control import Logging
from assay.observe.status import ModelStatus, ServerStatus, State
from assay.v1 import operations_pb2

_STATES = {
    State.SERVING: operations_pb2.SERVER_STATE_SERVING,
    State.NOT_SERVING: operations_pb2.SERVER_STATE_NOT_SERVING,
    State.DRAINING: operations_pb2.SERVER_STATE_DRAINING,
}


def status_message(status: ServerStatus, logging: Logging) -> operations_pb2.GetStatusResponse:
    identity = status.identity
    return operations_pb2.GetStatusResponse(
        state=_STATES[status.state],
        is_healthy=status.is_healthy,
        start_time=_timestamp(status.started_at_s),
        pid=status.pid,
        assay_version=identity.assay,
        python_version=identity.python,
        onnxruntime_version=identity.onnxruntime,
        cuda_build=identity.cuda_build,
        driver_version=identity.driver,
        window=_duration(status.window_s),
        rows_per_second=status.rows_per_s,
        p50=_duration(status.p50_s),
        p99=_duration(status.p99_s),
        queued_rows=status.queued_rows,
        slots_used=status.slots_used,
        slots=status.slots,
        models=[_model_message(model) for model in status.models],
        checks=[operations_pb2.StatusCheck(name=check.name, value=check.value, is_ok=check.is_ok) for check in status.checks],
        logging=logging_message(logging),
    )


def logging_message(logging: Logging) -> operations_pb2.Logging:
    return operations_pb2.Logging(
        level=logging.level,
        trace_sample_ratio=logging.trace_sample_ratio,
        request_log_ratio=logging.request_log_ratio,
        revert_time=None if logging.revert_at_s is None else _timestamp(logging.revert_at_s),
    )


# --- implementation ---


def _model_message(model: ModelStatus) -> operations_pb2.ModelStatus:
    return operations_pb2.ModelStatus(
        model=model.identity.model,
        version=model.identity.version,
        sha256=model.identity.sha256,
        device=model.identity.device,
        scores=model.scores,
        rows_per_second=model.rows_per_s,
        p50=_duration(model.p50_s),
        p99=_duration(model.p99_s),
    )


def _timestamp(wall_s: float) -> Timestamp:
    moment = Timestamp()
    moment.FromMicroseconds(int(wall_s * 1e6))
    return moment


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    length = Duration()
    length.FromNanoseconds(int(seconds * 1e9))
    return length
