"""What the commands of `assay audit` read alike: where the log is, and what is said about it on the way."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.output import console, plain_text

if TYPE_CHECKING:
    from assay.audit.reading import Finding
    from assay.audit.segments import LogDirectory
    from assay.config import AuditConfig

SpoolOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIRECTORY",
        help="The audit log: audit.spool of the server, one writer's directory in it, or one segment. Default: as the "
        "configuration says, else where a server of this user has it.",
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file of the server, for audit.*.", dir_okay=False)
]


class RecordType(StrEnum):
    SCORE = "score"
    SHADOW = "shadow"
    EXPLANATION = "explanation"
    LABEL = "label"
    CHECKPOINT = "checkpoint"
    LINEAGE = "lineage"


class DecisionName(StrEnum):
    APPROVE = "approve"
    CHALLENGE = "challenge"
    REVIEW = "review"
    DECLINE = "decline"


def audit_config(config: Path | None) -> AuditConfig:
    """As a server would see it. Raises ConfigError."""
    from assay.cli.config import load

    return load(config, None).config.audit


def spool_path(spool: Path | None, config: Path | None) -> Path:
    """Raises ConfigError."""
    from assay.audit.opening import spool_directory

    return spool if spool is not None else spool_directory(audit_config(config))


def logs_at(spool: Path | None, config: Path | None) -> list[LogDirectory]:
    """Raises ConfigError; InputError where no log is."""
    from assay.audit.segments import log_directories
    from assay.errors import InputError

    path = spool_path(spool, config)
    found = log_directories(path)
    if not found:
        raise InputError(f"{path}: no server has written an audit log there yet; name its directory with --spool")
    return found


def say_finding(finding: Finding) -> None:
    """On stderr, where it may matter: what is no damage was looked for by nobody who reads on."""
    if finding.is_damage:
        console.print(plain_text(f"damaged: {describe_finding(finding)}", "red"), soft_wrap=True)


def describe_finding(finding: Finding) -> str:
    records = f", records {finding.first:,} to {finding.last:,}" if finding.last else f", from record {finding.first:,} on"
    size = f", {finding.bytes:,} bytes" if finding.bytes else ""
    return f"{finding.path} at {finding.offset:,}{size}{records}: {finding.text}"
