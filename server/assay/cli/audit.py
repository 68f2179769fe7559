"""`assay audit`: the audit log, read, verified, replayed and brought to a sink."""

from __future__ import annotations

import typer

from assay.cli.audit_reading import find, tail
from assay.cli.audit_replay import replay
from assay.cli.audit_ship import ship
from assay.cli.audit_verify import verify

app = typer.Typer(
    help="Read, verify and replay the audit log; bring its records to a sink.", no_args_is_help=True, rich_markup_mode="markdown"
)
for command in (tail, find, verify, replay, ship):
    app.command()(command)
