"""`assay top`: what two pages say about the time between them, and how it is drawn."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from rich.console import Console

from assay._core import (
    BATCH_ROWS_BOUNDS,
    FINE_UPPER_NS,
    LATENCY_BOUNDS_NS,
    STAGES,
    EngineMetrics,
    Histogram,
    LaneMetrics,
    LatencyHistogram,
)
from assay.cli.top_look import STAGES as SHOWN_STAGES
from assay.cli.top_look import look
from assay.cli.top_page import Interval, Page, UnreachableError, fetch, page_url, parse, parse_fine, quantile
from assay.cli.top_view import draw
from assay.observe.families import counters, gauge
from assay.observe.gpu import GpuWatch
from assay.observe.latencies import latencies_document
from assay.observe.metrics import _lane_families, store_families
from tests.support.fake_nvml import FakeCard, FakeNvml
from tests.support.server import wait_until


def latencies(values_ns: list[int]) -> LatencyHistogram:
    counts = np.bincount(np.searchsorted(LATENCY_BOUNDS_NS, values_ns), minlength=len(LATENCY_BOUNDS_NS) + 1)
    return LatencyHistogram(tuple(counts.tolist()), sum(values_ns), ((0, len(values_ns)),))


def lanes(values_ns: list[int], bulk: int = 0) -> list[Metric]:
    """A model whose rows took that long, all of it in `infer`; `bulk` of them more, each a second."""
    nothing, one = latencies([]), latencies(values_ns)
    stages = tuple(one if stage == "infer" else nothing for stage, _, _ in STAGES)
    batches = [0] * (len(BATCH_ROWS_BOUNDS) + 1)
    batches[2] = len(values_ns)
    lane = LaneMetrics(
        "card_fraud",
        "1",
        (one, latencies([1_000_000_000] * bulk), nothing),
        stages,
        Histogram(tuple(batches), 3 * len(values_ns)),
        2_500_000,
        0,
        0,
        None,
        False,
    )
    return list(_lane_families(EngineMetrics((lane,), {}, {}, {}, 0, 0, 0), None))


def page(*families: Metric, taken_s: float, started_s: float = 1_000) -> Page:
    class Source(Collector):
        def collect(self) -> list[Metric]:
            build = InfoMetricFamily("assay_build", "", {"version": "0.1.0"})
            return [build, gauge("process_start_time_seconds", "", started_s), *families]

    registry = CollectorRegistry()
    registry.register(Source())
    return parse(generate_latest(registry).decode(), taken_s)


def labelled(name: str, values: dict[tuple[str, ...], float], *labels: str) -> Metric:
    family = GaugeMetricFamily(name, "", labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def drawn(found: dict[str, Any], width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(draw(found, "http://127.0.0.1:9464/metrics"))
    return out.getvalue()


def test_rates_and_percentiles_are_of_what_came_between() -> None:
    old = [50_000_000_000] * 1000  # what was before does not count
    before = page(*lanes(old), counters("assay_rows", "", "outcome", {"answered": 1000}), taken_s=10)
    new = [1_500_000] * 98 + [9_000_000] * 2
    after = page(*lanes(old + new, bulk=10), counters("assay_rows", "", "outcome", {"answered": 1110, "shed": 4}), taken_s=12)
    found = look(Interval(before, after))
    (model,) = found["models"]
    assert found["interval_s"] == 2
    assert found["rows_per_s"] == {"answered": 55, "shed": 2}
    assert model["scores_per_s"] == 55
    assert model["priorities_ms"]["bulk"]["count"] == 10
    assert 800 < model["priorities_ms"]["bulk"]["p50"] <= 1000
    assert 1 < model["priorities_ms"]["interactive"]["p50"] <= 2
    assert 8 < model["stages_ms"]["infer"]["p99"] <= 10
    assert model["stages_ms"]["infer"]["mean"] == pytest.approx(sum(new) / 100 / 1e6)
    assert model["stages_ms"]["decode"]["p50"] is None
    assert model["batch_rows"]["mean"] == 3
    assert model["queue_oldest_age_ms"] == 2.5
    text = drawn(found)
    assert "card_fraud 1" in text
    assert "bulk" in text
    assert "shed 2" in text


def test_a_server_that_was_started_meanwhile_counts_from_nothing() -> None:
    before = page(*lanes([1_000] * 500), taken_s=10)
    after = page(*lanes([2_000_000] * 4), taken_s=12, started_s=2_000)
    (model,) = look(Interval(before, after))["models"]
    assert model["total_ms"]["count"] == 4
    assert model["total_ms"]["p50"] > 1


@given(st.lists(st.integers(1, 99_000_000_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.99, 0.999]))
def test_a_quantile_lies_in_the_bucket_of_the_exact_one(values_ns: list[int], q: float) -> None:
    interval = Interval(page(taken_s=0), page(*lanes(values_ns), taken_s=1))
    cumulative: list[tuple[float, float]] = []
    for bound in LATENCY_BOUNDS_NS:
        cumulative.append((bound / 1e9, sum(value <= bound for value in values_ns)))
    found = quantile(q, [*cumulative, (float("inf"), len(values_ns))])
    exact_ns = np.quantile(values_ns, q, method="inverted_cdf")
    place = int(np.searchsorted(LATENCY_BOUNDS_NS, exact_ns))
    low = LATENCY_BOUNDS_NS[place - 1] / 1e9 if place else 0.0
    assert low <= found <= LATENCY_BOUNDS_NS[place] / 1e9 + 1e-12
    of = interval.percentiles("inference_latency_seconds")
    assert {0.5: of.p50, 0.99: of.p99, 0.999: of.p999}[q] == pytest.approx(found)


def test_percentiles_come_from_the_fine_histograms_where_there_are_some() -> None:
    def with_fine(values_ns: list[int], taken_s: float) -> Page:
        families = lanes(values_ns)
        places, counts = np.unique(np.searchsorted(FINE_UPPER_NS, values_ns), return_counts=True)
        fine = tuple((int(place), int(count)) for place, count in zip(places, counts, strict=True))
        nothing = LatencyHistogram((), 0, ())
        inference, stages = (LatencyHistogram((), 0, fine), nothing, nothing), (nothing,) * len(STAGES)
        lane = LaneMetrics("card_fraud", "1", inference, stages, Histogram((), 0), 0, 0, 0, None, False)
        document = orjson.dumps(latencies_document(EngineMetrics((lane,), {}, {}, {}, 0, 0, 0)))
        return replace(page(*families, taken_s=taken_s), fine=parse_fine(document))

    old, new = [3_000_000] * 50, [1_230_000] * 99 + [777_000_000]
    found = look(Interval(with_fine(old, 0), with_fine(old + new, 1)))["models"][0]
    assert found["total_ms"]["p50"] == pytest.approx(1.23, rel=0.016)
    assert found["priorities_ms"]["interactive"]["p99_9"] == pytest.approx(777, rel=0.016)
    assert 1 < found["stages_ms"]["infer"]["p50"] <= 2  # which it does not have: as Prometheus does


@pytest.mark.parametrize("document", [b"", b"<html>", b"{}1", b"[1]", b'[{"fine": [[1]]}]', b'{"a": 1}', b'[{"fine": []}]'])
def test_what_is_no_histogram_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whatever the parser says)
        parse_fine(document)


def test_past_the_last_bound_a_quantile_is_that_bound() -> None:
    interval = Interval(page(taken_s=0), page(*lanes([10**12] * 5), taken_s=1))
    assert interval.percentiles("inference_latency_seconds").p50 == 100


def everything() -> list[Metric]:
    """Of parts that a page may have or not."""
    watch = GpuWatch(FakeNvml(FakeCard(throttled=0x40), FakeCard(is_lost=True)))
    wait_until(lambda: bool(list(watch.families())), "the first reading")
    gpus = list(watch.families())
    watch.close()
    of = ("card_fraud", "1")
    return [
        *gpus,
        labelled("model_prediction_drift_score", {of: 0.21}, "model", "version"),
        labelled("assay_drift_window_scores", {of: 12_000}, "model", "version"),
        labelled("assay_input_drift_score", {(f"f{i}", *of): i / 10 for i in range(8)}, "feature", "model", "version"),
        labelled("assay_alert_rate_ratio", {("decline", *of): 9.5}, "decision", "model", "version"),
        labelled("assay_alert_rate_ratio_low", {("decline", *of): 0.8}, "decision", "model", "version"),
        labelled("assay_alert_rate_ratio_high", {("decline", *of): 1.2}, "decision", "model", "version"),
        labelled("assay_audit_state", {("writing",): 0, ("reserve",): 1, ("full",): 0, ("off",): 0}, "state"),
        gauge("assay_audit_spool_bytes", "", 5 << 20),
        gauge("assay_audit_spool_limit_bytes", "", 1 << 30),
        gauge("assay_audit_unshipped_records", "", 77),
        gauge("assay_audit_oldest_unshipped_seconds", "", 300),
        counters("assay_audit_dropped_records", "", "cause", {"disk_full": 8}),
        counters("assay_refused_calls", "", "reason", {"QUEUE_TOO_LONG": 40, "SHED": 2}),
        counters("assay_failed_rows", "", "reason", {"MODEL_RUN_FAILED": 2}),
        counters("assay_degraded_rows", "", "cause", {"CACHE_STALE": 6}),
        gauge("assay_store_away", "", 1),
        CounterMetricFamily("assay_near_cache_hits", "", value=90),
        CounterMetricFamily("assay_near_cache_misses", "", value=10),
    ]


def test_every_part_of_a_page_is_told_and_fits_80_columns() -> None:
    found = look(Interval(page(taken_s=0), page(*lanes([1_000_000] * 10), *everything(), taken_s=2)))
    assert found["refused_calls_per_s"] == {"QUEUE_TOO_LONG": 20, "SHED": 1}
    assert found["degraded_rows_per_s"] == {"CACHE_STALE": 3}
    assert found["store"] == {"is_away": 1, "near_cache_hit_ratio": 0.9}
    (drift,) = found["drift"]
    assert drift["prediction_score"] == 0.21
    assert list(drift["worst_inputs"]) == ["f7", "f6", "f5", "f4", "f3"]
    assert drift["alert_rate_ratio"] == {"decline": {"ratio": 9.5, "low": 0.8, "high": 1.2}}
    assert found["audit"]["state"] == "reserve"
    assert found["audit"]["dropped_records_per_s"] == {"disk_full": 4}
    first, second = found["gpus"]
    assert first["throttled_by"] == ["hw_thermal"]
    assert second["is_lost"]
    text = drawn(found)
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        "QUEUE_TOO_LONG 20",
        "CACHE_STALE 3",
        "away",
        "90.0 %",
        "reserve",
        "disk_full 4",
        "9.50",
        "hw_thermal",
        "1 lost",
    ):
        assert word in text


def test_what_a_page_does_not_have_is_left_out() -> None:
    bare = page(*lanes([]), taken_s=0)
    found = look(Interval(bare, page(*lanes([]), taken_s=1)))
    assert not found.keys() & {"drift", "audit", "gpus", "store"}
    assert "none" in drawn(found)


def test_the_store_of_a_real_page() -> None:
    from assay._core import EmbeddedStore

    found = look(Interval(page(taken_s=0), page(*store_families(EmbeddedStore().stats()), taken_s=1)))
    assert found["store"]["records"] == 0


def test_the_stages_are_the_cores() -> None:
    assert tuple(stage for stage, _, _ in STAGES) == SHOWN_STAGES


def test_what_a_name_tells_a_terminal_is_not_done() -> None:
    found = look(Interval(page(taken_s=0), page(counters("assay_refused_calls", "", "reason", {"\x1b[2J[red]": 3}), taken_s=1)))
    text = drawn(found)
    assert "\x1b" not in text
    assert "[red]" in text


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("127.0.0.1:9464", "http://127.0.0.1:9464/metrics"),
        ("http://h:1", "http://h:1/metrics"),
        ("http://h:1/", "http://h:1/metrics"),
        ("https://h/prefix/metrics", "https://h/prefix/metrics"),
        ("[::1]:9464", "http://[::1]:9464/metrics"),
    ],
)
def test_addresses(typed: str, url: str) -> None:
    assert page_url(typed) == url


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/metrics", "http://no.such.host.invalid/metrics", "file:///etc/passwd", "http://h:x/"]
)
def test_nobody_there_is_said_in_words(url: str) -> None:
    with pytest.raises(UnreachableError, match="cannot be read"):
        fetch(url)


def test_another_page_is_not_taken_for_one() -> None:
    for text in ("<html>", "up 1\n", ""):
        with pytest.raises(ValueError, match=r"assay_build_info|could not|Invalid|invalid"):
            parse(text, 0)
