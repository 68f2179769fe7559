"""assay serve: the server in the foreground."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.config import Assignments, ConfigFile, load
from assay.cli.features import bar
from assay.cli.output import console, print_json
from assay.observe.logs import set_up

if TYPE_CHECKING:
    from assay.app import App
    from assay.config import Config
    from assay.features.feature_set import FeatureSet
    from assay.transport.server import Addresses


def serve(
    config: ConfigFile = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT of the public listener; port 0 takes a free one.")] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Bundle to serve (NAME/VERSION). Repeatable; the first is the default."),
    ] = None,
    store: Annotated[str | None, typer.Option(help="embedded: (in memory) or embedded:PATH (with its snapshot at PATH).")] = None,
    admin_socket: Annotated[str | None, typer.Option(help="Path of the admin listener's Unix socket, auto, or off.")] = None,
    drain_delay: Annotated[float | None, typer.Option(help="Lame-duck seconds after SIGTERM.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    assignments: Assignments = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print where the server listens as JSON, once it serves.")] = False,
) -> None:
    """Serve models over gRPC. Without arguments: the demo, on 127.0.0.1:50051.

    SIGTERM or Ctrl-C drains: calls in flight finish, a store with a snapshot is saved. A second one stops at once.

    Examples:

        assay serve

        assay serve --model models/card_fraud/1 --store embedded:/var/lib/assay/store.snapshot --listen 0.0.0.0:50051

        assay serve --config assay.yaml --set engine.slots=16384
    """
    options = {
        "listen": listen,
        "models": [str(path) for path in model] if model else None,
        "store.url": store,
        "admin_socket": admin_socket,
        "drain.delay_s": drain_delay,
        "log_level": log_level,
    }
    loaded = load(config, assignments, options).config
    set_up(loaded.log_level, loaded.log_format)
    app = _build(loaded)
    try:
        app.run(lambda addresses: _say_ready(app, addresses, as_json))
    finally:
        app.close()


# --- implementation ---


def _build(config: Config) -> App:
    from assay.app import App

    with bar("starting") as advance:
        return App.build(config, lambda _, done, total: advance(done, total))


def _say_ready(app: App, addresses: Addresses, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "listen": addresses.public,
                "admin_socket": str(addresses.admin) if addresses.admin else None,
                "metrics": app.telemetry.metrics_address,
                "models": [{"model": model.name, "version": model.version} for model in app.models],
            }
        )
        return
    for line in status_lines(app, addresses):
        console.print(line, markup=False, soft_wrap=True)


def status_lines(app: App, addresses: Addresses) -> list[str]:
    """What runs where, and two commands to paste."""
    from assay import __version__

    store = app.store.core.stats()
    models = [
        f"  model     {model.name} {model.version}{' (default)' if index == 0 and len(app.models) > 1 else ''}, "
        f"features {model.feature_set.name} {model.feature_set.version}, {len(model.plan.input_names)} inputs"
        for index, model in enumerate(app.models)
    ]
    transaction = example_request(app.models[0].feature_set, is_demo=app.config.is_demo)
    return [
        f"assay {__version__} serves" + (" the demo" if app.config.is_demo else ""),
        f"  listen    {addresses.public} (plaintext)",
        f"  admin     {addresses.admin or 'off'}",
        f"  metrics   {metrics_url(app)}",
        *models,
        f"  store     {app.store.url}, {store.record_count:,} records, {store.bytes >> 20} of {store.bytes_max >> 20} MiB",
        f"  engine    {app.config.engine.slots:,} slots, {app.config.runner_count} runner(s) a model",
        "",
        "Try it:",
        f"  {grpcurl_line(transaction, addresses.public)}",
        f"  {score_line(transaction, addresses.public)}",
        "",
        "Ctrl-C stops it.",
    ]


def metrics_url(app: App) -> str:
    """Where Prometheus finds us."""
    address = app.telemetry.metrics_address
    return f"http://{address}/metrics" if address else "off"


def example_request(feature_set: FeatureSet, *, is_demo: bool) -> dict[str, Any]:
    """A ScoreRequest, as JSON, that the server would answer."""
    if is_demo:
        from assay.demo.history import DEMO_CUSTOMER_ID, DEMO_TERMINAL_ID, DEMO_TIME

        return {
            "transactionId": "demo-1",
            "eventTime": DEMO_TIME.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "entities": {"customer_id": DEMO_CUSTOMER_ID, "terminal_id": DEMO_TERMINAL_ID},
            "features": {"amount_minor": {"int64Value": "5716"}},
        }
    samples: dict[str, tuple[str, Any]] = {
        "float64": ("doubleValue", 1.0),
        "int64": ("int64Value", "1"),
        "bool": ("boolValue", True),
        "string": ("stringValue", "text"),
    }
    features = {}
    for name, feature in feature_set.request_features.items():
        if not feature.is_required:
            continue
        kind, value = samples[feature.dtype]
        if feature.minimum is not None and feature.dtype in ("float64", "int64"):
            value = float(feature.minimum) if feature.dtype == "float64" else str(int(feature.minimum))
        features[name] = {kind: value}
    return {
        "transactionId": "example-1",
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "entities": dict.fromkeys(feature_set.entities, "1"),
        "features": features,
    }


def grpcurl_line(transaction: dict[str, Any], target: str) -> str:
    """Ready to paste into a shell."""
    body = shlex.quote(json.dumps(transaction, separators=(",", ":")))
    return f"grpcurl -plaintext -d {body} {target} assay.v1.ScoringService/Score"


def score_line(transaction: dict[str, Any], target: str) -> str:
    """The same call with our own client."""
    words = [_program(), "score", "--target", target, "--id", transaction["transactionId"], "--time", transaction["eventTime"]]
    for name, value in transaction["entities"].items():
        words += ["--entity", f"{name}={value}"]
    for name, value in transaction["features"].items():
        (kind, plain), *_ = value.items()
        text = json.dumps(plain) if kind in ("doubleValue", "boolValue") else str(plain)
        words += ["--feature", f"{name}={text}"]
    return shlex.join(words)


def _program() -> str:
    """How a person can call us: by name where the PATH knows it, else by the path of this environment's script."""
    if shutil.which("assay"):
        return "assay"
    script = Path(sys.executable).parent / "assay"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)
