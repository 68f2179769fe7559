"""What is served, and whether the world is still the one it was trained on."""

from __future__ import annotations

from layout import WIDTH, Dashboard, Panel, Query, Row, now, quantile, rate

MODELS = Dashboard(
    "models",
    "assay: models and drift",
    [
        Row(
            "What is served",
            [
                Panel("Models", [Query(now("assay_model_info"), "{{instance}}")], kind="table", width=WIDTH),
                Panel(
                    "Answers by model",
                    [Query(rate("inference_latency_seconds_count", "model, version"), "{{model}} {{version}}")],
                    "reqps",
                ),
                Panel(
                    "p99 by model",
                    [Query(quantile(0.99, "inference_latency_seconds", "model, version"), "{{model}} {{version}}")],
                    "s",
                ),
                Panel(
                    "Run of a batch, p99",
                    [Query(quantile(0.99, "assay_stage_seconds", "model, version", 'stage="infer"'), "{{model}} {{version}}")],
                    "s",
                ),
            ],
        ),
        Row(
            "Scores and decisions against training",
            [
                Panel(
                    "Drift of the scores (PSI)",
                    [Query(now("model_prediction_drift_score"), "{{instance}} {{model}} {{version}}")],
                    thresholds=(0.1, 0.15),
                    about="PredictionDrift fires above 0.15.",
                ),
                Panel(
                    "How often a decision is made, over training's rate",
                    [
                        Query(now("assay_alert_rate_ratio"), "{{instance}} {{model}} {{decision}}"),
                        Query(now("assay_alert_rate_ratio_low"), "{{instance}} {{model}} {{decision}} low"),
                        Query(now("assay_alert_rate_ratio_high"), "{{instance}} {{model}} {{decision}} high"),
                    ],
                    about="Between low and high it is chance. A burst of fraud shows here, and not in the PSI.",
                ),
                Panel(
                    "Scores in the window",
                    [Query(now("assay_drift_window_scores"), "{{instance}} {{model}} {{version}}")],
                    about="Below 1,000 there is no drift score.",
                ),
            ],
        ),
        Row(
            "Inputs against training",
            [
                Panel(
                    "Drift of inputs (PSI), the ten largest",
                    [Query(f"topk(10, {now('assay_input_drift_score')})", "{{instance}} {{model}} {{feature}}")],
                    thresholds=(0.1, 0.25),
                ),
                Panel(
                    "Nulls, over training's share",
                    [
                        Query(
                            f"topk(10, {now('assay_input_null_ratio')} - {now('assay_input_null_baseline_ratio')})",
                            "{{instance}} {{model}} {{feature}}",
                        )
                    ],
                    "percentunit",
                ),
                Panel(
                    "Imputed values",
                    [Query(rate("assay_imputed_values_total", "model, feature"), "{{model}} {{feature}}")],
                    "ops",
                ),
                Panel(
                    "Degraded scores, by cause",
                    [Query(rate("assay_degraded_rows_total", "cause"), "{{cause}}")],
                    "reqps",
                    width=12,
                ),
                Panel(
                    "Integers taken for float64",
                    [Query(rate("assay_accepted_ints_total", "feature"), "{{feature}}")],
                    "ops",
                    width=12,
                ),
            ],
        ),
    ],
)
