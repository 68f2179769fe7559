"""Calls worth telling: one thread takes their records from the core once a second and hands them to whoever tells them. Who
wants to look at something now and then does it on the same thread.

The core records a call that was sampled, or turned out slow, failed or declined (ext/core/serving/call_recorder.h).
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from assay._core import CALL_KINDS, CODE_TABLE, RECORD_REASONS, STAGES, CallRecord
from assay.observe.logs import log_event

DRAIN_INTERVAL_S = 1.0

log = logging.getLogger("assay.calls")

((_EXPLAIN_START, _EXPLAIN_END),) = ((start, end) for name, start, end in STAGES if name == "explain")

Tell = Callable[[Sequence[CallRecord]], None]

_METHODS = {
    CALL_KINDS["score"]: "assay.v1.ScoringService/Score",
    CALL_KINDS["batch"]: "assay.v1.ScoringService/ScoreBatch",
    CALL_KINDS["stream"]: "assay.v1.ScoringService/ScoreStream",
    CALL_KINDS["infer"]: "inference.GRPCInferenceService/ModelInfer",
}


def method_of(record: CallRecord) -> str:
    """The full name of the method that was called."""
    return _METHODS[record.kind]


def is_explained(record: CallRecord) -> bool:
    """Whether it has the stage explain. A row that nobody asked to explain was not explained in no time: both stamps are one."""
    return record.stamps_ns[_EXPLAIN_START] != record.stamps_ns[_EXPLAIN_END]


def log_failures(records: Sequence[CallRecord]) -> None:
    """One line for each reason for which calls failed by the server's fault, with the first of them and their count: however many
    calls fail, there are few lines."""
    failed = [record for record in records if record.reasons & RECORD_REASONS["failed"]]
    counts = Counter(_failure(record) for record in failed)
    for record in failed:
        code = _failure(record)
        if count := counts.pop(code, 0):
            log_event(
                log,
                logging.WARNING,
                "calls failed",
                reason=CODE_TABLE[code].reason,
                count=count,
                method=method_of(record),
                model=record.model or None,
                version=record.version or None,
                **trace_fields(record),
            )


def trace_fields(record: CallRecord) -> dict[str, str]:
    """OpenTelemetry's three fields of a log line that is about a traced call."""
    if record.trace_id == 0:
        return {}
    return {
        "trace_id": f"{record.trace_id:032x}",
        "span_id": f"{record.span_id:016x}",
        "trace_flags": f"{int(record.is_sampled):02x}",
    }


class CallWatch:
    """The thread. Starts at once; close() takes what is left and ends it. `polls` are called once a second."""

    def __init__(
        self, drain: Callable[[], Sequence[CallRecord]], tell: Sequence[Tell], polls: Sequence[Callable[[], None]] = ()
    ) -> None:
        self._drain = drain
        self._tell = tell
        self._polls = polls
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="assay-calls", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closing.set()
        self._thread.join()

    # --- implementation ---

    def _run(self) -> None:
        while not self._is_closing.wait(DRAIN_INTERVAL_S):
            self._take()
            self._poll()
        self._take()

    def _poll(self) -> None:
        for poll in self._polls:
            try:
                poll()
            except Exception:  # the thread goes on for the others
                log.exception("a poll failed")

    def _take(self) -> None:
        records = self._drain()
        for tell in self._tell if records else ():
            try:
                tell(records)
            except Exception:  # one who cannot tell must not silence the others
                log.exception("calls were not told")


# --- implementation ---


def _failure(record: CallRecord) -> int:
    """Why: the call's own code, or where the call as a whole was answered, that of its first row that failed."""
    return record.answer or record.failure
