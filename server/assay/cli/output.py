"""What every command shares: what was asked for goes to stdout, everything said about it to stderr; how a failure ends.

EXIT_CODES in main.py says what the exit codes mean.
"""

from __future__ import annotations

import os
import re
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
    _write_json(value, is_indented=True)


def print_json_line(value: Any) -> None:
    """The same, as one line."""
    _write_json(value, is_indented=False)


def json_text(value: Any, *, is_indented: bool) -> str:
    """A JSON document with a newline behind it, fit for a terminal: characters that it would obey, or that hide something, are
    escaped. Its value is the same."""
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if is_indented else 0)
    return _NOT_PLAIN.sub(_json_escape, orjson.dumps(value, option=option).decode())


def print_record(record: FlushRecord) -> None:
    """Writes what a flush did to stdout, as one line of JSON."""
    print_json_line(record.document())


def plain(text: str) -> str:
    """What somebody else sent, fit for a terminal: it moves no cursor, begins no line and hides nothing."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plain_lines(text: str) -> str:
    """plain(), for a text of ours that has several lines, or one of somebody else's that stands alone."""
    return "\n".join(map(plain, text.split("\n")))


def shown(text: str) -> str:
    """plain(), for a place where rich takes [brackets] for markup."""
    return escape(plain(text))


def shown_lines(text: str) -> str:
    """plain_lines(), for such a place."""
    return escape(plain_lines(text))


def plain_text(text: str, style: str = "") -> Text:
    """plain(), without markup: for a line, a cell or a title that is somebody else's, in whole or in part."""
    return Text(plain(text), style)


def print_error(message: str, hint: str = "") -> None:
    """Says what went wrong and what to do. Lines are not broken: paths and commands in them stay ready to copy. Our errors may
    have several; what a server says of one comes as plain()."""
    console.print(f"[bold red]error:[/] {shown_lines(message)}", soft_wrap=True)
    if hint:
        console.print(f"[dim]hint:[/] {shown_lines(hint)}", soft_wrap=True)


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


# --- implementation ---

_NOT_PLAIN = re.compile(r"[^\n -~]")  # to be looked at; newlines are JSON's own, for those of a text are escaped by now


def _write_json(value: Any, *, is_indented: bool) -> None:
    sys.stdout.buffer.write(json_text(value, is_indented=is_indented).encode())
    sys.stdout.flush()


def _json_escape(found: re.Match[str]) -> str:
    """Past 16 bits, JSON has two escapes for one character."""
    character = found[0]
    units = character.encode("utf-16-be").hex()
    return character if character.isprintable() else "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
