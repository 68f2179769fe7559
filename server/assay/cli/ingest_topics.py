"""`assay ingest --kafka`: events from topics into a store, until SIGTERM or, asked for, to the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from assay.cli.feature_sources import load_training_data
from assay.cli.ingest_modes import LateEvents, writer_options
from assay.cli.output import (
    EXIT_REFUSED,
    EXIT_USAGE,
    accepted_counts,
    console,
    fail,
    plain_text,
    print_counts,
    print_json,
    print_record,
)
from assay.cli.stop_signals import stop_signals
from assay.errors import AssayError, ConfigError, RejectedError
from assay.observe.logs import log_event, set_up
from assay.observe.metrics_server import open_metrics

if TYPE_CHECKING:
    from assay.features.feature_set import FeatureSet
    from assay.features.observed_events import EventWatch
    from assay.features.store_writer import WriterOptions
    from assay.kafka.job import Asked, Job
    from assay.kafka.stats import IngestionStats
    from assay.models.baseline import Baseline

CHECKPOINT_MS_REMOTE, CHECKPOINT_MS_HERE = 1_000, 60_000
SAY_S = 60.0  # between two lines of progress where nobody looks

log = logging.getLogger("assay.ingest")


@dataclass(frozen=True)
class TopicOptions:
    """What was given on the command line, as it was given."""

    brokers: str | None
    topics: tuple[str, ...]
    label_topics: tuple[str, ...]
    label_wait_ms: int
    group: str | None
    instance_id: str | None
    assignments: tuple[str, ...]
    config_file: Path | None
    dead_letter_topic: str | None
    rejects: Path | None
    fails_on_reject: bool
    only_views: tuple[str, ...]
    flush_rows: int
    flush_ms: int
    checkpoint_ms: int | None
    metadata_topic: str | None
    metadata_ms: int
    metrics_listen: str
    stops_at_end: bool
    late_events: LateEvents
    bundle: str | None


def ingest_topics(options: TopicOptions, store: str, store_bytes_max: int, feature_set: Path | None, *, as_json: bool) -> None:
    """Exit codes: 0 stopped or at the end; 4 something was rejected, with --stop-at-end or --fail-on-reject."""
    from assay.features.store import is_remote, open_store
    from assay.kafka.job import Job

    _check(options)
    set_up("info", "auto")
    progress = _Progress()
    started_s = time.monotonic()
    try:
        loaded, baseline = load_training_data(feature_set, options.bundle)
        writer = writer_options(loaded, options.only_views, options.late_events)
        asked = _asked(options, writer, is_remote=is_remote(store))
        on_record = (lambda _: None) if as_json else print_record
        watch = None if baseline is None else _watch(loaded, baseline)
        with (
            open_store(store, store_bytes_max) as opened,
            Job(asked, loaded, opened, on_record=on_record, on_look=progress.show, watch=watch) as job,
            _metrics(options.metrics_listen, job),
            stop_signals(job.stop),
            progress,
        ):
            job.run()
    except RejectedError as error:
        fail(str(error), EXIT_REFUSED)
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)
    except AssayError as error:
        fail(str(error))
    _print_summary(job.stats, opened.url, time.monotonic() - started_s, as_json=as_json)
    if options.stops_at_end and job.stats.total("rejected"):
        raise typer.Exit(EXIT_REFUSED)


# --- implementation ---


def _check(options: TopicOptions) -> None:
    from assay.features.store_writer import PLACED_EVENTS_MAX

    if options.brokers is None or not options.topics:
        fail("--kafka BROKERS and --topic TOPIC belong together", EXIT_USAGE)
    if options.group is None:
        fail(
            "--group is missing: the name under which Kafka remembers what this store has", EXIT_USAGE, hint="one for each store"
        )
    if options.flush_rows > PLACED_EVENTS_MAX:
        fail(f"--flush-rows: {options.flush_rows:,} is too many; of topics at most {PLACED_EVENTS_MAX:,}", EXIT_USAGE)
    ways = [options.dead_letter_topic is not None, options.rejects is not None, options.fails_on_reject]
    if ways.count(True) != 1:
        fail("say what becomes of messages that are no events", EXIT_USAGE, hint=_REJECTS_HINT)
    topics = [*options.topics, *options.label_topics, *filter(None, (options.dead_letter_topic, options.metadata_topic))]
    if len(set(topics)) != len(topics):
        fail("events, labels, dead letters and metadata records need topics of their own, each given once", EXIT_USAGE)
    if options.bundle is not None and options.metrics_listen == "off":
        fail("--bundle with --kafka shows on the metrics page: give --metrics-listen too", EXIT_USAGE)


_REJECTS_HINT = "one of --dead-letter-topic TOPIC, --rejects FILE and --fail-on-reject"


def _asked(options: TopicOptions, writer: WriterOptions, *, is_remote: bool) -> Asked:
    """Raises ConfigError."""
    from assay.kafka.connection import Connection
    from assay.kafka.ingestion import Settings
    from assay.kafka.job import Asked
    from assay.kafka.options import merge_options

    checkpoint_ms = options.checkpoint_ms or (CHECKPOINT_MS_REMOTE if is_remote else CHECKPOINT_MS_HERE)
    return Asked(
        connection=Connection(options.brokers or "", merge_options(options.assignments, options.config_file)),
        topics=options.topics,
        group=options.group or "",
        instance_id=options.instance_id,
        label_topics=options.label_topics,
        label_wait_s=options.label_wait_ms / 1000,
        dead_letter_topic=options.dead_letter_topic,
        rejects_path=options.rejects,
        metadata_topic=options.metadata_topic,
        metadata_s=options.metadata_ms / 1000,
        stops_at_end=options.stops_at_end,
        writer=writer,
        settings=Settings(
            messages_max=options.flush_rows,
            flush_s=options.flush_ms / 1000,
            checkpoint_s=checkpoint_ms / 1000,
            is_store_here=not is_remote,
        ),
    )


def _watch(feature_set: FeatureSet, baseline: Baseline) -> EventWatch:
    from assay.models.event_watch import SampledEventWatch  # loads NumPy

    return SampledEventWatch(feature_set, baseline)


@contextmanager
def _metrics(listen: str, job: Job) -> Iterator[None]:
    """Raises ConfigError."""
    server = open_metrics(listen, [job.families], reuse_port=False)
    if server is not None:
        log_event(log, logging.INFO, "metrics", address=f"http://{server.address}/metrics")
    try:
        yield
    finally:
        if server is not None:
            server.close()


class _Progress:
    """One line that changes, where a person looks; else a line of the log now and then."""

    def __init__(self) -> None:
        self._status = console.status("joining the group")
        self._last_s = self._said_s = time.monotonic()
        self._last_count = 0

    def __enter__(self) -> _Progress:
        if console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def show(self, stats: IngestionStats) -> None:
        now_s = time.monotonic()
        count = stats.total("recorded") + stats.total("duplicate")
        rate = (count - self._last_count) / max(1e-3, now_s - self._last_s)
        known = {
            "written": count,
            "rate": f"{rate:.0f}/s",
            "lag": sum(stats.lags.values()),
            "rejected": stats.total("rejected"),
            "too_late": stats.total("too_late"),
            "state": "away" if stats.is_away else "reading",
        }
        if console.is_terminal:
            self._status.update("  ".join(f"{name} {value}" for name, value in known.items()))
        elif now_s - self._said_s >= SAY_S:
            log_event(log, logging.INFO, "progress", **known)
            self._said_s = now_s
        self._last_s, self._last_count = now_s, count


_OUTCOMES = {
    "duplicate": "were there already",
    "too_late": "came too late for a view: older than the events that it keeps one by one",
    "rejected": "were rejected",
}


def _print_summary(stats: IngestionStats, store: str, seconds: float, *, as_json: bool) -> None:
    recorded = stats.total("recorded")
    if as_json:
        counts = {f"{outcome}_count": stats.total(outcome) for outcome in ("recorded", *_OUTCOMES)}
        accepted = dict(stats.accepted_ints)
        print_json(
            {"store": store, **counts, "accepted_ints": accepted, "seconds": round(seconds, 3), "rejects": dict(stats.rejects)}
        )
        return
    console.print(plain_text(f"{recorded:,} recorded in {store} ({seconds:.1f} s)"))
    for outcome, meaning in _OUTCOMES.items():
        if count := stats.total(outcome):
            console.print(plain_text(f"{count:,} {meaning}"))
    for reason, count in stats.rejects.most_common():
        console.print(plain_text(f"  {count:,} {reason}"))
    print_counts(*accepted_counts(stats.accepted_ints))
