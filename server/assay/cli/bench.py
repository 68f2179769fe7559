"""`assay bench`: load on a server, from a generator that can outrun it and does not flatter it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.text import Text

from assay.cli.connection_hints import connection_hint
from assay.cli.feature_sources import FeatureSetOption
from assay.cli.output import EXIT_FAILED, EXIT_USAGE, answers, bar, console, fail, plain, print_error, print_json, progress
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsServerName
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay import _core
    from assay.cli.bench_run import Plan, StepResult

app = typer.Typer(
    help="Load on a server, from a generator that can outrun it.", no_args_is_help=True, rich_markup_mode="markdown"
)


EXIT_STOPPED = 130  # by Ctrl-C; what was measured until then is shown all the same


class ArrivalsOption(StrEnum):
    poisson = "poisson"
    constant = "constant"


@app.command()
def run(
    target: Annotated[str, typer.Argument(help="Where the server listens: HOST:PORT or unix:PATH.")],
    messages: Annotated[Path, typer.Option(help="Requests to send, from `assay bench prepare`.", dir_okay=False)],
    method: Annotated[str, typer.Option(help="Method to call, a unary one.")] = "assay.v1.ScoringService/Score",
    rate: Annotated[
        float | None, typer.Option(help="Calls a second, whatever the server does (open loop). Default: a closed loop.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="RATE,RATE,...", help="Several rates, one after the other; see --out.")
    ] = None,
    arrivals: Annotated[ArrivalsOption, typer.Option(help="How calls of an open loop arrive.")] = ArrivalsOption.poisson,
    connections: Annotated[int, typer.Option(min=1, max=4096, help="Connections.")] = 4,
    streams: Annotated[int, typer.Option(min=1, max=4096, help="Calls open at most on each of them.")] = 16,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of the generator; connections are dealt out.")] = 1,
    duration: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds that count, of each step.")] = 30.0,
    warmup: Annotated[float, typer.Option(min=0, max=3_600, help="Seconds before them that do not.")] = 5.0,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, max=3_600, help="Deadline of each call in seconds. Default: none.")
    ] = None,
    backlog: Annotated[
        int, typer.Option(min=1, max=16 << 20, help="Calls of an open loop that may wait for a stream; more are dropped.")
    ] = 100_000,
    spin: Annotated[
        bool,
        typer.Option("--spin", help="Stay awake between calls of an open loop: on time to the microsecond, for a whole core."),
    ] = False,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Metadata to send with each call. Repeatable.")
    ] = None,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Send the messages in random order, not in turn.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="Of arrivals and order: the same gives the same.")] = 1,
    server_pid: Annotated[
        int | None, typer.Option(min=1, help="The server's process, on this machine: its CPU time is shown beside the calls.")
    ] = None,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json and plots.", file_okay=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Send calls to a server and say how long the answers took.

    With --rate or --steps calls arrive whatever the server does, and each latency is counted from when its call was meant to be
    sent: a server that stalls is charged for every call that it kept waiting. Without, each stream sends its next call when the
    last one is answered: that finds the most a server can do, and is no measure of latency. Percentiles are of calls answered OK;
    those that got no answer in time count as endlessly slow, refusals are counted apart. --tls-ca makes it TLS.

    Examples:

        assay bench run 127.0.0.1:50051 --messages messages.bin --rate 5000 --duration 60

        assay bench run 127.0.0.1:50051 --messages messages.bin --steps 1000,2000,4000,8000 --out bench

        assay bench run unix:/run/assay.sock --messages messages.bin --connections 8 --streams 64 --server-pid 4711
    """
    from assay.cli.bench_run import Plan, TlsFiles, read_tls

    plan = Plan(
        target=target,
        method=method if method.startswith("/") else f"/{method}",
        messages=messages,
        rates=_rates(rate, steps),
        arrivals=arrivals.value,
        connections=connections,
        streams=streams,
        threads=threads,
        duration_s=duration,
        warmup_s=warmup,
        timeout_s=timeout or 0.0,
        backlog_max=backlog,
        spin=spin,
        metadata=_metadata(metadata or []),
        shuffle=shuffle,
        seed=seed,
        server_pid=server_pid,
        tls=TlsFiles(tls_ca, tls_certificate, tls_key, tls_server_name),
    )
    try:
        read_tls(plan.tls)  # before anything is sent
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", EXIT_USAGE)
    except AssayError as error:
        fail(str(error), EXIT_USAGE)
    results = _run_steps(plan)
    _report(plan, results, out, as_json)
    if results[-1].is_stopped:
        raise typer.Exit(EXIT_STOPPED)
    if any(result.failure for result in results) or not any(result.ok_count for result in results):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def prepare(
    out: Annotated[Path, typer.Option(help="File to write.", dir_okay=False)],
    events: Annotated[
        Path | None, typer.Argument(help="Events, one JSON object a line, as `assay ingest` reads them. Default: the demo's.")
    ] = None,
    feature_set: FeatureSetOption = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, max=4_000_000, help="How many. Default: one for each event, and 100,000 of the demo's."),
    ] = None,
    model: Annotated[str, typer.Option(help="Model to ask. Default: the server's.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Make a file of distinct requests for `assay bench run`.

    Each event becomes the request to score it. Where --count asks for more than there are events, they come again under new
    transaction ids. Rows that repeat are quicker to score: prepare as many as the run sends, if you can. The file holds
    transactions: only its owner may read it.

    Examples:

        assay bench prepare --out messages.bin

        assay bench prepare events.jsonl --feature-set feature_set.yaml --count 1000000 --out messages.bin
    """
    from assay.cli.bench_messages import prepare_messages

    if events is None and feature_set is not None:
        fail("the demo's events belong to the demo's feature set", EXIT_USAGE, hint="name the file of yours: prepare EVENTS")
    try:
        with bar("preparing") as advance:
            summary = prepare_messages(out, events, feature_set, count, model, advance)
    except AssayError as error:
        fail(str(error), EXIT_USAGE)
    if as_json:
        print_json({"out": str(out), **summary})
        return
    console.print(Text(f"{summary['messages']:,} messages in {out} ({summary['bytes'] / 1e6:.1f} MB)"))


# --- implementation ---


def _rates(rate: float | None, steps: str | None) -> tuple[float | None, ...]:
    """The rates of the steps; None: a closed loop."""
    if rate is not None and steps is not None:
        fail("--rate is one rate, --steps are several: give one of them", EXIT_USAGE)
    if steps is None:
        return (rate,)
    try:
        rates = tuple(float(text) for text in steps.split(","))
    except ValueError:
        fail("--steps: expected rates with commas between, for example 1000,2000,4000", EXIT_USAGE)
    if len(rates) > 100:
        fail("--steps: expected at most 100 rates", EXIT_USAGE)
    return rates


def _metadata(options: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for option in options:
        name, separator, value = option.partition("=")
        if not separator or not name:
            fail("--metadata: expected NAME=VALUE", EXIT_USAGE)
        pairs.append((name, value))
    return tuple(pairs)


def _run_steps(plan: Plan) -> list[StepResult]:
    from assay.cli.bench_run import run_step

    results: list[StepResult] = []
    for rate in plan.rates:
        name = "closed loop" if rate is None else f"{rate:,.0f}/s"
        seconds = round(plan.warmup_s + plan.duration_s, 1)
        with progress(name, seconds) as advance:

            def show(found: _core.LoadProgress, advance: object = advance, seconds: float = seconds) -> None:
                advance(min(round(found.elapsed_s, 1), seconds))  # type: ignore[operator]

            try:
                results.append(run_step(plan, rate, show))
            except ValueError as error:
                fail(str(error), EXIT_USAGE)
            except OSError as error:
                _fail_unreachable(str(error), plan.target)
        if results[-1].failure or results[-1].is_stopped:
            break
    return results


def _fail_unreachable(message: str, target: str) -> NoReturn:
    if "HTTP/2" in message:
        fail(message, EXIT_USAGE, hint="is that the port for gRPC? A server that speaks TLS needs --tls-ca")
    fail(message, EXIT_USAGE, hint=connection_hint(message, target) if message.startswith(target) else "")


def _report(plan: Plan, results: list[StepResult], out: Path | None, as_json: bool) -> None:
    from assay.cli.bench_report import document_of, notes_on, outcome_lines, step_table

    document = document_of(plan, results)
    if as_json:
        print_json(document)
    else:
        answers.print(step_table(results))
        for line in outcome_lines(results):
            answers.print(line)
    for note in notes_on(results):
        console.print(f"[yellow]note:[/] {note}", soft_wrap=True)
    for result in results:
        if result.failure:
            print_error(plain(result.failure))
    if out is not None:
        _write(out, document)


def _write(out: Path, document: dict[str, object]) -> None:
    import orjson

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        fail(f"--out: {error.filename}: {error.strerror}", EXIT_USAGE)
    try:
        from assay.cli.bench_plots import write_plots
    except ImportError:
        console.print("[dim]hint:[/] plots need matplotlib: pip install matplotlib")
        return
    written = write_plots(document, out)
    console.print(Text(f"{', '.join(['results.json', *written])} in {out}"))
