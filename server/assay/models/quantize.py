"""Makes a smaller, faster bundle from one that is served: its model converted, compared with its parent row by row, and packed
only where the difference stays within the limits that somebody set.

read parent -> convert (child process) -> [map the score] -> compare -> measure -> limits -> pack
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from assay._core import OrtModel, OrtRuntime
from assay.errors import InputError
from assay.features.rows import PackedRows, unpack_rows
from assay.models.conversion import append_score_map, convert_model
from assay.models.convert_onnx import PROBABILITY_MARGIN, SCORE_MAP_OUTPUT
from assay.models.golden import choose_golden
from assay.models.invariance import Scorer
from assay.models.manifest import BACKGROUND_FILE, FEATURE_SET_FILE, MODEL_FILE, ConversionName, Parent, ScoreOutput
from assay.models.pack import Commit, PackRequest, Rows, check_rows, pack_bundle, packed_rows
from assay.models.quality import Difference, Outcomes, Quality, Scores, measure_difference, measure_quality
from assay.models.reasons import ReasonsFile
from assay.models.refusal import BundleRefusedError
from assay.models.throughput import Throughput, measure_throughput
from assay.models.verify import BATCH_ROWS_MAX_DEFAULT, Candidate, check_golden, make_scorer, make_step, read_candidate

CALIBRATION_ROWS_MAX: Final = 512
THROUGHPUT_ROWS_MAX: Final = 4_096
# On another processor a float that is about to be rounded to 8 or 16 bits may fall on the other side, and the score moves by what
# that bit is worth. So golden scores of a converted model need more room than an FP32 model's.
GOLDEN_TOLERANCE: Final = 1e-3
FP16_BATCH_TOLERANCE: Final = 1e-3  # on a card the order of sums in half precision follows the batch

Observer = Callable[[int], None]  # percent done


@dataclass(frozen=True)
class Limits:
    """What quantising may cost. None: no limit. Drops are the parent's figure less the new one's."""

    score_difference_max: float | None = None
    decision_flips_max: float | None = None  # share of rows
    auc_drop_max: float | None = None
    average_precision_drop_max: float | None = None
    card_precision_drop_max: float | None = None

    @property
    def need_outcomes(self) -> bool:
        """Whether one of them is about labels."""
        return {self.auc_drop_max, self.average_precision_drop_max, self.card_precision_drop_max} != {None}


@dataclass(frozen=True)
class QuantizeRequest:
    """What to make of the bundle at `path`. `rows` are what it is calibrated on, compared on, and packed with."""

    path: Path
    version: str
    rows: Rows
    kind: ConversionName = "int8-static"
    outcomes: Outcomes | None = None  # of the rows, where they are known
    limits: Limits = Limits()
    calibration: str = "minmax"
    calibration_rows_max: int = CALIBRATION_ROWS_MAX
    kept_nodes: tuple[str, ...] = ()
    is_recalibrated: bool = False
    batch_tolerance: float | None = None  # None: the parent's; of fp16 at least FP16_BATCH_TOLERANCE
    throughput_run_s: float = 0.05  # of each measurement


@dataclass(frozen=True)
class ScoreMap:
    """score -> sigmoid(slope * logit(score) + offset); slope > 0, so no two rows change order."""

    slope: float
    offset: float


@dataclass(frozen=True)
class Report:
    """What came out. `broken`: the limits that did not hold, in words; then nothing was written and `place` is None."""

    parent_version: str
    kind: ConversionName
    parent_bytes: int
    model_bytes: int
    calibration_rows: int
    difference: Difference
    parent_quality: Quality | None
    quality: Quality | None
    throughput: list[Throughput]  # of "parent" and "quantised"
    score_map: ScoreMap | None
    parent_scores: Scores
    scores: Scores
    broken: tuple[str, ...]
    place: Path | None


def quantize_bundle(request: QuantizeRequest, out: Path, runtime: OrtRuntime, observe: Observer | None = None) -> Report:
    """Writes OUT/NAME/VERSION unless a limit is broken. Nothing is left behind when it fails.

    Raises BundleRefusedError, BundleError, InputError.
    """
    tell = observe or (lambda percent: None)
    parent = read_candidate(request.path, make_step(None))
    _check_convertible(parent, request)
    rows = packed_rows(request.rows, parent.plan)
    check_rows(request.rows, parent.feature_set)
    before = _make_scorer(
        parent, OrtModel(runtime, parent.bundle.model_bytes), parent.bundle.manifest.score, BATCH_ROWS_MAX_DEFAULT
    )
    parent_scores = before(rows)
    check_golden(before, parent.golden_rows, parent.golden_scores, parent.bundle.manifest.golden_tolerance)
    tell(10)

    calibration = rows[choose_calibration(rows, parent_scores, request.calibration_rows_max)]
    model_bytes = _convert(parent, request, calibration, lambda done, total: tell(10 + 40 * done // total))
    tell(50)
    score_place = parent.bundle.manifest.score
    after = _load(parent, model_bytes, score_place, request.kind, runtime)
    scores = after(rows)
    score_map = None
    if request.is_recalibrated:
        score_map = fit_score_map(scores, parent_scores)
        model_bytes = append_score_map(
            model_bytes,
            score_output=score_place.output,
            score_column=score_place.column,
            slope=score_map.slope,
            offset=score_map.offset,
        )
        score_place = ScoreOutput(output=SCORE_MAP_OUTPUT)
        after = _load(parent, model_bytes, score_place, request.kind, runtime)
        scores = after(rows)
    tell(60)

    throughput = measure_throughput(
        {"parent": before, "quantised": after}, rows[:THROUGHPUT_ROWS_MAX], run_s=request.throughput_run_s
    )
    tell(80)
    report = Report(
        parent_version=parent.bundle.manifest.version,
        kind=request.kind,
        parent_bytes=len(parent.bundle.model_bytes),
        model_bytes=len(model_bytes),
        calibration_rows=len(calibration) if request.kind == "int8-static" else 0,
        difference=measure_difference(parent_scores, scores, [item.score for item in parent.bundle.manifest.thresholds]),
        parent_quality=measure_quality(request.outcomes, parent_scores) if request.outcomes else None,
        quality=measure_quality(request.outcomes, scores) if request.outcomes else None,
        throughput=throughput,
        score_map=score_map,
        parent_scores=parent_scores,
        scores=scores,
        broken=(),
        place=None,
    )
    broken = broken_limits(request.limits, report)
    if broken:
        return replace(report, broken=broken)
    place = pack_bundle(_pack_request(parent, request, model_bytes, score_place), out, runtime)
    tell(100)
    return replace(report, place=place)


def choose_calibration(rows: PackedRows, scores: Scores, rows_max: int) -> NDArray[np.int64]:
    """Positions of at most `rows_max` rows, spread over the ranked scores and, for half of them, over the highest hundredth: the
    frauds are rare, and their activations are the widest."""
    return choose_golden(rows, scores, rows_max)


def fit_score_map(scores: Scores, parent_scores: Scores) -> ScoreMap:
    """The map whose result is nearest to the parent's scores by cross entropy (Platt's, with the parent's scores in the place of
    labels): thresholds keep their meaning. Raises InputError where scores are no probabilities, or do not rise together."""
    for values in (scores, parent_scores):
        if values.min() < 0 or values.max() > 1:
            raise InputError("--recalibrate: the scores are not probabilities (from 0 to 1), so they have no logit")
    logits = _logit(scores)
    slope, offset = 1.0, 0.0
    for _ in range(_NEWTON_STEPS_MAX):
        mapped = 1 / (1 + np.exp(-(slope * logits + offset)))
        error, weight = mapped - parent_scores, mapped * (1 - mapped)
        gradient = np.array([(error * logits).sum(), error.sum()])
        hessian = np.array(
            [[(weight * logits**2).sum(), (weight * logits).sum()], [(weight * logits).sum(), weight.sum()]]
        ) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        slope, offset = slope - float(step[0]), offset - float(step[1])
        if np.abs(step).max() < 1e-9:
            break
    if not (np.isfinite(slope) and np.isfinite(offset) and slope > 0):
        raise InputError("--recalibrate: the quantised scores do not rise with the parent's; quantising broke this model")
    return ScoreMap(slope, offset)


def broken_limits(limits: Limits, report: Report) -> tuple[str, ...]:
    """The limits that do not hold, in words. REQUIRES: what they are about was measured."""
    measured: list[tuple[str, float | None, float | None]] = [
        ("score difference", report.difference.score_difference_max, limits.score_difference_max),
        ("share of decisions that flip", report.difference.decision_flips_share, limits.decision_flips_max),
    ]
    for what, name, limit in (
        ("drop of AUC", "auc", limits.auc_drop_max),
        ("drop of average precision", "average_precision", limits.average_precision_drop_max),
        ("drop of card precision", "card_precision", limits.card_precision_drop_max),
    ):
        before = getattr(report.parent_quality, name, None)
        drop = None if before is None else before - getattr(report.quality, name)
        measured.append((what, drop, limit))
    return tuple(
        f"{what} {value:.6g}, the limit is {limit:g}"
        for what, value, limit in measured
        if limit is not None and value is not None and value > limit
    )


# --- implementation ---

_NEWTON_STEPS_MAX = 50


def _check_convertible(parent: Candidate, request: QuantizeRequest) -> None:
    manifest, inspection = parent.bundle.manifest, parent.inspection
    if inspection.is_tree_ensemble:
        reason = "trees compare values with thresholds and multiply nothing: there is nothing to quantise"
        raise BundleRefusedError(MODEL_FILE, reason, "serve it as it is; fewer or shallower trees are what makes it smaller")
    if inspection.is_int8 or manifest.lineage.parent is not None:
        raise BundleRefusedError(MODEL_FILE, "it is a converted model already", "convert the FP32 bundle that it came from")
    if request.outcomes is None and request.limits.need_outcomes:
        raise InputError("a limit on AUC, average precision or card precision: give --label-column, so that it can be measured")
    if request.limits.card_precision_drop_max is not None and (request.outcomes is None or request.outcomes.cards is None):
        raise InputError("--card-precision-drop-max: give --card-column, so that it can be measured")
    if request.version == manifest.version:
        raise InputError(f"--version: {request.version} is the parent's own; a version never changes: choose another")


def _convert(parent: Candidate, request: QuantizeRequest, calibration: PackedRows, observe: Callable[[int, int], None]) -> bytes:
    return convert_model(
        parent.bundle.model_bytes,
        request.kind,
        parent.inspection,
        unpack_rows(parent.plan, calibration),
        score_output=parent.bundle.manifest.score.output,
        calibration=request.calibration,
        kept_nodes=request.kept_nodes,
        observe=observe,
    )


def _load(parent: Candidate, model_bytes: bytes, score: ScoreOutput, kind: ConversionName, runtime: OrtRuntime) -> Scorer:
    model = OrtModel(runtime, model_bytes)
    return _make_scorer(parent, model, score, 1 if kind == "int8-dynamic" else BATCH_ROWS_MAX_DEFAULT)


def _make_scorer(parent: Candidate, model: OrtModel, score: ScoreOutput, batch_rows_max: int) -> Scorer:
    output = [value.name for value in model.outputs].index(score.output)
    return make_scorer(model, parent.plan, output, score.column, batch_rows_max)


def _pack_request(parent: Candidate, request: QuantizeRequest, model_bytes: bytes, score: ScoreOutput) -> PackRequest:
    """Everything but the model, the score's place and the rows is the parent's."""
    manifest = parent.bundle.manifest
    lineage, explanation = manifest.lineage, manifest.explanation
    tolerance = request.batch_tolerance
    if tolerance is None:
        tolerance = max(manifest.batch_tolerance, FP16_BATCH_TOLERANCE) if request.kind == "fp16" else manifest.batch_tolerance
    return PackRequest(
        name=manifest.name,
        version=request.version,
        model_bytes=model_bytes,
        feature_set_bytes=parent.bundle.files[FEATURE_SET_FILE],
        rows=request.rows,
        commit=Commit(lineage.git_commit, is_dirty=lineage.git_is_dirty),
        data_sha256=lineage.data_sha256,
        score_output=score.output,
        score_column=score.column,
        thresholds=manifest.thresholds,
        tensor_features={item.tensor: item.features for item in manifest.inputs},
        batch_tolerance=tolerance,
        golden_tolerance=max(manifest.golden_tolerance, GOLDEN_TOLERANCE),
        timeout_ms=manifest.timeout_ms,
        mlflow_run=lineage.mlflow_run,
        parameters=lineage.parameters,
        # What trained the parent; assay and the libraries of ONNX are those that converted it.
        libraries={name: version for name, version in lineage.libraries.items() if not name.startswith(("assay", "onnx"))},
        is_batch_dependent=request.kind == "int8-dynamic",
        training=manifest.training,
        # The same file: what the two say of a transaction can be compared.
        background_bytes=parent.bundle.files.get(BACKGROUND_FILE),
        background_rows=None if explanation else 0,
        reasons=ReasonsFile(groups=explanation.groups, reasons=explanation.reasons) if explanation else ReasonsFile(),
        parent=Parent(version=manifest.version, manifest_sha256=parent.bundle.manifest_sha256, conversion=request.kind),
    )


def _logit(scores: Scores) -> Scores:
    clipped = np.clip(scores, PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
    logits: Scores = np.log(clipped / (1 - clipped))
    return logits
