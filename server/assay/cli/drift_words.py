"""What numbers of drift mean, in words: the same in a table and on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay.models.shift import LARGE_PSI, NOTABLE_PSI
from assay.observe.drift import ALERT_LINE, DRIFT_LINE

if TYPE_CHECKING:
    from assay.v1.drift_pb2 import AlertDrift, BinsDrift, GetDriftResponse

QUIET, NOTABLE, LOUD = "quiet", "notable", "loud"  # how loud a verdict is


def why_nothing(answer: GetDriftResponse) -> str:
    """Why there are no values yet; empty where there are."""
    if answer.HasField("prediction_drift_score"):
        return ""
    if answer.baseline_rows == 0:
        return "the model has no baseline: nothing is counted"
    if answer.baseline_rows < answer.scores_min:
        return f"the baseline has {answer.baseline_rows:,} rows; of fewer than {answer.scores_min:,} PSI is noise"
    return f"{answer.window_scores:,} of {answer.scores_min:,} scores that a value needs"


def score_verdict(answer: GetDriftResponse) -> tuple[str, str]:
    """(how loud, words) of the prediction's drift."""
    if answer.prediction_drift_score > DRIFT_LINE:
        return LOUD, f"over the line of {DRIFT_LINE}"
    return QUIET, f"under the line of {DRIFT_LINE}"


def bins_verdict(one: BinsDrift) -> tuple[str, str]:
    """(how loud, words) of an input."""
    if not one.HasField("psi"):
        return QUIET, ""
    if one.follows_clock:
        return QUIET, "follows the clock: says nothing"
    if one.psi < NOTABLE_PSI:
        return QUIET, "as in the baseline"
    return (NOTABLE, "worth a look") if one.psi < LARGE_PSI else (LOUD, "another population")


def alert_verdict(one: AlertDrift) -> tuple[str, str]:
    """(how loud, words) of a decision."""
    if not one.HasField("ratio"):
        return QUIET, ""
    if one.ratio > one.ratio_high:
        # Of many scores the band is narrow, and no two hours are the same: what chance does not explain need not matter.
        return (LOUD, "many more than chance explains") if one.ratio > ALERT_LINE else (NOTABLE, "more than chance explains")
    return (NOTABLE, "fewer than chance explains") if one.ratio < one.ratio_low else (QUIET, "as chance has it")


def duration_text(seconds: float) -> str:
    """About how long."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def document(answer: GetDriftResponse) -> dict[str, Any]:
    """The whole answer as JSON has it; what is absent is null."""
    return {
        "model": answer.provenance.model,
        "version": answer.provenance.version,
        "baseline_rows": answer.baseline_rows,
        "window_scores": answer.window_scores,
        "scores_min": answer.scores_min,
        "window_end_time": answer.window_end_time.ToJsonString(),
        "window_s": answer.window_duration.ToNanoseconds() / 1e9,
        "prediction_drift_score": _optional(answer, "prediction_drift_score"),
        "score_psi": _optional(answer, "score_psi"),
        "score_decile_psi": _optional(answer, "score_decile_psi"),
        "alerts": [
            {
                "decision": one.decision,
                "baseline_rate": one.baseline_rate,
                "window_alerts": one.window_alerts,
                **{name: _optional(one, name) for name in ("ratio", "ratio_low", "ratio_high")},
            }
            for one in answer.alerts
        ],
        "score": _bins(answer.score),
        "inputs": [_bins(one) for one in answer.inputs],
    }


# --- implementation ---


def _bins(one: BinsDrift) -> dict[str, Any]:
    return {
        "name": one.name,
        "psi": _optional(one, "psi"),
        "follows_clock": one.follows_clock,
        "edges": list(one.edges),
        "baseline_counts": list(one.baseline_counts),
        "window_counts": list(one.window_counts),
        "baseline_nulls": one.baseline_nulls,
        "window_nulls": one.window_nulls,
        "window_imputed": one.window_imputed,
    }


def _optional(message: Any, name: str) -> float | None:
    return getattr(message, name) if message.HasField(name) else None
