"""Options that several commands read alike."""

from __future__ import annotations

from typing import Annotated

import typer

from assay.cli.output import EXIT_USAGE, fail

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]


def pairs(option: str, texts: list[str], form: str = "NAME=VALUE") -> dict[str, str]:
    """What was given in that form, each name once. Ends the command with what is wrong."""
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            fail(f"{option}: expected {form}", EXIT_USAGE)
        if name in found:
            fail(f"{option} {name}: given twice; which one holds would be a guess", EXIT_USAGE)
        found[name] = value
    return found
