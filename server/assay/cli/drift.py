"""`assay drift`: how far a running server's present is from its models' baselines, as a table or as a page with plots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from assay.cli.admin_target import admin_target
from assay.cli.feature_sources import Model, Version
from assay.cli.options import JsonOption
from assay.cli.output import answers, console, fail, plain_text, print_json
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls
from assay.errors import AssayError

if TYPE_CHECKING:
    from rich.text import Text

    from assay.client import Tls
    from assay.v1.drift_pb2 import GetDriftResponse

app = typer.Typer(no_args_is_help=True, help="Show how far the present is from a model's baseline.", rich_markup_mode="markdown")

Server = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|unix:PATH",
        help="Ask this running server, over its admin listener. Default: the one server that runs on this machine.",
        show_default=False,
    ),
]


@app.command()
def show(
    target: Server = None,
    model: Model = "",
    version: Version = "",
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> None:
    """Show the drift of a model's score, decisions and inputs in the present window.

    Examples:

        assay drift show

        assay drift show --target unix:/run/user/1000/assay/admin-50051.sock --json
    """
    try:
        answer = _ask(target, make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name), model, version, as_json=as_json)
    except AssayError as error:
        fail(str(error))
    if as_json:
        from assay.cli.drift_words import document

        print_json(document(answer))
        return
    _print(answer)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="File to write (HTML, nothing beside it).", dir_okay=False)],
    target: Server = None,
    model: Model = "",
    version: Version = "",
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
) -> None:
    """Write a page with plots: the score and each input, in the baseline and now, and what to make of it.

    Examples:

        assay drift report --out drift.html
    """
    from assay.cli.drift_page import drift_page

    try:
        answer = _ask(target, make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name), model, version, as_json=False)
        out.write_text(drift_page(answer), encoding="utf-8")
    except AssayError as error:
        fail(str(error))
    except OSError as error:
        fail(f"--out: {error.filename}: {error.strerror}")
    named = f"{answer.provenance.model} {answer.provenance.version}"
    console.print(plain_text(f"drift of model {named} over {answer.window_scores:,} scores in {out}"))


# --- implementation ---


def _ask(target: str | None, tls: Tls | None, model: str, version: str, *, as_json: bool) -> GetDriftResponse:
    from assay.cli.unary_call import unary_call
    from assay.v1.drift_pb2 import GetDriftRequest, GetDriftResponse

    request = GetDriftRequest(model=model, version=version)
    return unary_call(admin_target(target), tls, "assay.v1.DriftService/GetDrift", request, GetDriftResponse, as_json=as_json)


def _print(answer: GetDriftResponse) -> None:
    from assay.cli.drift_words import duration_text, score_verdict, why_nothing

    made_by = answer.provenance
    window = f"{answer.window_scores:,} scores in {duration_text(answer.window_duration.ToNanoseconds() / 1e9)}"
    answers.print(plain_text(f"model {made_by.model} {made_by.version}: {window}, baseline of {answer.baseline_rows:,} rows"))
    if missing := why_nothing(answer):
        answers.print(plain_text(f"no values: {missing}"))
        return
    loudness, verdict = score_verdict(answer)
    answers.print(plain_text(f"prediction drift {answer.prediction_drift_score:.3f}: ").append_text(_styled(loudness, verdict)))
    answers.print(_alert_table(answer))
    answers.print(_input_table(answer))


def _alert_table(answer: GetDriftResponse) -> Table:
    from assay.cli.drift_words import alert_verdict

    table = Table("decision", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("baseline", "now", "ratio", "by chance"):
        table.add_column(column, justify="right")
    table.add_column("")
    for one in answer.alerts:
        table.add_row(
            plain_text(one.decision),
            f"{one.baseline_rate:.3%}",
            f"{one.window_alerts / answer.window_scores:.3%}",
            f"{one.ratio:.2f}",
            f"{one.ratio_low:.2f} to {one.ratio_high:.2f}",
            _styled(*alert_verdict(one)),
        )
    return table


def _input_table(answer: GetDriftResponse) -> Table:
    from assay.cli.drift_words import bins_verdict

    table = Table("input", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("PSI", "null", "in the baseline", "imputed"):
        table.add_column(column, justify="right")
    table.add_column("")
    for one in answer.inputs:
        table.add_row(
            plain_text(one.name),
            f"{one.psi:.3f}",
            f"{one.window_nulls / answer.window_scores:.2%}",
            f"{one.baseline_nulls / answer.baseline_rows:.2%}",
            f"{one.window_imputed / answer.window_scores:.2%}",
            _styled(*bins_verdict(one)),
        )
    return table


def _styled(loudness: str, words: str) -> Text:
    from assay.cli.drift_words import LOUD, NOTABLE

    return plain_text(words, {LOUD: "bold red", NOTABLE: "yellow"}.get(loudness, ""))
