"""What `assay ingest` can be asked to do, and which options each of these takes: any other would do nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from assay.cli.output import EXIT_USAGE, fail

if TYPE_CHECKING:
    from assay.features.feature_set import FeatureSet
    from assay.features.store_writer import WriterOptions

_STORE = frozenset({"store", "store_bytes_max", "as_json"})
_FILE = _STORE | {"feature_set", "rejects", "flush_rows"}
_EVENTS = _FILE | {"only_view"}
_TOPICS = frozenset({"kafka", "topic", "kafka_option", "kafka_config"})
_LOOK = frozenset({"check", "messages", "bundle", "feature_set", "as_json"})

# By what names the source, names of parameters of ingest(). The first source that is given decides.
MODES = {
    "--events": _EVENTS | {"events"},
    "--attributes": _FILE | {"view", "attributes"},
    "--demo-history": _STORE | {"demo_history"},
    "--kafka": _EVENTS
    | _TOPICS
    | {"group", "instance_id", "label_topic", "label_wait_ms", "dead_letter_topic", "fail_on_reject", "flush_ms"}
    | {"checkpoint_ms", "metadata_topic", "metadata_ms", "metrics_listen", "stop_at_end", "bundle"}
    | {"late_events"},
    "--check --events": _LOOK | {"events"},
    "--check --kafka": _LOOK | _TOPICS,
}
_SOURCES = {
    "kafka": "--kafka",
    "events": "--events",
    "attributes": "--attributes",
    "demo_history": "--demo-history",
    "topic": "--kafka",
}


class LateEvents(StrEnum):
    """What becomes of events of topics that are older than those that a record keeps one by one."""

    REFUSE = "refuse"
    APPLY = "apply"


def choose_mode(ctx: typer.Context) -> str | None:
    """A key of MODES; None: the options name no source for one. Ends the command at an option that has no place in the mode."""
    given = _given(ctx)
    source = next((source for name, source in _SOURCES.items() if name in given), "")
    mode = f"--check {source}" if "check" in given else source
    if mode not in MODES:
        return None
    for name, option in given.items():
        if name not in MODES[mode]:
            places = ", ".join(other for other, names in MODES.items() if name in names)
            fail(f"give no {option} with {mode}: it belongs to {places}", EXIT_USAGE)
    return mode


def writer_options(feature_set: FeatureSet, only_views: tuple[str, ...], late: LateEvents = LateEvents.REFUSE) -> WriterOptions:
    """Ends the command at a view that takes no events."""
    from assay.features.definitions import WindowView
    from assay.features.store_writer import WriterOptions

    windows = [name for name, view in feature_set.views.items() if isinstance(view, WindowView)]
    for name in only_views:
        if name not in windows:
            fail(f"--only-view {name}: no view of events of {feature_set.name}", EXIT_USAGE, hint=f"one of {', '.join(windows)}")
    return WriterOptions(applies_late=late is LateEvents.APPLY, views=only_views or None)


# --- implementation ---


def _given(ctx: typer.Context) -> dict[str, str]:
    """Names of the parameters that stand on the command line -> their options. A default that is repeated there counts."""
    found = {}
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if parameter.name and source is not None and source.name == "COMMANDLINE":
            found[parameter.name] = parameter.opts[0]
    return found
