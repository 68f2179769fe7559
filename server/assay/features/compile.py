"""A feature set compiled for the core: names become indices, the core checks types and lays out the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay import _core
from assay.errors import CoreError, FeatureSetError
from assay.features import definitions as d
from assay.features.checks import derived_order, source_of_missing, value_names
from assay.features.columns import Column, columns_of, stored_attributes
from assay.features.feature_set import FeatureSet
from assay.features.hashes import typed
from assay.features.problems import did_you_mean

NO_COLUMN, LABEL_COLUMN = -1, -2


@dataclass(frozen=True)
class TensorMapping:
    """One ONNX input of a model: its elements, in order, are these model inputs."""

    name: str
    dtype: str  # float32, float64, int32, int64 or bool
    inputs: tuple[str, ...]


def default_tensors(feature_set: FeatureSet) -> tuple[TensorMapping, ...]:
    """One tensor "input" with all inputs in order; where inputs have several types one for each: "input_float32", ..."""
    by_dtype: dict[str, list[str]] = {}
    for model_input in feature_set.model_inputs:
        by_dtype.setdefault(model_input.dtype, []).append(model_input.name)
    is_one = len(by_dtype) == 1
    return tuple(TensorMapping("input" if is_one else f"input_{dtype}", dtype, tuple(names)) for dtype, names in by_dtype.items())


def compile_plan(feature_set: FeatureSet, tensors: Sequence[TensorMapping] | None = None) -> _core.FeaturePlan:
    """Compiles. Raises FeatureSetError: a type does not fit its operation, or `tensors` lacks an input or has one twice."""
    mapping = default_tensors(feature_set) if tensors is None else tuple(tensors)
    _check_tensors(feature_set, mapping)
    try:
        return _Compiler(feature_set).compile(mapping)
    except CoreError as error:
        raise FeatureSetError(f"feature set {feature_set.name}: {error.message}") from error


def compile_request_plan(feature_set: FeatureSet) -> _core.FeaturePlan:
    """A plan that only decodes: entities and request features, none of them required, and no views."""
    builder = _core.PlanBuilder(feature_set.name, feature_set.version, feature_set.schema_hash)
    compiler = ViewCompiler(feature_set, builder)
    for entity in feature_set.entities:
        compiler.add_entity(entity)
    for name in feature_set.request_features:
        compiler.add_request_feature(name, required=False)
    tensor = builder.tensor("input", _core.TENSOR_TYPES["int64"], 1)  # a plan has one
    builder.model_input(d.EVENT_TIME, builder.event_time_node(), tensor, 0, _core.WHEN_NULL["error"])
    return builder.build()


# --- implementation ---


def _check_tensors(feature_set: FeatureSet, tensors: Sequence[TensorMapping]) -> None:
    names = [name for tensor in tensors for name in tensor.inputs]
    known = set(feature_set.input_names)
    for tensor in tensors:
        if tensor.dtype not in _core.TENSOR_TYPES:
            raise FeatureSetError(
                f"tensor {tensor.name}: unsupported type {tensor.dtype}; expected one of: {', '.join(_core.TENSOR_TYPES)}"
            )
    for name in names:
        if name not in known:
            raise FeatureSetError(f"tensors: {name} is no input of feature set {feature_set.name}{did_you_mean(name, known)}")
        if names.count(name) > 1:
            raise FeatureSetError(f"tensors: input {name} stands twice")
    missing = [name for name in feature_set.input_names if name not in set(names)]
    if missing:
        raise FeatureSetError(f"tensors: no tensor holds {', '.join(missing)} of feature set {feature_set.name}")


class ViewCompiler:
    """Adds entities, request features and views to a builder. Columns stand in the order that view_hash covers."""

    def __init__(self, feature_set: FeatureSet, builder: _core.PlanBuilder) -> None:
        self._feature_set = feature_set
        self._builder = builder
        self.entities: dict[str, int] = {}
        self.features: dict[str, int] = {}

    def add_entity(self, name: str) -> None:
        self.entities[name] = self._builder.entity(name)

    def add_request_feature(self, name: str, *, required: bool | None = None) -> None:
        """`required` overrides the file's."""
        feature = self._feature_set.request_features[name]
        self.features[name] = self._builder.request_feature(
            name,
            _core.DTYPES[feature.dtype],
            required=feature.is_required if required is None else required,
            accept_int=feature.accept_int,
            default=typed(feature.default, feature.dtype),
            minimum=_number(feature.minimum, feature.dtype),
            maximum=_number(feature.maximum, feature.dtype),
        )

    def add_window_view(self, name: str, view: d.WindowView, *, includes_current: bool) -> tuple[int, dict[str, int]]:
        """Index of the view, and of the output of each aggregate."""
        index = self._builder.window_view(
            name,
            self.entities[view.entity],
            self._feature_set.view_hash(name),
            delay_us=view.delay,
            uses_labels=view.labels,
            includes_current=includes_current,
            exact_events_max=view.exact_events_max,
            lateness_us=view.lateness,
        )
        columns = {column.name: self._column(index, column) for column in columns_of(view, self._feature_set.request_features)}
        outputs = {}
        for aggregate_name, aggregate in view.aggregates.items():
            column_index = (
                NO_COLUMN if aggregate.of is None else LABEL_COLUMN if aggregate.of == d.LABEL else columns[aggregate.of]
            )
            outputs[aggregate_name] = self._builder.aggregate(
                index, _core.AGGREGATES[aggregate.op], column_index, aggregate.window
            )
        return index, outputs

    def add_attribute_view(self, name: str, view: d.AttributeView) -> tuple[int, dict[str, int]]:
        """Index of the view, and of the output of each attribute."""
        index = self._builder.attribute_view(
            name, self.entities[view.entity], self._feature_set.view_hash(name), max_age_us=view.max_age or 0
        )
        outputs = {
            attribute: self._builder.attribute(index, attribute, stored_dtype(dtype))
            for attribute, dtype in stored_attributes(view).items()
        }
        return index, outputs

    def _column(self, view: int, column: Column) -> int:
        match column.source:
            case "feature":
                return self._builder.column_of_feature(view, self.features[column.name])
            case "entity":
                return self._builder.column_of_entity(view, self.entities[column.name])
            case "event_time":
                return self._builder.column_of_event_time(view)


def stored_dtype(dtype: str) -> int:
    """The core's number of a type of the file; a time is stored as int64 microseconds."""
    return _core.DTYPES["int64" if dtype == "time" else dtype]


def _number(value: float | None, dtype: str) -> float | int | None:
    return float(value) + 0.0 if value is not None and dtype == "float64" else value


class _Compiler:
    def __init__(self, feature_set: FeatureSet) -> None:
        self._set = feature_set
        self._builder = _core.PlanBuilder(feature_set.name, feature_set.version, feature_set.schema_hash)
        self._nodes: dict[str, int] = {}
        self._names = value_names(feature_set)
        self._hidden = 0

    def compile(self, tensors: Sequence[TensorMapping]) -> _core.FeaturePlan:
        views = ViewCompiler(self._set, self._builder)
        for entity in self._set.entities:
            views.add_entity(entity)
        for name in self._set.request_features:
            views.add_request_feature(name)
        outputs = []
        for name, view in self._set.views.items():
            if isinstance(view, d.AttributeView):
                outputs.append(views.add_attribute_view(name, view))
            else:
                outputs.append(views.add_window_view(name, view, includes_current=view.current == "include"))
        self._nodes[d.EVENT_TIME] = self._builder.event_time_node()
        for name, feature in views.features.items():
            self._nodes[name] = self._builder.feature_node(feature)
        for view_index, by_name in outputs:
            for name, output in by_name.items():
                self._nodes[name] = self._builder.view_node(view_index, output, name)
        for name in derived_order(self._set):
            self._nodes[name] = self._derived(name, self._set.derived[name])
        self._inputs(tensors)
        return self._builder.build()

    def _derived(self, name: str, feature: d.Derived) -> int:
        arguments = [self._nodes[argument] for argument in feature.arguments]
        constants: list[float] = []
        vocabulary: list[str] = []
        match feature:
            case d.Scale():
                constants = [float(feature.divide_by)]
            case d.IsNight():
                constants = [float(feature.first_hour), float(feature.last_hour)]
            case d.SpeedKmh():
                constants = [float(feature.seconds_min)]
            case d.Vocabulary():
                constants, vocabulary = [float(feature.unknown)], list(feature.words)
            case d.HashBucket():
                constants = [float(feature.buckets)]
            case d.Equals() if feature.value is not None:
                arguments.append(self._constant(feature.value))
        return self._builder.derived_node(name, _core.OPERATIONS[feature.op], arguments, constants, vocabulary)  # type: ignore[attr-defined]

    def _constant(self, value: str | float) -> int:
        if isinstance(value, str):
            return self._builder.derived_node(self._hidden_name(), _core.OPERATIONS["constant"], [], [], [value])
        return self._builder.derived_node(self._hidden_name(), _core.OPERATIONS["constant"], [], [float(value)])

    def _hidden_name(self) -> str:
        """A name for a value that the file does not name."""
        self._hidden += 1
        while f"hidden_{self._hidden}" in self._names:
            self._hidden += 1
        return f"hidden_{self._hidden}"

    def _inputs(self, tensors: Sequence[TensorMapping]) -> None:
        places: dict[str, tuple[int, int]] = {}
        for tensor in tensors:
            index = self._builder.tensor(tensor.name, _core.TENSOR_TYPES[tensor.dtype], len(tensor.inputs))
            places |= {name: (index, element) for element, name in enumerate(tensor.inputs)}
        for model_input in self._set.model_inputs:
            tensor_index, element = places[model_input.name]
            when_null, default = "error", 0.0
            if isinstance(model_input.when_null, d.NullDefault):
                when_null, default = "default", float(model_input.when_null.default)
            elif model_input.when_null == "nan":
                when_null = "nan"
            node = self._node_of_input(model_input.value_name)
            self._builder.model_input(model_input.name, node, tensor_index, element, _core.WHEN_NULL[when_null], default)

    def _node_of_input(self, value_name: str) -> int:
        if value_name not in self._nodes:
            source = self._nodes[source_of_missing(value_name)]
            self._nodes[value_name] = self._builder.derived_node(self._hidden_name(), _core.OPERATIONS["is_missing"], [source])
        return self._nodes[value_name]
