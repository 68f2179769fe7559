"""`assay model pull`: a bundle that a training logged to MLflow, proved and put in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import JsonOption
from assay.cli.output import EXIT_REFUSED, EXIT_USAGE, console, fail, print_json, shown
from assay.errors import AssayError

TrackingUri = Annotated[
    str | None,
    typer.Option(metavar="URI", help="MLflow's store: sqlite:///FILE, a directory, a server. Default: MLFLOW_TRACKING_URI."),
]


def pull(
    source: Annotated[
        str,
        typer.Argument(metavar="mlflow:runs:/RUN/ARTIFACT", help="The run (32 hex digits), and what the bundle was logged as."),
    ],
    tracking_uri: TrackingUri = None,
    out: Annotated[Path, typer.Option(help="Where to write NAME/VERSION/.", file_okay=False)] = Path("models"),
    force: Annotated[bool, typer.Option("--force", help="Replace this version if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a bundle from a run of MLflow, prove it as a server would, and put it in its place.

    A model of MLflow's ONNX flavour becomes a bundle by `assay model pack --model mlflow:...`. Exit code 4: refused; nothing
    was written. Needs: pip install 'assay[mlflow]'.

    Example:

        assay model pull mlflow:runs:/8d4d63a4fd0f4f0fb0a9b1d0a35ad3a2/bundle --tracking-uri sqlite:///mlflow.db
    """
    from assay._core import OrtRuntime
    from assay.models.ort_library import find_library
    from assay.models.pull import pull_bundle

    try:
        with console.status("fetching", spinner="line"):
            runtime = OrtRuntime(str(find_library()))
            pulled = pull_bundle(source, checked_uri(tracking_uri), out, runtime, is_replacing=force)
    except (AssayError, OSError) as error:
        fail(str(error), EXIT_REFUSED)
    lineage = pulled.manifest.lineage
    if as_json:
        print_json({"path": str(pulled.place), **lineage.model_dump(mode="json")})
        return
    there = shown(str(pulled.place))
    console.print(f"pulled [bold]{there}[/] of run {shown(lineage.mlflow_run or '')}", soft_wrap=True)


def checked_uri(given: str | None) -> str | None:
    """--tracking-uri, or None for MLflow's own default. Ends the command where it has a password."""
    from assay.store_url import has_password

    if given is not None and has_password(given):
        fail("--tracking-uri: other users see command lines; a URI with a password goes into MLFLOW_TRACKING_URI", EXIT_USAGE)
    return given
