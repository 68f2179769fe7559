"""Drift as Prometheus families. Labels are names of models, of their inputs and of decisions: bounded by what is served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from assay.observe.drift import DriftReport

_MODEL = ("model", "version")


def drift_families(reports: Sequence[DriftReport]) -> Iterator[Metric]:
    """A value that needs a window is left out while there is none; assay_drift_window_scores says how far it is."""
    prediction = GaugeMetricFamily("model_prediction_drift_score", "Drift of the score: PSI in the window", labels=_MODEL)
    scores = GaugeMetricFamily("assay_drift_window_scores", "Scores in the window that drift is measured over", labels=_MODEL)
    for report in reports:
        of = (report.reference.model, report.reference.version)
        scores.add_metric(of, report.scores)
        if report.prediction_drift is not None:
            prediction.add_metric(of, report.prediction_drift)
    yield prediction
    yield scores
    yield from _alert_families(reports)
    yield from _input_families(reports)


# --- implementation ---


def _alert_families(reports: Sequence[DriftReport]) -> Iterator[Metric]:
    labels = ("decision", *_MODEL)
    ratio = GaugeMetricFamily("assay_alert_rate_ratio", "Share of alerts in the window by the baseline's", labels=labels)
    low = GaugeMetricFamily("assay_alert_rate_ratio_low", "Least ratio that chance alone explains", labels=labels)
    high = GaugeMetricFamily("assay_alert_rate_ratio_high", "Largest ratio that chance alone explains", labels=labels)
    for report in reports:
        for alert in report.alerts:
            of = (alert.decision, report.reference.model, report.reference.version)
            for family, value in ((ratio, alert.ratio), (low, alert.ratio_low), (high, alert.ratio_high)):
                if value is not None:
                    family.add_metric(of, value)
    yield from (ratio, low, high)


def _input_families(reports: Sequence[DriftReport]) -> Iterator[Metric]:
    labels = ("feature", *_MODEL)
    psi = GaugeMetricFamily("assay_input_drift_score", "Drift of a model input: PSI in the window", labels=labels)
    nulls = GaugeMetricFamily("assay_input_null_ratio", "Share of rows in the window whose input was null", labels=labels)
    then = GaugeMetricFamily("assay_input_null_baseline_ratio", "The same in the baseline", labels=labels)
    imputed = CounterMetricFamily("assay_imputed_values", "Inputs that took a declared default", labels=labels)
    for report in reports:
        for one in report.inputs:
            of = (one.name, report.reference.model, report.reference.version)
            imputed.add_metric(of, report.imputed_total[one.name])
            if one.psi is not None:
                psi.add_metric(of, one.psi)
                nulls.add_metric(of, one.nulls / report.scores)
                then.add_metric(of, one.reference.nulls / report.reference.rows)
    yield from (psi, nulls, then, imputed)
