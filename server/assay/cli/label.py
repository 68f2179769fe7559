"""`assay label`: what became of one event, fraud or genuine, into a store or to a running server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from assay.cli.feature_sources import FeatureSetOption, Target, load_feature_set, served_feature_set
from assay.cli.options import JsonOption, pairs, store_url
from assay.cli.output import EXIT_REFUSED, EXIT_USAGE, answers, fail, plain_text, print_error, print_json
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls
from assay.errors import AssayError, InputError

if TYPE_CHECKING:
    from assay.client import Tls
    from assay.features.definitions import WindowView
    from assay.features.feature_set import FeatureSet
    from assay.features.labels import LabelOutcome
    from assay.v1.feature_pb2 import Event, RecordEventsRequest


def label(
    transaction: Annotated[str, typer.Argument(metavar="TRANSACTION", help="The event's transaction_id.")],
    is_fraud: Annotated[bool | None, typer.Option("--fraud/--genuine", help="What it was. One of them is required.")] = None,
    event_time: Annotated[
        str | None, typer.Option("--event-time", help="When the event happened, as it was recorded, with a zone. Required.")
    ] = None,
    entity: Annotated[
        list[str] | None, typer.Option(metavar="NAME=ID", help="An entity of the event, as it was recorded. Repeatable.")
    ] = None,
    label_time: Annotated[
        str | None, typer.Option("--label-time", help="When that became known, with a zone. Default: now.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Store: embedded:PATH of a server that is stopped, or redis://HOST:PORT/DB. Default: ASSAY_STORE__URL, the "
            "place for one with a password."
        ),
    ] = None,
    target: Target = None,
    feature_set: FeatureSetOption = None,
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> None:
    """Say of one recorded event whether it was fraud.

    The label counts in views with `labels: true`, from event_time + their delay on and not before its own time. Exit code 4: it
    changed nothing, because the store does not hold the event (any more), or a newer label stands.

    Examples:

        assay label 4711 --fraud --event-time 2018-05-01T10:30:00Z --entity terminal_id=3156 --store redis://127.0.0.1:6379/0

        assay label 4711 --genuine --event-time 2018-05-01T10:30:00Z --entity terminal_id=3156 --target unix:admin.sock
    """
    store = store_url(store) if target is None else store
    if is_fraud is None or event_time is None or not entity or (store is None) == (target is None):
        fail("expected --fraud or --genuine, --event-time, --entity, and one of --store and --target", EXIT_USAGE)
    if target is not None and feature_set is not None:
        fail("--target asks a server, which has a feature set; leave --feature-set out", EXIT_USAGE)
    entities = pairs("--entity", entity)
    event = _event(transaction, is_fraud, _time("--event-time", event_time), _time("--label-time", label_time), entities)
    try:
        if target is not None:
            trust = make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name)
            found = _send(target, trust, event, as_json)
        else:
            found = _write(str(store), load_feature_set(feature_set), event)
    except AssayError as error:
        fail(str(error))
    _print(found, event, as_json)


# --- implementation ---

_SAID = {
    "counted": "labelled",
    "already": "the store has this label already",
    "too_late": "nothing changed: the event is no longer kept one by one (its views hold newer ones), or a newer label stands",
    "unknown": "nothing changed: the store holds no event of this id at this time for these entities; compare them with "
    "what was recorded",
}


class _Labelled(NamedTuple):
    outcome: LabelOutcome
    views: dict[str, WindowView]


def _time(option: str, text: str | None) -> int:
    """Microseconds; None: now."""
    from assay.features.times import parse_time_us

    try:
        return time.time_ns() // 1000 if text is None else parse_time_us(text)
    except ValueError as error:
        fail(f"{option}: {error}", EXIT_USAGE)


def _event(transaction: str, is_fraud: bool, event_us: int, label_us: int, entities: dict[str, str]) -> Event:
    from assay.v1.feature_pb2 import Event

    event = Event(transaction_id=transaction, entities=entities, is_fraud=is_fraud, is_label=True)
    event.event_time.FromMicroseconds(event_us)
    event.label_time.FromMicroseconds(label_us)
    return event


def _message(event: Event) -> RecordEventsRequest:
    from assay.v1.feature_pb2 import RecordEventsRequest

    return RecordEventsRequest(events=[event])


def _write(url: str, feature_set: FeatureSet, event: Event) -> _Labelled:
    from assay._core import CODE_TABLE, Refusal
    from assay.features.compile import compile_plan
    from assay.features.labels import OUTCOMES, label_views
    from assay.features.store import open_store

    views = label_views(feature_set, event.entities)
    with open_store(url) as opened:
        outcomes = opened.writer(compile_plan(feature_set)).record_events(_message(event).SerializeToString())
        if isinstance(outcomes, Refusal):
            raise InputError(outcomes.message)
        ((code, _, refusal),) = outcomes
        reason = CODE_TABLE[code].reason
        if refusal is not None and reason not in OUTCOMES:
            raise InputError(refusal.message)
        if reason == "OK":
            opened.save()
    return _Labelled(OUTCOMES[reason], views)


def _send(target: str, tls: Tls | None, event: Event, as_json: bool) -> _Labelled:
    from assay.cli.feature_calls import record_events
    from assay.client.errors import decode_status
    from assay.features.labels import OUTCOMES, LabelOutcome, label_views

    views = label_views(served_feature_set(target, tls, as_json=as_json), event.entities)
    answer = record_events(target, tls, _message(event), as_json=as_json)
    for rejected in answer.rejected_events:
        refusal = decode_status(rejected.status)
        if refusal.reason not in OUTCOMES:
            raise InputError(refusal.message)
        return _Labelled(OUTCOMES[refusal.reason], views)
    if answer.recorded_count:
        return _Labelled(LabelOutcome.COUNTED, views)
    return _Labelled(LabelOutcome.TOO_LATE if answer.late_count else LabelOutcome.ALREADY, views)


def _print(found: _Labelled, event: Event, as_json: bool) -> None:
    from assay.features.labels import LabelOutcome
    from assay.features.times import format_time_us

    is_good = found.outcome in (LabelOutcome.COUNTED, LabelOutcome.ALREADY)
    event_us, label_us = event.event_time.ToMicroseconds(), event.label_time.ToMicroseconds()
    counts_from = {name: format_time_us(max(event_us + view.delay, label_us)) for name, view in found.views.items()}
    if as_json:
        print_json(
            {
                "transaction_id": event.transaction_id,
                "is_fraud": event.is_fraud,
                "outcome": found.outcome.value,
                "counts_from": counts_from if found.outcome is LabelOutcome.COUNTED else {},
            }
        )
    elif not is_good:
        print_error(_SAID[found.outcome.value])
    else:
        answers.print(
            plain_text(f"{event.transaction_id} {'fraud' if event.is_fraud else 'genuine'}: {_SAID[found.outcome.value]}")
        )
        if found.outcome is LabelOutcome.COUNTED:
            for name, moment in counts_from.items():
                answers.print(plain_text(f"  counts in view {name} from {moment}"))
    if not is_good:
        raise typer.Exit(EXIT_REFUSED)
