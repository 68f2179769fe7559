"""`assay crash show`: what the black box of a server that crashed says."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from assay.cli.options import JsonOption
from assay.cli.output import EXIT_FAILED, answers, fail, plain_text, print_json
from assay.errors import InputError

if TYPE_CHECKING:
    from assay.observe.crash_file import CrashReport, Frame

app = typer.Typer(help="Show what a server that crashed did last.", no_args_is_help=True, rich_markup_mode="markdown")

ROWS_SHOWN = 20


@app.callback()
def crash() -> None:
    """Show what a server that crashed did last."""


@app.command()
def show(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A black box: FILE.last is of the last crash. Default: the newest crash that is kept on this machine."
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows and errors to show, the last ones. JSON has all.")] = ROWS_SHOWN,
    as_json: JsonOption = False,
) -> None:
    """Show a black box: the signal, where it struck, versions, the last rows with their stages, the last errors.

    It holds no id and no value of a transaction. docs/crash.md says what to do with it.

    Examples:

        assay crash show

        assay crash show /var/lib/assay/black-box-50051.bin.last --json
    """
    path, report = _find() if file is None else (file, _read(file))
    if as_json:
        print_json({"file": str(path), **_document(report)})
        return
    for line in _lines(path, report):
        answers.print(plain_text(line), soft_wrap=True)
    if rows and report.errors:
        answers.print(_errors(report, rows))
    if rows and report.slots:
        answers.print(_slots(report, rows))


# --- implementation ---


def _find() -> tuple[Path, CrashReport]:
    from assay.observe.black_box import box_directories, find_crashes

    found = find_crashes()
    if not found:
        where = " or ".join(str(path) for path in box_directories())
        fail(f"no crash is kept in {where}", EXIT_FAILED, "name the file, if the configuration has another black_box")
    return found[0]


def _read(path: Path) -> CrashReport:
    from assay.observe.black_box import read_file

    try:
        return read_file(path)
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    except InputError as error:
        fail(f"{path}: {error}")


def _time(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _document(report: CrashReport) -> dict[str, Any]:
    from assay.observe.crash_file import STAMP_NAMES
    from assay.observe.symbols import symbol_of

    document = asdict(report)
    document["end"] = report.end.name.lower()
    document["frames"] = [{**asdict(frame), "symbol": symbol_of(frame)} for frame in report.frames]
    document["slots"] = [
        {**asdict(slot), "stamps_us": dict(zip(STAMP_NAMES, slot.stamps_us, strict=True))} for slot in report.slots
    ]
    return document


def _lines(path: Path, report: CrashReport) -> list[str]:
    from assay.observe.crash_file import End
    from assay.observe.symbols import symbol_of

    who = f"pid {report.pid}, started {_time(report.started_at_s)}"
    versions = f"assay {report.assay}, Python {report.python}, ONNX Runtime {report.onnxruntime or '-'}; {report.build}"
    if report.end is End.RUNNING:
        return [f"{path}: no crash; {who} runs, or was ended without a word (SIGKILL, the power)", f"  versions  {versions}"]
    if report.end is End.CLEAN:
        return [f"{path}: no crash; {who} ended as it should, {_time(report.ended_at_s)}", f"  versions  {versions}"]
    at = f" at address {report.fault_address:#x}" if report.fault_address is not None else ""
    counters = ", ".join(f"{name} {value:,}" for name, value in report.counters.items())
    return [
        f"{report.signal}{at}, {report.how}",
        *([f"  why       {report.reason}"] if report.reason else []),
        f"  when      {_time(report.ended_at_s)}, {report.uptime_s:,.3f} s after the start",
        f"  who       {who}, thread {report.thread_name} ({report.thread})",
        f"  versions  {versions}",
        *(f"  model     {model} {version} ({sha256[:12]})" for model, version, sha256 in report.models),
        f"  rows      {report.slot_count:,} ended since the start, {report.error_count:,} errors",
        *([f"  counters  {counters}"] if counters else []),
        "  stack",
        *(f"    {_frame_line(frame, symbol_of(frame))}" for frame in report.frames),
    ]


def _frame_line(frame: Frame, symbol: str | None) -> str:
    if frame.module is None:
        return f"{frame.address:#018x}"
    name = Path(frame.module).name
    return f"{frame.address:#018x}  {name}+{frame.offset:#x}" + (f"  {symbol}" if symbol else "")


def _errors(report: CrashReport, rows: int) -> Table:
    table = Table("before the end", "reason", "rows", "model", title="last errors", title_justify="left")
    for error in report.errors[-rows:]:
        table.add_row(
            plain_text(f"{error.before_s:,.3f} s"),
            plain_text(error.reason),
            plain_text(f"{error.rows:,}"),
            plain_text(error.model),
        )
    return table


def _slots(report: CrashReport, rows: int) -> Table:
    from assay.observe.crash_file import STAMP_NAMES

    heads = ["before the end", "slot", "model", "outcome", "decision", "batch", *STAMP_NAMES]
    table = Table(*heads, title="last rows; times in µs since their receipt", title_justify="left")
    for slot in report.slots[-rows:]:
        before = "-" if slot.ended_before_s is None else f"{slot.ended_before_s:,.3f} s"
        times = ["-" if time is None else f"{time:,.1f}" for time in slot.stamps_us]
        cells = [before, str(slot.slot), slot.model, slot.outcome, slot.decision, str(slot.batch_rows), *times]
        table.add_row(*(plain_text(cell) for cell in cells))
    return table
