"""The audit log as families of the Prometheus page."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import Metric

from assay._core import AuditStats
from assay.observe.families import counter, counters, gauge, gauges

STATES = ("writing", "reserve", "full", "off")


def audit_families(stats: AuditStats | None, *, bytes_max: int, has_sink: bool) -> Iterator[Metric]:
    """`stats`: None where nothing is recorded."""
    state = stats.state if stats else "off"
    states = {name: float(name == state) for name in STATES}
    yield gauges("assay_audit_state", "1 for the state that the audit log is in", "state", states)
    if stats is None:
        return
    yield counter("assay_audit_records", "Records that this process has written", stats.recorded)
    dropped = {**stats.dropped, "ring": stats.ring_dropped}
    text = "Scores that have no record any more, or never had one, by cause"
    yield counters("assay_audit_dropped_records", text, "cause", dropped)
    failures = {"write": stats.write_failures, "sync": stats.sync_failures, "allocate": stats.allocation_failures}
    yield counters("assay_audit_failures", "What the disk did not do", "operation", failures)
    yield counter("assay_audit_blocks", "Blocks of records that were committed together", stats.blocks)
    yield gauge("assay_audit_spool_bytes", "Room that the spool takes on the disk", stats.bytes)
    yield gauge("assay_audit_spool_limit_bytes", "Most that it may take: audit.spool_bytes_max", bytes_max)
    yield gauge("assay_audit_buffer_bytes", "Records that wait to be written", stats.buffer_bytes)
    yield gauge("assay_audit_buffer_limit_bytes", "Most that may wait", stats.buffer_bytes_max)
    if has_sink:
        unshipped = stats.next_sequence - 1 - stats.shipped_sequence
        age_s = time.time() - stats.oldest_unshipped_us / 1e6 if stats.oldest_unshipped_us else 0.0
        yield from shipping_families(unshipped, stats.unshipped_bytes, max(0.0, age_s))


def shipping_families(unshipped: int, unshipped_bytes: int, oldest_s: float) -> Iterator[Metric]:
    """How far the sink is behind."""
    yield gauge("assay_audit_unshipped_records", "Records that the sink does not have yet", unshipped)
    yield gauge("assay_audit_unshipped_bytes", "Room of the segments with such records, which may not make way", unshipped_bytes)
    yield gauge("assay_audit_oldest_unshipped_seconds", "Age of the segment with the oldest of them", oldest_s)
