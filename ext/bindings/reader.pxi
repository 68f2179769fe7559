# What the model would see: one transaction's row, for tools and tests. The engine reads rows itself.

ReadRow = _namedtuple("ReadRow", "row missing imputed views", module="assay._core")
ViewFold = _namedtuple("ViewFold", "view found stale saturated approximate rejected age_us", module="assay._core")


@cython.final
cdef class FeatureReader:
    """One plan bound to one store, for reading. Keeps both alive. `store` None: a store elsewhere, whose records the engine asks
    for (Engine.take_lookups); then `near_ages_ms` says for each view how old a record of the engine's near-cache may be."""

    cdef shared_ptr[const CFeatureReader] _reader
    cdef readonly FeaturePlan plan
    cdef EmbeddedStore _store

    def __cinit__(self, plan: FeaturePlan, store: EmbeddedStore | None, *, near_ages_ms: Sequence[int] = ()):
        cdef vector[int64_t] near_ages_ns
        self.plan = plan
        self._store = store
        ages = tuple(near_ages_ms)
        if ages and (store is not None or len(ages) != len(plan.view_names) or min(ages) < 0):
            raise ValueError(f"near_ages_ms: expected {len(plan.view_names)}, one a view, not negative, and a store elsewhere")
        for age in ages:
            near_ages_ns.push_back(age * 1_000_000)
        if store is None:
            self._reader = CFeatureReader.create_remote(plan._plan, near_ages_ns)
        else:
            check_status(CFeatureReader.create(plan._plan, store._store, &self._reader))

    cdef int _check_local(self) except -1:
        if self._store is None:
            raise ValueError("this reader's store is elsewhere: the engine reads its rows")
        return 0

    def read(
        self,
        transaction_id: str,
        event_time_us: int,
        entities: dict[str, str],
        features: dict[str, Scalar],
    ) -> ReadRow | Refusal:
        """The model-input row of one transaction: what the model would see. For tools and tests."""
        self._check_local()
        cdef unique_ptr[Transaction] transaction = make_unique[Transaction]()
        cdef Violations violations
        dereference(transaction).clear(<size_t>len(self.plan.entity_names), <size_t>len(self.plan.feature_names))
        dereference(transaction).id = view_of_str(transaction_id)
        dereference(transaction).event_time_us = event_time_us
        if not kTimeUsMin <= dereference(transaction).event_time_us <= kTimeUsMax:
            violations.add(Code.kBadTimestamp, string(b"event_time"), string(b"expected a time of the years 0001 to 9999"))
        _take_entities(dereference(transaction), self.plan, entities, violations)
        _take_features(dereference(transaction), self.plan, features, violations)
        check_required(dereference(self.plan._plan), TransactionUse.kScore, dereference(transaction), violations)
        if not violations.empty():
            return refusal_of_violations(violations)
        return self._read(dereference(transaction))

    def measure(self, messages: Sequence[bytes], rounds: int) -> int:
        """Nanoseconds that scan, decode, fold and assembly of every message take in all, `rounds` times over. For benchmarks."""
        self._check_local()
        cdef list held = list(messages)   # the views point into these
        cdef vector[string_view] views
        cdef uint32_t count = rounds
        cdef int64_t total_ns = 0
        cdef Status status
        for message in held:
            views.push_back(view_of_bytes(message))
        with nogil:
            status = measure_rows(dereference(self._reader), views, count, &total_ns)
        check_status(status)
        return total_ns

    cdef object _read(self, const Transaction& transaction):
        cdef size_t input_words = (<size_t>len(self.plan.input_names) + 63) // 64
        cdef vector[uint64_t] row, missing, imputed   # uint64: rows are 8-aligned
        cdef vector[FoldResult] views
        cdef unique_ptr[ReadScratch] scratch = make_unique[ReadScratch]()
        cdef Violations violations
        cdef RowOut out
        row.resize(self.plan.row_bytes // 8)
        missing.resize(input_words)
        imputed.resize(input_words)
        views.resize(<size_t>len(self.plan.view_names))
        out.row = <uint8_t*>row.data()
        out.missing = missing.data()
        out.imputed = imputed.data()
        out.views = views.data()
        if not self._reader.get().read(transaction, dereference(scratch), out, violations):
            return refusal_of_violations(violations)
        return ReadRow(
            PyBytes_FromStringAndSize(<char*>row.data(), self.plan.row_bytes),
            self._inputs_of(missing), self._inputs_of(imputed), self._folds_of(views),
        )

    cdef tuple _inputs_of(self, const vector[uint64_t]& bits):
        names = self.plan.input_names
        return tuple([names[i] for i in range(len(names)) if bits[i // 64] >> (i % 64) & 1])

    cdef tuple _folds_of(self, const vector[FoldResult]& views):
        cdef size_t i
        return tuple([
            ViewFold(
                self.plan.view_names[i], bool(views[i].is_found), bool(views[i].is_stale), bool(views[i].is_saturated),
                bool(views[i].is_approximate), <int>views[i].rejected, views[i].age_us,
            )
            for i in range(views.size())
        ])


# The views and values point into the dict's own strings: REQUIRES that the dict outlives the transaction.
cdef int _take_entities(Transaction& transaction, FeaturePlan plan, dict entities, Violations& violations) except -1:
    cdef int index
    for name, entity_id in entities.items():
        index = plan._plan.get().find_entity(view_of_str(name))
        if index < 0:
            violations.add(Code.kUnknownEntity, entity_path(view_of_str(name)), string(b"is not declared in the feature set"))
        else:
            transaction.entities[<size_t>index] = view_of_str(entity_id)
    return 0


cdef int _take_features(Transaction& transaction, FeaturePlan plan, dict features, Violations& violations) except -1:
    cdef int index
    cdef Value value
    cdef cbool overflow
    for name, scalar in features.items():
        index = plan._plan.get().find_feature(view_of_str(name))
        overflow = False
        value = value_of_scalar(scalar, &overflow)
        if index < 0:
            violations.add(Code.kUnknownFeature, feature_path(view_of_str(name)), string(b"is not declared in the feature set"))
        elif overflow:
            violations.add(Code.kIntegerOverflow, feature_path(view_of_str(name)), string(b"is an integer past 64 bits"))
            transaction.features[<size_t>index] = value
        else:
            # Taken even if it is wrong: a wrong feature is not a missing one as well.
            check_value(plan._plan.get().spec().request_features[index], value, violations)
            transaction.features[<size_t>index] = value
    return 0
