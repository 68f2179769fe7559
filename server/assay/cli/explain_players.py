"""What `assay explain` takes as options, for its help: apart from all that is heavy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from assay.client import Tls
    from assay.v1.scoring_pb2 import ExplainPlayers

TOP_K_MAX: Final = 256  # of bars in a picture, and of lines on a terminal


@dataclass(frozen=True)
class Server:
    """Who is asked, and how. None of `target` or `timeout_s`: as the question has it."""

    target: str | None
    tls: Tls | None
    timeout_s: float | None
    as_json: bool  # errors, too


class Players(StrEnum):
    """What contributes to a score."""

    inputs = "inputs"
    groups = "groups"


def players_number(players: Players | None) -> ExplainPlayers:
    """As the contract has it."""
    from assay.v1 import scoring_pb2 as pb

    if players is None:
        return pb.EXPLAIN_PLAYERS_UNSPECIFIED
    return pb.EXPLAIN_PLAYERS_INPUTS if players is Players.inputs else pb.EXPLAIN_PLAYERS_GROUPS
