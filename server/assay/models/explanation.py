"""What a loaded bundle brings so that its scores can be explained: a background, players, and words for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay._core import FeaturePlan
from assay.features.rows import PackedRows
from assay.models.background import parse_background
from assay.models.bundle import Bundle
from assay.models.invariance import Scorer
from assay.models.manifest import BACKGROUND_FILE, MANIFEST_FILE
from assay.models.reasons import Reason
from assay.models.refusal import BundleRefusedError


@dataclass(frozen=True)
class ExplanationBasis:
    """A player is what gets one contribution: a group of inputs, or an input in no group. Players are numbered in the order of
    their first input.
    """

    background: PackedRows  # (n, plan.row_bytes), 1 <= n <= BACKGROUND_ROWS_MAX: as the core keeps finished rows
    background_sha256: str  # 64 hex digits, of background.npz: names the background wherever an explanation is kept
    players: tuple[str, ...]  # their names
    player_of_input: tuple[int, ...]  # a number of a player for each input, in the order of plan.input_names
    reasons: tuple[Reason | None, ...]  # by player; None: the table has no code for it
    reason_table: str | None  # which wording the reasons are; None: there is no table

    def describe(self) -> str:
        """For people, on one line."""
        told = [reason for reason in self.reasons if reason is not None]
        for_customers = sum(reason.customer is not None for reason in told)
        reasons = f"reasons {self.reason_table} for {len(told)} of them, {for_customers} with a text for customers"
        if self.reason_table is None:
            reasons = "no reasons"
        players = f"{len(self.players)} players of {len(self.player_of_input)} inputs"
        return f"{len(self.background)} background rows; {players}; {reasons}"


def load_explanation(bundle: Bundle, plan: FeaturePlan) -> ExplanationBasis | None:
    """None: the bundle brings no background. Raises BundleRefusedError."""
    section = bundle.manifest.explanation
    if section is None:
        return None
    rows = parse_background(bundle.files[BACKGROUND_FILE], plan)
    if len(rows) != section.background_rows:
        reason = f"explanation.background_rows: {BACKGROUND_FILE} holds {len(rows)} rows, not {section.background_rows}"
        raise BundleRefusedError(MANIFEST_FILE, reason, "pack the model again")
    group_of = {name: group for group, members in (section.groups or {}).items() for name in members}
    player_of = [group_of.get(name, name) for name in plan.input_names]
    numbers = {player: number for number, player in enumerate(dict.fromkeys(player_of))}
    told = {reason.player: reason for reason in (section.reasons.codes if section.reasons else ())}
    return ExplanationBasis(
        background=rows,
        background_sha256=bundle.manifest.files[BACKGROUND_FILE].sha256,
        players=tuple(numbers),
        player_of_input=tuple(numbers[player] for player in player_of),
        reasons=tuple(told.get(player) for player in numbers),
        reason_table=section.reasons.table if section.reasons else None,
    )


def check_background(score: Scorer, explanation: ExplanationBasis) -> None:
    """Scores the background. Raises BundleRefusedError: what nothing can be compared with is refused."""
    if not np.isfinite(score(explanation.background)).all():
        reason = "a background row scores NaN or infinite: no score can be compared with it"
        raise BundleRefusedError(BACKGROUND_FILE, reason, "pack a model whose scores are finite")
