"""`assay features served-rows` and `check-skew`: the rows that a model was given, held against a replay of the events."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    served_feature_set,
)
from assay.cli.options import JsonOption
from assay.cli.output import (
    EXIT_REFUSED,
    EXIT_USAGE,
    answers,
    bar,
    console,
    fail,
    plain_text,
    print_counts,
    print_error,
    print_json,
)
from assay.cli.tls_options import TlsCa, TlsCertificate, TlsKey, TlsOn, TlsServerName, make_tls
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.client import Tls
    from assay.features.feature_set import FeatureSet
    from assay.features.served_rows import RowSample
    from assay.features.skew import SkewReport


def served_rows(
    target: Annotated[str, typer.Option(metavar="HOST:PORT|unix:PATH", help="Ask this running server, over its admin listener.")],
    out: Annotated[Path, typer.Option(help="File to write (JSON lines), for check-skew --rows.", dir_okay=False)],
    model: Model = "",
    version: Version = "",
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> None:
    """Write down the sample of rows that a server keeps: what its model was given.

    The file has transaction ids and inputs, no entities. It is readable by its owner alone.

    Examples:

        assay features served-rows --target unix:/run/user/1000/assay/admin-50051.sock --out served.jsonl
    """
    from assay.cli.feature_calls import served_rows as ask
    from assay.features.served_rows import write_sample

    try:
        trust = make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name)
        sample = ask(target, trust, model, version, as_json=as_json)
        write_sample(sample, out)
    except AssayError as error:
        fail(str(error))
    if as_json:
        print_json({"out": str(out), "model": sample.model, "version": sample.version, "row_count": len(sample.rows)})
        return
    console.print(plain_text(f"{len(sample.rows):,} rows of model {sample.model} {sample.version} in {out}"))


def check_skew(
    events: Annotated[Path, typer.Option(help="All events that the server was told of, one JSON object a line.", dir_okay=False)],
    feature_set: FeatureSetOption = None,
    target: Target = None,
    rows: Annotated[Path | None, typer.Option(help="Instead of --target: a file of served-rows.", dir_okay=False)] = None,
    model: Model = "",
    version: Version = "",
    attributes: AttributesOption = None,
    mismatch_max: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Largest share of rows in which an input may differ.")
    ] = 0.001,
    tls: TlsOn = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    as_json: JsonOption = False,
) -> None:
    """Check that training equals serving: hold the rows that a model was given against a replay of the events, bit by bit.

    Rows made while records were out of reach are counted apart. With --target the feature set is the server's, unless
    --feature-set names one. Exit code 4: an input differs in more than --mismatch-max of the rows, or fewer than half of them
    could be compared.

    Examples:

        assay features check-skew --target unix:/run/user/1000/assay/admin-50051.sock --events events.jsonl

        assay features check-skew --rows served.jsonl --events events.jsonl --feature-set features.yaml --json
    """
    from assay.features.skew import check_skew as check

    if (target is None) == (rows is None):
        fail("give either --target, a running server, or --rows, a file of assay features served-rows", EXIT_USAGE)
    if rows is not None and (model or version):
        fail("--model and --version go with --target: a file has the rows of one model", EXIT_USAGE)
    files = attribute_files(attributes)
    try:
        trust = make_tls(tls, tls_ca, tls_certificate, tls_key, tls_server_name)
        sample = _sample(target, rows, trust, model, version, as_json)
        loaded = _feature_set(feature_set, target, trust, sample, as_json)
        with bar("replaying") as advance:
            report = check(loaded, sample, events, advance, attributes=files)
    except AssayError as error:
        fail(str(error))
    if as_json:
        print_json(_document(report, sample, loaded, mismatch_max))
    else:
        _print(report, sample)
    if not (as_json and report.is_telling):
        print_counts(*_left_out(report))
    if report.compared_count == 0:
        print_error("no row could be compared: is skew.sample_one_in small enough, and are these the events that were scored?")
    elif not report.is_telling:
        print_error(f"only {report.compared_count:,} of {report.row_count:,} rows could be compared: fewer than half")
    if not report.is_telling or report.skew_max > mismatch_max:
        raise typer.Exit(EXIT_REFUSED)


# --- implementation ---


def _sample(target: str | None, rows: Path | None, trust: Tls | None, model: str, version: str, as_json: bool) -> RowSample:
    from assay.cli.feature_calls import served_rows as ask
    from assay.features.served_rows import read_sample

    if rows is not None:
        return read_sample(rows)
    assert target is not None
    return ask(target, trust, model, version, as_json=as_json)


def _feature_set(path: Path | None, target: str | None, trust: Tls | None, sample: RowSample, as_json: bool) -> FeatureSet:
    """The one that is named, else the server's, of the version whose rows it gave, else the demo's."""
    if path is None and target is not None:
        return served_feature_set(target, trust, sample.model, sample.version, as_json=as_json)
    return load_feature_set(path)


def _document(report: SkewReport, sample: RowSample, feature_set: FeatureSet, mismatch_max: float) -> dict[str, Any]:
    return {
        "model": sample.model,
        "version": sample.version,
        "schema_hash": feature_set.schema_hash,
        **asdict(report),
        "skew_max": report.skew_max,
        "mismatch_max": mismatch_max,
    }


def _print(report: SkewReport, sample: RowSample) -> None:
    title = f"model {sample.model} {sample.version}: {report.compared_count:,} of {report.row_count:,} rows compared"
    table = Table(title=plain_text(title, "table.title"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("input")
    for column in ("mismatched", "missing", "extra", "skew", "largest difference"):
        table.add_column(column, justify="right")
    for one in report.inputs:
        counts = (f"{count:,}" for count in (one.mismatch_count, one.missing_count, one.extra_count))
        table.add_row(plain_text(one.name), *counts, f"{one.skew:.2%}", f"{one.difference_max:.6g}")
    answers.print(table)
    print_counts((report.other_time_count, "rows were scored at another time than their event has"))


def _left_out(report: SkewReport) -> tuple[tuple[int, str], ...]:
    return (
        (report.degraded_count, "rows were made without a record, or with an old one: not compared"),
        (report.unknown_count, "rows are of transactions that the events do not have: not compared"),
        (report.refused_count, "rows have an event that a score would refuse: not compared"),
    )
