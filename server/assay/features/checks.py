"""What a feature set must mean, beyond its shape: names exist and are unique, labels are delayed, inputs have sources.

Types of arguments and the layout of tensors are the core's to check (compile.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from assay.features import definitions as d
from assay.features.problems import Problem, did_you_mean

if TYPE_CHECKING:
    from assay.features.feature_set import FeatureSet

NAME_LENGTH_MAX = 64
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

LEAKAGE = (
    "the view reads labels (is_fraud) but has no delay. A label becomes known days after its transaction; a window that counts "
    "it earlier teaches the model an answer that it will not have in production (leakage). Set delay to how long labels take, "
    "for example delay: 7d"
)


def check(feature_set: FeatureSet) -> list[Problem]:
    """Everything that is wrong, in no particular order."""
    return [
        *_check_entities(feature_set),
        *_check_names(feature_set),
        *_check_request_features(feature_set),
        *_check_views(feature_set),
        *_check_derived(feature_set),
        *_check_inputs(feature_set),
    ]


def expanded_inputs(inputs: Sequence[d.ModelInput]) -> Iterator[d.ModelInput]:
    """Each input, followed by its NAME_is_missing if it asks for one."""
    for model_input in inputs:
        yield model_input
        if model_input.add_is_missing:
            source = missing_name(model_input.value_name)
            yield d.ModelInput.model_validate(
                {"name": f"{model_input.name}_is_missing", "from": source, "dtype": model_input.dtype}
            )


def missing_name(value_name: str) -> str:
    """Name of the hidden value 'value_name is null'. The '?' keeps it apart from every name of a file; the core never sees it."""
    return f"{value_name}?"


def source_of_missing(name: str) -> str:
    """The value_name of missing_name(value_name)."""
    return name.removesuffix("?")


def value_names(feature_set: FeatureSet) -> set[str]:
    """Every name of a value in the file, and event_time."""
    return {d.EVENT_TIME} | {name for name, _ in _value_paths(feature_set)}


def derived_order(feature_set: FeatureSet) -> list[str]:
    """Names of derived features so that each comes after its arguments. REQUIRES: a checked feature set (no cycle)."""
    order: dict[str, None] = {}
    for start in feature_set.derived:
        stack = [start]
        while stack:  # not recursive: a chain may be longer than Python's stack
            name = stack[-1]
            pending = [a for a in feature_set.derived[name].arguments if a in feature_set.derived and a not in order]
            if pending:
                stack.append(pending[0])
            else:
                order[stack.pop()] = None
    return list(order)


# --- implementation ---


def _value_paths(feature_set: FeatureSet) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every named value with its place in the file. One namespace: a name means one thing."""
    for name in feature_set.request_features:
        yield name, ("request_features", name)
    for view_name, view in feature_set.views.items():
        key = "attributes" if isinstance(view, d.AttributeView) else "aggregates"
        for name in view.attributes if isinstance(view, d.AttributeView) else view.aggregates:
            yield name, ("views", view_name, key, name)
    for name in feature_set.derived:
        yield name, ("derived", name)


def _check_entities(feature_set: FeatureSet) -> Iterator[Problem]:
    for index, name in enumerate(feature_set.entities):
        if name in feature_set.entities[:index]:
            yield Problem(("entities", index), "stands twice; remove one")
        if name in d.RESERVED_NAMES:
            yield Problem(("entities", index), f"{name} is reserved; choose another name")


def _check_names(feature_set: FeatureSet) -> Iterator[Problem]:
    first: dict[str, tuple[str, ...]] = {}
    for name, path in _value_paths(feature_set):
        if name == d.LABEL:
            yield Problem(path, f"{d.LABEL} is the label, not a feature; aggregate it in a view with labels: true and a delay")
        elif name == d.EVENT_TIME:
            yield Problem(path, f"{d.EVENT_TIME} is the event's own time; choose another name")
        elif name in feature_set.entities:
            yield Problem(path, "is the name of an entity; choose another name")
        elif name in first:
            yield Problem(path, f"the name is taken by {'.'.join(first[name])}; one name means one value")
        first.setdefault(name, path)


def _check_request_features(feature_set: FeatureSet) -> Iterator[Problem]:
    for name, feature in feature_set.request_features.items():
        path = ("request_features", name)
        for key in ("default", "minimum", "maximum"):
            value = getattr(feature, key)
            if value is not None and (problem := _misfit(value, feature.dtype, is_bound=key != "default")):
                yield Problem((*path, key), problem)
        if feature.required and feature.default is not None:
            yield Problem((*path, "default"), "a required feature has no default; remove one of the two")
        if feature.accept_int and feature.dtype != "float64":
            yield Problem((*path, "accept_int"), _no_accept_int(feature.dtype))
        if feature.minimum is not None and feature.maximum is not None and feature.minimum > feature.maximum:
            yield Problem((*path, "minimum"), "is above maximum")


def _no_accept_int(dtype: str) -> str:
    if dtype == "int64":
        return "an int64 takes integers anyway; remove it"
    return f"only a float64 accepts integers: there each keeps its value, while none is a {dtype}. Remove it, or declare float64"


def _misfit(value: d.Scalar, dtype: str, is_bound: bool) -> str:
    """Why `value` cannot be of `dtype`, or ''."""
    kinds: dict[str, type | tuple[type, ...]] = {"float64": (int, float), "int64": int, "bool": bool, "string": str}
    if is_bound and dtype in ("bool", "string"):
        return f"a {dtype} has no bounds; remove it"
    if not isinstance(value, kinds[dtype]) or (isinstance(value, bool) and dtype != "bool"):
        return f"expected a value of the declared type {dtype}, found {_type_words(value)}"
    if dtype == "int64" and isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        return "expected an integer of 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "expected a finite number"
    return ""


def _type_words(value: d.Scalar) -> str:
    return {bool: "a boolean", int: "an integer", float: "a float", str: "a string"}[type(value)]


def _check_views(feature_set: FeatureSet) -> Iterator[Problem]:
    for name, view in feature_set.views.items():
        path = ("views", name)
        if view.entity not in feature_set.entities:
            yield Problem((*path, "entity"), _unknown("entity", view.entity, feature_set.entities))
        if isinstance(view, d.AttributeView):
            for attribute in sorted({d.UPDATED_AT, view.entity} & set(view.attributes)):
                yield Problem((*path, "attributes", attribute), "is a column of attribute files already; choose another name")
        else:
            yield from _check_window_view(feature_set, view, path)


def _check_window_view(feature_set: FeatureSet, view: d.WindowView, path: tuple[str, ...]) -> Iterator[Problem]:
    reads_labels = any(aggregate.of == d.LABEL for aggregate in view.aggregates.values())
    if (view.labels or reads_labels) and view.delay == 0:
        yield Problem((*path, "delay"), LEAKAGE)
    if reads_labels and not view.labels:
        yield Problem(path, "an aggregate reads is_fraud; say so with labels: true")
    if view.labels and not reads_labels:
        yield Problem((*path, "labels"), "no aggregate reads is_fraud; remove labels")
    if view.current == "include" and view.delay > 0:
        yield Problem((*path, "current"), "with a delay the current transaction is outside every window; remove current: include")
    for name, aggregate in view.aggregates.items():
        yield from _check_aggregate(feature_set, aggregate, (*path, "aggregates", name))


def _check_aggregate(feature_set: FeatureSet, aggregate: d.Aggregate, path: tuple[str, ...]) -> Iterator[Problem]:
    if aggregate.window == 0:
        yield Problem((*path, "window"), "expected a duration above 0")
    if aggregate.op == "count":
        if aggregate.of is not None:
            yield Problem(
                (*path, "of"),
                "count counts events and reads no value; remove of, or use distinct or rate_true",
            )
        return
    if aggregate.of is None:
        yield Problem((*path, "of"), f"missing; {aggregate.op} needs a value to read")
        return
    known = {d.EVENT_TIME, *feature_set.request_features, *(feature_set.entities if aggregate.op == "distinct" else ())}
    if aggregate.op == "rate_true":
        known = {d.LABEL, *feature_set.request_features}
    if aggregate.of == d.LABEL and aggregate.op != "rate_true":
        yield Problem((*path, "of"), "a label is read by rate_true only")
    elif aggregate.of in feature_set.entities and aggregate.op != "distinct":
        yield Problem((*path, "of"), "an entity is read by distinct only")
    elif aggregate.of not in known:
        yield Problem((*path, "of"), _unknown("request feature", aggregate.of, known))


def _check_derived(feature_set: FeatureSet) -> Iterator[Problem]:
    known = value_names(feature_set)
    for name, feature in feature_set.derived.items():
        path = ("derived", name)
        for argument in feature.arguments:
            if argument == d.LABEL:
                yield Problem(path, "is_fraud is the label and no value; aggregate it in a view with labels: true and a delay")
            elif argument not in known:
                yield Problem(path, _unknown("value", argument, known))
        if isinstance(feature, d.Scale) and (feature.divide_by == 0 or not math.isfinite(feature.divide_by)):
            yield Problem((*path, "divide_by"), "expected a finite number other than 0")
        if isinstance(feature, d.Equals) and (feature.to is None) == (feature.value is None):
            yield Problem(path, "expected exactly one of to (another value) and value (a constant)")
        if isinstance(feature, d.Vocabulary) and len(set(feature.words)) != len(feature.words):
            yield Problem((*path, "words"), "a word stands twice; remove one")
    yield from _check_cycles(feature_set)


def _check_cycles(feature_set: FeatureSet) -> Iterator[Problem]:
    done: set[str] = set()
    for start in feature_set.derived:
        if start in done:
            continue
        stack: list[tuple[str, Iterator[str]]] = [(start, iter(feature_set.derived[start].arguments))]
        open_names = {start: None}
        while stack:
            name, arguments = stack[-1]
            argument = next((a for a in arguments if a in feature_set.derived and a not in done), None)
            if argument is None:
                stack.pop()
                open_names.pop(name)
                done.add(name)
            elif argument in open_names:
                yield Problem(("derived", name), f"is made from itself: {' -> '.join([*open_names, argument])}")
                return
            else:
                open_names[argument] = None
                stack.append((argument, iter(feature_set.derived[argument].arguments)))


def _check_inputs(feature_set: FeatureSet) -> Iterator[Problem]:
    known = value_names(feature_set)
    seen: set[str] = set()
    for index, model_input in enumerate(feature_set.inputs):
        path = ("inputs", index)
        if model_input.value_name == d.LABEL:
            yield Problem(path, "the label cannot be a model input (leakage)")
        elif model_input.value_name not in known:
            yield Problem(path, _unknown("value", model_input.value_name, known))
        if model_input.when_null == "nan" and model_input.dtype not in ("float32", "float64"):
            yield Problem((*path, "when_null"), f"{model_input.dtype} has no NaN; use error or a default")
        if isinstance(model_input.when_null, d.NullDefault) and not math.isfinite(model_input.when_null.default):
            yield Problem((*path, "when_null", "default"), "expected a finite number")
        if model_input.add_is_missing and len(model_input.name) > NAME_LENGTH_MAX - len("_is_missing"):
            yield Problem((*path, "name"), f"with _is_missing added it is longer than {NAME_LENGTH_MAX} characters")
        for name in [model_input.name, f"{model_input.name}_is_missing"][: 2 if model_input.add_is_missing else 1]:
            if name in seen:
                yield Problem(path, "two inputs have this name; rename one (name: ..., from: ...)")
            seen.add(name)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f"unknown {what} {name}{did_you_mean(name, known)}"
