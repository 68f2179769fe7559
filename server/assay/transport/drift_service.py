"""assay.v1.DriftService: how far the present is from a model's baseline. Answers on the admin listener only."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc

from assay._core import Engine
from assay.features.served import ModelFeatures, ServedFeatures
from assay.observe.drift import SCORES_MIN, AlertDrift, BinsDrift, DriftReport, DriftWatch
from assay.transport.feature_messages import provenance
from assay.transport.look_worker import LookWorker
from assay.v1 import drift_pb2

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context, Handler


class DriftService:
    """What `watch` reports. Changes nothing."""

    def __init__(self, watch: DriftWatch, served: ServedFeatures, engine: Engine, *, answer_bytes_max: int) -> None:
        self._watch = watch
        self._served = served
        self._engine = engine
        self._looks = LookWorker("assay-drift", "looks at drift", engine, answer_bytes_max=answer_bytes_max)

    @property
    def held_count(self) -> int:
        """Calls that are under way or wait."""
        return self._looks.held_count

    def handlers(self) -> dict[str, Handler]:
        """Full method name -> handler. Bytes in, bytes out: messages are read and made on a thread."""
        return {"/assay.v1.DriftService/GetDrift": grpc.unary_unary_rpc_method_handler(self._get_drift)}

    def close(self) -> None:
        """Waits for the call that is being answered, if there is one: not on the event loop."""
        self._looks.close()

    # --- implementation ---

    async def _get_drift(self, data: bytes, context: Context) -> bytes:
        return await self._looks.answer_of_model(self._served, drift_pb2.GetDriftRequest, self._report, data, context)

    def _report(self, _: drift_pb2.GetDriftRequest, model: ModelFeatures) -> bytes:
        """On the thread."""
        return drift_message(model, self._watch.report(model.model, model.version)).SerializeToString()


def drift_message(model: ModelFeatures, report: DriftReport | None) -> drift_pb2.GetDriftResponse:
    """`report`: None where the model has no baseline."""
    message = drift_pb2.GetDriftResponse(provenance=provenance(model), scores_min=SCORES_MIN)
    if report is None:
        return message
    message.baseline_rows = report.reference.rows
    message.window_scores = report.scores
    message.window_end_time.FromNanoseconds(time.time_ns())
    message.window_duration.FromMicroseconds(round(report.age_s * 1e6))
    if report.prediction_drift is not None and report.score.psi is not None and report.decile_psi is not None:
        message.prediction_drift_score = report.prediction_drift
        message.score_psi = report.score.psi
        message.score_decile_psi = report.decile_psi
    message.score.CopyFrom(_bins(report.score))
    message.inputs.extend(_bins(one) for one in report.inputs)
    message.alerts.extend(_alert(one) for one in report.alerts)
    return message


# --- implementation ---


def _bins(one: BinsDrift) -> drift_pb2.BinsDrift:
    return drift_pb2.BinsDrift(
        name=one.name,
        edges=one.reference.edges,
        baseline_counts=one.reference.counts,
        window_counts=one.counts,
        baseline_nulls=one.reference.nulls,
        window_nulls=one.nulls,
        window_imputed=one.imputed,
        psi=one.psi,
        follows_clock=one.follows_clock,
    )


def _alert(one: AlertDrift) -> drift_pb2.AlertDrift:
    return drift_pb2.AlertDrift(
        decision=one.decision,
        baseline_rate=one.baseline_rate,
        window_alerts=one.alerts,
        ratio=one.ratio,
        ratio_low=one.ratio_low,
        ratio_high=one.ratio_high,
    )
