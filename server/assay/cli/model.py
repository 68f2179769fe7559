"""`assay model`: check a bundle as a server would, and pack one from a model, its feature set and rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from assay.cli.config import DeviceName
from assay.cli.model_quantize import quantize
from assay.cli.output import EXIT_REFUSED, answers, console, fail, plain, plain_text, print_json, shown
from assay.errors import AssayError, InputError

app = typer.Typer(help="Pack and check model bundles.", no_args_is_help=True, rich_markup_mode="markdown")
app.command()(quantize)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A bundle: the directory NAME/VERSION.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    batch_rows_max: Annotated[int, typer.Option(min=1, max=4096, help="Largest batch to measure and warm.")] = 256,
    device: DeviceName = "auto",
    latency_us_max: Annotated[
        float | None, typer.Option(min=0, help="Most microseconds that a batch of any size may take. Default: no limit.")
    ] = None,
) -> None:
    """Load and prove a bundle as a server would, compare it with its trained model, look for leaks. Exit code 4: refused.

    Examples:

        assay model check models/card_fraud/1

        assay model check models/card_fraud/1 --device cuda:0
    """
    from assay._core import OrtRuntime
    from assay.config import CudaConfig
    from assay.models.device import DeviceWish
    from assay.models.gate import GATE_CHECKS, BucketCost, gate_bundle
    from assay.models.ort_library import find_library
    from assay.models.refusal import BundleRefusedError
    from assay.models.verify import CHECKS, CheckResult, make_step, verify_bundle

    results: list[CheckResult] = []
    costs: list[BucketCost] = []
    refusal: BundleRefusedError | None = None
    wish = DeviceWish.parse(device, CudaConfig().memory_bytes_max)
    try:
        with console.status("checking", spinner="line"):
            runtime = OrtRuntime(str(find_library()))
            verified = verify_bundle(path, runtime, wish=wish, batch_rows_max=batch_rows_max, observe=results.append)
            costs = gate_bundle(verified, batch_rows_max, latency_us_max, make_step(results.append))
    except BundleRefusedError as error:
        refusal = error
    except AssayError as error:
        fail(str(error))

    if json:
        buckets = [{"rows": cost.rows, "latency_us": round(cost.latency_us, 1)} for cost in costs]
        print_json({**_as_json(path, results, refusal), "buckets": buckets})
    else:
        _print_table(path, results, (*CHECKS, *GATE_CHECKS)[len(results) :])
    if refusal:
        if not json:
            console.print(Text.assemble(("refused: ", "bold red"), plain(f"{refusal.file}: {refusal.reason}")))
            console.print(Text.assemble(("what to do: ", "bold"), plain(refusal.mend)))
        raise typer.Exit(EXIT_REFUSED)


@app.command()
def pack(
    model: Annotated[Path, typer.Option(help="The ONNX model.", exists=True, dir_okay=False)],
    feature_set: Annotated[Path, typer.Option(help="The feature set it was trained on (YAML).", exists=True, dir_okay=False)],
    name: Annotated[str, typer.Option(help="Name of the model: a-z, 0-9, '.', '_', '-'.")],
    version: Annotated[str, typer.Option(help="Version. A version never changes once it is packed.")],
    rows: Annotated[
        Path,
        typer.Option(
            help="Training rows: Parquet from `assay features replay`, or npz with one array per ONNX input.",
            exists=True,
            dir_okay=False,
        ),
    ],
    score_output: Annotated[str, typer.Option(help="The ONNX output that holds the score.")],
    score_column: Annotated[int, typer.Option(min=0, help="Which element of its row.")] = 0,
    thresholds: Annotated[
        str, typer.Option(help="From which score which decision (challenge, review, decline): review=0.6,decline=0.9.")
    ] = "",
    input: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FEATURES", help="Features (a,b,c) of each ONNX input, where there are several. Repeatable."),
    ] = None,
    batch_tolerance: Annotated[
        float | None, typer.Option(min=0.0, help="How much a score may move with its batch. Default: 0 for trees, else 1e-6.")
    ] = None,
    timeout_ms: Annotated[int, typer.Option(min=1, help="Deadline of a request that names none.")] = 1000,
    data_sha256: Annotated[str | None, typer.Option(help="SHA-256 of the training data. Default: of the file of rows.")] = None,
    mlflow_run: Annotated[str | None, typer.Option(help="MLflow run, for the lineage.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write NAME/VERSION/.", file_okay=False)] = Path("models"),
    force: Annotated[bool, typer.Option("--force", help="Replace this version if it exists.")] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Pack although the git commit does not say everything.")
    ] = False,
) -> None:
    """Make a bundle: schema hash, golden rows, baseline, SHA-256 of everything. It is verified before it is put in place.

    Example:

        assay model pack --model model.onnx --feature-set feature_set.yaml --rows rows.parquet --name card_fraud --version 2
        --score-output probabilities --score-column 1 --thresholds review=0.6,decline=0.9
    """
    from assay._core import OrtRuntime
    from assay.models.inspection import read_model
    from assay.models.ort_library import find_library
    from assay.models.pack import PackRequest, find_commit, pack_bundle, parse_thresholds, read_rows, refuse_dirty, sha256_of_file

    commit = find_commit(feature_set.resolve().parent)
    try:
        refuse_dirty(commit, is_allowed=allow_dirty, option="--allow-dirty")
    except InputError as error:
        fail(str(error))
    try:
        with console.status("reading the model", spinner="line"):
            model_bytes, inspection = read_model(model)
        request = PackRequest(
            name=name,
            version=version,
            model_bytes=model_bytes,
            feature_set_bytes=feature_set.read_bytes(),
            rows=read_rows(rows),
            commit=commit,
            data_sha256=data_sha256 or sha256_of_file(rows),
            score_output=score_output,
            score_column=score_column,
            thresholds=parse_thresholds(thresholds),
            tensor_features=dict(_parse_input(text) for text in input or []),
            batch_tolerance=batch_tolerance,
            timeout_ms=timeout_ms,
            mlflow_run=mlflow_run,
        )
        with console.status("packing", spinner="line"):
            place = pack_bundle(
                request, out, OrtRuntime(str(find_library())), model_file=str(model), is_replacing=force, inspection=inspection
            )
    except (AssayError, OSError) as error:
        fail(str(error), EXIT_REFUSED)
    there = shown(str(place))
    console.print(f"packed [bold]{there}[/]; look at it with: assay model check {there}", soft_wrap=True)


# --- implementation ---


def _parse_input(text: str) -> tuple[str, list[str]]:
    tensor, _, features = text.partition("=")
    if not tensor or not features:
        raise InputError("--input: expected NAME=FEATURE,FEATURE")
    return tensor, [feature.strip() for feature in features.split(",")]


def _as_json(path: Path, results: list[Any], refusal: Any) -> dict[str, Any]:
    checks = [{"check": result.check, "passed": result.refusal is None, "detail": result.detail} for result in results]
    refused = {"file": refusal.file, "reason": refusal.reason, "mend": refusal.mend} if refusal else None
    return {"path": str(path), "passed": refusal is None, "checks": checks, "refusal": refused}


def _print_table(path: Path, results: list[Any], not_run: tuple[str, ...]) -> None:
    table = Table(title=plain_text(f"bundle {path}", "table.title"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("check", "result", "found"):
        table.add_column(column, overflow="fold")
    for result in results:
        verdict = Text("refused", "bold red") if result.refusal else Text("ok", "green")
        table.add_row(result.check, verdict, plain_text(result.detail))
    for name in not_run:
        table.add_row(Text(name, "dim"), Text("not run", "dim"), "")
    answers.print(table)
