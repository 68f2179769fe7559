"""Is every score accounted for?"""

from __future__ import annotations

from layout import ANSWERED, Dashboard, Panel, Query, Row, now, rate

AUDIT = Dashboard(
    "audit",
    "assay: audit",
    [
        Row(
            "Is every score accounted for?",
            [
                Panel("State", [Query(f"{now('assay_audit_state')} == 1", "{{instance}} {{state}}")], kind="stat", width=6),
                Panel(
                    "Spool that waits to be shipped",
                    [Query(f"{now('assay_audit_unshipped_bytes')} / {now('assay_audit_spool_limit_bytes')}")],
                    "percentunit",
                    "stat",
                    width=6,
                    thresholds=(0.8, 0.95),
                ),
                Panel(
                    "Oldest record that is not shipped",
                    [Query(now("assay_audit_oldest_unshipped_seconds"))],
                    "s",
                    "stat",
                    width=6,
                    thresholds=(300, 900),
                ),
                Panel(
                    "Dropped since the start",
                    [Query(f"sum by (instance) ({now('assay_audit_dropped_records_total')})")],
                    kind="stat",
                    width=6,
                    thresholds=(1, 2),
                ),
                Panel(
                    "Records, and answers",
                    [
                        Query(rate("assay_audit_records_total", "job"), "records"),
                        Query(rate("assay_rows_total", "job", ANSWERED), "answered rows"),
                    ],
                    "ops",
                ),
                Panel("Records that are not shipped", [Query(now("assay_audit_unshipped_records"))]),
                Panel("Their age", [Query(now("assay_audit_oldest_unshipped_seconds"))], "s"),
                Panel(
                    "Spool, bytes",
                    [Query(now("assay_audit_spool_bytes")), Query(now("assay_audit_spool_limit_bytes"), "{{instance}} limit")],
                    "bytes",
                ),
                Panel(
                    "Dropped, by cause",
                    [Query(rate("assay_audit_dropped_records_total", "instance, cause"), "{{instance}} {{cause}}")],
                    "ops",
                ),
                Panel(
                    "Failures, by operation",
                    [Query(rate("assay_audit_failures_total", "instance, operation"), "{{instance}} {{operation}}")],
                    "ops",
                ),
            ],
        ),
    ],
)
