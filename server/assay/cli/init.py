"""assay init: a bundle that serves, from an ONNX model of your own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from assay.cli.output import EXIT_REFUSED, console, fail, plain_text
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.models.sample_csv import SampleFile
    from assay.models.starter import Started

INPUTS_SHOWN_MAX = 12


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model: a-z, 0-9, '.', '_', '-'.")],
    model: Annotated[Path, typer.Option(help="The ONNX model.", exists=True, dir_okay=False)],
    sample: Annotated[
        Path | None,
        typer.Option(help="Rows that the model was trained on: CSV with a header, its columns in the model's order."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Column of the sample to leave out: what the model learnt to predict.")
    ] = None,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
    score_output: Annotated[
        str | None, typer.Option(help="ONNX output that holds the probability of fraud. Default: found where it is unambiguous.")
    ] = None,
    score_column: Annotated[
        int | None, typer.Option(min=0, help="Which element of its row. Default: 1 of two columns, 0 of one.")
    ] = None,
    thresholds: Annotated[
        str | None,
        typer.Option(help="From which score which decision (challenge, review, decline). Default: review=0.5,decline=0.9."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write NAME/.", file_okay=False)] = Path("models"),
) -> None:
    """Make an ONNX model ready to serve: feature set, manifest, golden rows, reasons, sample request.

    The model's inputs become features of the request, by name. Nothing that is there is overwritten. Exit code 4: refused.

    Examples:

        assay init fraud --model model.onnx --sample rows.csv --label is_fraud

        assay serve fraud --audit-sink none
    """
    from assay._core import OrtRuntime
    from assay.models.ort_library import find_library
    from assay.models.pack import parse_thresholds
    from assay.models.sample_csv import read_sample
    from assay.models.starter import StarterRequest, start_model

    try:
        rows = None if sample is None else read_sample(sample)
        request = StarterRequest(
            name=name,
            version=version,
            model_path=model,
            out=out,
            sample=rows,
            label=label,
            score_output=score_output,
            score_column=score_column,
            thresholds=None if thresholds is None else parse_thresholds(thresholds),
        )
        if label is not None and rows is None:
            fail("--label names a column of the sample, but there is none", EXIT_REFUSED, hint="add --sample FILE")
        with console.status("inspecting and packing", spinner="line"):
            started = start_model(request, OrtRuntime(str(find_library())))
    except (AssayError, OSError) as error:
        fail(str(error), EXIT_REFUSED)
    for line in _report(started, rows, is_default=thresholds is None):
        console.print(plain_text(line), soft_wrap=True)


# --- implementation ---


def _report(started: Started, sample: SampleFile | None, *, is_default: bool) -> list[str]:
    from assay.models.starter_files import one_line

    names = [element.feature for element in started.elements]
    shown = ", ".join(names[:INPUTS_SHOWN_MAX]) + (
        f" and {len(names) - INPUTS_SHOWN_MAX} more" if len(names) > INPUTS_SHOWN_MAX else ""
    )
    scores = started.scores
    lines = [
        f"made {started.bundle}",
        f"  features    {started.directory / 'feature_set.yaml'}: {shown}",
        f"  score       {one_line(started.score.output)}[{started.score.column}], {scores.min():.4g} to {scores.max():.4g}",
        f"  decisions   {_thresholds(started)}",
        *([f"  reasons     {started.reasons_path}: a start; customers are told nothing yet"] if started.has_reasons else []),
        f"  sample      {started.request_path} must score {scores[0]:.6g}",
        "",
        *_warnings(started, sample, is_default=is_default),
        "",
        "Next:",
        f"  assay serve {shlex.quote(_serve_name(started))} --audit-sink none",
        f"  assay score --request {shlex.quote(str(started.request_path))}",
        f"  grpcurl -plaintext -d @ 127.0.0.1:50051 assay.v1.ScoringService/Score < {shlex.quote(str(started.request_path))}",
        "",
        "After a change of the feature set, the reasons or the thresholds:",
        f"  {started.pack_command}",
    ]
    return lines


def _thresholds(started: Started) -> str:
    if not started.thresholds:
        return "none: every score is approved"
    return ", ".join(
        f"{threshold.decision} from {threshold.score:g} ({float(np.mean(started.scores >= threshold.score)):.1%} of the rows)"
        for threshold in started.thresholds
    )


def _warnings(started: Started, sample: SampleFile | None, *, is_default: bool) -> list[str]:
    lines = []
    if sample is None:
        lines += [
            "WARNING: without --sample the golden rows and the drift baseline are RANDOM numbers (0 to 100). They prove that the",
            "  model runs, nothing else: drift against them means nothing, and no score can be explained. Make it anew (another",
            "  NAME) with a --sample rows.csv.",
        ]
    elif sample.is_cut:
        lines.append(f"WARNING: the first {len(sample.rows):,} rows of {sample.path} were used, the rest was not read.")
    if len({element.tensor for element in started.elements}) == 1 and len(started.elements) > 1:
        lines.append("CHECK: the model takes its values by place, not by name. The order above must be that of the training.")
    if is_default:
        lines.append("CHOOSE: the thresholds are a start, not a choice. What a wrong decline costs is yours to know.")
    return lines


def _serve_name(started: Started) -> str:
    from assay.models.locate import MODELS_DIRECTORY

    return started.directory.name if started.directory.parent == MODELS_DIRECTORY else str(started.directory)
