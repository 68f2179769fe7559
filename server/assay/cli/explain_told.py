"""Why one score is what it is, whoever says it: a server, a bundle, the audit log. And what many have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from assay.cli.explain_players import Players
from assay.v1.scoring_pb2 import Explanation, ExplanationMethod, ExplanationStatus


@dataclass(frozen=True)
class Told:
    """One score, and its explanation or why there is none. Names and texts are as they came: not fit to be shown."""

    source: str  # server, bundle or record: who made the explanation, or would have
    model: str
    version: str
    score: float | None  # None: no model scored
    decision: str  # empty: none was made
    status: str  # of STATUS_WORDS, or a number that this version does not know; empty: nothing was said of one
    explanation: Explanation | None
    values: Mapping[str, str] = field(default_factory=dict)  # of the model's inputs, as far as they are known
    mend: str = ""  # where there is no explanation: what to do
    is_by_input: bool = False
    transaction_id: str = ""
    received: str = ""  # when a server received the transaction, where that is known
    file: str = ""  # or the score is of this row, counted from 0, of a file
    row: int | None = None

    @property
    def subject(self) -> str:
        """What the score is of, in words."""
        if self.row is not None:
            return f"row {self.row} of {self.file}"
        return f"transaction {self.transaction_id}" + (f", received {self.received}" if self.received else "")


@dataclass(frozen=True)
class Mean:
    """One player over many rows, in margin space."""

    player: str
    absolute: float  # of |contribution|: how much it matters
    signed: float  # of the contribution: where it pushes on the whole


@dataclass(frozen=True)
class Importance:
    """What matters to a model over the rows of a file."""

    model: str
    version: str
    file: str
    rows: int  # that were explained
    rows_in_file: int
    rows_withheld: int  # whose explanation did not add up
    method: str
    background_sha256: str
    base_margin: float
    means: Sequence[Mean]  # the strongest first
    rest: float  # the absolute means of the others together
    players: int  # all of them
    is_by_input: bool


STATUS_WORDS: Final = {
    "": "nothing was said of an explanation",
    "given": "it was given",
    "not_wanted": "the score is none of those that were to be explained",
    "later": "it is on its way to the audit log",
    "shed": "there was no room for it",
    "late": "it was not ready in time",
    "withheld": "it did not add up to the score, and was withheld",
    "suspended": "explanations failed too often and rest for a while",
}
METHOD_WORDS: Final = {
    "trees": "exact, from the model's trees",
    "linear": "exact, from the model's weights",
    "permutation": "estimated, by asking the model about rows that are part transaction, part background",
}


def status_word(number: int) -> str:
    """Of STATUS_WORDS; of a newer version's status its number."""
    if number not in ExplanationStatus.values():
        return f"number {number}"
    return ExplanationStatus.Name(number).removeprefix("EXPLANATION_STATUS_").lower() if number else ""


def method_word(number: int) -> str:
    if number not in ExplanationMethod.values():
        return f"number {number}"
    return ExplanationMethod.Name(number).removeprefix("EXPLANATION_METHOD_").lower() if number else ""


def score_per_margin(explanation: Explanation) -> float:
    """What a margin of 1 is worth in the score, by the explanation's own contributions. 0: there are none."""
    return next((one.score_contribution / one.contribution for one in explanation.contributions if one.contribution), 0.0)


def document(told: Told) -> dict[str, Any]:
    """As programs read it; what is absent is null."""
    return {
        "source": told.source,
        "transaction_id": told.transaction_id or None,
        "received": told.received or None,
        "file": told.file or None,
        "row": told.row,
        "model": told.model,
        "version": told.version,
        "score": told.score,
        "decision": told.decision or None,
        "explanation_status": told.status or None,
        "explanation": None if told.explanation is None else _explanation(told.explanation, is_by_input=told.is_by_input),
    }


def importance_document(importance: Importance) -> dict[str, Any]:
    """As programs read it."""
    return {
        "model": importance.model,
        "version": importance.version,
        "file": importance.file,
        "rows": importance.rows,
        "rows_in_file": importance.rows_in_file,
        "rows_withheld": importance.rows_withheld,
        "method": importance.method,
        "background_sha256": importance.background_sha256,
        "base_margin": importance.base_margin,
        "players": _players(is_by_input=importance.is_by_input),
        "player_count": importance.players,
        "importance": [
            {"player": mean.player, "mean_absolute_contribution": mean.absolute, "mean_contribution": mean.signed}
            for mean in importance.means
        ],
        "rest_mean_absolute_contribution": importance.rest,
    }


# --- implementation ---


def _explanation(found: Explanation, *, is_by_input: bool) -> dict[str, Any]:
    return {
        "method": method_word(found.method),
        "background_sha256": found.background_sha256,
        "base_margin": found.base_margin,
        "margin": found.margin,
        "base_score": found.base_score,
        "residual": found.residual,
        "players": _players(is_by_input=is_by_input),
        "contributions": [
            {
                "player": one.player,
                "contribution": one.contribution,
                "standard_error": one.standard_error,
                "score_contribution": one.score_contribution,
            }
            for one in found.contributions
        ],
        "rest_contribution": found.rest_contribution,
        "reasons_version": found.reasons_version or None,
        "reasons": [
            {
                "code": one.code,
                "player": one.player or None,
                "contribution": one.contribution if one.player else None,
                "analyst_text": one.analyst_text or None,
                "customer_text": one.customer_text or None,
            }
            for one in found.reasons
        ],
    }


def _players(*, is_by_input: bool) -> str:
    return str(Players.inputs if is_by_input else Players.groups)
