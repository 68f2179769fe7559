"""assay serve: the server in the foreground."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.config import Assignments, ConfigFile, load
from assay.cli.examples import example_lines
from assay.cli.output import bar, console, plain_text, print_json
from assay.observe.logs import is_text, set_up

if TYPE_CHECKING:
    from assay.app import App
    from assay.config import Config
    from assay.models.plain import PlainModel
    from assay.models.verify import VerifiedModel
    from assay.transport.server import Addresses


def serve(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME_OR_PATH]...",
            help="Models to serve: a bundle (NAME/VERSION), or NAME for its newest version, as a path or under ./models; or a "
            "plain PATH.onnx. The first is the default.",
        ),
    ] = None,
    config: ConfigFile = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT of the public listener; port 0 takes a free one.")] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Bundle to serve (NAME/VERSION), or an ONNX file (PATH.onnx, NAME=PATH.onnx) for the Open Inference Protocol "
            "(docs/open-inference.md), after those named. Repeatable.",
        ),
    ] = None,
    repository: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Serve what was chosen last in this directory of bundles (NAME/VERSION), and load, promote and roll back "
            "while the server runs (docs/rollout.md).",
        ),
    ] = None,
    transport: Annotated[
        str | None, typer.Option(help="auto, grpcio, or native: scores without Python (docs/transport.md).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="embedded: (in memory), embedded:PATH (snapshot at PATH), or redis://HOST:PORT/DB. A password belongs into "
            "ASSAY_STORE__URL or a file."
        ),
    ] = None,
    audit_sink: Annotated[
        str | None,
        typer.Option(
            metavar="SINK",
            help="Where records of scores go: jsonl:DIRECTORY, redis://HOST:PORT/DB?stream=NAME, kafka://HOST:PORT/TOPIC, or "
            "none (docs/audit.md). The demo has none; a server of other models wants to be told. A password belongs into "
            "ASSAY_AUDIT__SINK or a file.",
        ),
    ] = None,
    admin_socket: Annotated[str | None, typer.Option(help="Path of the admin listener's Unix socket, auto, or off.")] = None,
    drain_delay: Annotated[float | None, typer.Option(help="Lame-duck seconds after SIGTERM.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    assignments: Assignments = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print where the server listens as JSON, once it serves.")] = False,
) -> None:
    """Serve models over gRPC. Without arguments: the demo, on 127.0.0.1:50051.

    SIGTERM or Ctrl-C drains: calls in flight finish, a store with a snapshot is saved. A second one stops at once.
    SIGUSR1 asks for a line of status. The log goes to stdout; with --json to stderr.

    Examples:

        assay serve

        assay serve fraud --audit-sink none

        assay serve --model models/card_fraud/1 --store embedded:/var/lib/assay/store.snapshot --audit-sink jsonl:/mnt/audit

        assay serve --repository models --audit-sink jsonl:/mnt/audit

        assay serve --config assay.yaml --set engine.slots=16384
    """
    models = [*_locate(names or []), *(str(path) for path in model or [])]
    options = {
        "listen": listen,
        "models": models or None,
        "rollout.repository": str(repository) if repository is not None else None,
        "device": device,
        "transport": transport,
        "store.url": store,
        "audit.sink": audit_sink,
        "admin_socket": admin_socket,
        "drain.delay_s": drain_delay,
        "log_level": log_level,
    }
    loaded = load(config, assignments, options).config
    # stdout is for one thing: the document that --json asks for, else the log.
    set_up(loaded.log_level, loaded.log_format, sys.stderr if as_json else sys.stdout)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # asks for a status line; until there is one to give, it must not end us
    app = _build(loaded)
    try:
        store_line = f"{app.store.url}, {app.store.describe()}"  # now: a remote store may take seconds not to answer
        app.run(lambda addresses: _say_ready(app, addresses, store_line, as_json))
    finally:
        app.close()


# --- implementation ---


def _locate(names: list[str]) -> list[str]:
    if not names:  # the demo, and servers that are configured by a file
        return []
    from assay.models.locate import locate_bundle
    from assay.models.plain import is_plain

    return [name if is_plain(Path(name)) else str(locate_bundle(name)) for name in names]


def _build(config: Config) -> App:
    from assay.app import App

    with bar("starting") as advance:
        return App.build(config, lambda _, done, total: advance(done, total))


def _say_ready(app: App, addresses: Addresses, store_line: str, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "listen": addresses.public,
                "protection": addresses.protection.value,
                "transport": addresses.transport,
                "health_listen": addresses.health,
                "admin_socket": str(addresses.admin) if addresses.admin else None,
                "admin_listen": addresses.admin_port,
                "metrics": app.telemetry.metrics_address,
                "models": [
                    {"model": model.name, "version": model.version, "device": str(model.placement.device)} for model in app.models
                ],
            }
        )
    elif is_text(app.config.log_format):  # else nobody looks at stderr, and the line "serving" says the same
        _print_status(app, addresses, store_line)


def _print_status(app: App, addresses: Addresses, store_line: str) -> None:
    for line in status_lines(app, addresses, store_line):
        console.print(plain_text(line), soft_wrap=True)


def status_lines(app: App, addresses: Addresses, store_line: str) -> list[str]:
    """What runs where, and commands to paste."""
    from assay import __version__

    models = [
        f"  model     {model.name} {model.version}{' (default)' if index == 0 and len(app.models) > 1 else ''}, "
        f"{_describe(model)}, on {model.placement.device}"
        for index, model in enumerate(app.models)
    ]
    admins = [str(addresses.admin)] if addresses.admin else []
    admins += [f"{addresses.admin_port} (mTLS)"] if addresses.admin_port else []
    return [
        f"assay {__version__} serves" + (" the demo" if app.config.is_demo else ""),
        f"  listen    {addresses.public} ({addresses.protection.value}, {addresses.transport})",
        *([f"  health    {addresses.health} (plaintext, health only)"] if addresses.health else []),
        *(f"  admin     {where}" for where in admins or ["off"]),
        f"  metrics   {metrics_url(app)}",
        *models,
        f"  store     {store_line}",
        f"  audit     {app.audit.describe() if app.audit else 'off: scores are not recorded'}",
        f"  engine    {app.config.engine.slots:,} slots, {app.config.runner_count} runner(s) a model",
        "",
        "Try it:",
        *(f"  {line}" for line in example_lines(app, addresses)),
        "",
        "Ctrl-C stops it.",
    ]


def _describe(model: VerifiedModel | PlainModel) -> str:
    from assay.models.plain import PlainModel

    if isinstance(model, PlainModel):
        return f"no feature set, {len(model.plan.segments)} tensor(s)" + ("" if model.is_batched else ", one row a run")
    return f"features {model.feature_set_text}, {len(model.plan.input_names)} inputs"


def metrics_url(app: App) -> str:
    """Where Prometheus finds us."""
    address = app.telemetry.metrics_address
    return f"http://{address}/metrics" if address else "off"
