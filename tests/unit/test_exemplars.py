"""Which call is a bucket's exemplar."""

from __future__ import annotations

import time

from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from assay._core import CALL_KINDS, LATENCY_BOUNDS_NS, CallRecord, LatencyHistogram
from assay.observe.exemplars import Exemplars
from assay.observe.families import FineHistogramFamily

KEY = ("m", "1", "interactive")


def record(took_ns: int, trace_id: int = 1, **fields: object) -> CallRecord:
    ended_ns = time.monotonic_ns()
    stamps = (ended_ns - took_ns, *[ended_ns - took_ns // 2] * 6, 0, ended_ns)
    of = CallRecord(CALL_KINDS["score"], 1, trace_id, 2, 0, True, "m", "1", 0, 0, 1, 1, 1, 0, 1, False, stamps, ended_ns)
    return of._replace(**fields)  # type: ignore[arg-type]


def kept(exemplars: Exemplars, key: tuple[str, str, str] = KEY) -> dict[int, str]:
    """Bucket -> trace id."""
    return {bucket: exemplar.labels["trace_id"] for bucket, exemplar in enumerate(exemplars.of(key)) if exemplar}


def test_the_last_call_of_each_bucket_is_kept() -> None:
    exemplars = Exemplars()
    exemplars.offer([record(1_000_000, 1), record(999_999, 2), record(1_000_001, 3), record(10**12, 4)])
    inclusive = LATENCY_BOUNDS_NS.index(1_000_000)
    assert kept(exemplars) == {inclusive: f"{2:032x}", inclusive + 1: f"{3:032x}", len(LATENCY_BOUNDS_NS): f"{4:032x}"}
    exemplars.offer([record(1_000_000, 5)])
    assert kept(exemplars)[inclusive] == f"{5:032x}"
    (exemplar,) = [found for found in exemplars.of(KEY) if found and found.labels["trace_id"] == f"{5:032x}"]
    assert exemplar.value == 0.001
    assert abs(float(exemplar.timestamp or 0) - time.time()) < 60


def test_calls_that_were_not_counted_or_have_no_trace_are_none() -> None:
    exemplars = Exemplars()
    exemplars.offer(
        [
            record(1_000, trace_id=0),  # tracing is off; told because it failed
            record(1_000, answer=3),
            record(1_000, failed_rows=1),
            record(1_000, model=""),
            record(1_000, stamps_ns=(1, 2, 0, 0, 0, 0, 0, 0, 0)),
        ]
    )
    assert exemplars.of(KEY) == ()
    exemplars.offer([record(1_000, row_count=3, failed_rows=2, priority=2)])
    assert len(kept(exemplars, ("m", "1", "bulk"))) == 1


def test_what_is_not_served_any_more_is_forgotten() -> None:
    exemplars = Exemplars()
    exemplars.offer([record(1_000), record(1_000, version="2"), record(1_000, priority=2)])
    exemplars.keep({("m", "2")})
    assert exemplars.of(KEY) == exemplars.of(("m", "1", "bulk")) == ()
    assert kept(exemplars, ("m", "2", "interactive"))


def test_openmetrics_has_them_within_their_buckets() -> None:
    exemplars = Exemplars()
    exemplars.offer([record(took_ns, index + 1) for index, took_ns in enumerate((900, 3_000_000, 10**12))])
    counts = [0] * (len(LATENCY_BOUNDS_NS) + 1)

    class Source(Collector):
        def collect(self) -> list[FineHistogramFamily]:
            family = FineHistogramFamily("inference_latency_seconds", "", ("model", "version", "priority"))
            family.add(KEY, LatencyHistogram(tuple(counts), 0, ()), exemplars.of(KEY))
            return [family]

    registry = CollectorRegistry()
    registry.register(Source())
    (family,) = text_string_to_metric_families(generate_latest(registry).decode())
    below, found = 0.0, 0
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            bound = float(sample.labels["le"])
            if sample.exemplar is not None:
                found += 1
                assert below < sample.exemplar.value <= bound
                assert set(sample.exemplar.labels) == {"trace_id", "span_id"}
            below = bound
    assert found == 3
