"""Cards: load, heat, memory, faults."""

from __future__ import annotations

from layout import Dashboard, Panel, Query, Row, now, quantile, rate

GPU = Dashboard(
    "gpu",
    "assay: GPUs",
    [
        Row(
            "Cards",
            [
                Panel("Utilization", [Query(now("assay_gpu_utilization_ratio"), "{{instance}} {{gpu}}")], "percentunit"),
                Panel(
                    "Temperature",
                    [
                        Query(now("assay_gpu_temperature_celsius"), "{{instance}} {{gpu}}"),
                        Query(now("assay_gpu_slowdown_temperature_celsius"), "{{instance}} {{gpu}} slows down"),
                    ],
                    "celsius",
                ),
                Panel(
                    "Memory",
                    [
                        Query(now("assay_gpu_memory_used_bytes"), "{{instance}} {{gpu}}"),
                        Query(now("assay_gpu_memory_limit_bytes"), "{{instance}} {{gpu}} limit"),
                    ],
                    "bytes",
                ),
                Panel("Slowed down, by reason", [Query(f"{now('assay_gpu_throttled')} == 1", "{{instance}} {{gpu}} {{reason}}")]),
                Panel(
                    "XID errors in an hour", [Query(f"increase({now('assay_gpu_xid_errors_total')}[1h])", "{{instance}} {{gpu}}")]
                ),
                Panel(
                    "Run of a batch, p99",
                    [Query(quantile(0.99, "assay_stage_seconds", "instance, model", 'stage="infer"'), "{{instance}} {{model}}")],
                    "s",
                ),
            ],
        ),
        Row(
            "What models make of them",
            [
                Panel(
                    "Batch that a card is given",
                    [
                        Query(now("assay_card_batch_rows_limit"), "{{instance}} {{card}} {{model}} {{version}}"),
                        Query(now("assay_card_batch_rows_max"), "{{instance}} {{card}} {{model}} {{version}} at most"),
                    ],
                    about="Smaller than at most: its memory was full. None: it rests, is hot or is lost.",
                ),
                Panel(
                    "Rows that the CPU ran for a card",
                    [Query(rate("assay_card_cpu_rows_total", "instance, card, cause"), "{{instance}} {{card}} {{cause}}")],
                    stacked=True,
                ),
                Panel(
                    "Faults",
                    [Query(rate("assay_card_faults_total", "instance, card, fault"), "{{instance}} {{card}} {{fault}}")],
                    stacked=True,
                ),
                Panel(
                    "Lost or too hot",
                    [
                        Query(now("assay_card_dead"), "{{instance}} {{card}} lost"),
                        Query(now("assay_card_hot"), "{{instance}} {{card}} too hot"),
                    ],
                ),
            ],
        ),
    ],
)
