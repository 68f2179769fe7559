"""`assay explain --bundle`: a bundle explains rows of a file, and rows of the audit log, as the server would that serves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from assay._core import OrtRuntime
from assay.cli.explain_told import Importance, Mean, Told, method_word
from assay.cli.output import EXIT_REFUSED, console, fail
from assay.errors import InputError
from assay.explain.row_explainer import RowExplainer
from assay.features.rows import input_columns
from assay.models.device import CPU, make_session
from assay.models.explainer import make_explaining
from assay.models.golden import spread
from assay.models.ort_library import find_library
from assay.models.pack import check_rows, packed_rows, read_rows
from assay.models.refusal import BundleRefusedError
from assay.models.verify import BATCH_ROWS_MAX_DEFAULT, Candidate, find_score_output, make_scorer, make_step, read_candidate
from assay.v1.scoring_pb2 import Explanation

if TYPE_CHECKING:
    from assay.features.rows import PackedRows
    from assay.models.invariance import Scorer

_ROWS_AT_ONCE: Final = 256  # scored, then explained, before progress is told


@dataclass(frozen=True)
class BundleExplainer(RowExplainer):
    """A bundle whose files fit together and whose golden scores its explainer explains."""

    path: Path
    candidate: Candidate

    def decision(self, score: float) -> str:
        """By the manifest's thresholds, which ascend."""
        thresholds = self.bundle.manifest.thresholds
        return next((one.decision for one in reversed(thresholds) if score >= one.score), "approve")

    def values(self, row: PackedRows) -> dict[str, str]:
        """Of the inputs of one packed row, (1, row_bytes)."""
        return {name: f"{column[0]:.6g}" for name, column in input_columns(self.plan, row).items()}


def load_explainer(path: Path) -> BundleExplainer:
    """Ends the command where the bundle is refused, or explains nothing."""
    try:
        with console.status("loading the bundle", spinner="line"):
            candidate = read_candidate(path, make_step(None))
            score = _make_scorer(candidate)
            explaining = make_explaining(
                candidate.bundle, candidate.plan, candidate.explanation, candidate.golden_rows, candidate.golden_scores, score
            )
    except BundleRefusedError as error:
        fail(f"{path}: {error.file}: {error.reason}", EXIT_REFUSED, hint=error.mend)
    if explaining.explained is None:
        said = explaining.detail.removeprefix("none: ")
        fail(
            f"{path}: its scores cannot be explained: {said}", EXIT_REFUSED, hint="docs/explanations.md says which models can be"
        )
    basis = candidate.explanation
    assert basis is not None, "who explains has a background"
    return BundleExplainer(candidate.bundle, candidate.plan, basis, explaining.explained, score, path, candidate)


def tell_row(explainer: BundleExplainer, file: Path, number: int, *, is_by_input: bool, top_k: int) -> Told:
    """Why one row of the file, counted from 0, scores as it does. Raises InputError."""
    rows = _rows(explainer, file)
    if number >= len(rows):
        raise InputError(f"--row {number}: {file} has {len(rows):,} rows, counted from 0")
    row = rows[number : number + 1]
    score = float(explainer.score(row)[0])
    found = explainer.explain(row.tobytes(), score, is_by_input=is_by_input, top_k=top_k)
    return Told(
        source="bundle",
        model=explainer.name,
        version=explainer.version,
        score=score,
        decision=explainer.decision(score),
        status="withheld" if found is None else "given",
        explanation=found,
        values=explainer.values(row),
        mend="assay model check says whether the bundle explains its golden rows",
        is_by_input=is_by_input,
        file=str(file),
        row=number,
    )


def measure_importance(
    explainer: BundleExplainer,
    file: Path,
    *,
    rows_max: int,
    is_by_input: bool,
    top_k: int,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Importance:
    """Of at most `rows_max` rows, evenly spread over the file. Raises InputError where not one could be explained."""
    all_rows = _rows(explainer, file)
    rows = all_rows[spread(len(all_rows), rows_max)]
    players = _players(explainer, is_by_input=is_by_input)
    absolute, signed = dict.fromkeys(players, 0.0), dict.fromkeys(players, 0.0)
    count, last = 0, Explanation()
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        progress(first, len(rows))
        part = rows[first : first + _ROWS_AT_ONCE]
        for row, score in zip(part, explainer.score(part), strict=True):
            found = explainer.explain(row.tobytes(), float(score), is_by_input=is_by_input)
            if found is None:
                continue
            count, last = count + 1, found
            for one in last.contributions:
                absolute[one.player] += abs(one.contribution)
                signed[one.player] += one.contribution
    if count == 0:
        raise InputError(f"{file}: no explanation of its {len(rows):,} rows adds up to the row's score")
    means = sorted((Mean(name, absolute[name] / count, signed[name] / count) for name in players), key=lambda one: -one.absolute)
    return Importance(
        model=explainer.name,
        version=explainer.version,
        file=str(file),
        rows=count,
        rows_in_file=len(all_rows),
        rows_withheld=len(rows) - count,
        method=method_word(last.method),
        background_sha256=last.background_sha256,
        base_margin=last.base_margin,
        means=means[:top_k],
        rest=sum(one.absolute for one in means[top_k:]),
        players=len(means),
        is_by_input=is_by_input,
    )


# --- implementation ---


def _rows(explainer: BundleExplainer, file: Path) -> PackedRows:
    given = read_rows(file)
    check_rows(given, explainer.candidate.feature_set)
    return packed_rows(given, explainer.plan)


def _make_scorer(candidate: Candidate) -> Scorer:
    """On the CPU. Raises BundleRefusedError."""
    bundle = candidate.bundle
    session = make_session(OrtRuntime(str(find_library())), bundle.model_bytes, CPU)
    output = find_score_output(session, bundle.manifest)
    batch_rows_max = bundle.manifest.batch_rows_max(BATCH_ROWS_MAX_DEFAULT)
    return make_scorer(session, candidate.plan, output, bundle.manifest.score.column, batch_rows_max)


def _players(explainer: BundleExplainer, *, is_by_input: bool) -> list[str]:
    if is_by_input:
        return list(explainer.plan.input_names)
    return list(explainer.basis.players)
