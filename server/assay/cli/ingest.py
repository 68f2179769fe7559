"""`assay ingest`: events or attributes from a file into a store."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.feature_sources import FeatureSetOption, load_feature_set
from assay.cli.ingest_modes import LateEvents, choose_mode, writer_options
from assay.cli.options import JsonOption, store_url
from assay.cli.output import (
    EXIT_REFUSED,
    EXIT_USAGE,
    accepted_counts,
    bar,
    console,
    fail,
    plain_text,
    print_counts,
    print_json,
    print_record,
)
from assay.cli.rejects_option import check_rejects
from assay.cli.stop_signals import stop_signals
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.features.feature_set import FeatureSet
    from assay.features.ingest import IngestSummary
    from assay.features.rejects import Rejects
    from assay.features.store import Store
    from assay.features.store_writer import WriterOptions

FILE_FLUSH_ROWS, TOPIC_FLUSH_ROWS = 1_000_000, 10_000


def ingest(
    ctx: typer.Context,
    store: Annotated[
        str | None,
        typer.Option(
            help="Store: embedded:PATH, a snapshot file (made if it is not there), or redis://HOST:PORT/DB. Default: "
            "ASSAY_STORE__URL, the place for one with a password."
        ),
    ] = None,
    events: Annotated[Path | None, typer.Option(help="Events, one JSON object a line; - is standard input.")] = None,
    view: Annotated[str | None, typer.Option(help="Attribute view to fill from --attributes.")] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="Attributes: JSON lines or Parquet; - is JSON lines from standard input.")
    ] = None,
    demo_history: Annotated[bool, typer.Option("--demo-history", help="The demo's simulated past instead of a file.")] = False,
    feature_set: FeatureSetOption = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            help="Write what is rejected here, behind what is there: JSON lines with reason and original.", dir_okay=False
        ),
    ] = None,
    flush_rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000_000,
            help="Events held, sorted and applied together; about 250 bytes each. Default: 1,000,000; of topics 10,000, at most "
            "16,384. A pipe's are held for a second at most.",
        ),
    ] = None,
    only_view: Annotated[
        list[str] | None,
        typer.Option(help="Fill this view alone, as a new one beside others that are in use. Repeatable. Default: all."),
    ] = None,
    store_bytes_max: Annotated[int, typer.Option(min=1 << 20, help="Memory limit of the store in bytes.")] = 1 << 30,
    as_json: JsonOption = False,
    kafka: Annotated[
        str | None, typer.Option(metavar="BROKERS", help="Read topics of Kafka: HOST:PORT, comma-separated.")
    ] = None,
    topic: Annotated[list[str] | None, typer.Option(help="Topic of events. Repeatable.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Consumer group: one for each store. Its members share the partitions.")
    ] = None,
    instance_id: Annotated[
        str | None, typer.Option(help="A name that this member keeps, so that its restart moves no partitions.")
    ] = None,
    kafka_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of librdkafka, such as security.protocol. Repeatable.")
    ] = None,
    kafka_config: Annotated[
        Path | None, typer.Option(help="File of KEY=VALUE lines with more of them, for secrets; mode 0600.", dir_okay=False)
    ] = None,
    label_topic: Annotated[list[str] | None, typer.Option(help="Topic of labels. Repeatable.")] = None,
    label_wait_ms: Annotated[
        int, typer.Option(min=0, max=3_600_000, help="How long a label may wait for its event before it is rejected.")
    ] = 60_000,
    dead_letter_topic: Annotated[str | None, typer.Option(help="Topic for messages that are rejected.")] = None,
    fail_on_reject: Annotated[bool, typer.Option("--fail-on-reject", help="End at the first reject instead.")] = False,
    flush_ms: Annotated[int, typer.Option(min=1, max=10_000, help="How long a message may be held before it is written.")] = 10,
    checkpoint_ms: Annotated[
        int | None,
        typer.Option(
            min=10,
            max=3_600_000,
            help="Between two commits of offsets. Default: 1,000; with an embedded store, which is saved before each, 60,000.",
        ),
    ] = None,
    metadata_topic: Annotated[str | None, typer.Option(help="Topic for the metadata records, beside standard output.")] = None,
    metadata_ms: Annotated[
        int, typer.Option(min=10, max=3_600_000, help="Metadata records of a topic are at least so far apart.")
    ] = 1_000,
    metrics_listen: Annotated[str, typer.Option(help="HOST:PORT for Prometheus, auto (127.0.0.1:9464), or off.")] = "off",
    stop_at_end: Annotated[
        bool, typer.Option("--stop-at-end", help="End once all is written that the topics held at the start.")
    ] = False,
    late_events: Annotated[
        LateEvents,
        typer.Option(
            help="Events of topics that are older than those that a record keeps one by one: count them as too late, or apply "
            "those of the one partition that the record follows. Apply only if the producer sends each event once, and this "
            "store has nothing of them from elsewhere."
        ),
    ] = LateEvents.REFUSE,
    check: Annotated[
        bool, typer.Option("--check", help="Look at a sample of --events, or of topics, instead: fields, rejects, keys.")
    ] = False,
    messages: Annotated[int, typer.Option(min=1, max=100_000, help="Most messages of that sample.")] = 2_000,
    bundle: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_PATH",
            help="Compare that sample, or what --kafka reads (on the metrics page), with the training data of this bundle.",
        ),
    ] = None,
) -> None:
    """Load events, or attributes of entities, into a store. What is there already changes nothing.

    Every flush prints one metadata record (JSON) to standard output; with --json the newest 10,000 stand in the one document
    printed at the end. The snapshot is written last, atomically. SIGTERM or Ctrl-C: what was read is written and saved; the
    second one ends at once and leaves the old snapshot. Exit code 4: something was rejected.

    Examples:

        assay ingest --events events.jsonl --store embedded:store.snapshot --rejects rejects.jsonl

        assay ingest --view profile --attributes customers.parquet --store embedded:store.snapshot --feature-set features.yaml

        assay ingest --demo-history --store redis://127.0.0.1:6379/0

        assay ingest --kafka 127.0.0.1:9092 --topic payments --group fraud --fail-on-reject --store redis://127.0.0.1:6379/0

        assay ingest --check --events events.jsonl --bundle fraud
    """
    mode = choose_mode(ctx)
    if check:
        from assay.cli.ingest_check import CheckOptions
        from assay.cli.ingest_check import check as check_sample

        asked = CheckOptions(
            events, kafka, tuple(topic or ()), tuple(kafka_option or ()), kafka_config, messages, bundle, feature_set
        )
        if not check_sample(asked, as_json=as_json):
            raise typer.Exit(EXIT_REFUSED)
        return
    store = store_url(store)
    if store is None:
        fail("--store is missing", EXIT_USAGE, hint="--store embedded:PATH or redis://HOST:PORT/DB")
    files = {"--events": events, "--attributes": attributes, "--feature-set": feature_set, "--kafka-config": kafka_config}
    check_rejects(rejects, files, store)
    if mode == "--kafka":
        from assay.cli.ingest_topics import TopicOptions, ingest_topics

        options = TopicOptions(
            brokers=kafka,
            topics=tuple(topic or ()),
            group=group,
            label_topics=tuple(label_topic or ()),
            label_wait_ms=label_wait_ms,
            instance_id=instance_id,
            assignments=tuple(kafka_option or ()),
            config_file=kafka_config,
            dead_letter_topic=dead_letter_topic,
            rejects=rejects,
            fails_on_reject=fail_on_reject,
            only_views=tuple(only_view or ()),
            flush_rows=flush_rows or TOPIC_FLUSH_ROWS,
            flush_ms=flush_ms,
            checkpoint_ms=checkpoint_ms,
            metadata_topic=metadata_topic,
            metadata_ms=metadata_ms,
            metrics_listen=metrics_listen,
            stops_at_end=stop_at_end,
            late_events=late_events,
            bundle=bundle,
        )
        return ingest_topics(options, store, store_bytes_max, feature_set, as_json=as_json)
    from assay.features.rejects import Rejects
    from assay.features.store import open_store

    if mode is None or (attributes is None) != (view is None):
        fail("give one of --events FILE, --view NAME with --attributes FILE, and --demo-history", EXIT_USAGE)
    started = time.monotonic()
    try:
        if store == "embedded:":
            fail("a store in memory is gone when this command ends", EXIT_USAGE, hint="name a file: --store embedded:PATH")
        loaded = load_feature_set(feature_set)
        with open_store(store, store_bytes_max) as opened, Rejects(rejects) as kept:
            url = opened.url
            if demo_history:
                summary = _load_demo(opened, loaded)
            else:
                only = writer_options(loaded, tuple(only_view or ()))
                source = events or attributes
                summary = _load(opened, loaded, source, view, kept, flush_rows or FILE_FLUSH_ROWS, only, as_json)
    except AssayError as error:
        fail(str(error))
    _print(summary, kept, url, rejects, time.monotonic() - started, as_json, is_attributes=view is not None)
    if summary.rejected_count:
        raise typer.Exit(EXIT_REFUSED)


# --- implementation ---

_LATE_ROWS = "were older than the attributes that are there"
_LATE_EVENTS = (
    "came too late for a view: older than the events that it keeps one by one. If the file is not in order of "
    "time, sort it or raise --flush-rows"
)


def _load(
    opened: Store,
    feature_set: FeatureSet,
    path: Path | None,
    view: str | None,
    rejects: Rejects,
    flush_rows: int,
    options: WriterOptions,
    as_json: bool,
) -> IngestSummary:
    from assay.features.compile import compile_plan
    from assay.features.ingest import ingest_events

    plan = compile_plan(feature_set)
    writer = opened.writer(plan, options)
    source = None if path == Path("-") else path
    on_flush = None if as_json else print_record
    stop = Event()
    with stop_signals(stop.set):
        with bar("reading") as advance:
            if view is None:
                summary = ingest_events(
                    source,
                    writer,
                    plan,
                    feature_set,
                    rejects=rejects,
                    flush_events=flush_rows,
                    on_flush=on_flush,
                    progress=advance,
                    is_stopped=stop.is_set,
                )
            else:
                from assay.features.attributes import ingest_attributes  # needs pyarrow, which takes a while to load

                summary = ingest_attributes(
                    source,
                    view,
                    writer,
                    feature_set,
                    rejects=rejects,
                    flush_rows=flush_rows,
                    on_flush=on_flush,
                    progress=advance,
                    is_stopped=stop.is_set,
                )
        _save(opened)
        return summary


def _save(opened: Store) -> None:
    with bar("saving") as advance:
        opened.save(advance)


def _load_demo(opened: Store, feature_set: FeatureSet) -> IngestSummary:
    from assay.demo.history import demo_log
    from assay.features.compile import compile_plan
    from assay.features.ingest import ingest_log

    plan = compile_plan(feature_set)
    with bar("simulating"):
        log = demo_log(plan)
    with bar("loading") as advance:
        summary = ingest_log(log, opened.writer(plan), advance)
    _save(opened)
    return summary


def _print(
    summary: IngestSummary,
    rejects: Rejects,
    store: str,
    rejects_path: Path | None,
    seconds: float,
    as_json: bool,
    *,
    is_attributes: bool,
) -> None:
    if as_json:
        counts = {name: getattr(summary, f"{name}_count") for name in ("event", "recorded", "duplicate", "late", "rejected")}
        document: dict[str, Any] = {f"{name}_count": count for name, count in counts.items()}
        flushes = [record.document() for record in summary.flushes]
        document |= {"line_count": summary.line_count, "is_stopped": summary.is_stopped}
        accepted = dict(summary.accepted_ints)
        print_json({"store": store, **document, "accepted_ints": accepted, "seconds": round(seconds, 3), "flushes": flushes})
        return
    if summary.is_stopped:
        console.print(f"stopped after {summary.line_count:,} lines: send the rest; what comes again changes nothing")
    console.print(plain_text(f"{summary.recorded_count:,} recorded in {store} ({seconds:.1f} s)"))
    print_counts(
        (summary.duplicate_count, "were there already"),
        (summary.late_count, _LATE_ROWS if is_attributes else _LATE_EVENTS),
        (
            summary.rejected_count,
            f"were rejected{f', see {rejects_path}' if rejects_path else ' (keep them with --rejects FILE)'}",
        ),
        *accepted_counts(summary.accepted_ints),
    )
    for reject in rejects.examples:
        console.print(plain_text(f"  {reject.describe()}"))
