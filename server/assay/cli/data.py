"""`assay data`: training data held against its feature set, and against what the last model learned from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli.feature_sources import load_training_data
from assay.cli.options import JsonOption
from assay.cli.output import EXIT_REFUSED, EXIT_USAGE, answers, console, fail, plain, plain_text, print_json
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.models.data_check import ColumnReport, DataReport

app = typer.Typer(help="Check training data before a model is made of it.", no_args_is_help=True, rich_markup_mode="markdown")
PROBLEMS_SHOWN_MAX = 20


@app.callback()
def data() -> None:
    """Check training data before a model is made of it."""


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a header, or Parquet: a column for every model input.")],
    bundle: Annotated[
        str | None, typer.Option(help="Compare with what this bundle's model learned: NAME/VERSION, or NAME for the newest.")
    ] = None,
    feature_set: Annotated[
        Path | None, typer.Option(help="Feature set (YAML) of the rows. Default: the bundle's.", exists=True, dir_okay=False)
    ] = None,
    psi_max: Annotated[float, typer.Option(min=0.0, help="Largest distribution shift (PSI) of an input.")] = 0.25,
    null_rise_max: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How much larger an input's share of nulls may be than in the baseline.")
    ] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Check rows of training data: schema, nulls, ranges, and how far they are from what the bundle's model learned from.

    With --feature-set alone nothing is compared: for a first model. Exit code 4: something is wrong; each line says what to do.

    Examples:

        assay data check rows.parquet --bundle models/card_fraud

        assay data check rows.csv --feature-set feature_set.yaml --json
    """
    if bundle is None and feature_set is None:
        fail("give --bundle, --feature-set, or both: there is nothing to hold the data against", EXIT_USAGE)
    from assay.models.data_check import DataLimits, check_data

    try:
        with console.status("checking", spinner="line"):
            loaded, baseline = load_training_data(feature_set, bundle)
            report = check_data(path, loaded, baseline, DataLimits(psi_max, null_rise_max))
    except AssayError as error:
        fail(str(error))
    if as_json:
        print_json(_document(path, report))
    else:
        _print(path, report)
    if report.problems:
        raise typer.Exit(EXIT_REFUSED)


# --- implementation ---


def _document(path: Path, report: DataReport) -> dict[str, Any]:
    return {"path": str(path), "passed": not report.problems, **asdict(report)}


def _print(path: Path, report: DataReport) -> None:
    compared = "" if report.baseline_rows is None else f", baseline of {report.baseline_rows:,} rows"
    answers.print(plain_text(f"{path}: {report.rows:,} rows{compared}", "table.title"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("column", overflow="fold")
    for column in ("null", "in the baseline", "least", "most", "PSI"):
        table.add_column(column, justify="right")
    table.add_column("")
    wrong: dict[str, list[str]] = {}
    for problem in report.problems:
        wrong.setdefault(problem.column, []).append(problem.check)
    for one in report.columns:
        table.add_row(*_cells(one, report.rows), _verdict(one, wrong.get(one.name, [])))
    answers.print(table)
    if report.unread:
        shown = ", ".join(report.unread[:8]) + (f" and {len(report.unread) - 8} more" if len(report.unread) > 8 else "")
        answers.print(plain_text(f"not looked at, no input of the feature set: {shown}"))
    for problem in report.problems[:PROBLEMS_SHOWN_MAX]:
        of = f"{problem.column}: " if problem.column else ""
        console.print(Text.assemble(("refused: ", "bold red"), plain(f"{of}{problem.reason}")), soft_wrap=True)
        console.print(Text.assemble(("what to do: ", "bold"), plain(problem.mend)), soft_wrap=True)
    if len(report.problems) > PROBLEMS_SHOWN_MAX:
        console.print(f"and {len(report.problems) - PROBLEMS_SHOWN_MAX} more: --json has all")


def _cells(one: ColumnReport, rows: int) -> list[Text]:
    numbers = ("" if value is None else f"{value:.6g}" for value in (one.minimum, one.maximum))
    then = "" if one.baseline_null_share is None else f"{one.baseline_null_share:.2%}"
    psi = "" if one.psi is None else f"{one.psi:.3f}"
    return [plain_text(text) for text in (one.name, f"{one.nulls / max(rows, 1):.2%}", then, *numbers, psi)]


def _verdict(one: ColumnReport, wrong: list[str]) -> Text:
    from assay.models.shift import NOTABLE_PSI

    if wrong:
        return Text("refused: " + ", ".join(dict.fromkeys(wrong)), "bold red")
    if one.follows_clock and one.psi is not None:
        return Text("follows the clock: says nothing")
    if one.psi is not None and one.psi >= NOTABLE_PSI:
        return Text("worth a look", "yellow")
    return Text("ok" if one.psi is None else "as in the baseline", "green")
