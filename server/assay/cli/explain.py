"""`assay explain`: why a score is what it is, and what matters over many; asked of a server, a bundle or the audit log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.explain_players import TOP_K_MAX, Players, Server
from assay.cli.options import JsonOption
from assay.cli.output import EXIT_FAILED, EXIT_REFUSED, EXIT_USAGE, bar, console, fail, plain, plain_text, print_json
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls

if TYPE_CHECKING:
    from assay.cli.explain_bars import Chart
    from assay.cli.explain_told import Told

ROWS_MAX = 10_000


def explain(
    context: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[WHAT]",
            help="REQUEST.json, a ScoreRequest that a server scores and explains (- is stdin); with --bundle ROWS.parquet or "
            "ROWS.npz, as for assay model pack; with --audit a TRANSACTION_ID.",
            show_default=False,
        ),
    ] = None,
    transaction: Annotated[
        str | None,
        typer.Option(
            metavar="TRANSACTION_ID", help="In place of WHAT: a server explains this one's newest score in its audit log."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|unix:PATH",
            help="Where the server listens. Default: 127.0.0.1:50051; with --transaction, which the admin listener answers, that "
            "of the one server on this machine.",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Explain rows of a file with this bundle, NAME/VERSION. With --audit: what is not on record."
        ),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(metavar="DIRECTORY", help="Show what this audit log has: audit.spool of the server.", exists=True),
    ] = None,
    row: Annotated[
        int | None,
        typer.Option(min=0, help="With --bundle: one row of the file, counted from 0. Default: what matters over all."),
    ] = None,
    rows_max: Annotated[
        int | None,
        typer.Option(
            min=1, max=1_000_000, help="With --bundle: most rows to explain, evenly spread. Default: 10,000.", show_default=False
        ),
    ] = None,
    players: Annotated[
        Players | None,
        typer.Option(help="What contributes: groups of inputs, or each input. Default: groups; of a record what it has."),
    ] = None,
    top_k: Annotated[
        int, typer.Option(min=1, max=TOP_K_MAX, help="Most contributions to show, the strongest. The others are summed up.")
    ] = 20,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it, too: a picture. Needs matplotlib.", dir_okay=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it, too: a page, nothing beside it.", dir_okay=False)
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds to wait for a server's answer. Default: 5, with --transaction 30.",
            min=0.001,
            max=60.0,
            show_default=False,
        ),
    ] = None,
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> None:
    """Show why a score is what it is, or what matters to a model over the rows of a file.

    A running server explains a transaction, or a score in its audit log; a bundle explains rows of a file; the audit log has
    what was explained before.

    Exit code 4: there is no explanation (it says why), no such score on record, or the bundle was refused; 3: the server does
    not serve; 1: it refused, or did not answer in time.

    Examples:

        assay explain request.json --target 127.0.0.1:50051

        assay explain --transaction 4711 --target unix:/run/assay/admin-50051.sock

        assay explain --bundle models/card_fraud/1 rows.parquet --html importance.html

        assay explain --bundle models/card_fraud/1 rows.parquet --row 7 --players inputs

        assay explain --audit /var/lib/assay/audit 4711
    """
    _check_options(context, what, transaction, bundle, audit, row, rows_max)
    if png is not None:
        _check_matplotlib()
    is_by_input = players is Players.inputs
    server = Server(target, make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name), timeout, as_json=as_json)
    if what is None:
        told = _ask_server_of_record(server, transaction or "", players, top_k)
    elif audit is not None:
        told = _ask_log(audit, what, bundle, players, top_k)
    elif bundle is None:
        told = _ask_server(server, what, is_by_input=is_by_input, top_k=top_k)
    elif row is not None:
        told = _ask_bundle(bundle, Path(what), row, is_by_input=is_by_input, top_k=top_k)
    else:
        _show_importance(
            bundle, Path(what), rows_max or ROWS_MAX, is_by_input=is_by_input, top_k=top_k, png=png, html=html, as_json=as_json
        )
        return
    _show_told(told, png, html, as_json=as_json)


# --- implementation ---

# Options that only some ways have.
_OF_SERVER = ("target", "timeout", "tls", "tls_ca", "tls_certificate", "tls_key", "tls_server_name")
_OF_FILES = ("bundle", "audit")
_OF_ROWS = ("row", "rows_max")


def _check_options(
    context: typer.Context,
    what: str | None,
    transaction: str | None,
    bundle: Path | None,
    audit: Path | None,
    row: int | None,
    rows_max: int | None,
) -> None:
    """Ends the command where it does not say what to explain, or an option would do nothing."""
    if (what is None) == (transaction is None):
        fail("expected WHAT or --transaction, and one of them", EXIT_USAGE, hint="assay explain --help has examples")
    if transaction is not None:
        _refuse(context, _OF_FILES, "--transaction asks a server; with --audit the transaction's id stands by itself")
    if bundle is not None or audit is not None:
        _refuse(context, _OF_SERVER, f"{'--bundle' if audit is None else '--audit'} asks no server")
    if bundle is None or audit is not None:
        _refuse(context, _OF_ROWS, "it is of the rows of a file, which --bundle PATH explains")
    if row is not None and rows_max is not None:
        fail("--row is one row: --rows-max does not go with it", EXIT_USAGE)


def _refuse(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            fail(f"--{name.replace('_', '-')}: {why}", EXIT_USAGE)


def _check_matplotlib() -> None:
    """Before the work, not after it."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        fail("--png needs matplotlib: pip install matplotlib", EXIT_FAILED, hint="--html needs nothing")


def _ask_server(server: Server, file: str, *, is_by_input: bool, top_k: int) -> Told:
    from assay.cli.explain_server import tell_server
    from assay.cli.score import read_request

    return tell_server(server, read_request(file, "REQUEST.json"), is_by_input=is_by_input, top_k=top_k)


def _ask_server_of_record(server: Server, transaction: str, players: Players | None, top_k: int) -> Told:
    from assay.cli.explain_server import tell_server_record

    return tell_server_record(server, transaction, players=players, top_k=top_k)


def _ask_log(audit: Path, transaction: str, bundle: Path | None, players: Players | None, top_k: int) -> Told:
    from assay.cli.explain_audit import tell_record
    from assay.cli.explain_bundle import load_explainer

    explainer = None if bundle is None else load_explainer(bundle)
    return tell_record(audit, transaction, explainer, players=players, top_k=top_k)


def _ask_bundle(bundle: Path, file: Path, row: int, *, is_by_input: bool, top_k: int) -> Told:
    from assay.cli.explain_bundle import load_explainer, tell_row

    return tell_row(load_explainer(bundle), file, row, is_by_input=is_by_input, top_k=top_k)


def _show_told(told: Told, png: Path | None, html: Path | None, *, as_json: bool) -> None:
    """Ends the command where there is no explanation."""
    from assay.cli.explain_bars import waterfall
    from assay.cli.explain_page import told_page
    from assay.cli.explain_told import document
    from assay.cli.explain_view import print_told, status_line

    if as_json:
        print_json(document(told))
    else:
        print_told(told)
    if told.explanation is None:
        fail(status_line(told), EXIT_REFUSED, hint=told.mend)
    _draw(waterfall(told), told.subject, lambda: told_page(told), png, html)


def _show_importance(
    bundle: Path, file: Path, rows_max: int, *, is_by_input: bool, top_k: int, png: Path | None, html: Path | None, as_json: bool
) -> None:
    from assay.cli.explain_bars import importance_chart
    from assay.cli.explain_bundle import load_explainer, measure_importance
    from assay.cli.explain_page import importance_page
    from assay.cli.explain_told import importance_document
    from assay.cli.explain_view import print_importance

    explainer = load_explainer(bundle)
    with bar("explaining") as progress:
        found = measure_importance(explainer, file, rows_max=rows_max, is_by_input=is_by_input, top_k=top_k, progress=progress)
    if as_json:
        print_json(importance_document(found))
    else:
        print_importance(found)
    _draw(importance_chart(found), f"{found.model} {found.version}", lambda: importance_page(found), png, html)


def _draw(chart: Chart, heading: str, page: Callable[[], str], png: Path | None, html: Path | None) -> None:
    """Into the files that were asked for."""
    try:
        if png is not None:
            from assay.cli.explain_plot import write_plot

            write_plot(chart, plain(heading), png)
            console.print(plain_text(f"picture in {png}"))
        if html is not None:
            html.write_text(page(), encoding="utf-8")
            console.print(plain_text(f"page in {html}"))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
