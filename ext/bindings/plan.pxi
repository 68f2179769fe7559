# Feature plans: collected by PlanBuilder, compiled by the core, read by everyone else.

DecodedTransaction = _namedtuple(
    "DecodedTransaction",
    "transaction_id event_time_us entities features is_fraud model version priority include_features include_timings "
    "is_label label_time_us",
    defaults=(False, None),
    module="assay._core",
)


@cython.final
cdef class PlanBuilder:
    """Collects a feature plan. Every method returns the index that later calls use; build() checks everything."""

    cdef PlanSpec _spec
    cdef bint _is_built

    def __cinit__(self, feature_set: str, version: str, schema_hash: str):
        self._is_built = False
        self._spec.feature_set = string_of_str(feature_set)
        self._spec.feature_set_version = string_of_str(version)
        self._spec.schema_hash = string_of_str(schema_hash)

    cdef int _check_open(self) except -1:
        if self._is_built:
            raise RuntimeError("build() has been called; a new plan needs a new PlanBuilder")
        return 0

    cdef ViewSpec* _view(self, Py_ssize_t view, ViewKind kind) except NULL:
        self._check_open()
        if not 0 <= view < <Py_ssize_t>self._spec.views.size():
            raise IndexError(f"view {view} of {self._spec.views.size()}")
        cdef ViewSpec* spec = &self._spec.views[view]
        if spec.kind != kind:
            raise ValueError(f"view {view} is of the other kind")
        return spec

    cdef const RequestFeatureSpec* _feature(self, Py_ssize_t feature) except NULL:
        self._check_open()
        if not 0 <= feature < <Py_ssize_t>self._spec.request_features.size():
            raise IndexError(f"feature {feature} of {self._spec.request_features.size()}")
        return &self._spec.request_features[feature]

    def entity(self, name: str) -> int:
        self._check_open()
        self._spec.entities.push_back(string_of_str(name))
        return self._spec.entities.size() - 1

    def request_feature(
        self,
        name: str,
        dtype: int,
        *,
        required: bool,
        accept_int: bool = False,
        default: Scalar | None = None,
        minimum: float | int | None = None,
        maximum: float | int | None = None,
    ) -> int:
        """Declares a feature of the request and returns its *feature* index (see feature_node)."""
        self._check_open()
        cdef RequestFeatureSpec feature
        feature.name = string_of_str(name)
        feature.dtype = <Dtype>enum_number(dtype, DTYPES, f"feature {name!r}: dtype")
        feature.required = required
        feature.accept_int = accept_int
        feature.default_value = typed_value(default, feature.dtype, f"feature {name!r}: default")
        feature.minimum = typed_value(minimum, feature.dtype, f"feature {name!r}: minimum")
        feature.maximum = typed_value(maximum, feature.dtype, f"feature {name!r}: maximum")
        if isinstance(default, str):
            feature.default_text = string_of_str(default)   # compile() points default_value at it
        self._spec.request_features.push_back(move(feature))
        return self._spec.request_features.size() - 1

    def window_view(
        self,
        name: str,
        entity: int,
        view_hash: bytes,
        *,
        delay_us: int,
        uses_labels: bool,
        includes_current: bool,
        exact_events_max: int,
        lateness_us: int,
    ) -> int:
        cdef ViewSpec view
        view.kind = ViewKind.kWindow
        view.delay_us = delay_us
        view.uses_labels = uses_labels
        view.includes_current = includes_current
        view.exact_events_max = exact_events_max
        view.lateness_us = lateness_us
        return self._add_view(view, name, entity, view_hash)

    cdef object _add_view(self, ViewSpec& view, str name, uint16_t entity, bytes view_hash):
        self._check_open()
        if len(view_hash) != 32:
            raise ValueError(f"view {name!r}: view_hash has {len(view_hash)} bytes, expected 32")
        view.name = string_of_str(name)
        view.entity_index = entity
        set_view_hash(view, PyBytes_AS_STRING(view_hash))
        self._spec.views.push_back(view)
        return self._spec.views.size() - 1

    cdef object _add_column(self, Py_ssize_t view, ColumnSource source, uint16_t source_index, Dtype dtype):
        cdef ViewSpec* spec = self._view(view, ViewKind.kWindow)
        cdef ColumnSpec column
        column.source = source
        column.source_index = source_index
        column.dtype = dtype
        spec.columns.push_back(column)
        return spec.columns.size() - 1

    def column_of_feature(self, view: int, feature: int) -> int:
        return self._add_column(view, ColumnSource.kRequestFeature, feature, self._feature(feature).dtype)

    def column_of_entity(self, view: int, entity: int) -> int:
        return self._add_column(view, ColumnSource.kEntity, entity, Dtype.kString)

    def column_of_event_time(self, view: int) -> int:
        return self._add_column(view, ColumnSource.kEventTime, 0, Dtype.kInt64)

    def aggregate(self, view: int, op: int, column: int, window_us: int) -> int:
        """Adds an aggregate and returns its *output* index. column: -1 none, -2 the label."""
        cdef ViewSpec* spec = self._view(view, ViewKind.kWindow)
        cdef AggregateSpec aggregate
        aggregate.op = <AggregateOp>enum_number(op, AGGREGATES, "aggregate")
        aggregate.column = column
        aggregate.window_us = window_us
        spec.aggregates.push_back(aggregate)
        return spec.aggregates.size() - 1

    def attribute_view(self, name: str, entity: int, view_hash: bytes, *, max_age_us: int) -> int:
        cdef ViewSpec view
        view.kind = ViewKind.kAttributes
        view.max_age_us = max_age_us
        return self._add_view(view, name, entity, view_hash)

    def attribute(self, view: int, name: str, dtype: int) -> int:
        cdef ViewSpec* spec = self._view(view, ViewKind.kAttributes)
        cdef AttributeSpec attribute
        attribute.name = string_of_str(name)
        attribute.dtype = <Dtype>enum_number(dtype, DTYPES, f"attribute {name!r}: dtype")
        spec.attributes.push_back(move(attribute))
        return spec.attributes.size() - 1

    cdef object _add_node(self, NodeSpec& node):
        self._check_open()
        self._spec.nodes.push_back(node)
        return self._spec.nodes.size() - 1

    def event_time_node(self) -> int:
        cdef NodeSpec node
        node.kind = NodeKind.kEventTime
        node.name = string(b"event_time")
        return self._add_node(node)

    def feature_node(self, feature: int) -> int:
        cdef NodeSpec node
        node.kind = NodeKind.kRequestFeature
        node.name = self._feature(feature).name
        node.source_index = feature
        return self._add_node(node)

    def view_node(self, view: int, output: int, name: str) -> int:
        cdef NodeSpec node
        node.kind = NodeKind.kView
        node.name = string_of_str(name)
        node.source_index = view
        node.output_index = output
        return self._add_node(node)

    def derived_node(
        self, name: str, op: int, arguments: Sequence[int], constants: Sequence[float] = (), vocabulary: Sequence[str] = ()
    ) -> int:
        cdef NodeSpec node
        node.kind = NodeKind.kDerived
        node.name = string_of_str(name)
        node.derived.op = <DerivedOp>enum_number(op, OPERATIONS, f"node {name!r}: operation")
        for argument in arguments:
            node.derived.arguments.push_back(<uint16_t>argument)
        for constant in constants:
            node.derived.constants.push_back(<double>constant)
        for word in vocabulary:
            node.derived.vocabulary.push_back(string_of_str(word))
        return self._add_node(node)

    def tensor(self, name: str, tensor_type: int, element_count: int) -> int:
        self._check_open()
        cdef TensorSpec tensor
        tensor.name = string_of_str(name)
        tensor.type = <TensorType>enum_number(tensor_type, TENSOR_TYPES, f"tensor {name!r}: type")
        tensor.element_count = element_count
        self._spec.tensors.push_back(move(tensor))
        return self._spec.tensors.size() - 1

    def model_input(self, name: str, node: int, tensor: int, element: int, when_null: int, default: float = 0.0) -> None:
        self._check_open()
        cdef InputSpec input
        input.name = string_of_str(name)
        input.node = node
        input.tensor = tensor
        input.element = element
        input.when_null = <WhenNull>enum_number(when_null, WHEN_NULL, f"model input {name!r}: when_null")
        input.default_value = default
        self._spec.inputs.push_back(move(input))

    def build(self) -> FeaturePlan:
        """Compiles. Raises CoreError PLAN_INVALID naming what is wrong. The builder must not be used again."""
        self._check_open()
        self._is_built = True
        cdef FeaturePlan plan = FeaturePlan.__new__(FeaturePlan, _FACTORY)
        cdef shared_ptr[const CFeaturePlan] compiled
        check_status(CFeaturePlan.compile(move(self._spec), &compiled))
        plan._set(compiled)
        return plan


@cython.final
cdef class FeaturePlan:
    """A compiled feature set. Immutable. Made by PlanBuilder.build()."""

    cdef shared_ptr[const CFeaturePlan] _plan
    cdef readonly str feature_set
    cdef readonly str version
    cdef readonly str schema_hash
    cdef readonly tuple entity_names
    cdef readonly tuple feature_names
    cdef readonly tuple input_names
    cdef readonly tuple view_names
    cdef readonly tuple view_entities
    cdef readonly tuple view_horizons_us
    cdef readonly uint32_t row_bytes
    cdef readonly tuple segments
    cdef readonly tuple input_elements

    def __cinit__(self, key=None):
        require_factory(key, "FeaturePlan", "PlanBuilder.build()")

    cdef int _set(self, const shared_ptr[const CFeaturePlan]& plan) except -1:
        cdef const PlanSpec* spec = &plan.get().spec()
        cdef const vector[TensorSegment]* segments = &plan.get().segments()
        cdef size_t i
        self._plan = plan
        self.feature_set = str_of_string(spec.feature_set)
        self.version = str_of_string(spec.feature_set_version)
        self.schema_hash = str_of_string(spec.schema_hash)
        self.entity_names = tuple([str_of_string(spec.entities[i]) for i in range(spec.entities.size())])
        self.feature_names = tuple([str_of_string(spec.request_features[i].name) for i in range(spec.request_features.size())])
        self.input_names = tuple([str_of_string(spec.inputs[i].name) for i in range(spec.inputs.size())])
        self.view_names = tuple([str_of_string(spec.views[i].name) for i in range(spec.views.size())])
        self.view_entities = tuple([self.entity_names[spec.views[i].entity_index] for i in range(spec.views.size())])
        self.view_horizons_us = tuple([plan.get().views()[i].horizon_us() for i in range(spec.views.size())])
        self.row_bytes = plan.get().row_bytes()
        self.segments = tuple([
            (
                str_of_string(spec.tensors[i].name), <int>spec.tensors[i].type,
                dereference(segments)[i].offset_bytes, spec.tensors[i].element_count,
            )
            for i in range(spec.tensors.size())
        ])
        self.input_elements = tuple([(spec.inputs[i].tensor, spec.inputs[i].element) for i in range(spec.inputs.size())])
        return 0

    @staticmethod
    def of_tensors(tensors: Sequence[tuple[str, int, int]]) -> FeaturePlan:
        """The plan of a model without a feature set: (name, tensor type, elements of a row) of each of its inputs."""
        cdef FeaturePlan plan = FeaturePlan.__new__(FeaturePlan, _FACTORY)
        cdef vector[TensorSpec] specs
        cdef TensorSpec spec
        cdef shared_ptr[const CFeaturePlan] made
        for name, tensor_type, elements in tensors:
            spec.name = string_of_str(name)
            spec.type = <TensorType>enum_number(tensor_type, TENSOR_TYPES, f"tensor {name!r}: type")
            spec.element_count = elements
            specs.push_back(spec)
        check_status(CFeaturePlan.of_tensors(specs, &made))
        plan._set(made)
        return plan

    @property
    def is_tensors_only(self) -> bool:
        """Whether it is of a model without a feature set."""
        return bool(self._plan.get().is_tensors_only())

    def decode_infer_request(
        self, data: bytes, rows_max: int, inputs: Sequence[InferShape] = (), outputs: Sequence[InferShape] = ()
    ) -> DecodedInfer | Refusal:
        """Decodes an inference.ModelInferRequest as the engine would. For tests and tools; the engine never calls it."""
        return _decode_infer(self, data, rows_max, inputs, outputs)

    def accepted_ints(self) -> dict[str, int]:
        """How many values came as an int64 and were taken, by feature that accepts those."""
        cdef size_t i
        cdef const PlanSpec* spec = &self._plan.get().spec()
        return {
            self.feature_names[i]: self._plan.get().accepted_ints().count(i)
            for i in range(spec.request_features.size()) if spec.request_features[i].accept_int
        }

    def decode_score_request(self, data: bytes) -> DecodedTransaction | Refusal:
        """Decodes a ScoreRequest as the engine would. For tests and tools; the engine never calls it."""
        cdef unique_ptr[TransactionScan] scan = make_unique[TransactionScan]()
        cdef Status status = scan_score_request(view_of_bytes(data), dereference(scan))
        if not status.ok():
            return refusal_of_status(status, NULL)
        return self._decode_scan(dereference(scan), TransactionUse.kScore)

    def decode_event(self, data: bytes) -> DecodedTransaction | Refusal:
        """Decodes an assay.v1.Event."""
        cdef unique_ptr[TransactionScan] scan = make_unique[TransactionScan]()
        cdef Status status = scan_event(view_of_bytes(data), dereference(scan))
        if not status.ok():
            return refusal_of_status(status, NULL)
        return self._decode_scan(dereference(scan), TransactionUse.kEvent)

    def decode_event_json(self, line: bytes) -> DecodedTransaction | Refusal:
        """Decodes one JSON line, strictly."""
        cdef unique_ptr[Transaction] transaction = make_unique[Transaction]()
        cdef string scratch
        cdef Violations violations
        if not decode_event_json(view_of_bytes(line), dereference(self._plan), dereference(transaction), scratch, violations):
            return refusal_of_violations(violations)
        return self._decoded(dereference(transaction), "", "", 0, False, False)

    def label_violations(self, line: bytes) -> tuple[tuple[str, str, str], ...]:
        """(reason, field, description) of all that is wrong with a JSON label; empty: nothing."""
        cdef unique_ptr[Transaction] label = make_unique[Transaction]()
        cdef string scratch
        cdef Violations violations
        decode_label_json(view_of_bytes(line), dereference(self._plan), dereference(label), scratch, violations)
        return violations_of(violations.list())

    cdef object _decode_scan(self, const TransactionScan& scan, TransactionUse use):
        cdef unique_ptr[Transaction] transaction = make_unique[Transaction]()
        cdef Violations violations
        if not decode_transaction(scan, dereference(self._plan), use, dereference(transaction), violations):
            return refusal_of_violations(violations)
        return self._decoded(
            dereference(transaction), str_of_view(scan.model), str_of_view(scan.version), scan.priority,
            bool(scan.include_features), bool(scan.include_timings),
        )

    cdef object _decoded(
        self, Transaction& transaction, str model, str version, int priority, bint include_features, bint include_timings
    ):
        cdef size_t i
        entities = {}
        for i in range(<size_t>len(self.entity_names)):
            if transaction.entities[i].size() != 0:
                entities[self.entity_names[i]] = str_of_view(transaction.entities[i])
        features = {}
        for i in range(<size_t>len(self.feature_names)):
            if not transaction.features[i].is_null():
                features[self.feature_names[i]] = scalar_of_value(transaction.features[i])
        is_fraud = None if transaction.is_fraud < 0 else transaction.is_fraud == 1
        return DecodedTransaction(
            str_of_view(transaction.id), transaction.event_time_us, entities, features, is_fraud,
            model, version, priority, include_features, include_timings, transaction.is_label,
            None if transaction.label_time_us == kNoTime else transaction.label_time_us,
        )
