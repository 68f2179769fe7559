"""`assay explain --audit`: the explanation that is on record with a score, or behind it; else the recorded row, explained now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.audit.records import Entry, decision_name, time_text
from assay.audit.searching import find_transaction
from assay.audit.segments import log_directories
from assay.cli.audit_options import say_finding
from assay.cli.explain_players import Players
from assay.cli.explain_told import Told, shortened, status_word
from assay.cli.output import EXIT_REFUSED, bar, console, fail, plain_text
from assay.errors import AssayError, InputError
from assay.v1.scoring_pb2 import (
    EXPLAIN_PLAYERS_INPUTS,
    MARGIN_SPACE_LOG_ODDS,
    MARGIN_SPACE_UNSPECIFIED,
    Contribution,
    Explanation,
    Reason,
)

if TYPE_CHECKING:
    from assay.cli.explain_bundle import BundleExplainer
    from assay.v1.audit_pb2 import ExplanationRecord, LineageRecord, ScoreRecord


def tell_record(spool: Path, transaction: str, explainer: BundleExplainer | None, *, players: Players | None, top_k: int) -> Told:
    """Of the newest score of the transaction that has an explanation on record (by these players, if any are named), else of its
    newest score. Ends the command where the log has none. Raises InputError where the bundle is not the score's."""
    entry, record = _choose(_find(spool, transaction), players)
    if record is not None:
        found = _explanation_of(record, entry)
        if explainer is not None:
            _add_texts(found, explainer, entry)
        is_by_input = record.players == EXPLAIN_PLAYERS_INPUTS
        return _told(entry, "record", "given", shortened(found, top_k), is_by_input=is_by_input)
    score, is_by_input = entry.record.score, players is Players.inputs
    if explainer is None or not _can_be_explained(score):
        status = status_word(score.explanation_status)
        status = "" if status == "given" else status  # by other players, or not to be read
        return _told(entry, "record", status, None, _mend(score, players), is_by_input=is_by_input)
    _check_same_model(explainer, entry)
    found_now = explainer.explain(score.row, score.score, is_by_input=is_by_input, top_k=top_k)
    status = "withheld" if found_now is None else "given"
    mend = "assay audit replay says whether the bundle still gives this score"
    return _told(entry, "bundle", status, found_now, mend, is_by_input=is_by_input)


# --- implementation ---


def _find(spool: Path, transaction: str) -> list[Entry]:
    """All that the log has about it."""
    logs = log_directories(spool)
    if not logs:
        raise InputError(f"--audit {spool}: no server has written an audit log there yet; name audit.spool of the server")
    try:
        with bar("searching") as progress:
            return find_transaction(logs, transaction, say_finding, progress)
    except OSError as error:
        raise AssayError(f"the log cannot be read: {error.filename}: {error.strerror}") from None


def _choose(entries: Sequence[Entry], players: Players | None) -> tuple[Entry, ExplanationRecord | None]:
    """A score and its explanation, the newest first. Those in shadow were given to nobody."""
    scores = [entry for entry in reversed(entries) if entry.type == "score"]
    if not scores:
        fail("the log has no score of this transaction", EXIT_REFUSED, hint="older records make way for newer ones")
    later = {
        (entry.writer, entry.log_id, entry.record.explanation.score_received_us): entry.record.explanation
        for entry in entries
        if entry.type == "explanation"
    }
    explained = []
    for entry in scores:
        score = entry.record.score
        record = (
            score.explanation if score.HasField("explanation") else later.get((entry.writer, entry.log_id, score.received_us))
        )
        if record is not None and _has_players(record, players) and _names(record, entry.lineage) is not None:
            explained.append((entry, record))
    chosen, record = explained[0] if explained else (scores[0], None)
    if len(scores) > 1:
        which = "the newest of them with an explanation" if explained else "the newest"
        said = f"{len(scores):,} scores of this transaction are on record; this is {which}, of {time_text(chosen.written_us)}"
        console.print(plain_text(said), soft_wrap=True)
    return chosen, record


def _has_players(record: ExplanationRecord, players: Players | None) -> bool:
    return players is None or (record.players == EXPLAIN_PLAYERS_INPUTS) == (players is Players.inputs)


def _names(record: ExplanationRecord, lineage: LineageRecord | None) -> list[str] | None:
    """Of the players, one for each contribution. None: the record of the model is missing, or of others."""
    if lineage is None:
        return None
    is_by_input = record.players == EXPLAIN_PLAYERS_INPUTS
    names = [item.name for item in lineage.inputs] if is_by_input else list(lineage.groups)
    has_errors = len(record.standard_errors) in (0, len(names))
    return names if len(names) == len(record.contributions) and has_errors else None


def _explanation_of(record: ExplanationRecord, entry: Entry) -> Explanation:
    """As the answer had it: what a record leaves out follows from what it has."""
    lineage, names, score = entry.lineage, _names(record, entry.lineage), entry.record.score.score
    assert lineage is not None
    assert names is not None
    base_score = _score_at(record, score)
    way = record.margin - record.base_margin
    per_margin = (score - base_score) / way if way else 0.0
    errors = record.standard_errors or [0.0] * len(names)
    parts = [
        Contribution(player=name, contribution=value, standard_error=error, score_contribution=value * per_margin)
        for name, value, error in zip(names, record.contributions, errors, strict=True)
        if value
    ]
    parts.sort(key=lambda one: -abs(one.contribution))
    return Explanation(
        method=record.method,
        background_sha256=lineage.background_sha256,
        base_margin=record.base_margin,
        margin=record.margin,
        base_score=base_score,
        residual=record.residual,
        contributions=parts,
        reasons=[Reason(code=code) for code in record.reason_codes],  # _add_texts() has the rest
        reasons_version="" if record.players == EXPLAIN_PLAYERS_INPUTS else lineage.reasons_version,
        margin_space=record.margin_space,
    )


def _score_at(record: ExplanationRecord, score: float) -> float:
    """An older record does not say whether margins are log-odds; which of the two the score is says it."""
    is_probability = record.margin_space == MARGIN_SPACE_LOG_ODDS
    if record.margin_space == MARGIN_SPACE_UNSPECIFIED:
        is_probability = abs(_logistic(record.margin) - score) < abs(record.margin - score)
    return _logistic(record.base_margin) if is_probability else record.base_margin


def _logistic(margin: float) -> float:
    return 1.0 / (1.0 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1.0 + math.exp(margin))


def _add_texts(found: Explanation, explainer: BundleExplainer, entry: Entry) -> None:
    """A record has the codes of its reasons alone; the bundle's table has their words, and whose they are."""
    _check_same_model(explainer, entry)
    basis = explainer.candidate.explanation
    assert basis is not None, "who explains has a background"
    if found.reasons and basis.reason_table != found.reasons_version:
        said = f"the reasons on record are of table {found.reasons_version}, the bundle has {basis.reason_table}: no texts"
        console.print(plain_text(said, "yellow"), soft_wrap=True)
        return
    known = {reason.code: reason for reason in basis.reasons if reason is not None}
    contributions = {one.player: one.contribution for one in found.contributions}
    for reason in found.reasons:
        told = known.get(reason.code)
        if told is not None:
            reason.player, reason.contribution = told.player, contributions.get(told.player, 0.0)
            reason.analyst_text, reason.customer_text = told.analyst, told.customer or ""


def _check_same_model(explainer: BundleExplainer, entry: Entry) -> None:
    """Raises InputError: another model's explanation, or of other rows, would be no explanation of this score."""
    lineage, candidate = entry.lineage, explainer.candidate
    if lineage is None:
        raise InputError("the record of its model is damaged or missing in its segment: nothing says which bundle gave the score")
    made_by = lineage.provenance
    if made_by.model_sha256 != candidate.bundle.model_sha256:
        raise InputError(
            f"another model gave the score: {made_by.model} {made_by.version}, SHA-256 {made_by.model_sha256[:16]}...; "
            f"{explainer.path} is {explainer.name} {explainer.version}"
        )
    if made_by.schema_hash != candidate.plan.schema_hash or lineage.row_bytes != candidate.plan.row_bytes:
        raise InputError(f"{explainer.path} has the same model file with another feature set: its rows are others")


def _told(entry: Entry, source: str, status: str, found: Explanation | None, mend: str = "", *, is_by_input: bool) -> Told:
    score = entry.record.score
    made_by = entry.lineage.provenance if entry.lineage else None
    inputs = entry.known.inputs_of(score) if entry.known else None
    return Told(
        source=source,
        model=made_by.model if made_by else "",
        version=made_by.version if made_by else "",
        score=None if math.isnan(score.score) else score.score,
        decision=decision_name(score.decision) if score.decision else "",
        status=status,
        explanation=found,
        values={name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in (inputs or {}).items()},
        mend=mend,
        is_by_input=is_by_input,
        transaction_id=score.transaction_id,
        received=time_text(score.received_us),
    )


def _can_be_explained(score: ScoreRecord) -> bool:
    """Of ModelInfer, and where no model gave one, there is no score."""
    return bool(score.row) and not math.isnan(score.score)


def _mend(score: ScoreRecord, players: Players | None) -> str:
    if math.isnan(score.score):
        return "the record has no score that could be explained: it is of ModelInfer, or no model gave one"
    if not score.row:
        return "only a digest of its inputs was kept (audit.inputs): nothing can be explained from that"
    others = "" if players is None else "leave --players out, which shows any that is on record; or "
    return f"{others}name the bundle that gave the score, and its row is explained now: --bundle models/NAME/VERSION"
