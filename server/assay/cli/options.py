"""Options that several commands read alike."""

from __future__ import annotations

import os
from typing import Annotated, Final

import typer

from assay.cli.output import EXIT_USAGE, fail

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]


STORE_VARIABLE: Final = "ASSAY_STORE__URL"


def store_url(given: str | None) -> str | None:
    """What --store says, else the variable: the place for a URL with a password. Ends the command where --store has one."""
    if given is None:
        return os.environ.get(STORE_VARIABLE) or None
    from assay.store_url import has_password

    if has_password(given):
        fail(f"--store: other users see command lines; a URL with a password goes into {STORE_VARIABLE}", EXIT_USAGE)
    return given


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
