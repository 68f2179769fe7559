"""Records: the remote store, the near-cache, the embedded store, ingestion."""

from __future__ import annotations

from layout import Dashboard, Panel, Query, Row, now, quantile, rate

HITS = rate("assay_near_cache_hits_total", "instance")
MISSES = rate("assay_near_cache_misses_total", "instance")

STORE = Dashboard(
    "store",
    "assay: store and ingestion",
    [
        Row(
            "Look-ups in a remote store",
            [
                Panel("The store is away", [Query(now("assay_store_away"))], thresholds=(0.5, 1)),
                Panel(
                    "Look-up stage",
                    [
                        Query(quantile(q, "assay_stage_seconds", "instance", 'stage="look_up"'), f"{{{{instance}}}} p{name}")
                        for q, name in ((0.5, "50"), (0.99, "99"))
                    ],
                    "s",
                ),
                Panel("Rows that wait for records", [Query(now("assay_looking_up_rows"))]),
                Panel(
                    "Records that were not given",
                    [
                        Query(rate("assay_lookup_unavailable_records_total", "instance")),
                        Query(rate("assay_lookup_given_up_rows_total", "instance"), "{{instance}} rows that stopped waiting"),
                    ],
                    "ops",
                ),
                Panel("Batches of look-ups", [Query(rate("assay_lookup_batches_total", "instance"))], "ops"),
                Panel(
                    "Records that failed a check",
                    [
                        Query(rate("assay_lookup_rejected_records_total", "instance"), "{{instance}} remote"),
                        Query(rate("assay_store_rejected_records_total", "instance"), "{{instance}} embedded"),
                    ],
                    "ops",
                ),
            ],
        ),
        Row(
            "Near-cache",
            [
                Panel(
                    "Hits, share",
                    [Query(f"{HITS} / ({HITS} + {MISSES})")],
                    "percentunit",
                ),
                Panel("Stale records that were used", [Query(rate("assay_near_cache_stale_records_total", "instance"))], "ops"),
                Panel(
                    "Memory",
                    [Query(now("assay_near_cache_bytes")), Query(now("assay_near_cache_limit_bytes"), "{{instance}} limit")],
                    "bytes",
                ),
                Panel("Records", [Query(now("assay_near_cache_records"))]),
                Panel("Evictions", [Query(rate("assay_near_cache_evictions_total", "instance"))], "ops"),
                Panel("Rows that joined another's fetch", [Query(rate("assay_near_cache_joined_rows_total", "instance"))], "ops"),
            ],
        ),
        Row(
            "Embedded store",
            [
                Panel(
                    "Memory",
                    [Query(now("assay_store_bytes")), Query(now("assay_store_limit_bytes"), "{{instance}} limit")],
                    "bytes",
                ),
                Panel("Records", [Query(now("assay_store_records"))]),
                Panel(
                    "Events, by what became of them",
                    [
                        Query(rate("assay_store_events_total", "outcome"), "store {{outcome}}"),
                        Query(rate("assay_events_total", "outcome"), "RecordEvents {{outcome}}"),
                    ],
                    "ops",
                ),
            ],
        ),
        Row(
            "assay ingest --kafka",
            [
                Panel(
                    "Lag, messages",
                    [Query(f"sum by (instance, topic) ({now('assay_ingestion_lag_messages')})", "{{instance}} {{topic}}")],
                ),
                Panel(
                    "Messages, by what became of them",
                    [Query(rate("assay_ingested_messages_total", "topic, outcome"), "{{topic}} {{outcome}}")],
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Rejects, by reason",
                    [
                        Query(rate("assay_ingestion_rejects_total", "reason"), "{{reason}}"),
                        Query(rate("assay_ingestion_wrong_types_total", "field"), "type of {{field}}"),
                    ],
                    "ops",
                ),
                Panel(
                    "Time of a flush",
                    [
                        Query(quantile(q, "assay_ingestion_flush_seconds", "instance"), f"{{{{instance}}}} p{name}")
                        for q, name in ((0.5, "50"), (0.99, "99"))
                    ],
                    "s",
                ),
                Panel(
                    "Away, paused, labels that wait",
                    [
                        Query(now("assay_ingestion_away"), "{{instance}} away"),
                        Query(now("assay_ingestion_paused_partitions"), "{{instance}} paused partitions"),
                        Query(now("assay_ingestion_waiting_labels"), "{{instance}} waiting labels"),
                    ],
                ),
                Panel("Held", [Query(now("assay_ingestion_held_messages"))]),
                Panel("Nulls, share", [Query(now("assay_ingestion_null_share"), "{{instance}} {{feature}}")], "percentunit"),
                Panel(
                    "Population shift (PSI)",
                    [Query(now("assay_ingestion_population_shift"), "{{instance}} {{input}}")],
                    thresholds=(0.1, 0.25),
                ),
                Panel(
                    "Types, share", [Query(now("assay_ingestion_type_share"), "{{instance}} {{feature}} {{type}}")], "percentunit"
                ),
            ],
        ),
    ],
)
