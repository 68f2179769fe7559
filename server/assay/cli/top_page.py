"""Two looks at /metrics, and what happened between them: rates, percentiles, levels. No drawing here.

Percentiles of latencies come from the histograms at /latencies, beside the page: within 2 %. Where there is none (an older
server, a proxy that lets /metrics alone through), and of batches, they are what Prometheus would give (histogram_quantile):
within a bucket, values are taken to be spread evenly.
"""

from __future__ import annotations

import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import pairwise

import orjson
from prometheus_client.parser import text_string_to_metric_families

from assay.errors import InputError
from assay.observe.latencies import FineCounts, quantile_s, since

PAGE_BYTES_MAX = 32 << 20
FETCH_S_MAX = 5.0

Labels = tuple[tuple[str, str], ...]
"""Sorted."""


class UnreachableError(InputError):
    """Nobody answered, or not with a page of metrics."""


@dataclass(frozen=True)
class Page:
    """Every sample of one scrape. `taken_s` is monotonic. `fine`: histograms of /latencies, of those names that it has."""

    taken_s: float
    samples: Mapping[str, Mapping[Labels, float]]
    fine: Mapping[str, Mapping[Labels, FineCounts]] = field(default_factory=dict)

    def of(self, name: str, **wanted: str) -> dict[Labels, float]:
        """The samples of a name whose labels hold all that is wanted."""
        found = self.samples.get(name, {})
        return {labels: value for labels, value in found.items() if wanted.items() <= dict(labels).items()}

    def value(self, name: str, **wanted: str) -> float | None:
        """The sum of of(); None: the page has no such sample."""
        found = self.of(name, **wanted)
        return sum(found.values()) if found else None

    def by(self, label: str, name: str, **wanted: str) -> dict[str, float]:
        """Sums of of(), by the value of one label."""
        sums: dict[str, float] = {}
        for labels, value in self.of(name, **wanted).items():
            key = dict(labels).get(label, "")
            sums[key] = sums.get(key, 0.0) + value
        return sums


def page_url(where: str) -> str:
    """A URL of a page, of what a person typed: HOST:PORT is enough."""
    url = where if "://" in where else f"http://{where}"
    return url if url.partition("://")[2].partition("/")[2] else f"{url.rstrip('/')}/metrics"


def fetch(url: str) -> Page:
    """Raises UnreachableError, in words."""
    if not url.startswith(("http://", "https://")):
        raise UnreachableError(f"{url} cannot be read: expected http:// or https://")
    try:
        with urllib.request.urlopen(url, timeout=FETCH_S_MAX) as answer:
            text = answer.read(PAGE_BYTES_MAX).decode()
    except (OSError, ValueError, HTTPException) as error:  # URLError and HTTPError are OSErrors
        reason = getattr(error, "reason", None) or error
        raise UnreachableError(f"{url} cannot be read: {reason}") from error
    taken_s = time.monotonic()
    try:
        return parse(text, taken_s, _fetch_fine(url))
    except ValueError as error:
        raise UnreachableError(f"{url} is not a page of metrics: {error}") from error


def parse(text: str, taken_s: float, fine: Mapping[str, Mapping[Labels, FineCounts]] | None = None) -> Page:
    """Raises ValueError."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    if "assay_build_info" not in samples:
        raise ValueError("it has no assay_build_info; expected that of an assay server")
    return Page(taken_s, samples, fine or {})


def parse_fine(document: bytes) -> dict[str, dict[Labels, FineCounts]]:
    """What /latencies answered. Raises ValueError."""
    found: dict[str, dict[Labels, FineCounts]] = {}
    try:
        for histogram in orjson.loads(document):
            counts = {int(index): int(count) for index, count in histogram["fine"]}
            found.setdefault(histogram["name"], {})[tuple(sorted(histogram["labels"].items()))] = counts
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("not what an assay server answers") from error
    return found


@dataclass(frozen=True)
class Percentiles:
    """Of what came between two looks, in the histogram's own unit. None: nothing came."""

    count: float
    mean: float | None
    p50: float | None
    p99: float | None
    p999: float | None


class Interval:
    """What happened between two pages. Of a server that was started meanwhile, or a counter that went back, all there is."""

    def __init__(self, before: Page, after: Page) -> None:
        started = "process_start_time_seconds"
        self.before = before if before.value(started) == after.value(started) else Page(before.taken_s, {})
        self.after = after
        self.length_s = max(after.taken_s - before.taken_s, 1e-9)

    def rate(self, name: str, **wanted: str) -> float | None:
        """A second; None: the page has no such counter."""
        grown = self._grown(name, wanted)
        return sum(grown.values()) / self.length_s if grown else None

    def rates_by(self, label: str, name: str, **wanted: str) -> dict[str, float]:
        """Those that are not zero, the largest first."""
        sums: dict[str, float] = {}
        for labels, grown in self._grown(name, wanted).items():
            key = dict(labels).get(label, "")
            sums[key] = sums.get(key, 0.0) + grown / self.length_s
        return dict(sorted(((key, value) for key, value in sums.items() if value > 0), key=lambda item: -item[1]))

    def percentiles(self, name: str, **wanted: str) -> Percentiles:
        """Of all histograms together whose labels hold what is wanted."""
        counts: dict[float, float] = {}
        for labels, grown in self._grown(f"{name}_bucket", wanted).items():
            bound = float(dict(labels)["le"])
            counts[bound] = counts.get(bound, 0.0) + grown
        cumulative = sorted(counts.items())
        total = cumulative[-1][1] if cumulative else 0.0
        if total <= 0:
            return Percentiles(0.0, None, None, None, None)
        mean = sum(self._grown(f"{name}_sum", wanted).values()) / total
        fine = self._grown_fine(name, wanted)
        if fine:
            return Percentiles(total, mean, *(quantile_s(fine, q) for q in (0.5, 0.99, 0.999)))
        return Percentiles(total, mean, *(quantile(q, cumulative) for q in (0.5, 0.99, 0.999)))

    def _grown_fine(self, name: str, wanted: Mapping[str, str]) -> FineCounts:
        before = self.before.fine.get(name, {})
        grown: Counter[int] = Counter()
        for labels, counts in self.after.fine.get(name, {}).items():
            if wanted.items() <= dict(labels).items():
                grown.update(since(counts, before.get(labels, {})))
        return grown

    def _grown(self, name: str, wanted: Mapping[str, str]) -> dict[Labels, float]:
        before = self.before.samples.get(name, {})
        grown = {}
        for labels, value in self.after.of(name, **wanted).items():
            was = before.get(labels, 0.0)
            grown[labels] = value - was if value >= was else value
        return grown


def quantile(q: float, cumulative: Sequence[tuple[float, float]]) -> float:
    """As Prometheus' histogram_quantile: past the last bound it is that bound. REQUIRES: a count above 0."""
    rank = q * cumulative[-1][1]
    for (low, below), (high, up_to) in pairwise([(0.0, 0.0), *cumulative]):
        if up_to >= rank and up_to > below:
            return low if high == float("inf") else low + (high - low) * (rank - below) / (up_to - below)
    return cumulative[-1][0]


def served(page: Page) -> list[tuple[str, str]]:
    """Model and version of all that the page knows, in order."""
    return sorted(set(_names(page.samples.get("inference_latency_seconds_count", {}))))


# --- implementation ---


def _fetch_fine(url: str) -> dict[str, dict[Labels, FineCounts]]:
    """Nothing where there is none; the page itself is enough."""
    try:
        with urllib.request.urlopen(f"{url.rpartition('/')[0]}/latencies", timeout=FETCH_S_MAX) as answer:
            return parse_fine(answer.read(PAGE_BYTES_MAX))
    except (OSError, ValueError, HTTPException):
        return {}


def _names(labels: Iterable[Labels]) -> Iterable[tuple[str, str]]:
    for of in labels:
        names = dict(of)
        yield names.get("model", ""), names.get("version", "")
