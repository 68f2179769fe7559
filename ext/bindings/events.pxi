# Events and attributes into the store; files of events, sorted, applied and replayed.

IngestReport = _namedtuple(
    "IngestReport", "event_count recorded_count duplicate_count late_count refused_count refused_code", module="assay._core"
)
RecordRef = _namedtuple("RecordRef", "key view_index entity_id", module="assay._core")
EventRejection = _namedtuple("EventRejection", "line offset_bytes transaction_id violations", module="assay._core")


# These three are outcomes of a write, not refusals: the caller counts them.
cdef inline cbool is_counted(Code code) noexcept nogil:
    return code == Code.kOk or code == Code.kEventDuplicate or code == Code.kEventTooLate


# Places of messages, 16 bytes each (_core.pyi); null without. Valid as long as `places`.
cdef const CFence* places_of(bytes places, size_t count) except? NULL:
    if places is None:
        return NULL
    if <size_t>len(places) != count * sizeof(CFence):
        raise ValueError(f"places: expected {count} of {sizeof(CFence)} bytes, not {len(places)} bytes")
    return <const CFence*>PyBytes_AS_STRING(places)


@cython.final
cdef class EventWriter:
    """One plan bound to one store, for writing. Keeps both alive."""

    cdef shared_ptr[const CEventWriter] _writer
    cdef FeaturePlan _plan
    cdef EmbeddedStore _store

    def __cinit__(
        self,
        plan: FeaturePlan,
        store: EmbeddedStore,
        *,
        ahead_us_max: int = kAheadUsMax,
        applies_late: bool = False,
        views: Sequence[str] | None = None,
    ):
        cdef CWriterOptions options
        cdef Py_ssize_t i
        self._plan = plan
        self._store = store
        options.ahead_us_max = ahead_us_max
        options.late = CLateEvents.kApply if applies_late else CLateEvents.kRefuse
        if views is not None:
            if unknown := sorted(set(views) - set(plan.view_names)):
                raise ValueError(f"no view {unknown[0]!r} in feature set {plan.feature_set!r}; its views are {plan.view_names}")
            for i in range(len(plan.view_names)):
                options.left_out[i] = plan.view_names[i] not in views
        check_status(CEventWriter.create(plan._plan, store._store, options, &self._writer))

    def record_events(self, message: bytes) -> list[tuple[int, str, Refusal | None]] | Refusal:
        """Applies one RecordEventsRequest. One (code, transaction_id, refusal) an event: OK, EVENT_DUPLICATE, EVENT_TOO_LATE or a
        refusal. Releases the GIL."""
        cdef vector[string_view] events
        cdef vector[Status] statuses
        cdef vector[Violations] violations
        cdef vector[string_view] ids   # into `message`
        cdef Status status
        cdef size_t i
        cdef string_view data = view_of_bytes(message)
        with nogil:
            status = scan_record_events_request(data, events)
            if status.ok():
                statuses.resize(events.size())
                violations.resize(events.size())
                ids.resize(events.size())
                self._record(events, statuses, violations, ids)
        if not status.ok():
            return refusal_of_status(status, NULL)
        outcomes = []
        for i in range(events.size()):
            refusal = None if is_counted(statuses[i].code) else refusal_of_status(statuses[i], &violations[i])
            outcomes.append((<int>statuses[i].code, str_of_view(ids[i]), refusal))
        return outcomes

    cdef void _record(
        self,
        const vector[string_view]& events,
        vector[Status]& statuses,
        vector[Violations]& violations,
        vector[string_view]& ids,
    ) noexcept nogil:
        cdef unique_ptr[TransactionScan] scan = make_unique[TransactionScan]()
        cdef unique_ptr[Transaction] transaction = make_unique[Transaction]()
        cdef const CFeaturePlan* plan = self._plan._plan.get()
        cdef cbool is_valid
        cdef size_t i
        for i in range(events.size()):
            statuses[i] = scan_event(events[i], dereference(scan))
            if not statuses[i].ok():
                continue
            ids[i] = dereference(scan).transaction_id
            is_valid = decode_transaction(
                dereference(scan), dereference(plan), TransactionUse.kEvent, dereference(transaction), violations[i]
            )
            if is_valid:
                dereference(plan).accepted_ints().add(dereference(transaction).accepted_ints)
            statuses[i].code = self._writer.get().write(dereference(transaction)) if is_valid else Code.kInvalidRequest

    def write_json(self, line: bytes) -> tuple[int, Refusal | None]:
        """Applies one JSON event."""
        cdef unique_ptr[Transaction] transaction = make_unique[Transaction]()
        cdef string scratch
        cdef Violations violations
        cdef const CFeaturePlan* plan = self._plan._plan.get()
        if not decode_event_json(view_of_bytes(line), dereference(plan), dereference(transaction), scratch, violations):
            return <int>Code.kInvalidRequest, refusal_of_violations(violations)
        dereference(plan).accepted_ints().add(dereference(transaction).accepted_ints)
        cdef Code code = self._writer.get().write(dereference(transaction))
        return <int>code, None if is_counted(code) else refusal_of_status(Status(code), NULL)

    def write_label(self, line: bytes, place: bytes | None = None) -> int:
        """Puts a JSON label on the event that it repeats. Returns the code: OK, EVENT_DUPLICATE, EVENT_TOO_LATE,
        EVENT_UNKNOWN, INVALID_REQUEST, or why the store said no."""
        cdef const CFence* known = places_of(place, 1)
        cdef unique_ptr[Transaction] label = make_unique[Transaction]()
        cdef string scratch
        cdef Violations violations
        cdef const CFeaturePlan* plan = self._plan._plan.get()
        if not decode_label_json(view_of_bytes(line), dereference(plan), dereference(label), scratch, violations):
            return <int>Code.kInvalidRequest
        if known != NULL:
            dereference(label).place = dereference(known)
        return <int>self._writer.get().write(dereference(label))

    def write_attributes(self, view: str, entity_id: str, time_us: int, values: Sequence[Scalar | None]) -> int:
        """Sets one entity's attributes, in the view's order and declared types. Returns the code: OK, EVENT_DUPLICATE,
        EVENT_TOO_LATE, or why nothing changed."""
        cdef size_t view_index = self._attribute_view(view)
        cdef const ViewSpec* spec = &self._plan._plan.get().spec().views[view_index]
        cdef vector[Value] row
        cdef size_t i
        kept = tuple(values)   # the values point into its strings
        if <size_t>len(kept) != spec.attributes.size():
            raise ValueError(f"view {view!r} has {spec.attributes.size()} attributes, not {len(kept)}")
        for i in range(spec.attributes.size()):
            what = f"view {view!r}, attribute {str_of_string(spec.attributes[i].name)!r}"
            row.push_back(typed_value(kept[i], spec.attributes[i].dtype, what))
        return <int>self._writer.get().write_attributes(view_index, view_of_str(entity_id), time_us, row.data())

    def records_of_events(self, message: bytes) -> list[RecordRef]:
        """The records that record_events(message) would change, each once. Bad events have none. Releases the GIL."""
        cdef vector[string_view] events
        cdef vector[CRecordRef] records
        cdef string_view data = view_of_bytes(message)
        with nogil:
            if scan_record_events_request(data, events).ok():
                self._add_records(events, records)
        return _records_of(records)

    def records_of_label(self, line: bytes) -> list[RecordRef]:
        """The records that write_label(line) may change. A bad label has none."""
        cdef unique_ptr[Transaction] label = make_unique[Transaction]()
        cdef string scratch
        cdef Violations violations
        cdef vector[CRecordRef] records
        cdef const CFeaturePlan* plan = self._plan._plan.get()
        if decode_label_json(view_of_bytes(line), dereference(plan), dereference(label), scratch, violations):
            self._writer.get().add_records_of(dereference(label), &records)
        return _records_of(records)

    cdef void _add_records(self, const vector[string_view]& events, vector[CRecordRef]& records) noexcept nogil:
        cdef unique_ptr[TransactionScan] scan = make_unique[TransactionScan]()
        cdef unique_ptr[Transaction] transaction = make_unique[Transaction]()
        cdef Violations violations
        cdef size_t i
        for i in range(events.size()):
            if not scan_event(events[i], dereference(scan)).ok():
                continue
            if decode_transaction(
                dereference(scan), dereference(self._plan._plan), TransactionUse.kEvent, dereference(transaction), violations
            ):
                self._writer.get().add_records_of(dereference(transaction), &records)
            violations.clear()

    def record_of(self, view: str, entity_id: str) -> RecordRef:
        """One entity's record in a view of the plan."""
        if view not in self._plan.view_names:
            raise ValueError(f"no view {view!r} in feature set {self._plan.feature_set!r}; its views are {self._plan.view_names}")
        cdef size_t index = self._plan.view_names.index(view)
        return _record_of(self._writer.get().record_of(index, view_of_str(entity_id)))

    def put_record(self, record: RecordRef, sealed: bytes) -> int:
        """Takes a record of a remote store into this one, after all its checks. Returns the code: OK, RECORD_..., STORE_FULL."""
        return <int>self._writer.get().put_record(record.view_index, view_of_str(record.entity_id), view_of_bytes(sealed))

    def take_changed_record(self, record: RecordRef, before: bytes | None) -> bytes | None:
        """The record, sealed with the time, if it says something else than `before` (None: there was none); else None."""
        cdef string sealed
        cdef string_view known
        if before is not None:
            known = view_of_bytes(before)
        if not self._writer.get().take_changed_record(
            record.view_index, view_of_str(record.entity_id), known, wall_now_us(), &sealed
        ):
            return None
        return bytes_of_string(sealed)

    cdef size_t _attribute_view(self, str view) except? 0:
        cdef const PlanSpec* spec = &self._plan._plan.get().spec()
        cdef size_t i
        for i in range(spec.views.size()):
            if spec.views[i].kind == ViewKind.kAttributes and self._plan.view_names[i] == view:
                return i
        views = self._plan.view_names
        raise ValueError(f"no attribute view {view!r} in feature set {self._plan.feature_set!r}; its views are {views}")


@cython.final
cdef class EventLog:
    """Events of a file, sorted by (event_time, transaction_id). Memory: the file + 24 bytes an event."""

    cdef unique_ptr[CEventLog] _log
    cdef FeaturePlan _plan
    cdef object _lock         # the core's log is one thread's at a time; held while the GIL is not
    cdef bint _is_sorted
    cdef bint _has_places

    def __cinit__(self, plan: FeaturePlan, *, ahead_us_max: int = 0):
        self._plan = plan
        self._log.reset(new CEventLog(plan._plan, ahead_us_max))
        self._lock = _Lock()
        self._is_sorted = True
        self._has_places = False

    def __dealloc__(self):
        with nogil:
            self._log.reset()

    def append(self, lines: bytes, rejections_max: int = 100, *, places: bytes | None = None) -> None:
        """Decodes whole lines. Releases the GIL."""
        cdef string_view data = view_of_bytes(lines)
        cdef size_t count_max = rejections_max
        cdef const CFence* known = NULL
        if places is not None:
            known = places_of(places, lines.count(b"\n") + (not lines.endswith(b"\n")))
        with self._lock:
            if self._has_places != (places is not None) and self._log.get().event_count() > 0:
                raise ValueError("the events of one log have places, all or none")
            self._has_places = places is not None
            self._is_sorted = False
            with nogil:
                self._log.get().append(data, count_max, known)

    @property
    def event_count(self) -> int:
        with self._lock:
            return self._log.get().event_count()

    @property
    def rejected_count(self) -> int:
        with self._lock:
            return self._log.get().rejected_count()

    def rejections(self, start: int = 0) -> list[EventRejection]:
        """Those that append() kept, from the `start`-th on."""
        cdef const vector[CEventRejection]* rejections
        cdef size_t i, first = start
        with self._lock:
            rejections = &self._log.get().rejections()
            return [_rejection_of(dereference(rejections)[i]) for i in range(first, rejections.size())]

    def accepted_ints(self) -> dict[str, int]:
        """How many of the events that were taken had an int64 for a float64, by feature that accepts those."""
        cdef size_t i
        cdef const PlanSpec* spec = &self._plan._plan.get().spec()
        with self._lock:
            return {
                self._plan.feature_names[i]: self._log.get().accepted_ints(i)
                for i in range(spec.request_features.size()) if spec.request_features[i].accept_int
            }

    def sort(self) -> None:
        """Releases the GIL."""
        with self._lock:
            with nogil:
                self._log.get().sort()
            self._is_sorted = True

    cdef int _check_range(self, int64_t start, int64_t stop) except -1:
        if not self._is_sorted:
            raise ValueError("the log is not sorted: call sort() after the last append()")
        if not 0 <= start <= stop <= <int64_t>self._log.get().event_count():
            raise ValueError(f"events [{start}, {stop}) of {self._log.get().event_count()}")
        return 0

    cdef int _check_plan(self, FeaturePlan plan) except -1:
        if plan is not self._plan:
            raise ValueError("the log, the reader and the writer must share one FeaturePlan")
        return 0

    def records(self, writer: EventWriter, start: int, stop: int) -> list[RecordRef]:
        """The records that ingest() of the same events would change, each once. Releases the GIL."""
        cdef uint64_t first, last
        cdef vector[CRecordRef] records
        self._check_plan(writer._plan)
        with self._lock:
            self._check_range(start, stop)
            first, last = start, stop
            with nogil:
                self._log.get().add_records(dereference(writer._writer), first, last, &records)
        return _records_of(records)

    def position_at(self, time_us: int) -> int:
        """How many events are before `time_us`: the index of the first at or after it."""
        with self._lock:
            self._check_range(0, 0)
            return self._log.get().position_at(time_us)

    def ingest(self, writer: EventWriter, start: int, stop: int) -> IngestReport:
        """Applies events [start, stop). Releases the GIL."""
        cdef uint64_t first, last
        cdef CIngestReport report
        self._check_plan(writer._plan)
        with self._lock:
            self._check_range(start, stop)
            first, last = start, stop
            with nogil:
                self._log.get().ingest(dereference(writer._writer), first, last, &report)
        return _report_of(report)

    def replay(
        self, reader: FeatureReader, writer: EventWriter, start: int, stop: int, *, missing: NDArray[np.uint64] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64], IngestReport]:
        """Scores' rows, then applies, event by event. Returns rows (n, row_bytes), valid (n,), event times in microseconds (n,)
        and a report. `missing` (n, ceil(inputs / 64)) gets a bit an input: its source was null. Releases the GIL."""
        cdef uint64_t first, last
        cdef CIngestReport report
        import numpy as np
        self._check_plan(reader.plan)
        self._check_plan(writer._plan)
        with self._lock:
            self._check_range(start, stop)
            first, last = start, stop
            rows = np.zeros((last - first, self._plan.row_bytes), np.uint8)
            valid = np.zeros(last - first, np.bool_)
            times = np.zeros(last - first, np.int64)
            rows_memory, valid_memory, times_memory = _Memory(rows, True), _Memory(valid, True), _Memory(times, True)
            self._replay(
                reader, writer, first, last, rows_memory, valid_memory, times_memory, &report, self._mask_memory(missing, last - first)
            )
        return rows, valid, times, _report_of(report)

    cdef int _replay(
        self, FeatureReader reader, EventWriter writer, uint64_t first, uint64_t last,
        _Memory rows, _Memory valid, _Memory times, CIngestReport* report, _Memory missing,
    ) except -1:
        cdef uint64_t* mask = NULL
        if missing is not None:
            mask = <uint64_t*>missing.view.buf
        with nogil:
            self._log.get().replay(
                dereference(reader._reader), dereference(writer._writer), first, last,
                <uint8_t*>rows.view.buf, <uint8_t*>valid.view.buf, <int64_t*>times.view.buf, report, mask,
            )
        return 0

    cdef _Memory _mask_memory(self, object missing, uint64_t rows):
        if missing is None:
            return None
        expected = (rows, (len(self._plan.input_names) + 63) // 64)
        if missing.dtype != "uint64" or missing.shape != expected:
            raise ValueError(f"missing: expected uint64 of shape {expected}, not {missing.dtype} of {missing.shape}")
        return _Memory(missing, True)

    def transaction_ids(self, start: int, stop: int) -> list[str]:
        cdef uint64_t i
        with self._lock:
            self._check_range(start, stop)
            return [str_of_view(self._log.get().transaction_id(i)) for i in range(<uint64_t>start, <uint64_t>stop)]


cdef object _record_of(const CRecordRef& record):
    return RecordRef(bytes_of_string(record.key), record.view_index, str_of_string(record.entity_id))


cdef list _records_of(const vector[CRecordRef]& records):
    cdef dict found = {}
    cdef size_t i
    for i in range(records.size()):
        key = bytes_of_string(records[i].key)
        if key not in found:
            found[key] = RecordRef(key, records[i].view_index, str_of_string(records[i].entity_id))
    return list(found.values())


cdef object _rejection_of(const CEventRejection& rejection):
    violations = violations_of(rejection.violations)
    return EventRejection(rejection.line, rejection.offset_bytes, str_of_string(rejection.transaction_id), violations)


cdef object _report_of(const CIngestReport& report):
    return IngestReport(
        report.event_count, report.recorded_count, report.duplicate_count, report.late_count, report.refused_count,
        <int>report.refused_code,
    )
