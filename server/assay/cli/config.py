"""assay config: what the server would use, and what it could be told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from assay.cli.output import answers, print_json, shown
from assay.config import DEVICE_PATTERN, Config
from assay.config_loading import LoadedConfig, check_command_line, load_config, printable_config, set_dotted

app = typer.Typer(help="Print the configuration or its schema.", no_args_is_help=True, rich_markup_mode="markdown")

ConfigFile = Annotated[Path | None, typer.Option("--config", help="Configuration file, YAML or TOML.", dir_okay=False)]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any key, for example engine.slots=4096. Repeatable.")
]


def _check_device(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(DEVICE_PATTERN, value):
        raise typer.BadParameter("expected auto, cpu, cuda or cuda:N, for example cuda:0")
    return value


DeviceName = Annotated[
    str,
    typer.Option("--device", callback=_check_device, help="Where models run, as for `assay serve`: auto, cpu, cuda or cuda:N."),
]


def load(file: Path | None, assignments: list[str] | None, options: dict[str, Any] | None = None) -> LoadedConfig:
    """The configuration of a command: its own options win over --set. Raises ConfigError, for a password among them too."""
    command_line: dict[str, Any] = {}
    for assignment in assignments or []:
        set_dotted(command_line, assignment)
    for key, value in (options or {}).items():
        if value is not None:
            section, _, name = key.rpartition(".")
            (command_line.setdefault(section, {}) if section else command_line)[name] = value
    check_command_line(command_line)
    return load_config(command_line, file)


@app.command("print")
def print_config(
    config: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every key with its value and where it came from. Secrets are hidden.

    Examples:

        assay config print

        ASSAY_ENGINE__SLOTS=4096 assay config print --config assay.yaml --json
    """
    table = printable_config(load(config, assignments))
    if as_json:
        print_json({key: {"value": value, "source": source} for key, (value, source) in table.items()})
        return
    listed = Table(box=None, pad_edge=False)
    for column in ("key", "value", "source"):
        listed.add_column(column, overflow="fold")
    for key, (value, source) in table.items():
        listed.add_row(key, shown(str(value)), shown(source), style="dim" if source == "default" else None)
    answers.print(listed)


@app.command()
def schema(
    feature_set: Annotated[bool, typer.Option("--feature-set", help="The schema of feature sets instead.")] = False,
) -> None:
    """Print the JSON Schema of the configuration file (or of feature sets), for editors.

    Examples:

        assay config schema > assay.schema.json

        assay config schema --feature-set > feature_set.schema.json
    """
    if feature_set:
        from assay.features.feature_set import feature_set_json_schema

        print_json(feature_set_json_schema())
    else:
        print_json(Config.model_json_schema())
