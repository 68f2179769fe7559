"""`assay explain --audit`: the explanation that is on record with a score, or behind it; else the recorded row, explained now."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from assay.audit.records import Entry, decision_name, time_text
from assay.audit.searching import find_transaction
from assay.audit.segments import log_directories
from assay.cli.audit_options import say_finding
from assay.cli.explain_players import Players, players_number
from assay.cli.explain_told import Told, status_word
from assay.cli.output import EXIT_REFUSED, bar, console, fail, plain_text
from assay.errors import AssayError, InputError
from assay.explain.messages import shortened
from assay.explain.record import RecordedScore, add_texts, choose, why_no_row
from assay.explain.row_explainer import find_obstacle

if TYPE_CHECKING:
    from assay.cli.explain_bundle import BundleExplainer
    from assay.v1.scoring_pb2 import Explanation


def tell_record(spool: Path, transaction: str, explainer: BundleExplainer | None, *, players: Players | None, top_k: int) -> Told:
    """Of the newest score of the transaction that has an explanation on record (by these players, if any are named), else of its
    newest score. Ends the command where the log has none. Raises InputError where the bundle is not the score's."""
    chosen = choose(_find(spool, transaction), players_number(players))
    if chosen is None:
        fail("the log has no score of this transaction", EXIT_REFUSED, hint="older records make way for newer ones")
    _say_which(chosen)
    entry, found = chosen.entry, chosen.explanation()
    if found is not None:
        if explainer is not None:
            _add_texts(found, explainer, entry)
        return _told(entry, "record", "given", shortened(found, top_k), is_by_input=chosen.is_by_input)
    score, is_by_input = entry.record.score, players is Players.inputs
    no_row = why_no_row(score)
    if explainer is None or no_row is not None:
        status = status_word(score.explanation_status)
        status = "" if status == "given" else status  # by other players, or not to be read
        return _told(entry, "record", status, None, no_row or _mend(players), is_by_input=is_by_input)
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


def _say_which(chosen: RecordedScore) -> None:
    """Where there are several."""
    if chosen.score_count > 1:
        which = "the newest" if chosen.record is None else "the newest of them with an explanation"
        when = time_text(chosen.entry.written_us)
        said = f"{chosen.score_count:,} scores of this transaction are on record; this is {which}, of {when}"
        console.print(plain_text(said), soft_wrap=True)


def _add_texts(found: Explanation, explainer: BundleExplainer, entry: Entry) -> None:
    _check_same_model(explainer, entry)
    if not add_texts(found, explainer.basis):
        table = explainer.basis.reason_table
        said = f"the reasons on record are of table {found.reasons_version}, the bundle has {table}: no texts"
        console.print(plain_text(said, "yellow"), soft_wrap=True)


def _check_same_model(explainer: BundleExplainer, entry: Entry) -> None:
    """Raises InputError."""
    obstacle = find_obstacle(entry.lineage, explainer.bundle, explainer.plan)
    if obstacle is not None:
        raise InputError(f"{obstacle}; {explainer.path} is {explainer.name} {explainer.version}")


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


def _mend(players: Players | None) -> str:
    others = "" if players is None else "leave --players out, which shows any that is on record; or "
    return f"{others}name the bundle that gave the score, and its row is explained now: --bundle models/NAME/VERSION"
