"""Exemplars: of each bucket of inference_latency_seconds the last call in it whose trace is told.

They come from the records that tracing takes anyway (sampled, slow, failed, declined), so a call that is not told costs nothing.
At most one is kept for each bucket of a model, version and priority that is served.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Collection, Sequence

from prometheus_client.samples import Exemplar

from assay._core import LATENCY_BOUNDS_NS, STAGES, CallRecord
from assay.observe.latencies import PRIORITY_NAMES

HistogramKey = tuple[str, str, str]
"""Model, version, priority."""


class Exemplars:
    """offer() and of() are different threads'."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[HistogramKey, list[Exemplar | None]] = {}

    def offer(self, records: Sequence[CallRecord]) -> None:
        """Keeps those that have a trace and were counted: a row of the call was answered. All rows of a call are answered at
        once."""
        wall_offset_ns = time.time_ns() - time.monotonic_ns()
        with self._lock:
            for record in records:
                received_ns, answered_ns = record.stamps_ns[STAGES[0][1]], record.stamps_ns[STAGES[-1][2]]
                is_counted = record.answer == 0 and record.failed_rows < record.row_count and answered_ns > 0
                if not record.trace_id or not is_counted or not record.model:
                    continue
                took_ns = answered_ns - received_ns
                key = (record.model, record.version, PRIORITY_NAMES[record.priority - 1])
                kept = self._of.setdefault(key, [None] * (len(LATENCY_BOUNDS_NS) + 1))
                kept[bisect_left(LATENCY_BOUNDS_NS, took_ns)] = Exemplar(
                    {"trace_id": f"{record.trace_id:032x}", "span_id": f"{record.span_id:016x}"},
                    took_ns / 1e9,
                    (answered_ns + wall_offset_ns) / 1e9,
                )

    def of(self, key: HistogramKey) -> Sequence[Exemplar | None]:
        """By bucket; empty: there is none at all."""
        with self._lock:
            return tuple(self._of.get(key, ()))

    def keep(self, served: Collection[tuple[str, str]]) -> None:
        """Forgets models and versions that are not served any more."""
        with self._lock:
            for key in [key for key in self._of if key[:2] not in served]:
                del self._of[key]
