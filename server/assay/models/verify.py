"""Proves a bundle before it serves: from bytes on disk to a model that scored its golden rows, in any batch, and is warm.

Each step has a name (CHECKS) and either says what it found or refuses with the file, the reason and what to do. Nothing of the
model runs in this process before a child process has parsed it and found nothing wrong (inspect_onnx.py).
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from assay._core import DECISIONS, ExplainedModel, FeaturePlan, OrtModel, OrtRuntime
from assay.errors import CoreError, FeatureSetError
from assay.features.compile import TensorMapping, compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.rows import PackedRows
from assay.models import inspect_onnx
from assay.models.baseline import Baseline, parse_baseline
from assay.models.bundle import Bundle, check_hashes, check_place, read_files
from assay.models.card_memory import BatchFit, cuda_free_bytes, fit_batches
from assay.models.cuda_build import build_of
from assay.models.device import CPU, CPU_WISH, Device, DeviceWish, Placement, choose_device, find_cuda_obstacle, make_session
from assay.models.explainer import Explaining, make_explaining
from assay.models.explanation import ExplanationBasis, check_background, load_explanation
from assay.models.golden import parse_golden
from assay.models.inspection import OnnxInspection, inspect_model
from assay.models.invariance import Scorer, buckets_up_to, measure_batch_effect
from assay.models.manifest import (
    BASELINE_FILE,
    FEATURE_SET_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    Manifest,
    parse_manifest,
    utc_text,
)
from assay.models.quiet import rest_after
from assay.models.refusal import BundleRefusedError

BATCH_ROWS_MAX_DEFAULT: Final = 256
CHECKS: Final = (
    "files",
    "manifest",
    "hashes",
    "feature set",
    "rows",
    *inspect_onnx.CHECKS,
    "device",
    "session",
    "batch invariance",
    "golden scores",
    "explanation",
    "warm-up",
)


@dataclass(frozen=True)
class VerifiedModel:
    """A bundle that proved itself, ready to become a lane."""

    bundle: Bundle
    feature_set: FeatureSet
    plan: FeaturePlan
    placement: Placement  # the device that the model proved itself on
    model: OrtModel
    standby: OrtModel | None  # with a card: the same model on the CPU, proved there too
    score_output: int
    score_column: int
    thresholds: tuple[tuple[float, int], ...]  # (score, number of the decision), ascending
    baseline: Baseline
    explanation: ExplanationBasis | None  # None: the bundle brings none
    explained: ExplainedModel | None  # None: its scores cannot be explained
    row_run_ns: int  # median run of one golden row, warm
    has_fixed_work: bool  # a row's values cannot make a run long (fixed_work.py)
    card_fit: BatchFit | None = None  # on a card: which batches its memory holds

    @property
    def name(self) -> str:
        return self.bundle.manifest.name

    @property
    def version(self) -> str:
        return self.bundle.manifest.version

    def batch_rows_max(self, wanted: int) -> int:
        """Most rows of a batch, where the server would take `wanted`: its manifest may say 1, and nothing makes a card hold more
        than was measured."""
        rows_max = self.bundle.manifest.batch_rows_max(wanted)
        return rows_max if self.card_fit is None else min(rows_max, self.card_fit.rows_max)

    @property
    def model_sha256(self) -> str:
        return self.bundle.model_sha256

    @property
    def feature_set_text(self) -> str:
        return f"{self.feature_set.name} {self.feature_set.version}"

    @property
    def timeout_ns_default(self) -> int:
        return self.bundle.manifest.timeout_ms * 1_000_000


@dataclass(frozen=True)
class CheckResult:
    """One step: what it found, or the refusal."""

    check: str
    detail: str
    refusal: BundleRefusedError | None = None


@dataclass
class Finding:
    """What a step says when it passes."""

    detail: str = ""


Observer = Callable[[CheckResult], None]
Step = Callable[[str], AbstractContextManager[Finding]]  # runs the named step; a refusal in it is observed and goes on


@dataclass(frozen=True)
class Candidate:
    """A bundle whose files fit together; no session has run yet."""

    bundle: Bundle
    feature_set: FeatureSet
    plan: FeaturePlan
    golden_rows: PackedRows
    golden_scores: NDArray[np.float64]
    baseline: Baseline
    explanation: ExplanationBasis | None
    inspection: OnnxInspection


@dataclass(frozen=True)
class SessionProof:
    """A session that scored right, in any batch, on the device that it will serve on."""

    model: OrtModel
    score_output: int
    row_run_ns: int
    card_fit: BatchFit | None
    explained: ExplainedModel | None


def verify_bundle(
    path: Path,
    runtime: OrtRuntime,
    *,
    wish: DeviceWish = CPU_WISH,
    batch_rows_max: int = BATCH_ROWS_MAX_DEFAULT,
    observe: Observer | None = None,
) -> VerifiedModel:
    """Loads the bundle at `path` (NAME/VERSION) and proves it on the device that `wish` leads to. Blocks for a second or more;
    call it off the event loop.

    `observe` sees every step as it ends. Raises BundleRefusedError (a BundleError) at the first step that says no.
    """
    step = make_step(observe)
    candidate = read_candidate(path, step)

    def prove(device: Device, step: Step) -> SessionProof:
        return prove_session(candidate, runtime, device, wish, batch_rows_max, step)

    steps_there: list[CheckResult] = []
    with step("device") as found:
        placement, proof = choose_device(
            wish,
            lambda: find_cuda_obstacle(
                runtime, is_tree_ensemble=candidate.inspection.is_tree_ensemble, is_int8=candidate.inspection.is_int8
            ),
            lambda device: prove(device, make_step(steps_there.append)),
        )
        found.detail = str(placement)
    standby = None
    if proof is None:
        proof = prove(placement.device, step)
    else:
        for result in steps_there if observe else ():
            observe(result)  # type: ignore[misc]
        standby = _prove_standby(lambda: prove(CPU, make_step(None)))

    manifest = candidate.bundle.manifest
    return VerifiedModel(
        bundle=candidate.bundle,
        feature_set=candidate.feature_set,
        plan=candidate.plan,
        placement=placement,
        model=proof.model,
        standby=standby,
        score_output=proof.score_output,
        score_column=manifest.score.column,
        thresholds=decision_thresholds(manifest),
        baseline=candidate.baseline,
        explanation=candidate.explanation,
        explained=proof.explained,
        row_run_ns=proof.row_run_ns,
        has_fixed_work=candidate.inspection.has_fixed_work,
        card_fit=proof.card_fit,
    )


def read_candidate(path: Path, step: Step) -> Candidate:
    """The steps before a session: what lies on disk, and whether it belongs together."""
    with step("files") as found:
        raw = read_files(path)
        found.detail = f"{len(raw.files)} files, {sum(map(len, raw.files.values())):,} bytes"
    with step("manifest") as found:
        manifest = parse_manifest(raw.files[MANIFEST_FILE])
        check_place(raw.path, manifest)
        found.detail = f"{manifest.name} {manifest.version}, {_lineage(manifest)}"
    with step("hashes") as found:
        check_hashes(raw.files, manifest)
        found.detail = f"model sha256 {manifest.files[MODEL_FILE].sha256[:16]}..."
    bundle = Bundle(raw.path, manifest, hashlib.sha256(raw.files[MANIFEST_FILE]).hexdigest(), raw.files)

    with step("feature set") as found:
        feature_set = load_feature_set(bundle)
        plan = compile_plan(feature_set, tensor_mappings(manifest))
        found.detail = (
            f"{feature_set.name} {feature_set.version}, {len(plan.input_names)} inputs, schema {feature_set.schema_hash[:16]}..."
        )
    with step("rows") as found:
        rows, scores = parse_golden(bundle.files[GOLDEN_FILE], plan)
        baseline = parse_baseline(bundle.files[BASELINE_FILE], feature_set.input_names)
        explanation = load_explanation(bundle, plan)
        background = f", {len(explanation.background)} in the background" if explanation else ""
        found.detail = f"{len(rows)} golden, {baseline.rows:,} in the baseline{background}"

    inspection = inspect_model(bundle.model_bytes, MODEL_FILE)
    check_inspection(inspection, step)
    return Candidate(bundle, feature_set, plan, rows, scores, baseline, explanation, inspection)


def prove_session(
    candidate: Candidate, runtime: OrtRuntime, device: Device, wish: DeviceWish, batch_rows_max: int, step: Step
) -> SessionProof:
    """The steps of a session on one device. `wish`: for its limits of memory on a CUDA device."""
    manifest, plan, rows = candidate.bundle.manifest, candidate.plan, candidate.golden_rows
    batch_rows_max = manifest.batch_rows_max(batch_rows_max)
    card_fit = None
    with step("session") as found:
        model = make_session(runtime, candidate.bundle.model_bytes, device, wish.memory_bytes_max)
        score_output = find_score_output(model, manifest)
        found.detail = f"ONNX Runtime {runtime.version}, score is {manifest.score.output}[{manifest.score.column}]"
        if device.cuda_index is not None:
            card_fit = _fit_on_card(
                model, candidate, runtime, device.cuda_index, score_output, batch_rows_max, wish.memory_reserve_bytes
            )
            batch_rows_max = card_fit.rows_max
            found.detail += f"; on the card {card_fit}"
            if card_fit.obstacle:
                del model  # its arena keeps what it has grown to
                model = make_session(runtime, candidate.bundle.model_bytes, device, wish.memory_bytes_max)
    scorer = make_scorer(model, plan, score_output, manifest.score.column, batch_rows_max)
    # First: where the batch changes scores, no score can be compared with anything.
    with step("batch invariance") as found:
        if manifest.is_batch_dependent:
            found.detail = (
                "not measured: the manifest says that the batch changes scores, so each row is served in a batch of one"
            )
        else:
            found.detail = check_invariance(scorer, plan, rows, manifest.batch_tolerance, batch_rows_max)
    with step("golden scores") as found:
        found.detail = check_golden(scorer, rows, candidate.golden_scores, manifest.golden_tolerance)
    with step("explanation") as found:
        explaining = _prove_explaining(candidate, scorer)
        found.detail = explaining.detail
    with step("warm-up") as found:
        buckets = buckets_up_to(batch_rows_max)
        for batch_rows in buckets:
            scorer(np.take(rows, range(batch_rows), axis=0, mode="wrap"))
        row_run_ns = round(statistics.median(model.time_rows(plan, rows, score_output)))
        found.detail = f"batches of {', '.join(map(str, buckets))}; {row_run_ns / 1000:.0f} us a row alone"
        if not candidate.inspection.has_fixed_work:
            found.detail += ", but a row's values may make it longer: never run inline"
    return SessionProof(model, score_output, row_run_ns, card_fit, explaining.explained)


# --- the steps ---


def _prove_explaining(candidate: Candidate, scorer: Scorer) -> Explaining:
    if candidate.explanation is not None:
        check_background(scorer, candidate.explanation)
    return make_explaining(
        candidate.bundle, candidate.plan, candidate.explanation, candidate.golden_rows, candidate.golden_scores, scorer
    )


def load_feature_set(bundle: Bundle) -> FeatureSet:
    """The bundle's own feature set, compared with what the manifest says of it."""
    reference = bundle.manifest.feature_set
    try:
        feature_set = FeatureSet.parse(bundle.files[FEATURE_SET_FILE].decode("utf-8"), FEATURE_SET_FILE)
    except UnicodeDecodeError:
        raise BundleRefusedError(FEATURE_SET_FILE, "not UTF-8 text", "pack the model again") from None
    if feature_set.schema_hash != reference.schema_hash:
        reason = f"its schema hash is {feature_set.schema_hash}, the model was trained on {reference.schema_hash}"
        raise BundleRefusedError(
            FEATURE_SET_FILE,
            reason,
            "pack the model with the feature set of its training, or train it again (assay features diff compares two)",
        )
    if (feature_set.name, feature_set.version) != (reference.name, reference.version):
        raise BundleRefusedError(FEATURE_SET_FILE, "its name or version is not the manifest's", "pack the model again")
    return feature_set


def tensor_mappings(manifest: Manifest) -> list[TensorMapping]:
    """What fills each ONNX input, for compile_plan()."""
    return [TensorMapping(item.tensor, item.dtype, tuple(item.features)) for item in manifest.inputs]


def check_inspection(inspection: OnnxInspection, step: Step) -> None:
    """Turns what the child process found into steps."""
    details = {
        "onnx": f"{inspection.node_count} nodes, {inspection.constant_bytes:,} bytes of constants",
        "external data": "none",
        "opset": ", ".join(f"{domain} {version}" for domain, version in sorted(inspection.opsets.items())),
        "operators": ", ".join(sorted({name.rsplit(":", 1)[1] for name in inspection.operators})[:8]),
        "size": "within limits",
        "batch axis": "; ".join(f"{tensor.name} [batch, {', '.join(map(str, tensor.dims))}]" for tensor in inspection.inputs[:4]),
    }
    for check in inspect_onnx.CHECKS:
        with step(check) as found:
            problems = [problem for problem in inspection.problems if problem.check == check]
            if problems:
                raise BundleRefusedError(MODEL_FILE, "; ".join(problem.reason for problem in problems), problems[0].mend)
            found.detail = details[check]


def find_score_output(model: OrtModel, manifest: Manifest) -> int:
    """The index of the score's output, checked: a float tensor with a batch axis and enough columns."""
    names = [output.name for output in model.outputs]
    if names != manifest.outputs:
        raise BundleRefusedError(MANIFEST_FILE, f"outputs: the model has {', '.join(names)[:200]}", "pack the model again")
    index = names.index(manifest.score.output)
    output = model.outputs[index]
    mend = f"pack with --score-output and --score-column of a float output; the model has {', '.join(names)[:200]}"
    if output.onnx_type not in _SCORE_TYPES:
        raise BundleRefusedError(MANIFEST_FILE, "score.output: the output is not float32 or float64", mend)
    columns = math.prod(output.dims)
    if columns > 0 and manifest.score.column >= columns:
        raise BundleRefusedError(MANIFEST_FILE, f"score.column: the output has {columns} column(s), counted from 0", mend)
    return index


def make_scorer(model: OrtModel, plan: FeaturePlan, output: int, column: int, batch_rows_max: int | None = None) -> Scorer:
    """Scores packed rows (n, row_bytes) -> (n,): in one batch, or in several of at most `batch_rows_max`."""

    def run(rows: PackedRows) -> NDArray[np.float64]:
        with rest_after():
            outputs = model.run_rows(plan, np.ascontiguousarray(rows), output)
        if outputs.shape[0] != len(rows) or column >= outputs.shape[1]:
            reason = f"{len(rows)} rows gave an output of shape {outputs.shape}, the score is in column {column}"
            raise BundleRefusedError(MODEL_FILE, reason, "export the model with one output row per input row")
        return outputs[:, column]

    # Not one function that calls itself: it would hold the session until the garbage collector comes.
    def score(rows: PackedRows) -> NDArray[np.float64]:
        if batch_rows_max is None or len(rows) <= batch_rows_max:
            return run(rows)
        return np.concatenate([run(rows[first : first + batch_rows_max]) for first in range(0, len(rows), batch_rows_max)])

    return score


def check_golden(score: Scorer, rows: PackedRows, expected: NDArray[np.float64], tolerance: float) -> str:
    """Scores the golden rows and compares. Returns what was found."""
    difference = np.abs(score(rows) - expected)
    if not np.isfinite(difference).all():
        raise BundleRefusedError(GOLDEN_FILE, "a golden row scores NaN or infinite", "pack a model whose scores are finite")
    worst = float(difference.max())
    if worst > tolerance:
        count = int((difference > tolerance).sum())
        reason = f"{count} of {len(rows)} golden rows score differently, by up to {worst:.3g} (allowed: {tolerance:g})"
        raise BundleRefusedError(
            GOLDEN_FILE, reason, "this is not the model that was packed, or this machine computes differently: pack it again here"
        )
    return f"{len(rows)} rows, " + ("bit-identical" if worst == 0 else f"within {worst:.3g}")


def check_invariance(score: Scorer, plan: FeaturePlan, rows: PackedRows, tolerance: float, batch_rows_max: int) -> str:
    """Measures whether the batch changes a score. Returns what was found."""
    effect = measure_batch_effect(score, plan, rows, batch_rows_max)
    if not effect.is_finite:
        raise BundleRefusedError(
            MODEL_FILE, "a row made of golden values scores NaN or infinite", "clip or normalise inside the model"
        )
    if effect.change_max > tolerance:
        mend = "quantise statically (calibrated QDQ) instead of dynamically, or declare it: assay model pack --batch-tolerance"
        raise BundleRefusedError(MODEL_FILE, f"{effect.describe()}; the manifest allows {tolerance:g}", mend)
    return effect.describe()


def decision_thresholds(manifest: Manifest) -> tuple[tuple[float, int], ...]:
    """As Engine.add_lane() takes them."""
    return tuple((threshold.score, DECISIONS[threshold.decision]) for threshold in manifest.thresholds)


# --- implementation ---


def _prove_standby(prove: Callable[[], SessionProof]) -> OrtModel:
    """The session on the CPU that answers what the card cannot. A bundle that fails there is refused: its scores would depend on
    what is down."""
    try:
        return prove().model
    except BundleRefusedError as error:
        reason = f"on the CPU, which answers when the card cannot: {error.reason}"
        raise BundleRefusedError(error.file, reason, error.mend) from error


def _fit_on_card(
    model: OrtModel,
    candidate: Candidate,
    runtime: OrtRuntime,
    cuda_index: int,
    score_output: int,
    batch_rows_max: int,
    reserve_bytes: int,
) -> BatchFit:
    """Runs golden rows in every batch size, as far as the card's memory goes."""
    scorer = make_scorer(model, candidate.plan, score_output, candidate.bundle.manifest.score.column)
    build = build_of(Path(runtime.library_path))

    def run(rows: int) -> None:
        scorer(np.take(candidate.golden_rows, range(rows), axis=0, mode="wrap"))

    return fit_batches(buckets_up_to(batch_rows_max), run, lambda: cuda_free_bytes(build, cuda_index), reserve_bytes)


_SCORE_TYPES = (1, 11)  # ONNX: float32, float64


def make_step(observe: Observer | None) -> Step:
    """Steps that tell `observe` how they ended. Errors of the rooms below become refusals."""

    @contextmanager
    def step(check: str) -> Iterator[Finding]:
        finding = Finding()
        try:
            yield finding
        except (CoreError, FeatureSetError, BundleRefusedError) as error:
            refusal = _as_refusal(check, error)
            if observe:
                observe(CheckResult(check, refusal.reason, refusal))
            raise refusal from error
        if observe:
            observe(CheckResult(check, finding.detail))

    return step


def _as_refusal(check: str, error: CoreError | FeatureSetError | BundleRefusedError) -> BundleRefusedError:
    if isinstance(error, BundleRefusedError):
        return error
    if isinstance(error, FeatureSetError):
        return BundleRefusedError(FEATURE_SET_FILE, str(error), "mend the feature set and pack the model again")
    return BundleRefusedError(
        MODEL_FILE,
        f"{check}: {error.message}",
        "the model does not run as the manifest says: check its inputs and export it again",
    )


def _lineage(manifest: Manifest) -> str:
    dirty = "+dirty" if manifest.lineage.git_is_dirty else ""
    return f"made {utc_text(manifest.lineage.created)} from {manifest.lineage.git_commit[:12]}{dirty}"
