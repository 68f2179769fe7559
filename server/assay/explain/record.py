"""The explanation that is on record with a score, or behind it: which one, and what the answer had of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.v1.scoring_pb2 import (
    EXPLAIN_PLAYERS_INPUTS,
    EXPLAIN_PLAYERS_UNSPECIFIED,
    MARGIN_SPACE_LOG_ODDS,
    MARGIN_SPACE_UNSPECIFIED,
    REASON_DIRECTION_RAISES_RISK,
    Contribution,
    Explanation,
    Reason,
)

if TYPE_CHECKING:
    from assay.audit.records import Entry
    from assay.models.explanation import ExplanationBasis
    from assay.v1.audit_pb2 import ExplanationRecord, LineageRecord, ScoreRecord


@dataclass(frozen=True)
class RecordedScore:
    """One score of a transaction, and what is on record of why."""

    entry: Entry  # of type score
    record: ExplanationRecord | None  # None: none that was looked for
    score_count: int  # of this transaction, on record

    @property
    def is_by_input(self) -> bool:
        return self.record is not None and self.record.players == EXPLAIN_PLAYERS_INPUTS

    def explanation(self) -> Explanation | None:
        """All of it, but for the texts of its reasons: add_texts() has those."""
        return None if self.record is None else _explanation_of(self.record, self.entry)


def choose(entries: Sequence[Entry], players: int) -> RecordedScore | None:
    """Of the records of one transaction, oldest first, the newest score with an explanation by these players (an ExplainPlayers;
    unspecified: any), else the newest score. Scores in shadow were given to nobody. None: there is no score."""
    scores = [entry for entry in reversed(entries) if entry.type == "score"]
    if not scores:
        return None
    later = {
        (entry.writer, entry.log_id, entry.record.explanation.score_received_us): entry.record.explanation
        for entry in entries
        if entry.type == "explanation"
    }
    for entry in scores:
        score = entry.record.score
        record = (
            score.explanation if score.HasField("explanation") else later.get((entry.writer, entry.log_id, score.received_us))
        )
        if record is not None and _has_players(record, players) and _names(record, entry.lineage) is not None:
            return RecordedScore(entry, record, len(scores))
    return RecordedScore(scores[0], None, len(scores))


def add_texts(found: Explanation, basis: ExplanationBasis) -> bool:
    """A record has the codes of its reasons alone; the model's table has their words, and whose they are. False: the model has
    another version of that table."""
    if found.reasons and basis.reason_table != found.reasons_version:
        return False
    known = {reason.code: reason for reason in basis.reasons if reason is not None}
    contributions = {one.player: one.contribution for one in found.contributions}
    for reason in found.reasons:
        told = known.get(reason.code)
        if told is not None:
            reason.player, reason.contribution = told.player, contributions.get(told.player, 0.0)
            reason.analyst_text, reason.customer_text = told.analyst, told.customer or ""
    return True


def why_no_row(score: ScoreRecord) -> str | None:
    """Why nothing can be explained from this record, in words. None: it has a row, and that row's score."""
    if math.isnan(score.score):
        return "the record has no score that could be explained: it is of ModelInfer, or no model gave one"
    if not score.row:
        return "only a digest of its inputs was kept (audit.inputs): nothing can be explained from that"
    return None


# --- implementation ---


def _has_players(record: ExplanationRecord, players: int) -> bool:
    is_by_input = record.players == EXPLAIN_PLAYERS_INPUTS
    return players == EXPLAIN_PLAYERS_UNSPECIFIED or is_by_input == (players == EXPLAIN_PLAYERS_INPUTS)


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
        reasons=[Reason(code=code, direction=REASON_DIRECTION_RAISES_RISK) for code in record.reason_codes],
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
