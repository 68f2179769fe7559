"""What the model would see of some entities: their views folded at a moment, by the same C++ code as a score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay import _core
from assay.errors import CoreError, FeatureSetError, StoreError
from assay.features import definitions as d
from assay.features.checks import value_names
from assay.features.compile import ViewCompiler, compile_plan
from assay.features.feature_set import FeatureSet
from assay.features.problems import did_you_mean
from assay.features.records import Records
from assay.features.rows import input_columns
from assay.features.store import Store
from assay.features.times import format_time_us
from assay.features.words import describe_values, value_dtypes

TEXT_SHOWN = "(text)"  # a string attribute: that it is there, not what it says
NO_TRANSACTION = "\x00assay features show"  # an id that no transaction has
NO_ENTITY = "-"  # requests name all entities; what is shown is of those that were asked for


@dataclass(frozen=True)
class ShownValue:
    name: str
    definition: str  # "count over 1d", "float64"
    dtype: str  # float64, int64, bool, string, time
    value: float | int | bool | None  # a time: microseconds; None: null, or a text
    is_null: bool

    @property
    def shown(self) -> float | int | bool | str | None:
        """For people: a time is RFC 3339, a text is TEXT_SHOWN."""
        if self.value is None:
            return None if self.is_null else TEXT_SHOWN
        return format_time_us(int(self.value)) if self.dtype == "time" else self.value


@dataclass(frozen=True)
class ShownView:
    name: str
    entity: str
    is_found: bool
    age_us: int | None  # of the newest event or of the attributes, at the moment asked for; None: nothing there
    is_stale: bool
    is_saturated: bool
    is_approximate: bool
    rejected_reason: str  # why a record (or a sum) was left out; empty: it was used
    rejected_detail: str
    values: tuple[ShownValue, ...]

    @property
    def flags(self) -> tuple[str, ...]:
        """stale, saturated, approximate, and the reason why a record was not used."""
        said = (("stale", self.is_stale), ("saturated", self.is_saturated), ("approximate", self.is_approximate))
        return (*(name for name, is_set in said if is_set), *([self.rejected_reason] if self.rejected_reason else []))


class ShownViews:
    """The views of a feature set, ready to be shown. Thread-safe. Raises FeatureSetError where the core cannot compile one."""

    def __init__(self, feature_set: FeatureSet) -> None:
        self._set = feature_set
        self._plans = [_ViewPlan(feature_set, name) for name in feature_set.views]  # a plan each: the core limits their inputs

    def show(
        self, records: Records, entities: Mapping[str, str], time_us: int, transaction_id: str = NO_TRANSACTION
    ) -> tuple[ShownView, ...]:
        """Every view of these entities at `time_us`, without the events of that transaction. Raises StoreError."""
        named = {name: entities.get(name, NO_ENTITY) for name in self._set.entities}
        shown = []
        for plan in self._plans:
            if plan.entity in entities:
                rejection = records.rejected.get(plan.name)
                shown.append(
                    plan.show(records.store, named, time_us, transaction_id)
                    if rejection is None
                    else plan.show_rejected(rejection.reason, str(rejection))
                )
        return tuple(shown)


def show_entity(feature_set: FeatureSet, store: Store, entity: str, entity_id: str, time_us: int) -> tuple[ShownView, ...]:
    """Every view of that entity at `time_us`, without a current transaction. Raises FeatureSetError for an unknown entity."""
    if entity not in feature_set.entities:
        hint = did_you_mean(entity, feature_set.entities)
        raise FeatureSetError(f"unknown entity{hint}; feature set {feature_set.name} has: {', '.join(feature_set.entities)}")
    entities = {entity: entity_id}
    return ShownViews(feature_set).show(store.records_of(compile_plan(feature_set), entities), entities, time_us)


# --- implementation ---


@dataclass(frozen=True)
class _Output:
    name: str
    definition: str
    dtype: str
    value_input: str | None  # None: a string, which no tensor can hold
    missing_input: str  # counts too are null where their record was left out


class _ViewPlan:
    """A plan with one view, every output of which is a model input."""

    def __init__(self, feature_set: FeatureSet, name: str) -> None:
        self.name = name
        self._view = feature_set.views[name]
        self.entity = self._view.entity
        self._builder = _core.PlanBuilder(feature_set.name, feature_set.version, feature_set.schema_hash)
        self._names = value_names(feature_set)
        self._inputs: list[tuple[str, int, str]] = []  # name, node, tensor type
        compiler = ViewCompiler(feature_set, self._builder)
        for entity in feature_set.entities:
            compiler.add_entity(entity)
        for feature in feature_set.request_features:
            compiler.add_request_feature(feature, required=False)
        if isinstance(self._view, d.AttributeView):
            index, outputs = compiler.add_attribute_view(name, self._view)
        else:
            index, outputs = compiler.add_window_view(name, self._view, includes_current=False)
        nodes = {output_name: self._builder.view_node(index, output, output_name) for output_name, output in outputs.items()}
        dtypes = value_dtypes(self._view, feature_set.request_features)
        definitions = describe_values(self._view)
        self._outputs = tuple(self._output(output, definitions[output], dtypes[output], nodes[output]) for output in outputs)
        self._add_inputs()
        try:
            self._plan = self._builder.build()
        except CoreError as error:
            raise FeatureSetError(f"feature set {feature_set.name}: {error.message}") from error

    def show(self, store: _core.EmbeddedStore, entities: dict[str, str], time_us: int, transaction_id: str) -> ShownView:
        row = _core.FeatureReader(self._plan, store).read(transaction_id, time_us, entities, {})
        if isinstance(row, _core.Refusal):
            raise StoreError(f"view {self.name} could not be read: {row.message}")
        (fold,) = row.views
        columns = input_columns(self._plan, np.frombuffer(row.row, np.uint8).reshape(1, -1))
        values = {name: column[0].item() for name, column in columns.items()}
        code = _core.CODE_TABLE[fold.rejected]
        return ShownView(
            self.name,
            self.entity,
            fold.found,
            fold.age_us if fold.found else None,
            fold.stale,
            fold.saturated,
            fold.approximate,
            code.reason if fold.rejected else "",
            code.message if fold.rejected else "",
            tuple(_value_of(output, values) for output in self._outputs),
        )

    def show_rejected(self, reason: str, detail: str) -> ShownView:
        """A record that was left out: everything it would say is null."""
        values = tuple(ShownValue(o.name, o.definition, o.dtype, None, is_null=True) for o in self._outputs)
        return ShownView(
            self.name,
            self.entity,
            is_found=False,
            age_us=None,
            is_stale=False,
            is_saturated=False,
            is_approximate=False,
            rejected_reason=reason,
            rejected_detail=detail,
            values=values,
        )

    def _output(self, name: str, definition: str, dtype: str, node: int) -> _Output:
        return _Output(name, definition, dtype, self._value_input(node, dtype), self._missing_input(node))

    def _value_input(self, node: int, dtype: str) -> str | None:
        if dtype == "string":
            return None
        name = f"value_{len(self._inputs)}"
        self._inputs.append((name, node, "int64" if dtype == "time" else dtype))
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


def _value_of(output: _Output, values: dict[str, Any]) -> ShownValue:
    is_null = bool(values[output.missing_input])
    value = None if is_null or output.value_input is None else values[output.value_input]
    return ShownValue(output.name, output.definition, output.dtype, value, is_null)
