"""What the model would see of one entity: its views folded at a moment, by the same C++ code as a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from assay import _core
from assay.errors import CoreError, FeatureSetError, StoreError
from assay.features import definitions as d
from assay.features.checks import value_names
from assay.features.compile import ViewCompiler
from assay.features.durations import format_duration
from assay.features.feature_set import FeatureSet
from assay.features.problems import did_you_mean
from assay.features.replay import input_columns
from assay.features.store import Store
from assay.features.times import format_time_us

TEXT_SHOWN = "(text)"  # a string attribute: that it is there, not what it says

_NULLABLE = ("avg", "min", "max", "last", "rate_true")


@dataclass(frozen=True)
class ShownValue:
    name: str
    definition: str  # "count over 1d", "float64"
    value: float | int | bool | str | None
    is_time: bool = False  # then value is RFC 3339 text


@dataclass(frozen=True)
class ShownView:
    name: str
    is_found: bool
    age_us: int | None  # of the newest event or of the attributes, at the moment asked for; None: nothing there
    flags: tuple[str, ...]  # stale, saturated, approximate, or the reason why a record was not used
    values: tuple[ShownValue, ...]


def show_entity(feature_set: FeatureSet, store: Store, entity: str, entity_id: str, time_us: int) -> tuple[ShownView, ...]:
    """Every view of that entity at `time_us`, without a current transaction. Raises FeatureSetError for an unknown entity."""
    if entity not in feature_set.entities:
        hint = did_you_mean(entity, feature_set.entities)
        raise FeatureSetError(f"unknown entity{hint}; feature set {feature_set.name} has: {', '.join(feature_set.entities)}")
    shown = _Plan(feature_set, entity)
    if not shown.views:
        return ()
    reader = _core.FeatureReader(shown.plan, store.records_of(shown.plan, entity_id))
    # Other entities are named because requests name all; none of their views is in the plan. The id is no transaction's.
    entities = {name: entity_id if name == entity else "-" for name in feature_set.entities}
    row = reader.read("\x00assay features show", time_us, entities, {})
    if isinstance(row, _core.Refusal):
        raise StoreError(f"the views of {entity} could not be read: {row.message}")
    return shown.views_of(row)


# --- implementation ---


@dataclass(frozen=True)
class _Output:
    name: str
    definition: str
    kind: str  # int64, float64, bool, string, time
    value_input: str | None  # None: a string, which no tensor can hold
    missing_input: str | None  # None: never null


class _Plan:
    """A plan with the views of one entity, and every output of them as a model input."""

    def __init__(self, feature_set: FeatureSet, entity: str) -> None:
        self._set = feature_set
        self._builder = _core.PlanBuilder(feature_set.name, feature_set.version, feature_set.schema_hash)
        self._names = value_names(feature_set)
        self._inputs: list[tuple[str, int, str]] = []  # name, node, tensor type
        compiler = ViewCompiler(feature_set, self._builder)
        for name in feature_set.entities:
            compiler.add_entity(name)
        for name in feature_set.request_features:
            compiler.add_request_feature(name, required=False)
        added: list[tuple[str, int, dict[str, int]]] = []
        for name, view in feature_set.views.items():
            if view.entity != entity:
                continue
            if isinstance(view, d.AttributeView):
                added.append((name, *compiler.add_attribute_view(name, view)))
            else:
                added.append((name, *compiler.add_window_view(name, view, includes_current=False)))
        nodes = {
            output_name: self._builder.view_node(index, output, output_name)
            for _, index, outputs in added
            for output_name, output in outputs.items()
        }
        self.views = {
            name: tuple(self._output(name, output_name, nodes[output_name]) for output_name in outputs)
            for name, _, outputs in added
        }
        if self.views:
            self._add_inputs()
            try:
                self.plan = self._builder.build()
            except CoreError as error:
                raise FeatureSetError(f"feature set {feature_set.name}: {error.message}") from error

    def _output(self, view_name: str, name: str, node: int) -> _Output:
        view = self._set.views[view_name]
        if isinstance(view, d.AttributeView):
            kind, definition, is_nullable = str(view.attributes[name]), str(view.attributes[name]), True
        else:
            aggregate = view.aggregates[name]
            kind, definition = self._kind(aggregate), describe(aggregate)
            is_nullable = aggregate.op in _NULLABLE
        return _Output(name, definition, kind, self._value_input(node, kind), self._missing_input(node) if is_nullable else None)

    def _kind(self, aggregate: d.Aggregate) -> str:
        if aggregate.op in ("count", "sum", "distinct"):
            return "int64"
        if aggregate.op in ("avg", "rate_true"):
            return "float64"
        return "time" if aggregate.of == d.EVENT_TIME else str(self._set.request_features[str(aggregate.of)].dtype)

    def _value_input(self, node: int, kind: str) -> str | None:
        if kind == "string":
            return None
        name = f"value_{len(self._inputs)}"
        self._inputs.append((name, node, "int64" if kind == "time" else kind))
        return name

    def _missing_input(self, node: int) -> str:
        name = f"missing_{len(self._inputs)}"
        while f"{name}_of_show" in self._names:
            name += "_"
        is_missing = self._builder.derived_node(f"{name}_of_show", _core.OPERATIONS["is_missing"], [node])
        self._inputs.append((name, is_missing, "bool"))
        return name

    def _add_inputs(self) -> None:
        default = _core.WHEN_NULL["default"]
        for dtype in ("float64", "int64", "bool"):
            chosen = [(name, node) for name, node, tensor_type in self._inputs if tensor_type == dtype]
            if not chosen:
                continue
            tensor = self._builder.tensor(dtype, _core.TENSOR_TYPES[dtype], len(chosen))
            for element, (name, node) in enumerate(chosen):
                self._builder.model_input(name, node, tensor, element, default, 0.0)

    def views_of(self, row: _core.ReadRow) -> tuple[ShownView, ...]:
        rows = np.frombuffer(row.row, np.uint8).reshape(1, -1)
        values = {name: column[0].item() for name, column in input_columns(self.plan, rows).items()}
        return tuple(_view_of(fold, self.views[fold.view], values) for fold in row.views)


def _view_of(fold: _core.ViewFold, outputs: tuple[_Output, ...], values: dict[str, Any]) -> ShownView:
    flags = [
        name
        for name, is_set in (("stale", fold.stale), ("saturated", fold.saturated), ("approximate", fold.approximate))
        if is_set
    ]
    if fold.rejected:
        flags.append(_core.CODE_TABLE[fold.rejected].reason)
    shown = tuple(_value_of(output, values) for output in outputs)
    return ShownView(fold.view, fold.found, fold.age_us if fold.found else None, tuple(flags), shown)


def _value_of(output: _Output, values: dict[str, Any]) -> ShownValue:
    is_missing = output.missing_input is not None and values[output.missing_input]
    if is_missing:
        return ShownValue(output.name, output.definition, None)
    if output.value_input is None:
        return ShownValue(output.name, output.definition, TEXT_SHOWN)
    value = values[output.value_input]
    if output.kind == "time":
        return ShownValue(output.name, output.definition, format_time_us(value), is_time=True)
    return ShownValue(output.name, output.definition, value)


def describe(aggregate: d.Aggregate) -> str:
    """'avg of amount_minor over 7d'."""
    return f"{aggregate.op}{f' of {aggregate.of}' if aggregate.of else ''} over {format_duration(aggregate.window)}"
