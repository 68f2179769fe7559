"""The `assay` command. Each subcommand's module is imported when it is called, so that `assay --help` answers at once."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

EXIT_CODES = (
    "Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 not healthy (doctor; every command that asks a server, "
    "bench aside, where none serves), or not to be told (audit replay); 4 a check said no (init; data check; model check and "
    "pack; ingest and features replay with rejects; features diff of two that differ; features check-skew; label that found no "
    "event, or a newer label; audit find and replay that found no record; explain where there is no explanation; status of a "
    "server that is degraded); 75 serve lost a card and wants to be started again; 130 stopped by Ctrl-C. "
    "NO_COLOR is respected. What was asked for goes to stdout, everything else to stderr."
)

# Subcommand -> (module, what in it, what --help says of it). tests/integration/test_cli.py holds the texts to the commands' own.
SUBCOMMANDS = {
    "serve": ("assay.cli.serve", "serve", "Serve models over gRPC. Without arguments: the demo, on 127.0.0.1:50051."),
    "init": (
        "assay.cli.init",
        "init",
        "Make an ONNX model ready to serve: feature set, manifest, golden rows, reasons, sample request.",
    ),
    "score": ("assay.cli.score", "score", "Score one transaction on a running server."),
    "explain": (
        "assay.cli.explain",
        "explain",
        "Show why a score is what it is, or what matters to a model over the rows of a file.",
    ),
    "status": (
        "assay.cli.status",
        "status",
        "Say how a running server is: models, versions, latency, load, and what is not as it should be.",
    ),
    "log-level": (
        "assay.cli.status",
        "log_level",
        "Change how much a running server says: the level of its log, and the part of the calls that is traced or gets a line.",
    ),
    "crash": ("assay.cli.crash", "app", "Show what a server that crashed did last."),
    "doctor": ("assay.cli.doctor", "doctor", "Check this machine and this installation, and say what to do."),
    "ingest": (
        "assay.cli.ingest",
        "ingest",
        "Load events, or attributes of entities, into a store. What is there already changes nothing.",
    ),
    "label": ("assay.cli.label", "label", "Say of one recorded event whether it was fraud."),
    "features": (
        "assay.cli.features",
        "app",
        "Replay events into features, look at stored features, describe and compare feature sets.",
    ),
    "model": ("assay.cli.model", "app", "Pack and check model bundles, and roll them out."),
    "data": ("assay.cli.data", "app", "Check training data before a model is made of it."),
    "drift": ("assay.cli.drift", "app", "Show how far the present is from a model's baseline."),
    "bench": ("assay.cli.bench", "app", "Load on a server, from a generator that can outrun it."),
    "top": (
        "assay.cli.top",
        "top",
        "Watch a running server: rates, latencies by stage, batches, refusals, store, drift, audit, GPUs.",
    ),
    "audit": ("assay.cli.audit", "app", "Read, verify and replay the audit log; bring its records to a sink."),
    "config": ("assay.cli.config", "app", "Print the configuration or its schema."),
}


class LazyGroup(TyperGroup):
    """Lists the subcommands from the table; imports one when it is called (or completed)."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name in SUBCOMMANDS:
            command = load_subcommand(name)
        return name, command, rest


def load_subcommand(name: str) -> Any:
    """The real command behind a row of SUBCOMMANDS."""
    module_name, attribute, _ = SUBCOMMANDS[name]
    target = getattr(importlib.import_module(module_name), attribute)
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        single.command(name)(target)
        target = single
    command = typer.main.get_command(target)
    # Completion is installed once, by `assay --install-completion`.
    command.params = [param for param in command.params if param.name not in ("install_completion", "show_completion")]
    command.name = name
    return command


app = typer.Typer(
    name="assay",
    cls=LazyGroup,
    no_args_is_help=True,
    epilog=EXIT_CODES,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        sys.stdout.write(version_text() + "\n")
        raise typer.Exit


@app.callback()
def assay(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the versions and exit.")
    ] = False,
) -> None:
    """Scores bank transactions for fraud in real time over gRPC."""


def _register(name: str, help_text: str) -> None:
    @app.command(name, help=help_text)
    def listed() -> None:
        raise AssertionError("resolve_command() loads the real command")


for _name, (_, _, _help) in SUBCOMMANDS.items():
    _register(_name, _help)


def version_text() -> str:
    """One line: assay, its core's build, ONNX Runtime's wheel, gRPC, Python."""
    from importlib.metadata import PackageNotFoundError, version

    from assay import __version__

    def found(package: str) -> str | None:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return None

    try:
        from assay._core import BUILD

        core = "core " + ", ".join(value for value in BUILD.values() if value)
    except ImportError as error:
        core = f"core missing ({error})"
    runtime = found("onnxruntime-gpu") or found("onnxruntime") or "onnxruntime missing"
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    return f"assay {__version__} ({core}; {runtime}; {found('grpcio') or 'grpcio missing'}; {python})"


def main() -> None:
    """Entry point of the `assay` command."""
    # Read once, when grpc is imported. gRPC writes a line for each failed handshake, unknown name and bad header, with what the
    # other side sent in it: disk, and forged log lines, for anybody who reaches a port. Errors of ours say what matters.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        _run()
    except KeyboardInterrupt:  # before or after typer's own handling of it
        sys.exit(130)


# --- implementation ---


def _run() -> None:
    from assay.cli.output import EXIT_FAILED, EXIT_USAGE, print_error
    from assay.errors import AssayError, ConfigError

    try:
        app()
    except AssayError as error:
        print_error(str(error))
        sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED)
    except BrokenPipeError:  # `assay ... | head`
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
