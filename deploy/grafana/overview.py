"""Golden signals, the service level, stages, the process."""

from __future__ import annotations

from layout import ANSWERED, SERVER_JOB, SERVERS, Dashboard, Panel, Query, Row, mean, now, quantile, rate

OVERVIEW = Dashboard(
    "overview",
    "assay: overview",
    [
        Row(
            "Golden signals",
            [
                Panel("Servers", [Query('count(up{job="assay"} == 1)', "up")], kind="stat", width=4),
                Panel(
                    "Answers a second",
                    [Query(f"sum({rate('assay_rows_total', 'instance', ANSWERED)})", "")],
                    "reqps",
                    "stat",
                    width=4,
                ),
                Panel(
                    "Unanswered, budget 0.1 %",
                    [Query(f"max(instance:assay_unanswered_rows:ratio_rate1h{{{SERVERS}}})", "worst server, 1 h")],
                    "percentunit",
                    "stat",
                    width=4,
                    thresholds=(0.001, 0.0144),
                ),
                Panel(
                    "Slower than 12 ms, budget 1 %",
                    [Query(f"max(instance:assay_slow_rows:ratio_rate1h{{{SERVERS}}})", "worst server, 1 h")],
                    "percentunit",
                    "stat",
                    width=4,
                    thresholds=(0.01, 0.144),
                ),
                Panel(
                    "p99",
                    [Query(quantile(0.99, "inference_latency_seconds", "job"), "")],
                    "s",
                    "stat",
                    width=4,
                    thresholds=(0.012, 0.5),
                ),
                Panel(
                    "Alerts that fire",
                    [
                        Query(
                            f'count(ALERTS{{alertstate="firing", {SERVERS}}}) or vector(0)',
                            "",
                        )
                    ],
                    kind="stat",
                    width=4,
                    thresholds=(1, 3),
                ),
                Panel(
                    "Latency in the server",
                    [
                        Query(quantile(q, "inference_latency_seconds", "instance"), f"{{{{instance}}}} p{name}")
                        for q, name in ((0.5, "50"), (0.99, "99"), (0.999, "99.9"))
                    ],
                    "s",
                    about="From a row's receipt to its answer. The network and the client's queue are not in it.",
                ),
                Panel("Rows by outcome", [Query(rate("assay_rows_total", "outcome"), "{{outcome}}")], "reqps", stacked=True),
                Panel(
                    "Refused and failed, by reason",
                    [
                        Query(rate("assay_refused_calls_total", "reason"), "refused {{reason}}"),
                        Query(rate("assay_failed_rows_total", "reason"), "failed {{reason}}"),
                        Query(rate("assay_denied_calls_total", "reason"), "denied {{reason}}"),
                    ],
                    "reqps",
                    about="docs/errors.md has every reason.",
                ),
            ],
        ),
        Row(
            "Service level",
            [
                Panel(
                    "Unanswered rows, share",
                    [
                        Query(f"instance:assay_unanswered_rows:ratio_rate{w}{{{SERVERS}}}", f"{{{{instance}}}} {w}")
                        for w in ("5m", "1h", "6h", "3d")
                    ],
                    "percentunit",
                    width=12,
                    thresholds=(0.001, 0.0144),
                ),
                Panel(
                    "Interactive answers slower than 12 ms, share",
                    [
                        Query(f"instance:assay_slow_rows:ratio_rate{w}{{{SERVERS}}}", f"{{{{instance}}}} {w}")
                        for w in ("5m", "1h", "6h", "3d")
                    ],
                    "percentunit",
                    width=12,
                    thresholds=(0.01, 0.144),
                ),
            ],
        ),
        Row(
            "Where the time goes",
            [
                Panel(
                    "Stages, mean",
                    [Query(mean("assay_stage_seconds", "stage"), "{{stage}}")],
                    "s",
                    stacked=True,
                    about="Together they are the whole latency.",
                ),
                Panel("Stages, p99", [Query(quantile(0.99, "assay_stage_seconds", "stage"), "{{stage}}")], "s"),
                Panel(
                    "Latency by priority, p99",
                    [Query(quantile(0.99, "inference_latency_seconds", "priority"), "{{priority}}")],
                    "s",
                ),
                Panel(
                    "Rows of a batch",
                    [
                        Query(mean("assay_batch_rows", "instance, model"), "{{instance}} {{model}} mean"),
                        Query(quantile(0.95, "assay_batch_rows", "instance, model"), "{{instance}} {{model}} p95"),
                    ],
                ),
                Panel("Queue", [Query(now("assay_queued_rows")), Query(now("assay_queue_limit_rows"), "{{instance}} limit")]),
                Panel(
                    "Age of the oldest waiting row",
                    [Query(now("assay_queue_oldest_age_seconds"), "{{instance}} {{model}} {{version}}")],
                    "s",
                ),
                Panel("Past their deadline, by check", [Query(rate("assay_expired_rows_total", "check"), "{{check}}")], "reqps"),
                Panel(
                    "Inline runs, retried batches",
                    [
                        Query(rate("assay_inline_rows_total", "instance"), "{{instance}} inline rows"),
                        Query(rate("assay_inline_overruns_total", "instance"), "{{instance}} overruns"),
                        Query(rate("assay_retried_batches_total", "instance"), "{{instance}} retried batches"),
                    ],
                    "ops",
                ),
                Panel("Calls without a deadline", [Query(rate("assay_defaulted_deadlines_total", "instance"))], "reqps"),
            ],
        ),
        Row(
            "The process",
            [
                Panel(
                    "Slots",
                    [
                        Query(now("assay_slots_used")),
                        Query(now("assay_slots_used_max"), "{{instance}} most ever"),
                        Query(now("assay_slots"), "{{instance}} limit"),
                    ],
                ),
                Panel(
                    "Processor time",
                    [Query(f"rate({now('process_cpu_seconds_total', SERVER_JOB)}[$__rate_interval])")],
                    "s",
                    about="Seconds a second: cores.",
                ),
                Panel("Memory", [Query(now("process_resident_memory_bytes", SERVER_JOB))], "bytes"),
                Panel(
                    "Connections and streams",
                    [
                        Query(now("assay_open_connections"), "{{instance}} connections"),
                        Query(now("assay_open_streams"), "{{instance}} streams"),
                        Query(now("assay_stream_limit"), "{{instance}} stream limit"),
                    ],
                ),
                Panel(
                    "Connections that ended, by why",
                    [Query(rate("assay_closed_connections_total", "reason"), "{{reason}}")],
                    "ops",
                ),
                Panel(
                    "Open files",
                    [
                        Query(now("process_open_fds", SERVER_JOB)),
                        Query(now("process_max_fds", SERVER_JOB), "{{instance}} limit"),
                    ],
                ),
                Panel(
                    "Spans",
                    [
                        Query(rate("assay_call_records_exported_total", "instance"), "{{instance}} exported"),
                        Query(rate("assay_call_records_dropped_total", "at"), "dropped at {{at}}"),
                    ],
                    "ops",
                ),
                Panel(
                    "Certificate",
                    [Query(f"{now('assay_certificate_expiry_timestamp_seconds')} - time()", "{{instance}} left")],
                    "s",
                ),
                Panel(
                    "Builds",
                    [
                        Query(
                            f"count by (version, onnxruntime) ({now('assay_build_info')})",
                            "{{version}}, onnxruntime {{onnxruntime}}",
                        )
                    ],
                    kind="stat",
                ),
            ],
        ),
    ],
)
