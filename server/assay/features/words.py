"""The parts of a feature set in words: one short line each, for people who look at it or compare two."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from assay.features import definitions as d
from assay.features.checks import source_of_missing
from assay.features.durations import format_duration
from assay.features.hashes import canonical_json, derived_form

WORDS_SHOWN_MAX = 8  # of a vocabulary


def describe_request_feature(feature: d.RequestFeature) -> str:
    """'int64, required, at least 0'; 'float64, required, integers accepted'."""
    parts = [str(feature.dtype), "required" if feature.is_required else "optional"]
    if feature.accept_int:
        parts.append("integers accepted")
    for words, value in (("default", feature.default), ("at least", feature.minimum), ("at most", feature.maximum)):
        if value is not None:
            parts.append(f"{words} {plain(value)}")
    return ", ".join(parts)


def describe_aggregate(aggregate: d.Aggregate) -> str:
    """'avg of amount_minor over 7d'."""
    return f"{aggregate.op}{f' of {aggregate.of}' if aggregate.of else ''} over {format_duration(aggregate.window)}"


def describe_values(view: d.View) -> dict[str, str]:
    """What a view holds, by name, in the file's order."""
    if isinstance(view, d.AttributeView):
        return {name: str(dtype) for name, dtype in view.attributes.items()}
    return {name: describe_aggregate(aggregate) for name, aggregate in view.aggregates.items()}


def describe_view_settings(view: d.View) -> dict[str, str]:
    """Everything else that a view says, by the file's keys, defaults too."""
    if isinstance(view, d.AttributeView):
        max_age = "none" if view.max_age is None else format_duration(view.max_age)
        return {"kind": view.kind, "entity": view.entity, "max_age": max_age}
    return {
        "kind": view.kind,
        "entity": view.entity,
        "current": view.current,
        "delay": format_duration(view.delay),
        "labels": plain(view.labels),
        "lateness": format_duration(view.lateness),
        "exact_events_max": str(view.exact_events_max),
    }


def describe_derived(feature: d.Derived) -> str:
    """'ratio of amount, over average': the operation and its keys."""
    keys = derived_form(feature)
    op, of = keys.pop("op"), keys.pop("of", None)
    parts = [f"{op} of {of}" if of is not None else str(op)]
    parts += [f"{key} {_key_text(value)}" for key, value in keys.items()]
    return ", ".join(parts)


def describe_input(model_input: d.ModelInput) -> str:
    """'from terminal_risk, float32, null is 0.5'; 'whether terminal_risk is null, float32'."""
    of = source_of_missing(model_input.value_name)
    if of != model_input.value_name:
        return f"whether {of} is null, {model_input.dtype}"
    source = "" if model_input.value_name == model_input.name else f"from {model_input.value_name}, "
    return f"{source}{model_input.dtype}, {describe_null(model_input)}"


def describe_null(model_input: d.ModelInput) -> str:
    """'null is an error', 'null is NaN', 'null is 0.5'."""
    match model_input.when_null:
        case "error":
            return "null is an error"
        case "nan":
            return "null is NaN"
        case d.NullDefault(default=default):
            return f"null is {plain(default)}"


def plain(value: d.Scalar) -> str:
    """As the file may have it, equal numbers alike: true, 0.5, 100, web."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def value_dtypes(view: d.View, request_features: Mapping[str, d.RequestFeature]) -> dict[str, str]:
    """float64, int64, bool, string or time of each value of a view."""
    if isinstance(view, d.AttributeView):
        return {name: str(dtype) for name, dtype in view.attributes.items()}
    return {name: _aggregate_dtype(aggregate, request_features) for name, aggregate in view.aggregates.items()}


# --- implementation ---


def _aggregate_dtype(aggregate: d.Aggregate, request_features: Mapping[str, d.RequestFeature]) -> str:
    if aggregate.op in ("count", "sum", "distinct"):
        return "int64"
    if aggregate.op in ("avg", "rate_true"):
        return "float64"
    return "time" if aggregate.of == d.EVENT_TIME else str(request_features[str(aggregate.of)].dtype)


def _key_text(value: Any) -> str:
    if not isinstance(value, list):
        return plain(value)
    if len(value) <= WORDS_SHOWN_MAX:
        return f"[{', '.join(map(str, value))}]"
    digest = hashlib.sha256(canonical_json(value)).hexdigest()  # so that another list never reads the same
    return f"[{', '.join(map(str, value[:WORDS_SHOWN_MAX]))}, ... {len(value):,} in all, sha256 {digest[:8]}]"
