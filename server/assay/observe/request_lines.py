"""One line for a call that was chosen for it: everything that is known of it but who and what it was about.

Those that are traced, and a part of the others (log_requests); of all of them a limited number a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from assay._core import CODE_TABLE, DECISIONS, PRIORITIES, RECORD_REASONS, STAGES, CallRecord
from assay.observe.calls import is_explained, method_of, trace_fields
from assay.observe.logs import log_event

log = logging.getLogger("assay.request")

_CHOSEN = RECORD_REASONS["sampled"] | RECORD_REASONS["logged"]


class RequestLines:
    """Told of what is drained once a second. `lines_max` of each time; the rest is counted, and the next line says how many."""

    def __init__(self, lines_max: int) -> None:
        self._lines_max = lines_max
        self._left_out_count = 0

    def tell(self, records: Sequence[CallRecord]) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        chosen = [record for record in records if record.reasons & _CHOSEN]
        for record in chosen[: self._lines_max]:
            log_event(log, logging.INFO, "request", **request_fields(record), left_out_before=self._left_out_count or None)
            self._left_out_count = 0
        self._left_out_count += len(chosen[self._lines_max :])


def only_traced(tell: Callable[[Sequence[CallRecord]], None]) -> Callable[[Sequence[CallRecord]], None]:
    """Without the calls that were recorded for a line and for nothing else: they have no span."""

    def tell_traced(records: Sequence[CallRecord]) -> None:
        if traced := [record for record in records if record.reasons != RECORD_REASONS["logged"]]:
            tell(traced)

    return tell_traced


def request_fields(record: CallRecord) -> dict[str, Any]:
    """The fields of its line. Times are milliseconds; a stage that was not reached is left out. Never an id or a value of a
    request."""
    row = CODE_TABLE[record.answer]
    failure = CODE_TABLE[record.failure]
    return {
        "method": method_of(record),
        "model": record.model or None,
        "version": record.version or None,
        "code": grpc.StatusCode.OK.name if record.answer == 0 else _GRPC_NAMES[row.grpc_code],
        "reason": row.reason if record.answer else failure.reason if record.failure else None,
        "decision": _DECISIONS.get(record.decision),
        "priority": _PRIORITIES.get(record.priority),
        "total_ms": _ms(record.ended_ns - record.stamps_ns[0]) if record.stamps_ns[0] else None,
        **_stage_times(record),
        "rows": record.row_count,
        "failed_rows": record.failed_rows or None,
        "batch_rows": record.batch_rows or None,
        "is_degraded": record.is_degraded or None,
        **trace_fields(record),
    }


# --- implementation ---

_GRPC_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_DECISIONS = {number: name for name, number in DECISIONS.items()}
_PRIORITIES = {number: name for name, number in PRIORITIES.items()}


def _ms(ns: int) -> float:
    return round(ns / 1e6, 4)


def _stage_times(record: CallRecord) -> dict[str, float]:
    stamps = record.stamps_ns
    reached = [(name, stamps[start], stamps[end]) for name, start, end in STAGES if stamps[start] and stamps[end]]
    if not is_explained(record):
        reached = [stage for stage in reached if stage[0] != "explain"]
    return {f"{name}_ms": _ms(end_ns - start_ns) for name, start_ns, end_ns in reached if end_ns >= start_ns}
