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
from rich.markup import escape
from rich.table import Table

from assay.cli.output import EXIT_FAILED, EXIT_UNHEALTHY, EXIT_USAGE, answers, console, fail, print_error, print_json

if TYPE_CHECKING:
    import grpc
    from google.protobuf.duration_pb2 import Duration
    from google.rpc.status_pb2 import Status

    from assay.v1.scoring_pb2 import FeatureValue, ScoreRequest, ScoreResponse

REQUEST_BYTES_MAX = 4 << 20
INT64_MAX = (1 << 63) - 1
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
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0.001)] = 5.0,
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
    import grpc

    from assay.v1 import scoring_pb2_grpc

    if request is not None and (transaction_id or event_time or entity or feature):
        fail("--request holds the whole transaction; --id, --time, --entity and --feature do not go with it", EXIT_USAGE)
    message = (
        _read_request(request) if request is not None else _make_request(transaction_id, event_time, entity or [], feature or [])
    )
    message.model = model or message.model
    message.version = version or message.version
    message.include_features |= inputs
    message.include_timings |= timings
    with grpc.insecure_channel(target) as channel:
        try:
            answer = scoring_pb2_grpc.ScoringServiceStub(channel).Score(message, timeout=timeout)  # type: ignore[no-untyped-call]
        except grpc.RpcError as error:
            raise typer.Exit(_show_error(error, target, as_json)) from None
    if as_json:
        print_json(_as_dict(answer))
    else:
        _show_answer(answer)


def parse_value(text: str) -> FeatureValue:
    """The typed value of NAME=VALUE's right side; see --feature's help for the rules. Raises ValueError."""
    from assay.v1.scoring_pb2 import FeatureValue

    if text in ("true", "false"):
        return FeatureValue(bool_value=text == "true")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return FeatureValue(string_value=text[1:-1])
    if re.fullmatch(r"[+-]?[0-9]+", text):
        if len(text) > INT64_DIGITS_MAX or not -INT64_MAX - 1 <= int(text) <= INT64_MAX:
            raise ValueError("an integer past int64")
        return FeatureValue(int64_value=int(text))
    # Not whatever float() takes: nan, inf and 1_0 are strings.
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        if math.isinf(float(text)):
            raise ValueError("a number past float64")
        return FeatureValue(double_value=float(text))
    return FeatureValue(string_value=text)


# --- implementation ---


def _make_request(transaction_id: str | None, event_time: str | None, entities: list[str], features: list[str]) -> ScoreRequest:
    from assay.v1.scoring_pb2 import ScoreRequest

    request = ScoreRequest(transaction_id=f"cli-{uuid.uuid4().hex}" if transaction_id is None else transaction_id)
    try:
        moment = datetime.now(UTC) if event_time is None else datetime.fromisoformat(event_time)
    except ValueError:
        fail("--time: expected a date and time such as 2018-04-01T00:00:31Z", EXIT_USAGE)
    if moment.tzinfo is None:
        fail("--time: a time zone is missing; add Z for UTC, for example 2018-04-01T00:00:31Z", EXIT_USAGE)
    request.event_time.FromDatetime(moment.astimezone(UTC))
    for option, pairs in (("--entity", entities), ("--feature", features)):
        for pair in pairs:
            name, separator, text = pair.partition("=")
            if not separator or not name:
                fail(f"{option}: expected NAME=VALUE", EXIT_USAGE)
            if name in (request.entities if option == "--entity" else request.features):
                fail(f"{option} {name}: given twice; which one holds would be a guess", EXIT_USAGE)
            if option == "--entity":
                request.entities[name] = text
                continue
            try:
                request.features[name].CopyFrom(parse_value(text))
            except ValueError as error:
                fail(f"--feature {name}: {error}", EXIT_USAGE)
    return request


def _read_request(source: str) -> ScoreRequest:
    from google.protobuf import json_format

    from assay.v1.scoring_pb2 import ScoreRequest

    try:
        with sys.stdin.buffer if source == "-" else Path(source).open("rb") as file:
            text = file.read(REQUEST_BYTES_MAX + 1)
    except OSError as error:
        fail(f"--request: {source}: {error.strerror}", EXIT_USAGE)
    if len(text) > REQUEST_BYTES_MAX:
        fail(f"--request: {source}: longer than {REQUEST_BYTES_MAX:,} bytes", EXIT_USAGE)
    try:
        return json_format.Parse(text, ScoreRequest())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        fail(f"--request: {source} is not a ScoreRequest in JSON: {_first_line(error)}", EXIT_USAGE)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _as_dict(message: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    value: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return value


def _show_answer(answer: ScoreResponse) -> None:
    from assay.v1.scoring_pb2 import Decision, DegradationKind

    decision = Decision.Name(answer.decision).removeprefix("DECISION_")
    colour = {"APPROVE": "green", "CHALLENGE": "yellow", "REVIEW": "yellow", "DECLINE": "red"}.get(decision, "default")
    made_by = answer.provenance
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("transaction", escape(answer.transaction_id))
    table.add_row("score", f"[bold]{answer.score!r}[/]" if answer.HasField("score") else "none (no model scored)")
    table.add_row("decision", f"[bold {colour}]{decision}[/]")
    table.add_row("model", f"{made_by.model} {made_by.version} [dim](sha256 {made_by.model_sha256[:16]})[/]")
    table.add_row(
        "feature set", f"{made_by.feature_set} {made_by.feature_set_version} [dim](schema {made_by.schema_hash[:16]})[/]"
    )
    for degradation in answer.degradations:
        kind = DegradationKind.Name(degradation.kind).removeprefix("DEGRADATION_KIND_")
        table.add_row("degraded", f"[yellow]{kind}[/] {escape(degradation.subject)} {escape(degradation.detail)}")
    for age in answer.view_ages:
        table.add_row(
            "view",
            f"{escape(age.view)}: " + (_age_text(_seconds(age.age)) if age.HasField("age") else "no record"),
        )
    if answer.HasField("timings"):
        table.add_row("time", _timings_line(answer.timings))
    answers.print(table)
    if answer.inputs:
        answers.print(_inputs_table(answer))


def _inputs_table(answer: ScoreResponse) -> Table:
    table = Table(title="what the model saw", title_justify="left", box=None, pad_edge=False)
    table.add_column("input")
    table.add_column("value", justify="right")
    table.add_column("")
    missing, imputed = set(answer.missing_features), set(answer.imputed_features)
    for item in answer.inputs:
        value = getattr(item.value, item.value.WhichOneof("value") or "string_value")
        note = "default (no value)" if item.name in imputed else "no value" if item.name in missing else ""
        table.add_row(escape(item.name), f"{value:.10g}" if isinstance(value, float) else escape(str(value)), note)
    return table


def _timings_line(timings: Any) -> str:
    stages = ("decode", "lookup", "queue", "assemble", "infer", "respond", "total")
    parts = [f"{stage} {_seconds(getattr(timings, f'{stage}_duration')) * 1e6:,.0f} us" for stage in stages]
    return f"{', '.join(parts)} [dim](batch of {timings.batch_rows})[/]"


def _age_text(age_s: float) -> str:
    return f"newest event {abs(age_s):,.0f} s {'before' if age_s >= 0 else 'later'}"


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos * 1e-9


def _show_error(error: grpc.RpcError, target: str, as_json: bool) -> int:
    """Prints an RPC's error with everything that its details say; returns the exit code."""
    import grpc

    assert isinstance(error, grpc.Call)
    code: grpc.StatusCode = error.code()
    value = describe_status(_status_of(error))
    value = {"code": code.name, "message": error.details() or "", **value}
    exit_code = EXIT_UNHEALTHY if code is grpc.StatusCode.UNAVAILABLE else EXIT_FAILED
    if as_json:
        print_json({"error": value})
        return exit_code
    violations = value.get("violations", [])
    reason = f" {value['reason']}" if value.get("reason", code.name) != code.name else ""
    print_error(f"{code.name}{reason}: {_without_violations(value['message'], violations)}")
    for violation in violations:
        console.print(
            f"  [bold]{escape(violation['field'])}[/] {violation['reason']}: {escape(violation['description'])}", soft_wrap=True
        )
    if "retry_after_s" in value:
        console.print(f"[dim]hint:[/] try again in {value['retry_after_s']:g} s")
    if exit_code == EXIT_UNHEALTHY and "reason" not in value:
        console.print(f"[dim]hint:[/] is a server running at {escape(target)}? `assay serve` starts one", soft_wrap=True)
    if "reason" in value:
        console.print(f"[dim]hint:[/] docs/errors.md, {value['reason']}")
    return exit_code


def _without_violations(message: str, violations: list[dict[str, str]]) -> str:
    """The message up to where it repeats the violations, which are listed below it."""
    if not violations:
        return message
    return message.partition(f"{violations[0]['field']} {violations[0]['description']}")[0].rstrip()


def _status_of(error: grpc.Call) -> Status | None:
    from google.rpc.status_pb2 import Status

    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return Status.FromString(value)
    return None


def describe_status(status: Status | None) -> dict[str, Any]:
    """What a google.rpc.Status's details say: reason, metadata, violations, retry_after_s; what is not there is left out."""
    from google.rpc import error_details_pb2

    value: dict[str, Any] = {}
    for detail in status.details if status is not None else ():
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            value["reason"] = info.reason
            if info.metadata:
                value["metadata"] = dict(info.metadata)
        elif detail.Unpack(bad):
            value["violations"] = [
                {"field": item.field, "reason": item.reason, "description": item.description} for item in bad.field_violations
            ]
        elif detail.Unpack(retry):
            value["retry_after_s"] = _seconds(retry.retry_delay)
    return value
