"""`assay audit verify`: whether the log is whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from assay.cli.audit_options import ConfigOption, SpoolOption, describe_finding, logs_at
from assay.cli.options import JsonOption
from assay.cli.output import EXIT_FAILED, EXIT_USAGE, answers, bar, fail, plain_text, print_json
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.audit.verifying import LogReport, Span


def verify(
    first: Annotated[
        str | None, typer.Option("--from", metavar="TIME|SEQUENCE", help="From here on. Default: the oldest record.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="TIME|SEQUENCE", help="Up to here. Default: the newest record.")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="A head that an earlier verify printed and somebody kept elsewhere: is it in the log?"),
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Check what a jsonl: sink has instead: a file, or its directory. Is no record missing?"
        ),
    ] = None,
    spool: SpoolOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every record's checksum, sequence and place in the chain.

    Who changes, takes out or adds a record breaks the chain for all that follow. Who cuts the end off, or writes all of it anew,
    does not: keep the head that is printed elsewhere, and give it back with --head; sinks have records of their own.

    Exit code 1: the log is damaged, the head is not in it, or a record is missing in the files.

    Examples:

        assay audit verify

        assay audit verify --jsonl /var/lib/assay/archive

        assay audit verify --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z --json
    """
    from assay.audit.verifying import verify_log

    if jsonl is not None:
        if first or last or head or spool or config:
            fail("--jsonl looks at files alone; --from, --to, --head, --spool and --config do not go with it", EXIT_USAGE)
        _verify_files(jsonl, as_json)
        return
    span = _span(first, last)
    wanted = _head(head)
    reports: list[LogReport] = []
    logs = logs_at(spool, config)
    try:
        for log in logs:
            with bar(f"verifying {log.name}") as progress:
                reports.append(verify_log(log, span, wanted, progress))
    except OSError as error:
        raise AssayError(f"the log cannot be read: {error.filename}: {error.strerror}") from None
    # One log of several has the head: the others are not worse for it.
    has_head = wanted is None or any(report.has_head for report in reports)
    is_sound = has_head and not any(report.has_damage for report in reports)
    if as_json:
        print_json(
            {"is_sound": is_sound, "has_head": None if wanted is None else has_head, "logs": [r.document() for r in reports]}
        )
    else:
        for report in reports:
            _print_report(report)
        if not has_head:
            answers.print("[red]no log has this head[/]: it was cut off, changed, or so old that it made way")
        answers.print("[green]sound[/]" if is_sound else "[bold red]damaged[/]")
    if not is_sound:
        raise typer.Exit(EXIT_FAILED)


# --- implementation ---

CHAIN_DIGITS = 64
_KEY_WORDS = {
    True: "the key in this directory",
    False: "[yellow]another key than the one in this directory[/]",
    None: "the key in this directory cannot be read",
}


def _verify_files(path: Path, as_json: bool) -> None:
    from assay.audit.exports import check_export

    try:
        with bar("reading") as progress:
            report = check_export(path, progress)
    except OSError as error:
        raise AssayError(f"{error.filename}: {error.strerror}") from None
    if as_json:
        print_json(report.document())
    else:
        for log in report.logs:
            answers.print(Text.assemble(plain_text(f"{log.writer} {log.log_id}", "bold")), soft_wrap=True)
            answers.print(
                f"  {log.records:,} records, sequence {log.first:,} to {log.last:,}; {log.repeats:,} came more than once"
            )
            for gap in log.document()["gaps"]:
                answers.print(f"  [red]missing: {gap[0]:,} to {gap[1]:,}[/]")
        for file, line in report.unreadable:
            answers.print(plain_text(f"{file}, line {line}: no record", "red"), soft_wrap=True)
        answers.print("[green]whole[/]" if report.is_whole else "[bold red]not whole[/]")
    if not report.is_whole:
        raise typer.Exit(EXIT_FAILED)


def _span(first: str | None, last: str | None) -> Span:
    from assay.audit.verifying import Span

    values: dict[str, int] = {}
    for option, text, name in (("--from", first, "first"), ("--to", last, "last")):
        if text is None:
            continue
        if re.fullmatch(r"[0-9]{1,19}", text):
            values[name] = int(text)
        else:
            values[f"{name}_us"] = _time_us(option, text)
    return Span(**values)


def _time_us(option: str, text: str) -> int:
    from assay.features.times import parse_time_us

    try:
        return parse_time_us(text)
    except ValueError as error:
        fail(f"{option}: {error}, or a sequence", EXIT_USAGE)


def _head(text: str | None) -> bytes | None:
    if text is None:
        return None
    if not re.fullmatch(f"[0-9a-fA-F]{{{CHAIN_DIGITS}}}", text):
        fail(f"--head: expected {CHAIN_DIGITS} hexadecimal digits, as verify prints them", EXIT_USAGE)
    return bytes.fromhex(text)


def _print_report(report: LogReport) -> None:
    from assay.audit.records import time_text

    answers.print(Text(report.writer, "bold"))
    if report.records:
        answers.print(f"  {report.records:,} records in {report.blocks:,} blocks of {report.segments:,} segments")
        answers.print(f"  sequence {report.first_sequence:,} to {report.last_sequence:,}")
        answers.print(f"  written {time_text(report.first_us)} to {time_text(report.last_us)}")
    else:
        answers.print("  no records")
    for cause, count in report.dropped.items():
        answers.print(
            f"  [yellow]{count:,}[/] not recorded, or gone before a sink had them ({cause}), by the log's own checkpoints"
        )
    for key, is_ours in report.keys.items():
        answers.print(f"  digests and tokens with key {key} ({_KEY_WORDS[is_ours]})")
    for finding in report.findings:
        text = plain_text(f"{finding.kind.value}: {describe_finding(finding)}", "red" if finding.is_damage else "dim")
        answers.print(Text.assemble("  ", text), soft_wrap=True)
    if report.more_findings:
        answers.print(f"  [red]{report.more_findings:,} more of that kind[/]")
    if report.head:
        answers.print(f"  head {report.head.hex()}", soft_wrap=True)
