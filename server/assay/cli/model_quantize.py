"""`assay model quantize`: a smaller, faster bundle from one that is served, and what that costs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli.output import EXIT_REFUSED, EXIT_USAGE, answers, bar, console, fail, plain, plain_text, print_json, shown
from assay.errors import AssayError, InputError

if TYPE_CHECKING:
    from assay.models.quality import Outcomes
    from assay.models.quantize import Report


class Calibration(StrEnum):
    minmax = "minmax"
    percentile = "percentile"
    entropy = "entropy"


def quantize(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The FP32 bundle: the directory NAME/VERSION.")],
    rows: Annotated[
        Path,
        typer.Option(
            help="Rows of training time, as for `assay model pack`: calibrated, compared and packed with.",
            exists=True,
            dir_okay=False,
        ),
    ],
    version: Annotated[str, typer.Option(help="Version of the new bundle, for example 2.5.0-onnx-int8.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write NAME/VERSION/. Default: beside the FP32 bundle.", file_okay=False)
    ] = None,
    calibration: Annotated[
        Calibration, typer.Option(help="How a range of activations follows from those seen.")
    ] = Calibration.minmax,
    calibration_rows: Annotated[int, typer.Option(min=1, max=65_536, help="Most rows to calibrate on.")] = 512,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="A node (its name in the ONNX graph) that stays FP32. Repeatable.")
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Dynamic INT8. The batch then changes scores: --batch-dependent says that you know.")
    ] = False,
    batch_dependent: Annotated[
        bool, typer.Option("--batch-dependent", help="With --dynamic: serve the bundle in batches of one.")
    ] = False,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Half precision instead of INT8: for CUDA, which has no INT8 kernels.")
    ] = False,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Append a monotone map that brings scores back to the parent's scale.")
    ] = False,
    batch_tolerance: Annotated[
        float | None, typer.Option(min=0.0, help="How much a score may move with its batch. Default: the parent's; fp16: 0.001.")
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of --rows with 1 or true for fraud: measures AUC, average precision."),
    ] = None,
    card_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column with the card or customer of a row: measures card precision@100.")
    ] = None,
    time_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column with the time of a row, whose day it is.")
    ] = "event_time",
    score_difference_max: Annotated[float | None, typer.Option(min=0.0, help="Limit: the most that any score may move.")] = None,
    decision_flips_max: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Limit: share of rows that may get another decision.")
    ] = None,
    auc_drop_max: Annotated[float | None, typer.Option(min=0.0, help="Limit: how much less the AUC may be.")] = None,
    average_precision_drop_max: Annotated[
        float | None, typer.Option(min=0.0, help="Limit: how much less the average precision may be.")
    ] = None,
    card_precision_drop_max: Annotated[
        float | None, typer.Option(min=0.0, help="Limit: how much less card precision@100 may be.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a PNG of new scores against the parent's.", dir_okay=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Quantise a bundle to INT8 (static, calibrated on rows), and report size, throughput here and quality against the parent's.

    Exit code 4: it was refused, or a limit does not hold; then no bundle was written.

    Example:

        assay model quantize models/sentinel/2.5.0-onnx --rows rows.parquet --version 2.5.0-onnx-int8
        --label-column is_fraud --average-precision-drop-max 0.005 --decision-flips-max 0.01
    """
    if dynamic and fp16:
        fail("--dynamic and --fp16: choose one", EXIT_USAGE)
    if dynamic and not batch_dependent:
        fail(
            "--dynamic: dynamic INT8 takes the range of its numbers over the whole batch, so one row moves another's score",
            EXIT_REFUSED,
            hint="leave --dynamic out (static INT8), or add --batch-dependent: the bundle is then served in batches of one",
        )
    if batch_dependent and not dynamic:
        fail("--batch-dependent goes with --dynamic: nothing else makes scores depend on the batch", EXIT_USAGE)

    from assay._core import OrtRuntime
    from assay.models.ort_library import find_library
    from assay.models.pack import read_rows
    from assay.models.quantize import Limits, QuantizeRequest, quantize_bundle

    try:
        request = QuantizeRequest(
            path=bundle,
            version=version,
            rows=read_rows(rows),
            kind="fp16" if fp16 else "int8-dynamic" if dynamic else "int8-static",
            outcomes=_read_outcomes(rows, label_column, card_column, time_column),
            limits=Limits(
                score_difference_max, decision_flips_max, auc_drop_max, average_precision_drop_max, card_precision_drop_max
            ),
            calibration=calibration.value,
            calibration_rows_max=calibration_rows,
            kept_nodes=tuple(keep or ()),
            is_recalibrated=recalibrate,
            batch_tolerance=batch_tolerance,
        )
        with bar("quantising") as advance:
            runtime = OrtRuntime(str(find_library()))
            report = quantize_bundle(
                request, out or bundle.resolve().parent.parent, runtime, lambda percent: advance(percent, 100)
            )
    except (AssayError, OSError) as error:
        fail(str(error), EXIT_REFUSED)
    if json:
        print_json(as_json(report))
    else:
        _print_report(report)
    if plot:
        _write_plot(report, plot)
    if report.broken:
        console.print(Text.assemble(("refused: ", "bold red"), "; ".join(report.broken)))
        console.print("nothing was written. Try --keep for the first layer, --calibration percentile, or --recalibrate")
        raise typer.Exit(EXIT_REFUSED)
    there = shown(str(report.place))
    console.print(f"packed [bold]{there}[/]; look at it with: assay model check {there}", soft_wrap=True)


def as_json(report: Report) -> dict[str, Any]:
    """The report as programs read it."""
    from dataclasses import asdict

    from assay.models.throughput import has_vnni

    return {
        "parent": report.parent_version,
        "conversion": report.kind,
        "model_bytes": {"parent": report.parent_bytes, "quantised": report.model_bytes},
        "has_vnni": has_vnni(),
        "throughput": [{"batch_rows": item.batch_rows, "rows_per_s": item.rows_per_s} for item in report.throughput],
        "calibration_rows": report.calibration_rows,
        "difference": asdict(report.difference) | {"decision_flips_share": report.difference.decision_flips_share},
        "quality": {
            "parent": asdict(report.parent_quality) if report.parent_quality else None,
            "quantised": asdict(report.quality) if report.quality else None,
        },
        "score_map": asdict(report.score_map) if report.score_map else None,
        "broken_limits": list(report.broken),
        "bundle": str(report.place) if report.place else None,
    }


# --- implementation ---


def _read_outcomes(path: Path, label: str | None, card: str | None, time: str) -> Outcomes | None:
    """Labels, and cards with days, from columns of the rows."""
    if label is None:
        if card is not None:
            raise InputError("--card-column goes with --label-column: card precision needs to know which rows are fraud")
        return None
    import numpy as np

    from assay.models.outcomes import read_outcomes

    outcomes = read_outcomes(path, label, card, time)
    if not 0 < np.count_nonzero(outcomes.is_fraud) < len(outcomes.is_fraud):
        raise InputError(f"--label-column {label}: expected rows that are fraud and rows that are not, to measure quality on")
    return outcomes


def _print_report(report: Report) -> None:
    from assay.models.throughput import has_vnni

    table = Table(
        title=plain_text(f"{report.kind} against its parent {report.parent_version}", "table.title"),
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for column in ("what", "parent", "new", "change"):
        table.add_column(column, overflow="fold")
    table.add_row(
        "model, MB",
        f"{report.parent_bytes / 1e6:.2f}",
        f"{report.model_bytes / 1e6:.2f}",
        f"{report.parent_bytes / report.model_bytes:.2f} times smaller",
    )
    for item in report.throughput:
        slow, quick = item.rows_per_s["parent"], item.rows_per_s["quantised"]
        what = f"rows/s in batches of {item.batch_rows}"
        if report.kind == "int8-dynamic" and item.batch_rows > 1:
            what += ", new in ones"
        table.add_row(what, f"{slow:,.0f}", f"{quick:,.0f}", f"{quick / slow:.2f} times")
    for what, name in (("AUC", "auc"), ("average precision", "average_precision"), ("card precision@100", "card_precision")):
        before, after = getattr(report.parent_quality, name, None), getattr(report.quality, name, None)
        if before is not None and after is not None:
            table.add_row(what, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}")
    difference = report.difference
    table.add_row(
        "score difference",
        "",
        "",
        f"{difference.score_difference_max:.6f} at most, {difference.score_difference_mean:.6f} on average",
    )
    table.add_row(
        "decisions that flip",
        "",
        "",
        f"{difference.decision_flips:,} of {difference.rows:,} ({difference.decision_flips_share:.2%})",
    )
    answers.print(table)
    if report.kind.startswith("int8") and has_vnni() is False:
        console.print(
            "this processor has no VNNI: INT8 gains less here than where it serves, if that has it (docs/quantisation.md)"
        )
    if report.score_map:
        console.print(
            plain(f"scores are mapped: sigmoid({report.score_map.slope:.4f} * logit(score) {report.score_map.offset:+.4f})")
        )


def _write_plot(report: Report, path: Path) -> None:
    try:
        from assay.cli.quantize_plot import write_plot
    except ImportError:
        console.print("[dim]hint:[/] plots need matplotlib: pip install matplotlib")
        return
    write_plot(report, path)
    console.print(Text(f"plot in {path}"))
