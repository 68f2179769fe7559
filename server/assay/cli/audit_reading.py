"""`assay audit tail` and `find`: records, as lines or in full."""

from __future__ import annotations

import struct
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table

from assay.cli.audit_options import ConfigOption, DecisionName, RecordType, SpoolOption, logs_at, say_finding, spool_path
from assay.cli.options import JsonOption
from assay.cli.output import EXIT_REFUSED, answers, bar, fail, plain, plain_text, print_json, print_json_line
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.audit.records import Entry

POLL_S = 1.0


def tail(
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="Records to show.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show what comes, until Ctrl-C.")] = False,
    type: Annotated[list[RecordType] | None, typer.Option(help="Only records of this type. Repeatable.")] = None,
    decision: Annotated[list[DecisionName] | None, typer.Option(help="Only scores that led to this. Repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="Only scores of this model.")] = None,
    spool: SpoolOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line for each record.")] = False,
) -> None:
    """Show the newest records, oldest first.

    Of all servers that write to the directory, while they write.

    Examples:

        assay audit tail -n 50 --type score --decision decline

        assay audit tail --follow --json | jq .score
    """
    from assay.audit.searching import Tail
    from assay.audit.segments import log_directories

    types = {str(item) for item in type or []}
    decisions = {str(item) for item in decision or []}

    def accepts(entry: Entry) -> bool:
        if types and entry.type not in types:
            return False
        return not (decisions or model) or _is_score_of(entry, decisions, model)

    path = spool_path(spool, config)
    logs_at(spool, config)  # says where there is none
    followed = Tail(lambda: log_directories(path), accepts, say_finding)
    try:
        _print_lines(followed.newest(count), as_json)
        while follow:
            time.sleep(POLL_S)
            _print_lines(followed.come(), as_json)
    except OSError as error:
        _fail_reading(error)
    finally:
        followed.close()


def find(
    transaction: Annotated[str, typer.Argument(metavar="TRANSACTION", help="The transaction_id of its request.")],
    spool: SpoolOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all that the log has about one transaction: scores, explanations, labels.

    Card numbers stand in the log as tokens; one in TRANSACTION is looked for as its token, with the key in the log's directory.

    Exit code 4: nothing was found.

    Examples:

        assay audit find 4711

        assay audit find 4711 --json --spool /var/lib/assay/audit
    """
    from assay.audit.records import document
    from assay.audit.searching import find_transaction

    logs = logs_at(spool, config)
    try:
        with bar("searching") as progress:
            found = find_transaction(logs, transaction, say_finding, progress)
    except OSError as error:
        _fail_reading(error)
    if as_json:
        print_json([document(entry) for entry in found])
    else:
        for entry in found:
            print_entry(entry)
    if not found:
        fail("the log has no record about this transaction", EXIT_REFUSED, hint="older records make way for newer ones")


def print_entry(entry: Entry) -> None:
    """In full."""
    from assay.audit.records import document

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    shown = document(entry)
    for name, value in shown.items():
        for label, text in _inputs(shown, entry) if name == "inputs" else _rows(name, value):
            table.add_row(plain_text(label), plain_text(text))
    answers.print(table)
    answers.print()


# --- implementation ---

_HIDDEN = frozenset({"row", "missing", "imputed"})  # the inputs say it


def _inputs(shown: dict[str, Any], entry: Entry) -> list[tuple[str, str]]:
    """Each with its value, and whether it had one."""
    values: dict[str, Any] | None = shown["inputs"]
    if values is None or entry.lineage is None:
        return [("inputs", "a digest was kept in their place" if shown["row_digest"] else "cannot be read")]
    marks = {
        name: " (missing, a declared default went in)" if name in shown["imputed"] else " (missing)" for name in shown["missing"]
    }
    texts = []
    for item in entry.lineage.inputs:
        value = values[item.name]
        is_short = item.type == "float32" and isinstance(value, float)
        texts.append(f"{item.name} {_float32_text(value) if is_short else _text(value)}{marks.get(item.name, '')}")
    return [("inputs" if index == 0 else "", text) for index, text in enumerate(texts)]


def _float32_text(value: float) -> str:
    """The shortest that reads back as the same float32: 57.16, not the double that is equal to it."""
    texts = (f"{value:.{digits}g}" for digits in range(6, 10))
    return next(text for text in texts if struct.pack("<f", float(text)) == struct.pack("<f", value))


def _rows(name: str, value: Any) -> list[tuple[str, str]]:
    if name in _HIDDEN or value is None or value in ("", [], {}):
        return []
    if isinstance(value, dict):
        return [(name if index == 0 else "", f"{key} {_text(item)}") for index, (key, item) in enumerate(value.items())]
    if isinstance(value, list):
        return [(name if index == 0 else "", _text(item)) for index, item in enumerate(value)]
    return [(name, _text(value))]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items() if item is not None)
    return "none" if value is None else str(value)


def _is_score_of(entry: Entry, decisions: set[str], model: str | None) -> bool:
    from assay.audit.records import decision_name

    score = entry.score
    if score is None or (decisions and decision_name(score.decision) not in decisions):
        return False
    return not model or (entry.lineage is not None and entry.lineage.provenance.model == model)


def _print_lines(entries: list[Entry], as_json: bool) -> None:
    from assay.audit.records import document, line

    for entry in entries:
        if as_json:
            print_json_line(document(entry))
        else:
            sys.stdout.write(plain(line(entry)) + "\n")
    sys.stdout.flush()


def _fail_reading(error: OSError) -> NoReturn:
    if isinstance(error, BrokenPipeError):
        raise error
    raise AssayError(f"the log cannot be read: {error.filename or ''} {error.strerror or error}".replace("  ", " ")) from None
