"""Scores in a server's own audit log, and why they are what they are: from the record, else from the recorded row, which the
model that gave the score explains now, if it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from assay.audit.records import Entry
from assay.audit.searching import find_transaction
from assay.audit.segments import log_directories
from assay.errors import AssayError, CoreError, InputError
from assay.explain.messages import score_response, shortened
from assay.explain.record import RecordedScore, add_texts, choose, why_no_row
from assay.explain.row_explainer import RowExplainer, find_obstacle
from assay.models.refusal import BundleRefusedError
from assay.models.verify import BATCH_ROWS_MAX_DEFAULT, VerifiedModel, make_scorer
from assay.v1 import scoring_pb2 as pb
from assay.v1.audit_pb2 import LineageRecord

RECORDS_MAX = 1_000  # about one transaction that a log is asked for, the newest: one id may stand in millions

GoOn = Callable[[], None]  # called again and again; what it raises ends what is under way


class ExplainError(AssayError):
    """There is no explanation. `reason`: by the table of codes. The message never has the transaction's id."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class RecordedScores:
    """Of the logs under `spool`. `models`: those that are loaded now. Any thread; reads files of gigabytes."""

    def __init__(self, spool: Path, models: Callable[[], Sequence[VerifiedModel]]) -> None:
        self._spool = spool
        self._models = models

    def explain(self, transaction_id: str, players: int, top_k: int, go_on: GoOn = lambda: None) -> pb.ExplainResponse:
        """Of the newest score of the transaction with an explanation on record (by these players, if any are named), else of its
        newest score. Raises ExplainError."""
        chosen = choose(self._find(transaction_id, go_on), players)
        if chosen is None:
            raise ExplainError("SCORE_UNKNOWN")
        if chosen.record is not None:
            return self._from_record(chosen, top_k)
        return self._from_row(chosen.entry, players, top_k, go_on)

    # --- implementation ---

    def _find(self, transaction_id: str, go_on: GoOn) -> list[Entry]:
        try:
            logs = log_directories(self._spool)
            return find_transaction(logs, transaction_id, lambda _: None, go_on=go_on, newest=RECORDS_MAX)
        except OSError as error:
            raise ExplainError("IO", f"the audit log cannot be read: {error.strerror}") from None
        except InputError as error:
            raise ExplainError("IO", str(error)) from None

    def _from_record(self, chosen: RecordedScore, top_k: int) -> pb.ExplainResponse:
        found = chosen.explanation()
        assert found is not None
        model = self._model_of(chosen.entry.lineage)
        if model is not None and model.explanation is not None:
            add_texts(found, model.explanation)
        try:
            found = shortened(found, top_k)
        except InputError as error:
            raise ExplainError("NO_EXPLANATION", str(error)) from None
        return _response(chosen.entry, found, pb.EXPLANATION_SOURCE_ON_RECORD, is_by_input=chosen.is_by_input)

    def _from_row(self, entry: Entry, players: int, top_k: int, go_on: GoOn) -> pb.ExplainResponse:
        score, is_by_input = entry.record.score, players == pb.EXPLAIN_PLAYERS_INPUTS
        if no_row := why_no_row(score):
            raise ExplainError("NO_EXPLANATION", no_row)
        model = self._model_of(entry.lineage)
        if model is None:
            raise ExplainError("NO_EXPLANATION", _why_not_loaded(entry.lineage))
        explainer = _row_explainer(model)
        try:
            found = explainer.explain(score.row, score.score, is_by_input=is_by_input, top_k=top_k, go_on=go_on)
        except CoreError as error:
            raise ExplainError(error.reason, error.message) from None
        except (BundleRefusedError, InputError) as error:
            raise ExplainError("NO_EXPLANATION", str(error)) from None
        return _response(entry, found, pb.EXPLANATION_SOURCE_RECORDED_ROW, is_by_input=is_by_input)

    def _model_of(self, lineage: LineageRecord | None) -> VerifiedModel | None:
        """The loaded model that gave scores of this lineage, under whatever version."""
        return next((model for model in self._models() if find_obstacle(lineage, model.bundle, model.plan) is None), None)


# --- implementation ---


def _row_explainer(model: VerifiedModel) -> RowExplainer:
    """Raises ExplainError."""
    if model.explanation is None or model.explained is None:
        raise ExplainError("EXPLAIN_UNSUPPORTED", "the model that gave the score; assay model check says why")
    # Beside a card's session, whose memory is reckoned for its own batches, there is one on the CPU.
    session = model.standby or model.model
    rows_max = model.bundle.manifest.batch_rows_max(BATCH_ROWS_MAX_DEFAULT)
    score = make_scorer(session, model.plan, model.score_output, model.score_column, rows_max)
    return RowExplainer(model.bundle, model.plan, model.explanation, model.explained, score)


def _why_not_loaded(lineage: LineageRecord | None) -> str:
    if lineage is None:
        return "the record of its model is damaged or missing in its segment: nothing says which model gave the score"
    made_by = lineage.provenance
    which = f"{made_by.model} {made_by.version}, SHA-256 {made_by.model_sha256[:16]}..."
    return (
        f"{which}, gave the score, and is not loaded: load it (assay model load), or explain the score with its bundle (assay "
        "explain --audit SPOOL --bundle PATH)"
    )


def _response(entry: Entry, found: pb.Explanation | None, source: int, *, is_by_input: bool) -> pb.ExplainResponse:
    status = pb.EXPLANATION_STATUS_WITHHELD if found is None else pb.EXPLANATION_STATUS_GIVEN
    response = pb.ExplainResponse(
        response=score_response(entry, found, status),
        source=source,  # type: ignore[arg-type]
        players=pb.EXPLAIN_PLAYERS_INPUTS if is_by_input else pb.EXPLAIN_PLAYERS_GROUPS,
    )
    response.received_time.FromMicroseconds(entry.record.score.received_us)
    return response
