"""Computes a past score again, from the row in its record and the bundle that gave it.

Bits are promised for one build of ONNX Runtime on one class of CPU: there nothing may differ."""

from __future__ import annotations

import enum
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from assay import _core
from assay.audit.records import BITS_OF_WORD, FORMATS, Entry, decision_name
from assay.errors import InputError
from assay.models.device import CPU, make_session
from assay.models.plain import TOLERANCE, VERSION, is_plain, read_plain
from assay.models.refusal import BundleRefusedError
from assay.models.verify import find_score_output, make_scorer, make_step, read_candidate
from assay.v1 import audit_pb2

DECISION_APPROVE: Final = _core.DECISIONS["approve"]


class Outcome(enum.Enum):
    SAME = "same"
    DIFFERENT = "different"
    CANNOT = "cannot"


@dataclass(frozen=True)
class Replay:
    """What came of one record."""

    entry: Entry
    outcome: Outcome
    why: str  # empty: the same
    score: float | None = None  # computed again
    decision: str = "unspecified"  # by the thresholds of the record; of ModelInfer there is none
    row_source: str = "record"  # or "file": the row was given, and is the one of the digest

    def document(self) -> dict[str, Any]:
        recorded = self.entry.score
        assert recorded is not None
        return {
            "writer": self.entry.writer,
            "log_id": self.entry.log_id.hex(),
            "sequence": self.entry.sequence,
            "transaction_id": recorded.transaction_id,
            "outcome": self.outcome.value,
            "why": self.why or None,
            "row_source": self.row_source,
            "recorded": {
                "score": None if math.isnan(recorded.score) else recorded.score,
                "score_hex": recorded.score.hex(),
                "decision": decision_name(recorded.decision),
            },
            "recomputed": None
            if self.score is None
            else {"score": self.score, "score_hex": self.score.hex(), "decision": self.decision},
        }


class Replayer:
    """The models that bundles hold, each with a session like the server's, on the CPU."""

    def __init__(self, bundles: list[Path], runtime: _core.OrtRuntime) -> None:
        """`bundles`: or files of plain models. Raises BundleError where one is refused, CoreError where ONNX Runtime refuses."""
        self.software = f"ONNX Runtime {runtime.version}, {_core.BUILD['cpu']}"
        self._models = dict(_load(path, runtime) for path in bundles)

    @property
    def models(self) -> list[str]:
        return [f"{model.name} {model.version}" for model in self._models.values()]

    def knows(self, entry: Entry) -> bool:
        return entry.lineage is not None and entry.lineage.provenance.model_sha256 in self._models

    def replay(self, entry: Entry, row: bytes | None = None, key: bytes | None = None) -> Replay:
        """`row`: in place of the record's, where that has a digest alone; `key`: the log's, to check digests: of such a row, and
        of the outputs of ModelInfer."""
        recorded, lineage = entry.score, entry.lineage
        assert recorded is not None
        if lineage is None:
            return Replay(entry, Outcome.CANNOT, "the record of its model is damaged or missing in its segment")
        if problem := _row_problem(recorded, lineage, row, key):
            return Replay(entry, Outcome.CANNOT, problem)
        model = self._models.get(lineage.provenance.model_sha256)
        if model is None:
            return Replay(entry, Outcome.CANNOT, self._other_model(lineage))
        if model.plan.schema_hash != lineage.provenance.schema_hash or model.plan.row_bytes != lineage.row_bytes:
            return Replay(
                entry, Outcome.CANNOT, "the bundle has the same model file with another feature set: its rows are others"
            )
        given, row_source = recorded.row or row or b"", "record" if recorded.row else "file"
        if recorded.call == audit_pb2.AUDIT_CALL_MODEL_INFER:
            return self._compare_outputs(entry, lineage, model, given, row_source, key)
        return self._compare(entry, lineage, model, given, row_source)

    # --- implementation ---

    def _compare_outputs(
        self,
        entry: Entry,
        lineage: audit_pb2.LineageRecord,
        model: _Model,
        row: bytes,
        row_source: str,
        key: bytes | None,
    ) -> Replay:
        """A row of ModelInfer: tensors in, tensors out, no decision. The record has the outputs, or a digest of long ones."""
        recorded = entry.score
        assert recorded is not None
        if recorded.outputs:
            is_same = model.outputs(row) == recorded.outputs
        elif key is not None:
            is_same = _core.keyed_digest(model.outputs(row), key) == recorded.outputs_digest
        else:
            why = "the digest of its outputs cannot be checked without the log's key"
            return Replay(entry, Outcome.CANNOT, why, row_source=row_source)
        score = model.score(row) if model.has_score else None
        if is_same:
            return Replay(entry, Outcome.SAME, "", score, row_source=row_source)
        why = "the outputs differ"
        if problem := self._elsewhere(lineage):
            return Replay(entry, Outcome.CANNOT, f"{why}; {problem}", score, row_source=row_source)
        if model.batch_tolerance > 0 and recorded.batch_rows > 1:
            why += f"; they may move with the batch, by {model.batch_tolerance:g}, and it ran with {recorded.batch_rows} rows"
            return Replay(entry, Outcome.CANNOT, why, score, row_source=row_source)
        return Replay(entry, Outcome.DIFFERENT, why, score, row_source=row_source)

    def _elsewhere(self, lineage: audit_pb2.LineageRecord) -> str:
        """Why other bits prove nothing. Empty: they do."""
        if self.software not in lineage.runtime:
            return f"it ran elsewhere: {lineage.runtime}. Here: {self.software}. Bits are promised per build and CPU class"
        if not lineage.runtime.endswith(", cpu"):
            return f"it ran on another device ({lineage.runtime}). Bits are promised per device"
        return ""

    def _compare(self, entry: Entry, lineage: audit_pb2.LineageRecord, model: _Model, row: bytes, row_source: str) -> Replay:
        recorded = entry.score
        assert recorded is not None
        score = model.score(row)
        decision = decide(score, lineage)
        is_same = struct.pack("<d", score) == struct.pack("<d", recorded.score)
        if is_same and decision == recorded.decision:
            return Replay(entry, Outcome.SAME, "", score, decision_name(decision), row_source)
        why = "the score differs" if not is_same else "the score is the same, the decision differs"
        if not is_same and (problem := self._elsewhere(lineage)):
            return Replay(entry, Outcome.CANNOT, f"{why}; {problem}", score, decision_name(decision), row_source)
        moved = abs(score - recorded.score)
        if 0 < moved <= model.batch_tolerance and recorded.batch_rows > 1:
            why += (
                f" by {moved:.2g}; its manifest lets scores move with the batch, by {model.batch_tolerance:g}, and it ran with "
            )
            why += f"{recorded.batch_rows} rows"
            if decide(recorded.score, lineage) == recorded.decision:
                return Replay(entry, Outcome.CANNOT, why, score, decision_name(decision), row_source)
        return Replay(entry, Outcome.DIFFERENT, why, score, decision_name(decision), row_source)

    def _other_model(self, lineage: audit_pb2.LineageRecord) -> str:
        found = lineage.provenance
        return (
            f"another model gave it: {found.model} {found.version}, model.onnx with SHA-256 {found.model_sha256[:16]}...; "
            f"given was {', '.join(self.models)}"
        )


def decide(score: float, lineage: audit_pb2.LineageRecord) -> int:
    """As the server decided, by the thresholds that it had."""
    decision = DECISION_APPROVE
    for threshold in lineage.thresholds:
        if score < threshold.score:
            break
        decision = threshold.decision
    return decision


def pack_row(inputs: Mapping[str, Any], lineage: audit_pb2.LineageRecord) -> bytes:
    """A row of inputs as the model was given them; null is NaN. Raises InputError, which never shows a value."""
    row = bytearray(lineage.row_bytes)
    names = {item.name for item in lineage.inputs}
    if not names:
        raise InputError("a model without a feature set: its rows are tensors, and cannot be given by names")
    if inputs.keys() != names:
        wrong = sorted(names ^ inputs.keys())
        raise InputError(f"the row needs exactly the model's {len(names)} inputs; missing or unknown: {', '.join(wrong[:5])}")
    for item in lineage.inputs:
        form, value = FORMATS.get(item.type), inputs[item.name]
        is_number = isinstance(value, int | float) or value is None
        if form is None or not is_number or (value is None and not item.type.startswith("float")):
            raise InputError(f"{item.name}: expected a {item.type}")
        try:
            struct.pack_into(form, row, item.offset_bytes, math.nan if value is None else value)
        except (struct.error, OverflowError) as error:
            raise InputError(f"{item.name}: expected a {item.type}") from error
    return bytes(row)


def digest_of(row: bytes, score: audit_pb2.ScoreRecord, lineage: audit_pb2.LineageRecord, key: bytes) -> bytes:
    """What ScoreRecord.row_digest is for this row."""
    words = (len(lineage.inputs) + BITS_OF_WORD - 1) // BITS_OF_WORD
    return _core.keyed_digest(row + (score.missing or bytes(8 * words)), key)


# --- implementation ---


class _Model:
    """Of a bundle, or of a plain file of ONNX, which has no score."""

    def __init__(self, path: Path, runtime: _core.OrtRuntime) -> None:
        self.has_score = not is_plain(path)
        if self.has_score:
            candidate = read_candidate(path, make_step(None))
            manifest, self.plan = candidate.bundle.manifest, candidate.plan
            self.name, self.version, self.model_sha256 = manifest.name, manifest.version, candidate.bundle.model_sha256
            self.batch_tolerance = manifest.batch_tolerance
            self._session = make_session(runtime, candidate.bundle.model_bytes, CPU)
            score_output = find_score_output(self._session, manifest)
            self._score = make_scorer(self._session, self.plan, score_output, manifest.score.column)
        else:
            plain = read_plain(path)
            self.plan, self.name, self.version, self.model_sha256 = plain.plan, plain.name, VERSION, plain.model_sha256
            self.batch_tolerance = 0.0 if plain.inspection.is_tree_ensemble else TOLERANCE
            self._session = make_session(runtime, plain.data, CPU)

    def score(self, row: bytes) -> float:
        """REQUIRES: has_score."""
        return float(self._score(np.frombuffer(row, np.uint8).reshape(1, -1))[0])

    def outputs(self, row: bytes) -> bytes:
        return self._session.infer_row(self.plan, row)


def _load(path: Path, runtime: _core.OrtRuntime) -> tuple[str, _Model]:
    try:
        model = _Model(path, runtime)
    except BundleRefusedError as error:
        raise InputError(f"{path}: {error.file}: {error.reason}") from error
    return model.model_sha256, model


def _row_problem(recorded: audit_pb2.ScoreRecord, lineage: audit_pb2.LineageRecord, row: bytes | None, key: bytes | None) -> str:
    """Why there is no row to run. Empty: there is."""
    if recorded.row:
        return "" if len(recorded.row) == lineage.row_bytes else "its row has not the length that its model's rows have"
    if not recorded.row_digest:
        return "the record has neither a row nor a digest of one"
    if row is None:
        return (
            "only a digest of its inputs was kept, by the server's policy (audit.inputs): a digest cannot be turned back. "
            "Give the inputs that you have with --row-json FILE: whether they are these can be checked"
        )
    if key is None:
        return "the digest cannot be checked without the log's key"
    if digest_of(row, recorded, lineage, key) != recorded.row_digest:
        return "the inputs that were given are not those of this score: their digest is another"
    return ""
