"""assay score: one transaction, one answer. A client like any other; it knows nothing that the contract does not say."""

from __future__ import annotations

import math
import re
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from assay.cli.call_errors import show_error
from assay.cli.options import pairs
from assay.cli.output import EXIT_USAGE, answers, fail, print_json, shown
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from assay.client import Value
    from assay.v1.scoring_pb2 import ScoreRequest, ScoreResponse

REQUEST_BYTES_MAX = 4 << 20
INT64_DIGITS_MAX = 64  # leading zeros are fine; a thousand digits are not worth parsing


def score(
    target: Annotated[str, typer.Option(help="Where the server listens: HOST:PORT or unix:PATH.")] = "127.0.0.1:50051",
    transaction_id: Annotated[str | None, typer.Option("--id", help="transaction_id. Default: a random one.")] = None,
    event_time: Annotated[
        str | None, typer.Option("--time", help="When it happened, with a time zone: 2018-04-01T00:00:31Z. Default: now.")
    ] = None,
    entity: Annotated[
        list[str] | None, typer.Option(metavar="NAME=ID", help="An entity, for example customer_id=596. Repeatable.")
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A feature. 5716 is an int64, 57.16 a double, true a bool, anything else (and what stands in double quotes) a "
            "string. Repeatable.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Model. Default: the server's.")] = "",
    version: Annotated[str, typer.Option(help="Version of the model. Default: the one that serves.")] = "",
    request: Annotated[
        str | None, typer.Option(metavar="FILE", help="Take the whole ScoreRequest from a JSON file (- is stdin) instead.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0.001, max=60.0)] = 5.0,
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    inputs: Annotated[bool, typer.Option(help="Show what the model saw.")] = True,
    timings: Annotated[bool, typer.Option(help="Show where the time went.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer (or the error) as JSON.")] = False,
) -> None:
    """Score one transaction on a running server.

    Exit code 3: the server does not serve; 1: it refused, or did not answer in time.

    Examples:

        assay score --entity customer_id=596 --entity terminal_id=3156 --feature amount_minor=5716

        assay score --request transaction.json --json
    """
    from assay.client import Client, ScoreError

    if request is not None and (transaction_id or event_time or entity or feature):
        fail("--request holds the whole transaction; --id, --time, --entity and --feature do not go with it", EXIT_USAGE)
    message = (
        read_request(request, "--request")
        if request is not None
        else _make_request(transaction_id, event_time, entity or [], feature or [])
    )
    message.model = model or message.model
    message.version = version or message.version
    message.include_features |= inputs
    message.include_timings |= timings
    with Client(target, tls=make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name), timeout_s=timeout) as client:
        try:
            answer = client.score_message(message)
        except ScoreError as error:
            raise typer.Exit(show_error(error, target, as_json)) from None
    if as_json:
        print_json(_as_dict(answer))
    else:
        _show_answer(answer)


def parse_value(text: str) -> Value:
    """The typed value of NAME=VALUE's right side; see --feature's help for the rules. Raises ValueError."""
    if text in ("true", "false"):
        return text == "true"
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    if re.fullmatch(r"[+-]?[0-9]+", text):
        if len(text) > INT64_DIGITS_MAX:
            raise ValueError("an integer past int64")
        return int(text)
    # Not whatever float() takes: nan, inf and 1_0 are strings.
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        if math.isinf(float(text)):
            raise ValueError("a number past float64")
        return float(text)
    return text


def read_request(source: str, option: str) -> ScoreRequest:
    """A ScoreRequest in JSON from a file, or stdin (-). Ends the command with what `option` names where there is none."""
    from google.protobuf import json_format

    from assay.v1.scoring_pb2 import ScoreRequest

    try:
        with sys.stdin.buffer if source == "-" else Path(source).open("rb") as file:
            text = file.read(REQUEST_BYTES_MAX + 1)
    except OSError as error:
        fail(f"{option}: {source}: {error.strerror}", EXIT_USAGE)
    if len(text) > REQUEST_BYTES_MAX:
        fail(f"{option}: {source}: longer than {REQUEST_BYTES_MAX:,} bytes", EXIT_USAGE)
    try:
        return json_format.Parse(text, ScoreRequest())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        fail(f"{option}: {source} is not a ScoreRequest in JSON: {_first_line(error)}", EXIT_USAGE)


# --- implementation ---


def _make_request(transaction_id: str | None, event_time: str | None, entities: list[str], features: list[str]) -> ScoreRequest:
    from assay.client import InvalidRequest, Transaction
    from assay.client.encode import encode_transaction

    try:
        moment = datetime.now(UTC) if event_time is None else datetime.fromisoformat(event_time)
    except ValueError:
        fail("--time: expected a date and time such as 2018-04-01T00:00:31Z", EXIT_USAGE)
    if moment.tzinfo is None:
        fail("--time: a time zone is missing; add Z for UTC, for example 2018-04-01T00:00:31Z", EXIT_USAGE)
    typed = {}
    for name, text in pairs("--feature", features).items():
        try:
            typed[name] = parse_value(text)
        except ValueError as error:
            fail(f"--feature {name}: {error}", EXIT_USAGE)
    chosen_id = f"cli-{uuid.uuid4().hex}" if transaction_id is None else transaction_id
    try:
        return encode_transaction(Transaction(chosen_id, moment, pairs("--entity", entities), typed))
    except InvalidRequest as error:
        fail(error.message, EXIT_USAGE)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _as_dict(message: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    value: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return value


def _show_answer(answer: ScoreResponse) -> None:
    from assay.v1.scoring_pb2 import Decision, DegradationKind

    decision = _name_of(Decision, answer.decision).removeprefix("DECISION_")
    colour = {"APPROVE": "green", "CHALLENGE": "yellow", "REVIEW": "yellow", "DECLINE": "red"}.get(decision, "default")
    made_by = answer.provenance
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("transaction", shown(answer.transaction_id))
    table.add_row("score", f"[bold]{answer.score!r}[/]" if answer.HasField("score") else "none (no model scored)")
    table.add_row("decision", f"[bold {colour}]{decision}[/]")
    table.add_row("model", f"{shown(f'{made_by.model} {made_by.version}')} [dim](sha256 {shown(made_by.model_sha256[:16])})[/]")
    feature_set = shown(f"{made_by.feature_set} {made_by.feature_set_version}")
    table.add_row("feature set", f"{feature_set} [dim](schema {shown(made_by.schema_hash[:16])})[/]")
    for degradation in answer.degradations:
        kind = _name_of(DegradationKind, degradation.kind).removeprefix("DEGRADATION_KIND_")
        table.add_row("degraded", f"[yellow]{kind}[/] {shown(degradation.subject)} {shown(degradation.detail)}")
    for age in answer.view_ages:
        table.add_row(
            "view",
            f"{shown(age.view)}: " + (_age_text(_seconds(age.age)) if age.HasField("age") else "no record"),
        )
    if answer.HasField("timings"):
        table.add_row("time", _timings_line(answer.timings))
    answers.print(table)
    if answer.inputs:
        answers.print(_inputs_table(answer))


def _name_of(enum: Any, number: int) -> str:
    """A newer server may know more values than this client."""
    return str(enum.Name(number)) if number in enum.values() else f"number {number}"


def _inputs_table(answer: ScoreResponse) -> Table:
    table = Table(title="what the model saw", title_justify="left", box=None, pad_edge=False)
    table.add_column("input")
    table.add_column("value", justify="right")
    table.add_column("")
    missing, imputed = set(answer.missing_features), set(answer.imputed_features)
    for item in answer.inputs:
        value = getattr(item.value, item.value.WhichOneof("value") or "string_value")
        note = "default (no value)" if item.name in imputed else "no value" if item.name in missing else ""
        table.add_row(shown(item.name), f"{value:.10g}" if isinstance(value, float) else shown(str(value)), note)
    return table


def _timings_line(timings: Any) -> str:
    stages = ("decode", "lookup", "queue", "assemble", "infer", "commit", "respond", "total")
    parts = [f"{stage} {_seconds(getattr(timings, f'{stage}_duration')) * 1e6:,.0f} us" for stage in stages]
    return f"{', '.join(parts)} [dim](batch of {timings.batch_rows})[/]"


def _age_text(age_s: float) -> str:
    return f"newest event {abs(age_s):,.0f} s {'before' if age_s >= 0 else 'later'}"


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos * 1e-9
