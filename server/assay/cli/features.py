"""`assay features`: replay events into a training set, show what the model would see of one entity, describe and compare feature
sets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table

from assay.cli.feature_sources import (
    AttributesOption,
    FeatureSetOption,
    Model,
    Target,
    Version,
    attribute_files,
    load_feature_set,
)
from assay.cli.features_describe import describe
from assay.cli.features_diff import diff
from assay.cli.features_skew import check_skew, served_rows
from assay.cli.options import JsonOption, store_url
from assay.cli.output import EXIT_REFUSED, EXIT_USAGE, answers, bar, console, fail, plain_text, print_counts, print_json
from assay.cli.rejects_option import check_rejects
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.client import Tls
    from assay.features.feature_set import FeatureSet
    from assay.features.replay import ReplaySummary
    from assay.features.show import ShownValue, ShownView
    from assay.features.store import Store

app = typer.Typer(
    help="Replay events into features, look at stored features, describe and compare feature sets.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command()(describe)
app.command()(diff)
app.command("served-rows")(served_rows)
app.command("check-skew")(check_skew)


@app.command()
def replay(
    events: Annotated[Path, typer.Option(help="Events, one JSON object a line.", dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Parquet file to write.", dir_okay=False)],
    feature_set: FeatureSetOption = None,
    attributes: AttributesOption = None,
    rejects: Annotated[
        Path | None,
        typer.Option(help="Go on past lines that are no events, and write them here, behind what is there.", dir_okay=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay events, in (event_time, transaction_id) order, into the features that a model would have seen.

    The code is the one that scores. The file gets transaction_id, event_time and the model inputs in order. Attributes count from
    their updated_at on. A line that is no event fails the replay unless --rejects is given. Exit code 4: some events have no
    row, or were rejected.

    Examples:

        assay features replay --feature-set feature_set.yaml --events events.jsonl --out features.parquet

        assay features replay --feature-set plus.yaml --events events.jsonl --attributes profile=customers.parquet --out x.parquet
    """
    from assay.features.rejects import Rejects
    from assay.features.replay import replay as run

    started = time.monotonic()
    files = attribute_files(attributes)
    named = {f"--attributes {view}": path for view, path in files.items()}
    check_rejects(rejects, {"--events": events, "--out": out, "--feature-set": feature_set, **named})
    try:
        loaded = load_feature_set(feature_set)
        with bar("replaying") as advance:
            if rejects is None:
                summary = run(loaded, events, out, advance, attributes=files)
            else:
                with Rejects(rejects) as kept:
                    summary = run(loaded, events, out, advance, attributes=files, rejects=kept)
    except AssayError as error:
        fail(str(error))
    _print_replay(summary, loaded, out, time.monotonic() - started, as_json)
    if summary.invalid_count or summary.rejected_count:
        raise typer.Exit(EXIT_REFUSED)


@app.command()
def show(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="Kind of entity, as the feature set names it: customer_id.")],
    entity_id: Annotated[str, typer.Argument(metavar="ID", help="Which one.")],
    store: Annotated[
        str | None,
        typer.Option(
            help="Store: embedded:PATH or redis://HOST:PORT/DB. Default: ASSAY_STORE__URL, the place for one with a password, "
            "else the demo's history."
        ),
    ] = None,
    feature_set: FeatureSetOption = None,
    target: Target = None,
    model: Model = "",
    version: Version = "",
    at: Annotated[str | None, typer.Option(help="Moment, RFC 3339. Default: now; in the demo's history its end.")] = None,
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the model would see of one entity: every view of it, folded at a moment.

    With --target a running server is asked, over its admin listener.

    Examples:

        assay features show customer_id 596

        assay features show terminal_id 3156 --at 2018-05-09T10:30:00Z --store embedded:store.snapshot --json

        assay features show customer_id 596 --target unix:/run/user/1000/assay/admin-50051.sock
    """
    from assay.features.times import format_time_us, parse_time_us

    if target is not None and (store, feature_set) != (None, None):
        fail("--target asks a server, which has a store and a feature set; leave --store and --feature-set out", EXIT_USAGE)
    store = store_url(store) if target is None else store
    if target is None and store is None and feature_set is not None:
        fail("the demo's history belongs to the demo's feature set", EXIT_USAGE, hint="say where yours is: --store embedded:PATH")
    try:
        time_us = None if at is None else parse_time_us(at)
    except ValueError as error:
        fail(f"--at: {error}", EXIT_USAGE)
    try:
        if target is None:
            look = _look(feature_set, store, entity, entity_id, time_us)
        else:
            trust = make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name)
            look = _ask(target, trust, model, version, entity, entity_id, time_us, as_json)
    except AssayError as error:
        fail(str(error))
    moment = format_time_us(look.time_us)
    if as_json:
        print_json(_show_document(look, entity, entity_id, moment))
        return
    answers.print(plain_text(f"{entity} {entity_id} at {moment}, feature set {look.feature_set} {look.feature_set_version}"))
    if not look.views:
        answers.print(plain_text(f"no view of the feature set is of {entity}"))
    for view in look.views:
        answers.print(_show_table(view))
        if view.rejected_detail:
            answers.print(plain_text(view.rejected_detail), soft_wrap=True)
    _say_out_of_reach(look.views)


# --- implementation ---


class _Look(NamedTuple):
    """What was found, wherever."""

    feature_set: str
    feature_set_version: str
    time_us: int
    views: tuple[ShownView, ...]


def _look(feature_set: Path | None, store: str | None, entity: str, entity_id: str, time_us: int | None) -> _Look:
    from assay.features.show import show_entity

    loaded = load_feature_set(feature_set)
    opened, default_us = _open(store)
    time_us = default_us if time_us is None else time_us
    return _Look(loaded.name, loaded.version, time_us, show_entity(loaded, opened, entity, entity_id, time_us))


def _ask(
    target: str, tls: Tls | None, model: str, version: str, entity: str, entity_id: str, time_us: int | None, as_json: bool
) -> _Look:
    from assay.cli.feature_calls import get_features, shown_views
    from assay.v1.feature_pb2 import GetFeaturesRequest

    time_us = time.time_ns() // 1000 if time_us is None else time_us
    request = GetFeaturesRequest(model=model, version=version, entities={entity: entity_id})
    request.event_time.FromMicroseconds(time_us)
    response = get_features(target, tls, request, as_json=as_json)
    made_by = response.provenance
    return _Look(made_by.feature_set, made_by.feature_set_version, time_us, shown_views(response))


def _open(store: str | None) -> tuple[Store, int]:
    """The store, and the moment to look at it unless told: now, or the end of the demo's history."""
    if store is None:
        from assay.demo.history import DEMO_TIME, demo_store
        from assay.features.local_store import LocalStore

        with bar("making the demo's history") as advance:
            return LocalStore(demo_store(advance), "embedded:", None, None), int(DEMO_TIME.timestamp()) * 1_000_000
    from assay.features.store import open_store

    with open_store(store, bytes_max=1 << 40, mode="read") as opened:
        return opened, time.time_ns() // 1000


def _print_replay(summary: ReplaySummary, feature_set: FeatureSet, out: Path, seconds: float, as_json: bool) -> None:
    if as_json:
        counts = {name: getattr(summary, name) for name in summary.__dataclass_fields__}
        print_json({"out": str(out), "schema_hash": feature_set.schema_hash, **counts, "seconds": round(seconds, 3)})
        return
    rate = f", {summary.event_count / seconds:,.0f} events/s" if seconds > 0 else ""
    console.print(plain_text(f"{summary.row_count:,} rows of {summary.event_count:,} events in {out} ({seconds:.1f} s{rate})"))
    print_counts(
        (summary.invalid_count, "events have no row: a score would refuse them (a null or out-of-range input)"),
        (summary.rejected_count, "lines were rejected"),
        (summary.duplicate_count, "events were repeats of a transaction_id; each was applied once"),
        (summary.late_count, "events came too late for a view"),
    )


def _show_document(look: _Look, entity: str, entity_id: str, at: str) -> dict[str, Any]:
    return {
        "feature_set": look.feature_set,
        "feature_set_version": look.feature_set_version,
        "entity": entity,
        "entity_id": entity_id,
        "at": at,
        "views": [
            {
                "name": view.name,
                "found": view.is_found,
                "age_s": None if view.age_us is None else view.age_us / 1e6,
                "flags": list(view.flags),
                **({"rejected": view.rejected_detail} if view.rejected_detail else {}),
                "values": {value.name: value.shown for value in view.values},
            }
            for view in look.views
        ],
    }


def _show_table(view: ShownView) -> Table:
    state = f"newest {_age(view.age_us)}" if view.age_us is not None else "nothing stored"
    title = f"{view.name} ({', '.join([state, *view.flags])})"
    table = Table(title=plain_text(title, "table.title"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("value")
    table.add_column("is")
    table.add_column("definition", style="dim")
    for value in view.values:
        table.add_row(*map(plain_text, (value.name, _text(value), value.definition)))
    return table


def _say_out_of_reach(views: Sequence[ShownView]) -> None:
    """Zeros alone look like an entity without a past; here they are that of another time."""
    ages = {view.name: view.age_us for view in views if view.age_us is not None and not any(value.shown for value in view.values)}
    if ages:
        newest = f"the newest is {_age(min(ages.values(), key=abs))}"
        text = f"nothing of {', '.join(ages)} counts at this moment: {newest}; --at TIME asks for another"
        console.print(plain_text(text), soft_wrap=True)


def _age(age_us: int) -> str:
    seconds = abs(age_us) / 1e6
    when = "earlier" if age_us >= 0 else "later"
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit} {when}"
    return f"{seconds:.1f} s {when}"


def _text(value: ShownValue) -> str:
    shown = value.shown
    if shown is None:
        return "null"
    if isinstance(shown, bool):
        return "true" if shown else "false"
    return f"{shown:.6g}" if isinstance(shown, float) else str(shown)
