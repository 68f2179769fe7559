"""`assay ingest --check`: what a sample of events holds, and what would be rejected. Writes, commits and joins nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from rich.table import Table

from assay.cli.feature_sources import load_training_data
from assay.cli.output import EXIT_USAGE, answers, fail, plain_text, print_json
from assay.errors import AssayError, ConfigError

if TYPE_CHECKING:
    from assay.features.feature_set import FeatureSet
    from assay.kafka.messages import TopicMessage
    from assay.models.event_check import EventCheck


@dataclass(frozen=True)
class CheckOptions:
    events: Path | None
    brokers: str | None
    topics: tuple[str, ...]
    assignments: tuple[str, ...]
    config_file: Path | None
    messages: int
    bundle: str | None
    feature_set: Path | None


def check(options: CheckOptions, *, as_json: bool) -> bool:
    """Returns whether every message of the sample is an event."""
    if (options.events is None) == (options.brokers is None or not options.topics):
        fail("--check wants --events FILE, or --kafka BROKERS with --topic TOPIC", EXIT_USAGE)
    from assay.models.event_check import EventChecker

    try:
        loaded, baseline = load_training_data(options.feature_set, options.bundle)
        lines, unfit, keys = _sample(options, loaded)
        found = EventChecker(loaded, baseline).check(lines)
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)
    except AssayError as error:
        fail(str(error))
    found.rejects.update(unfit)
    if as_json:
        print_json(_document(found, keys))
    else:
        _print(found, keys, is_compared=baseline is not None)
    return not found.rejects


# --- implementation ---

Keys = dict[str, tuple[int, int]]  # topic, view -> messages whose key is the view's entity, messages that name it


def _sample(options: CheckOptions, feature_set: FeatureSet) -> tuple[list[bytes], list[str], Keys]:
    """Lines, reasons of what cannot be a line, and how keys fit the views."""
    if options.events is not None:
        lines, unfit = _sample_file(options.events, options.messages)
        return lines, unfit, {}
    from assay.kafka.connection import Connection
    from assay.kafka.message_writer import violation_of
    from assay.kafka.options import merge_options
    from assay.kafka.topic_sample import sample_topics

    connection = Connection(options.brokers or "", merge_options(options.assignments, options.config_file))
    messages = sample_topics(connection, options.topics, options.messages)
    violations = [violation_of(message.value) for message in messages]
    good = [message for message, violation in zip(messages, violations, strict=True) if violation is None]
    unfit = [violation.reason for violation in violations if violation is not None]
    return [message.value or b"" for message in good], unfit, _keys(good, feature_set)


def _sample_file(path: Path, count_max: int) -> tuple[list[bytes], list[str]]:
    from assay.features.line_blocks import read_blocks
    from assay.features.sources import open_source

    lines: list[bytes] = []
    unfit: list[str] = []
    with open_source(None if path == Path("-") else path) as file:
        for block in read_blocks(file):
            if block.is_too_long:
                unfit.append("TOO_LONG")
            else:
                lines += islice((line for line in block.data.split(b"\n") if line.strip()), count_max - len(lines))
            if len(lines) + len(unfit) >= count_max:
                break
    return lines, unfit


def _keys(messages: Sequence[TopicMessage], feature_set: FeatureSet) -> Keys:
    from assay.features.definitions import WindowView
    from assay.kafka.topic_sample import key_matches

    ids = [_entities(message.value or b"") for message in messages]
    keys: Keys = {}
    for topic in sorted({message.partition.topic for message in messages}):
        of_topic = [(m, found) for m, found in zip(messages, ids, strict=True) if m.partition.topic == topic]
        for name, view in feature_set.views.items():
            if isinstance(view, WindowView):  # no event goes into the others
                keys[f"{topic} -> {name}"] = key_matches([m for m, _ in of_topic], [found for _, found in of_topic], view.entity)
    return keys


def _entities(value: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    entities = found.get("entities") if isinstance(found, dict) else None
    return entities if isinstance(entities, dict) else {}


def _document(found: EventCheck, keys: Keys) -> dict[str, Any]:
    return {
        "event_count": found.event_count,
        "fields": {name: report.document() for name, report in found.fields.items()},
        "rejects": dict(found.rejects),
        "reject_fields": dict(found.places),
        "psi": found.shifts,
        "row_count": found.row_count,
        "keys": {name: {"matching": matching, "named": named} for name, (matching, named) in keys.items()},
    }


def _print(found: EventCheck, keys: Keys, *, is_compared: bool) -> None:
    from assay.models.shift import LARGE_PSI, NOTABLE_PSI, VALUES_MIN

    answers.print(plain_text(f"{found.event_count:,} events, {found.rejects.total():,} rejects"))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("field", "types", "missing", "numbers (min, median, max)", "texts (distinct, most frequent)"):
        table.add_column(title)
    for name, report in found.fields.items():
        shown = report.document()
        types = ", ".join(f"{dtype} {count:,}" for dtype, count in shown["types"].items())
        numbers = ", ".join(f"{shown[key]:.6g}" for key in ("min", "median", "max") if key in shown)
        texts = ", ".join(f"{shown[key]:,}" for key in ("distinct", "most_frequent_count") if key in shown)
        table.add_row(*map(plain_text, (name, types, f"{report.missing_count:,}", numbers, texts)))
    answers.print(table)
    for reason, count in found.rejects.most_common():
        answers.print(plain_text(f"reject {reason}: {count:,}"))
    for place, count in found.places.most_common(20):
        answers.print(plain_text(f"  at {place or 'line'}: {count:,}"))
    if is_compared and found.row_count < VALUES_MIN:
        enough = f"too few to compare; {VALUES_MIN:,} are enough"
        answers.print(plain_text(f"psi: a score would take {found.row_count:,} of the events, {enough}"))
    for name, shift in found.shifts.items():
        word = "as in training" if shift < NOTABLE_PSI else "look at it" if shift < LARGE_PSI else "another population"
        answers.print(plain_text(f"psi {name}: {shift:.3f} ({word})"))
    for name, (matching, named) in keys.items():
        word = "" if matching == named else ": feed this view from a topic keyed by its entity (docs/ingestion.md)"
        answers.print(plain_text(f"key {name}: {matching:,} of {named:,} messages are keyed by its entity{word}"))
