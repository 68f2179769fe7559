"""What explanations and recorded scores are in assay.v1's words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from assay.audit.records import names_of_bits
from assay.errors import InputError
from assay.v1 import scoring_pb2 as pb

if TYPE_CHECKING:
    from assay.audit.records import Entry
    from assay.v1.audit_pb2 import LineageRecord, ScoreRecord

_REASONS_MAX: Final = 4  # by the contract
_MAGNITUDE_MAX: Final = 1e100  # sums of such numbers are numbers
# As audit records show what JSON has no number for.
_NO_NUMBERS: Final[dict[Any, float]] = {None: math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def shortened(explanation: pb.Explanation, top_k: int) -> pb.Explanation:
    """With at most `top_k` contributions (0: all); what the others contribute is in the rest. Raises InputError where a number is
    none, or so large that nothing can be drawn of it."""
    numbers = [explanation.base_margin, explanation.margin, explanation.base_score, explanation.residual]
    numbers += [explanation.rest_contribution, *(one.contribution for one in explanation.reasons)]
    for one in explanation.contributions:
        numbers += [one.contribution, one.score_contribution, one.standard_error]
    if not all(abs(number) <= _MAGNITUDE_MAX for number in numbers):
        raise InputError("the explanation holds something that is no number: nothing can be shown of it")
    found = pb.Explanation()
    found.CopyFrom(explanation)
    if top_k:
        found.rest_contribution += sum(one.contribution for one in found.contributions[top_k:])
        del found.contributions[top_k:]
    del found.reasons[_REASONS_MAX:]
    return found


def score_response(entry: Entry, explanation: pb.Explanation | None, status: int) -> pb.ScoreResponse:
    """What the answer was, as far as it is on record, and why. `entry`: of a score."""
    score, lineage = entry.record.score, entry.lineage
    response = pb.ScoreResponse(
        transaction_id=score.transaction_id,
        decision=score.decision,
        explanation=explanation,
        explanation_status=status,  # type: ignore[arg-type]
    )
    if not math.isnan(score.score):
        response.score = score.score
    if lineage is not None:
        response.provenance.CopyFrom(lineage.provenance)
        response.degradations.extend(_degradations(score, lineage))
        response.missing_features.extend(names_of_bits(score.missing, lineage))
        response.imputed_features.extend(names_of_bits(score.imputed, lineage))
    inputs = entry.known.inputs_of(score) if entry.known else None
    for name, value in (inputs or {}).items():
        _put(response.inputs.add(name=name).value, value)
    return response


# --- implementation ---


def _degradations(score: ScoreRecord, lineage: LineageRecord) -> Iterator[pb.Degradation]:
    for item in score.degradations:
        view = lineage.views[item.view] if item.view < len(lineage.views) else ""
        yield pb.Degradation(kind=item.kind, subject=view, detail=item.reason)


def _put(message: pb.FeatureValue, value: Any) -> None:
    value = _NO_NUMBERS.get(value, value)
    if isinstance(value, bool):  # before int, which it also is
        message.bool_value = value
    elif isinstance(value, int):
        message.int64_value = value
    else:
        message.double_value = value
