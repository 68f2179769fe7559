"""What every command shares: what was asked for goes to stdout, everything said about it to stderr; how a failure ends.

EXIT_CODES in main.py says what the exit codes mean.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from assay.features.flush_record import FlushRecord

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNHEALTHY = 3
EXIT_REFUSED = 4

# NO_COLOR and dumb terminals are rich's business.
console = Console(stderr=True, highlight=False)
# What was asked for. In a pipe, lines are wide enough for grep.
answers = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)


class Advance(Protocol):
    def __call__(self, done: float) -> None:
        """Sets the work done so far."""


def print_json(value: Any) -> None:
    """Writes one JSON document to stdout."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


def print_record(record: FlushRecord) -> None:
    """Writes what a flush did to stdout, as one line of JSON."""
    typer.echo(orjson.dumps(record.document()))


def plain(text: str) -> str:
    """What somebody else sent, fit for a terminal: it moves no cursor and hides nothing."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def shown(text: str) -> str:
    """plain(), for a place where rich takes [brackets] for markup."""
    return escape(plain(text))


def plain_text(text: str, style: str = "") -> Text:
    """plain(), without markup: for a line, a cell or a title that is somebody else's, in whole or in part."""
    return Text(plain(text), style)


def print_error(message: str, hint: str = "") -> None:
    """Says what went wrong and what to do. Lines are not broken: paths and commands in them stay ready to copy."""
    console.print(f"[bold red]error:[/] {shown(message)}", soft_wrap=True)
    if hint:
        console.print(f"[dim]hint:[/] {shown(hint)}", soft_wrap=True)


def print_counts(*counts: tuple[int, str]) -> None:
    """What is worth a word beside the answer, a line each; nothing of what did not happen."""
    for count, meaning in counts:
        if count:
            console.print(f"[yellow]{count:,}[/] {shown(meaning)}")


def accepted_counts(accepted_ints: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """For print_counts(): events with an integer for a float64 that accepts those, by feature."""
    for name, count in accepted_ints.items():
        yield count, f"had an integer for {name}, which accepts those"


def fail(message: str, exit_code: int = EXIT_FAILED, hint: str = "") -> NoReturn:
    """Prints the error and ends the command."""
    print_error(message, hint)
    raise typer.Exit(exit_code)


@contextmanager
def progress(description: str, total: float) -> Iterator[Advance]:
    """A progress bar on stderr, only where a person looks (a terminal)."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown_bar:
        task = shown_bar.add_task(description, total=total)
        yield lambda done: shown_bar.update(task, completed=done)


@contextmanager
def bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """The same in percent, for code that reports (done, total); total 0 is unknown."""
    with progress(description, 100) as advance:
        yield lambda done, total: advance(100 * done // total) if total else None
