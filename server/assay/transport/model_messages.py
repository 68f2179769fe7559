"""What a rollout says, as messages of assay.v1.ModelService."""

from __future__ import annotations

from typing import Final

from assay._core import SHADOW_DIFFERENCE_BOUNDS, ShadowStats
from assay.codes import decision_flips
from assay.models.repository import VersionState
from assay.scoring.rollout import ModelRollout
from assay.v1 import model_pb2

_STATES: Final = {
    VersionState.FOUND: model_pb2.MODEL_STATE_FOUND,
    VersionState.LOADING: model_pb2.MODEL_STATE_LOADING,
    VersionState.READY: model_pb2.MODEL_STATE_READY,
    VersionState.FAILED: model_pb2.MODEL_STATE_FAILED,
    VersionState.UNLOADING: model_pb2.MODEL_STATE_UNLOADING,
    VersionState.UNLOADED: model_pb2.MODEL_STATE_UNLOADED,
}


def rollout_message(model: ModelRollout) -> model_pb2.ModelRollout:
    """One model."""
    message = model_pb2.ModelRollout(
        model=model.name, guarded=model.guarded, last_breach=model.last_breach, is_kept=model.is_kept
    )
    for one in model.versions:
        message.versions.add(
            version=one.version, state=_STATES[one.state], labels=one.labels, reason=one.reason, device=one.device
        )
    if model.route is not None:
        message.champion = model.route.champion
        message.previous = model.route.previous
        message.challenger = model.route.challenger
        message.canary_share = model.route.canary_share
    if model.shadow is not None:
        message.shadow.CopyFrom(_shadow_message(model.shadow))
    return message


# --- implementation ---


def _shadow_message(stats: ShadowStats) -> model_pb2.ShadowComparison:
    message = model_pb2.ShadowComparison(
        version=stats.version,
        share=stats.share,
        compared_rows=stats.compared_rows,
        failed_rows=stats.failed_rows,
        shed_rows=stats.shed_rows,
        difference_bounds=SHADOW_DIFFERENCE_BOUNDS,
        difference_rows=stats.differences,
    )
    if stats.compared_rows:
        message.score_bias = stats.difference_sum / stats.compared_rows
    for champion, shadow, rows in decision_flips(stats.decisions):
        message.flips.add(champion=champion, shadow=shadow, rows=rows)
    return message
