"""`assay audit replay`: past scores, computed again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.table import Table

from assay.cli.audit_options import ConfigOption, SpoolOption, logs_at, say_finding
from assay.cli.options import JsonOption
from assay.cli.output import EXIT_FAILED, EXIT_REFUSED, EXIT_USAGE, answers, bar, console, fail, plain_text, print_json, shown
from assay.errors import AssayError, ConfigError, InputError

if TYPE_CHECKING:
    from assay.audit.records import Entry
    from assay.audit.replaying import Replay, Replayer
    from assay.audit.segments import LogDirectory

EXIT_CANNOT = 3
SHOWN_MAX = 10  # of --all
ROW_BYTES_MAX = 1 << 20


def replay(
    transaction: Annotated[str | None, typer.Argument(metavar="TRANSACTION", help="All scores of this transaction.")] = None,
    sequence: Annotated[int | None, typer.Option(min=1, help="The score with this sequence instead.")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Every score in the log instead.")] = False,
    sample: Annotated[int | None, typer.Option(min=1, help="With --all: so many of them, at random.")] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="The bundle that gave the score, NAME/VERSION, or the plain model, PATH.onnx. Required; repeatable.",
        ),
    ] = None,
    row_json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For a score whose record has a digest alone: its inputs, as a JSON object of name and value (null: none).",
            dir_okay=False,
        ),
    ] = None,
    spool: SpoolOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute past scores again, from their records and their bundle, and compare the bits.

    The recorded row goes through the same session code as in a server. Bits are promised for one build of ONNX Runtime on one
    class of CPU; elsewhere a difference proves nothing, and is not called one.

    Exit codes: 0 the same; 1 different; 3 cannot be told (a digest alone was kept, another model, another kind of machine);
    4 no such score is in the log.

    Examples:

        assay audit replay 4711 --bundle models/card_fraud/1

        assay audit replay --all --sample 1000 --bundle models/card_fraud/1
    """
    if [transaction is not None, sequence is not None, is_all].count(True) != 1:
        fail("say what to replay: a TRANSACTION, --sequence or --all", EXIT_USAGE)
    if not bundle:
        fail("--bundle: name the bundle that gave the score", EXIT_USAGE, hint="assay audit find shows model and version")
    if sample is not None and not is_all:
        fail("--sample goes with --all", EXIT_USAGE)
    if row_json is not None and is_all:
        fail("--row-json is one score's: name it by TRANSACTION or --sequence", EXIT_USAGE)
    logs = logs_at(spool, config)
    try:
        if is_all:
            code = _replay_all(logs, _replayer(bundle), sample, as_json)
        else:
            entries = _entries(logs, transaction, sequence)
            code = _replay_some(entries, _replayer(bundle), row_json, logs, as_json)
    except OSError as error:
        raise AssayError(f"the log cannot be read: {error.filename}: {error.strerror}") from None
    if code:
        raise typer.Exit(code)


# --- implementation ---


def _replayer(bundles: list[Path]) -> Replayer:
    from assay._core import OrtRuntime
    from assay.audit.replaying import Replayer
    from assay.models.ort_library import find_library

    with console.status("loading the model", spinner="line"):
        return Replayer(bundles, OrtRuntime(str(find_library())))


def _entries(logs: list[LogDirectory], transaction: str | None, sequence: int | None) -> list[Entry]:
    from assay.audit.searching import find_sequence, find_transaction

    with bar("searching") as progress:
        if transaction is not None:
            found = find_transaction(logs, transaction, say_finding, progress)
        else:
            found = find_sequence(logs, sequence or 0, say_finding)
    scores = [entry for entry in found if entry.score is not None]
    if not scores:
        fail("the log has no such score", EXIT_REFUSED, hint="older records make way for newer ones")
    return scores


def _replay_some(entries: list[Entry], replayer: Replayer, row_json: Path | None, logs: list[LogDirectory], as_json: bool) -> int:
    results = []
    for entry in entries:
        row = _row_of(row_json, entry) if row_json is not None else None
        results.append(replayer.replay(entry, row, _key_of(entry, logs)))
    if as_json:
        print_json([result.document() for result in results])
    else:
        for result in results:
            _print_result(result)
    return _exit_code(Counter(result.outcome.value for result in results), is_strict=True)


def _replay_all(logs: list[LogDirectory], replayer: Replayer, sample: int | None, as_json: bool) -> int:
    from assay.audit.replaying import Outcome
    from assay.audit.searching import all_scores

    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    shown_results: list[Replay] = []
    keys = {log.name: _key_at(log) for log in logs}
    with bar("reading" if sample else "replaying") as progress:
        entries: Iterable[Entry] = all_scores(logs, say_finding, progress)
        if sample is not None:
            entries = _sampled(entries, sample)
        for entry in entries:
            result = replayer.replay(entry, None, keys[entry.writer])
            outcomes[result.outcome.value] += 1
            if result.outcome is Outcome.CANNOT:
                reasons[result.why] += 1
            elif result.outcome is Outcome.DIFFERENT and len(shown_results) < SHOWN_MAX:
                shown_results.append(result)
    counts = {outcome.value: outcomes[outcome.value] for outcome in Outcome}
    if as_json:
        print_json({**counts, "cannot_because": dict(reasons), "different_ones": [item.document() for item in shown_results]})
    else:
        for result in shown_results:
            _print_result(result)
        answers.print(f"{counts['same']:,} the same, {counts['different']:,} different, {counts['cannot']:,} cannot be told")
        for why, count in reasons.most_common():
            answers.print(f"  [yellow]{count:,}[/] {shown(why)}", soft_wrap=True)
    if not outcomes:
        fail("the log has no scores", EXIT_REFUSED)
    return _exit_code(outcomes, is_strict=False)


def _exit_code(outcomes: Counter[str], *, is_strict: bool) -> int:
    """One that differs outweighs all. Of many, some may be beyond telling; where only one is asked for, that is the answer."""
    if outcomes["different"]:
        return EXIT_FAILED
    return EXIT_CANNOT if outcomes["cannot"] and (is_strict or not outcomes["same"]) else 0


def _sampled(entries: Iterable[Entry], count: int) -> Iterator[Entry]:
    """Each with the same chance, in the log's order: reservoir sampling."""
    kept: dict[int, Entry] = {}
    places: list[int] = []
    for number, entry in enumerate(entries):
        if number < count:
            places.append(number)
        elif (place := random.randrange(number + 1)) < count:
            del kept[places[place]]
            places[place] = number
        else:
            continue
        kept[number] = entry
    return iter(kept.values())


def _row_of(path: Path, entry: Entry) -> bytes:
    from assay.audit.replaying import pack_row

    try:
        with path.open("rb") as file:
            data = file.read(ROW_BYTES_MAX + 1)
        inputs: Any = orjson.loads(data) if len(data) <= ROW_BYTES_MAX else None
    except (OSError, orjson.JSONDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not JSON"
        raise InputError(f"{path}: {what}") from None
    if not isinstance(inputs, dict):
        raise InputError(f"{path}: expected a JSON object of input and value")
    if entry.lineage is None:
        raise InputError("the record of its model is damaged or missing: nothing says how its rows are made")
    return pack_row(inputs, entry.lineage)


def _key_of(entry: Entry, logs: list[LogDirectory]) -> bytes | None:
    return next((_key_at(log) for log in logs if log.name == entry.writer), None)


def _key_at(log: LogDirectory) -> bytes | None:
    from assay.audit.place import read_key
    from assay.audit.segments import spool_of

    try:
        return read_key(spool_of(log.path))
    except ConfigError:
        return None


def _print_result(result: Replay) -> None:
    found = result.document()
    style = {"same": "green", "different": "bold red", "cannot": "yellow"}[result.outcome.value]
    word = {"same": "the same", "different": "different", "cannot": "cannot be told"}[result.outcome.value]
    title = f"{found['transaction_id']}  {found['writer']} {found['sequence']}"
    answers.print(plain_text(f"{title}: ", "bold") + plain_text(word, style), soft_wrap=True)
    if found["recomputed"]:
        table = Table(box=None, pad_edge=False)
        for column in ("", "score", "exactly", "decision"):
            table.add_column(column)
        for name in ("recorded", "recomputed"):
            part = found[name]
            table.add_row(name, repr(part["score"]), part["score_hex"], part["decision"])
        answers.print(table)
    if result.why:
        answers.print(plain_text(result.why), soft_wrap=True)
    if result.row_source == "file":
        answers.print("the inputs that were given are those of this score: their digest is the recorded one")
