"""What every command shares: what was asked for goes to stdout, everything said about it to stderr; how a failure ends.

EXIT_CODES in main.py says what the exit codes mean.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
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


# What JSON leaves as it is and a terminal does not: control characters past ASCII's (U+009B moves the cursor), and those that
# reorder or hide what stands beside them.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def safe_json(value: Any, option: int = 0) -> bytes:
    """The same value as orjson writes it, in characters that do nothing to a terminal."""
    text = orjson.dumps(value, option=option | orjson.OPT_APPEND_NEWLINE)
    if text.isascii() and b"\x7f" not in text:
        return text
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text.decode()).encode()


def print_json(value: Any) -> None:
    """Writes one JSON document to stdout."""
    print_json_lines([value], orjson.OPT_INDENT_2)


def print_json_lines(values: Iterable[Any], option: int = 0) -> None:
    """Writes JSON documents to stdout, a line each."""
    for value in values:
        sys.stdout.buffer.write(safe_json(value, option))
    sys.stdout.flush()


def print_record(record: FlushRecord) -> None:
    """Writes what a flush did to stdout, as one line of JSON."""
    print_json_lines([record.document()])


def plain(text: str, *, keeps_lines: bool = False) -> str:
    """What somebody else sent, fit for a terminal: it moves no cursor, hides nothing and, but where it may have several lines, is
    one."""
    kept = "\n" if keeps_lines else ""
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def shown(text: str, *, keeps_lines: bool = False) -> str:
    """plain(), for a place where rich takes [brackets] for markup."""
    return escape(plain(text, keeps_lines=keeps_lines))


def plain_text(text: str, style: str = "") -> Text:
    """plain(), without markup: for a line, a cell or a title that is somebody else's, in whole or in part."""
    return Text(plain(text), style)


def print_error(message: str, hint: str = "") -> None:
    """Says what went wrong and what to do. Lines are not broken: paths and commands in them stay ready to copy."""
    console.print(f"[bold red]error:[/] {shown(message, keeps_lines=True)}", soft_wrap=True)
    if hint:
        console.print(f"[dim]hint:[/] {shown(hint, keeps_lines=True)}", soft_wrap=True)


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
