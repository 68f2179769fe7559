"""Why scores on record are what they are: which record counts, what follows from it, and when a model explains its row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay._core import ExplainedModel, OrtRuntime
from assay.audit.records import Entry
from assay.audit.searching import find_transaction
from assay.audit.segments import log_directories
from assay.demo.paths import bundle_path
from assay.errors import InputError
from assay.explain.messages import score_response, shortened
from assay.explain.record import RecordedScore, add_texts, choose, why_no_row
from assay.explain.recorded_scores import ExplainError, RecordedScores
from assay.models.golden import parse_golden
from assay.models.ort_library import find_library
from assay.models.verify import VerifiedModel, make_scorer, verify_bundle
from assay.v1 import audit_pb2
from assay.v1 import scoring_pb2 as pb
from tests.support.audit_logs import SCORE_BYTES, append, label, open_log, spool_with_key
from tests.support.explained_records import explanation_record, hand_made, score_record

ANY, GROUPS, INPUTS = pb.EXPLAIN_PLAYERS_UNSPECIFIED, pb.EXPLAIN_PLAYERS_GROUPS, pb.EXPLAIN_PLAYERS_INPUTS


def entries_of(spool: Path, transaction_id: str = "t") -> list[Entry]:
    return find_transaction(log_directories(spool), transaction_id, lambda _: None)


def chosen_of(spool: Path, players: int = ANY) -> RecordedScore:
    chosen = choose(entries_of(spool), players)
    assert chosen is not None
    return chosen


def behind(received_us: int, **fields: Any) -> audit_pb2.AuditRecord:
    """An explanation that came later than the score."""
    record = explanation_record(score_received_us=received_us, transaction_id="t", lineage=1, **fields)
    return audit_pb2.AuditRecord(explanation=record)


def test_the_newest_score_with_an_explanation_by_the_players_that_were_named(tmp_path: Path) -> None:
    spool = hand_made(
        tmp_path,
        score_record(received_us=1, explanation_status=1, explanation=explanation_record(players=INPUTS)),
        score_record(received_us=2, explanation_status=3),
        score_record(received_us=3),
        behind(2),
    )
    found = {players: chosen_of(spool, players) for players in (ANY, GROUPS, INPUTS)}
    assert {players: one.entry.record.score.received_us for players, one in found.items()} == {ANY: 2, GROUPS: 2, INPUTS: 1}
    assert [found[players].is_by_input for players in (ANY, GROUPS, INPUTS)] == [False, False, True]
    assert {one.score_count for one in found.values()} == {3}


def test_without_one_the_newest_score_and_without_a_score_none(tmp_path: Path) -> None:
    spool = hand_made(tmp_path / "one", score_record(received_us=1), score_record(received_us=2), behind(7))
    chosen = chosen_of(spool)
    assert (chosen.entry.record.score.received_us, chosen.record, chosen.explanation()) == (2, None, None)
    shadow = audit_pb2.AuditRecord(shadow=audit_pb2.ScoreRecord(transaction_id="t", lineage=1, score=0.5))
    assert choose(entries_of(hand_made(tmp_path / "two", shadow)), ANY) is None


def test_of_an_id_that_stands_everywhere_only_the_newest_records_are_kept(tmp_path: Path) -> None:
    spool = hand_made(tmp_path, *(score_record(received_us=at) for at in range(1, 31)))  # ten in a block
    limited = find_transaction(log_directories(spool), "t", lambda _: None, newest=3)
    assert [entry.record.score.received_us for entry in limited] == [28, 29, 30]
    assert len(entries_of(spool)) == 30


def test_once_a_log_has_given_enough_its_older_segments_are_not_read(tmp_path: Path) -> None:
    log = open_log(spool_with_key(tmp_path))
    append(log, (label("t", SCORE_BYTES) for _ in range(3_000)))
    log.close()
    logs = log_directories(tmp_path)
    assert len(logs[0].segments()) > 2

    def blocks_read(newest: int | None, found: int) -> int:
        steps: list[None] = []
        entries = find_transaction(logs, "t", lambda _: None, go_on=lambda: steps.append(None), newest=newest)
        assert len(entries) == found
        return len(steps)

    assert blocks_read(2, 2) < blocks_read(None, 3_000) / 2


def test_a_search_lets_others_in_within_a_block(tmp_path: Path) -> None:
    log = open_log(spool_with_key(tmp_path))
    append(log, (label("t") for _ in range(200)), per_block=200)
    log.close()
    times: list[None] = []
    assert len(find_transaction(log_directories(tmp_path), "t", lambda _: None, go_on=lambda: times.append(None))) == 200
    assert len(times) >= 200 / 8


@pytest.mark.parametrize(("space", "base_score"), [(0, 1 / (1 + math.e)), (1, 1 / (1 + math.e)), (2, -1.0)])
def test_what_a_record_leaves_out_follows_from_it(space: int, base_score: float, tmp_path: Path) -> None:
    record = explanation_record(standard_errors=[0.25, 0.0], reason_codes=["CODE"], margin_space=space)
    found = chosen_of(hand_made(tmp_path, score_record(explanation_status=1, explanation=record))).explanation()
    assert found is not None
    assert found.base_score == pytest.approx(base_score)
    first = found.contributions[0]
    assert (first.player, first.contribution, first.standard_error) == ("both", 1.5, 0.25)
    assert sum(one.score_contribution for one in found.contributions) == pytest.approx(0.5 - base_score)
    assert [(one.code, one.direction) for one in found.reasons] == [("CODE", pb.REASON_DIRECTION_RAISES_RISK)]


def test_a_response_has_what_the_log_has_and_no_score_where_there_was_none(tmp_path: Path) -> None:
    spool = hand_made(
        tmp_path,
        score_record(
            score=math.nan,
            decision=4,
            row=bytes.fromhex("0000c07f0000803f"),  # NaN, 1.0
            missing=b"\x01" + bytes(7),
            imputed=b"\x02" + bytes(7),
            degradations=[audit_pb2.AuditDegradation(view=9, kind=1, reason="RECORD_VIEW")],
        ),
    )
    (entry,) = entries_of(spool)
    found = score_response(entry, None, pb.EXPLANATION_STATUS_WITHHELD)
    assert not found.HasField("score")
    assert not found.HasField("explanation")
    assert (found.transaction_id, found.decision, found.provenance.model) == ("t", pb.DECISION_DECLINE, "m")
    assert [one.name for one in found.inputs] == ["a", "b"]
    assert math.isnan(found.inputs[0].value.double_value)
    assert found.inputs[1].value.double_value == 1.0
    assert (list(found.missing_features), list(found.imputed_features)) == (["a"], ["b"])
    (degraded,) = found.degradations  # of a view that the lineage does not name
    assert (degraded.kind, degraded.subject, degraded.detail) == (pb.DEGRADATION_KIND_STORE_UNAVAILABLE, "", "RECORD_VIEW")


def test_why_a_record_has_nothing_to_explain() -> None:
    assert "no score" in (why_no_row(audit_pb2.ScoreRecord(score=math.nan, row=b"x")) or "")
    assert "digest" in (why_no_row(audit_pb2.ScoreRecord(score=0.5)) or "")
    assert why_no_row(audit_pb2.ScoreRecord(score=0.5, row=b"x")) is None


@pytest.mark.parametrize(("top_k", "names", "rest"), [(0, ["a", "b"], 0.0), (1, ["a"], 2.0), (2, ["a", "b"], 0.0)])
def test_no_number_of_contributions_is_all_of_them(top_k: int, names: list[str], rest: float) -> None:
    parts = [pb.Contribution(player="a", contribution=3.0), pb.Contribution(player="b", contribution=2.0)]
    found = shortened(pb.Explanation(contributions=parts), top_k)
    assert ([one.player for one in found.contributions], found.rest_contribution) == (names, rest)


def test_what_is_no_number_is_not_told() -> None:
    with pytest.raises(InputError, match="no number"):
        shortened(pb.Explanation(margin=math.nan), 0)


# --- with the demo's model


@pytest.fixture(scope="module")
def model() -> VerifiedModel:
    return verify_bundle(bundle_path(), OrtRuntime(str(find_library())))


def recorded_row(spool: Path, model: VerifiedModel, **fields: Any) -> Path:
    """A log with one golden row and its score, which nobody explained unless `fields` say so."""
    plan, provenance = model.plan, pb.Provenance(model="card_fraud", version="1", model_sha256=model.model_sha256)
    provenance.schema_hash = plan.schema_hash
    groups = model.explanation.players if model.explanation else ()
    lineage = audit_pb2.LineageRecord(
        number=1, row_bytes=plan.row_bytes, provenance=provenance, groups=groups, reasons_version="1"
    )
    for at, name in enumerate(plan.input_names):
        lineage.inputs.add(name=name, type="float32", offset_bytes=4 * at)
    rows, scores = parse_golden(model.bundle.files["golden.npz"], plan)
    score = score_record(**{"row": rows[3].tobytes(), "score": float(scores[3]), **fields})
    log = open_log(spool_with_key(spool))
    append(log, [audit_pb2.AuditRecord(lineage=lineage).SerializeToString(), score.SerializeToString()])
    log.close()
    return spool


def refused(recorded: RecordedScores, transaction_id: str = "t") -> tuple[str, str]:
    with pytest.raises(ExplainError) as caught:
        recorded.explain(transaction_id, ANY, 0)
    return caught.value.reason, str(caught.value)


def test_a_loaded_model_explains_the_row_whose_score_it_gave(model: VerifiedModel, tmp_path: Path) -> None:
    found = RecordedScores(recorded_row(tmp_path, model), lambda: [model]).explain("t", ANY, 2)
    assert (found.source, found.players) == (pb.EXPLANATION_SOURCE_RECORDED_ROW, GROUPS)
    assert found.received_time.ToMicroseconds() == 7
    assert found.response.explanation_status == pb.EXPLANATION_STATUS_GIVEN
    assert len(found.response.explanation.contributions) == 2
    assert found.response.explanation.residual < 1e-9


def test_what_does_not_add_up_is_withheld(model: VerifiedModel, tmp_path: Path) -> None:
    found = RecordedScores(recorded_row(tmp_path, model, score=0.123), lambda: [model]).explain("t", ANY, 0)
    assert found.response.explanation_status == pb.EXPLANATION_STATUS_WITHHELD
    assert not found.response.HasField("explanation")
    assert found.response.score == 0.123


def asked(model: VerifiedModel) -> VerifiedModel:
    """The same, were nothing of the model to be read."""
    basis, manifest = model.explanation, model.bundle.manifest
    assert basis is not None
    score = make_scorer(model.model, model.plan, model.score_output, model.score_column)
    explained = ExplainedModel(
        plan=model.plan,
        model=model.bundle.model_bytes,
        output=manifest.score.output,
        column=manifest.score.column,
        background=basis.background.tobytes(),
        background_sha256=basis.background_sha256,
        groups=basis.player_of_input,
        group_names=basis.players,
        background_scores=score(basis.background).tolist(),
        are_probabilities=True,
    )
    return replace(model, explained=explained)


def test_a_model_that_must_be_asked_is_asked_as_long_as_somebody_waits(model: VerifiedModel, tmp_path: Path) -> None:
    recorded = RecordedScores(recorded_row(tmp_path, model), lambda: [asked(model)])
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    found = recorded.explain("t", ANY, 0, count)
    assert found.response.explanation.method == pb.EXPLANATION_METHOD_PERMUTATION

    class EnoughError(Exception):
        pass

    def end_after(limit: int) -> Callable[[], None]:
        left = iter(range(limit))

        def go_on() -> None:
            if next(left, None) is None:
                raise EnoughError

        return go_on

    for limit in (0, 1, calls - 1):  # before the first segment, in it, before the model is asked the last time
        with pytest.raises(EnoughError):
            recorded.explain("t", ANY, 0, end_after(limit))
    assert recorded.explain("t", ANY, 0, end_after(calls)).response == found.response


def test_a_model_that_is_not_loaded_is_named(model: VerifiedModel, tmp_path: Path) -> None:
    reason, said = refused(RecordedScores(recorded_row(tmp_path, model), list))
    assert reason == "NO_EXPLANATION"
    assert "card_fraud 1, SHA-256" in said
    assert "assay model load" in said


def test_a_model_that_cannot_be_explained_is_said_to_be_one(model: VerifiedModel, tmp_path: Path) -> None:
    silent = replace(model, explanation=None, explained=None)
    assert refused(RecordedScores(recorded_row(tmp_path, model), lambda: [silent]))[0] == "EXPLAIN_UNSUPPORTED"


def test_what_is_not_on_record_is_not_found_and_its_id_not_repeated(model: VerifiedModel, tmp_path: Path) -> None:
    recorded = RecordedScores(recorded_row(tmp_path, model), lambda: [model])
    reason, said = refused(recorded, "4111111111111111")
    assert (reason, said) == ("SCORE_UNKNOWN", "")
    (tmp_path / "key").unlink()
    reason, said = refused(recorded, "4111111111111111")
    assert reason == "IO"
    assert "4111111111111111" not in said


@pytest.mark.parametrize(("version", "has_texts"), [("1", True), ("2", False)])
def test_reasons_have_their_texts_of_the_same_table_alone(version: str, has_texts: bool, model: VerifiedModel) -> None:
    assert model.explanation is not None
    reasons = [pb.Reason(code="AMOUNT_UNUSUAL"), pb.Reason(code="OTHER")]
    parts = [pb.Contribution(player="amount", contribution=2.0)]
    found = pb.Explanation(reasons=reasons, reasons_version=version, contributions=parts)
    assert add_texts(found, model.explanation) is has_texts
    known, other = found.reasons
    assert bool(known.analyst_text) is has_texts
    assert (known.player, known.contribution) == (("amount", 2.0) if has_texts else ("", 0.0))
    assert not other.analyst_text
