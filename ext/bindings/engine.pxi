# The engine: requests in, answers out. The hot path is submit_score() and CompletionQueue.drain().

EngineStats = _namedtuple(
    "EngineStats",
    "accepted_rows answered_rows failed_rows cancelled_rows shed_rows refused_calls expired_rows defaulted_deadlines batch_count "
    "batched_rows retried_batches inline_rows inline_overruns degraded_rows sampled_rows dropped_sampled_rows "
    "lookup_batches lookup_given_up_rows lookup_unavailable_records lookup_rejected_records looking_up_rows slots slots_used slots_used_max queued_rows near_cache explain",
    module="assay._core",
)
NearCacheStats = _namedtuple(
    "NearCacheStats", "hits misses stale_records joined_rows evictions records bytes bytes_max", module="assay._core"
)
ExplainStats = _namedtuple("ExplainStats", "queued_rows threads asked_rows is_suspended", module="assay._core")
# Upper bounds of ShadowStats.differences, which has one bucket more (core/serving/shadow.h).
SHADOW_DIFFERENCE_BOUNDS = tuple(shadow_difference_bounds())
ShadowStats = _namedtuple(
    "ShadowStats",
    "model version share compared_rows failed_rows shed_rows held_bytes difference_sum differences decisions",
    module="assay._core",
)
Accepted = _namedtuple("Accepted", "call deadline_ns", module="assay._core")

# A shorter ModelInfer takes microseconds.
cdef size_t _KEPT_GIL_BYTES_MAX = 4096

# namedtuple's own __new__ is a Python function; this makes the same object at a third of the cost.
cdef object _tuple_new = tuple.__new__


@cython.final
cdef class ManualClock:
    """A clock that stands still until told. Must outlive the engine that uses it (the engine keeps it alive)."""

    cdef shared_ptr[CManualClock] _clock

    def __cinit__(self):
        self._clock = make_shared[CManualClock]()

    # A __cinit__ without parameters would take any.
    def __init__(self):
        pass

    def now_ns(self) -> int:
        return self._clock.get().now_ns()

    def advance_ns(self, delta_ns: int) -> None:
        self._clock.get().advance_ns(delta_ns)


# no_gc_clear: a queue without its engine would be half an object.
@cython.final
@cython.no_gc_clear
cdef class CompletionQueue:
    """Finished calls on their way to one event loop."""

    cdef Engine _engine               # keeps the queue alive
    cdef CCompletionQueue* _queue     # owned by the engine: runners push to it as long as they live

    def __cinit__(self, key=None):
        require_factory(key, "CompletionQueue", "Engine.open_queue()")

    @property
    def fd(self) -> int:
        """An eventfd, readable when calls have finished: one wake a batch."""
        return self._queue.fd()

    def drain(self) -> list[tuple[int, bytes | Refusal]]:
        """(token, response message or refusal) of every finished call. Frees their slots. The owner's thread only."""
        cdef vector[Completion] completions
        cdef size_t i
        self._queue.drain(completions)
        return [
            (completions[i].token, _answered(dereference(self._engine._engine), completions[i].call))
            for i in range(completions.size())
        ]


@cython.final
cdef class LookupBatch:
    """Rows that wait for records of a remote store. Give or fail it, once."""

    cdef Engine _engine
    cdef unique_ptr[CLookupBatch] _batch

    def __cinit__(self, key=None):
        require_factory(key, "LookupBatch", "Engine.take_lookups()")

    @property
    def keys(self) -> list[bytes]:
        """The records to fetch, in the order in which give() wants them."""
        cdef size_t i
        self._check()
        return [bytes_of_string(self._batch.get().keys[i]) for i in range(self._batch.get().keys.size())]

    def give(self, records: Sequence[bytes | int | None]) -> None:
        """One a key; None: the store has no such record; a number: the code that says why it could not be had. Reads the rows and
        queues them. Releases the GIL."""
        cdef vector[FetchedRecord] fetched
        cdef FetchedRecord one
        cdef unique_ptr[CLookupBatch] batch
        kept = tuple(records)   # C++ reads their bytes
        self._check()
        if len(kept) != <Py_ssize_t>self._batch.get().keys.size():
            raise ValueError(f"records: expected {self._batch.get().keys.size()}, one a key, not {len(kept)}")
        fetched.reserve(<size_t>len(kept))
        for record in kept:
            one = FetchedRecord()
            if isinstance(record, int):
                if not 0 < record < <int>Code.kCount_:
                    raise ValueError(f"records: {record} is no number of a code")
                one.why = <Code><int>record
            elif record is not None:
                one.bytes = view_of_bytes(record)
            fetched.push_back(one)
        batch = move(self._batch)
        with nogil:
            self._engine._engine.get().give_lookups(dereference(batch), fetched.data())

    def fail(self) -> None:
        """The store gave nothing: the rows go on without their records, and say so. Releases the GIL."""
        cdef unique_ptr[CLookupBatch] batch
        self._check()
        batch = move(self._batch)
        with nogil:
            self._engine._engine.get().fail_lookups(dereference(batch))

    cdef int _check(self) except -1:
        if self._batch.get() == NULL:
            raise ValueError("this batch was given or failed already")
        return 0


cdef dict _HOPS_ENDS = {
    <int>CHopsEnd.kStopped: "stopped",
    <int>CHopsEnd.kSlow: "slow",
    <int>CHopsEnd.kTimeout: "timeout",
    <int>CHopsEnd.kOdd: "odd",
}
Hops = _namedtuple("Hops", "end hop_count batch", module="assay._core")


CardUse = _namedtuple("CardUse", "model version rows_max rows", module="assay._core")
CardStats = _namedtuple("CardStats", "is_dead is_hot why last_fault runs faults cpu_rows uses", module="assay._core")


@cython.final
cdef class Card:
    """One CUDA device, as the lanes that run on it share it. See ext/core/serving/card.h."""

    cdef shared_ptr[CCard] _card

    def __cinit__(
        self,
        *,
        hang_ns_max: int = 5_000_000_000,
        hold_ns_min: int = 10_000_000_000,
        hold_ns_max: int = 600_000_000_000,
        patience_ns_min: int = 20_000_000,
    ):
        cdef CCardOptions options
        options.hang_ns_max = hang_ns_max
        options.hold_ns_min = hold_ns_min
        options.hold_ns_max = hold_ns_max
        options.patience_ns_min = patience_ns_min
        if min(hang_ns_max, hold_ns_min, patience_ns_min) <= 0 or hold_ns_max < hold_ns_min:
            raise ValueError("times of a card: expected more than 0, and hold_ns_max at least hold_ns_min")
        self._card = make_shared[CCard](options)

    def set_hot(self, is_hot: bool) -> None:
        """While it is hot it is given no batches: the CPU runs all rows."""
        self._card.get().set_hot(is_hot)

    def stats(self, now_ns: int | None = None) -> CardStats:
        """What is known now. A run that hangs is found out here too. `now_ns`: of the engine's clock; None: the system's."""
        cdef int64_t at_ns = CSystemClock.instance().now_ns() if now_ns is None else now_ns
        cdef CCardStats stats = self._card.get().stats(at_ns)
        cdef size_t i
        return CardStats(
            bool(stats.is_dead),
            bool(stats.is_hot),
            str_of_string(stats.why),
            str_of_string(stats.last_fault),
            stats.runs,
            _named(card_fault_names(), card_faults(stats)),
            _named(cpu_cause_names(), card_cpu_rows(stats)),
            tuple([
                CardUse(
                    str_of_string(stats.uses[i].model),
                    str_of_string(stats.uses[i].version),
                    stats.uses[i].rows_max,
                    stats.uses[i].rows,
                )
                for i in range(stats.uses.size())
            ]),
        )


@cython.final
cdef class Engine:
    """Requests in, answers out. See ext/core/serving/engine.h."""

    # Destroyed by __dealloc__ in this order: the engine ends its threads, then nothing pushes to the queues or reads the clock.
    cdef unique_ptr[CEngine] _engine
    cdef vector[shared_ptr[CCompletionQueue]] _queues
    cdef shared_ptr[CManualClock] _manual_clock
    cdef const CClock* _clock
    cdef uint32_t _slots
    cdef pid_t _process

    def __cinit__(
        self,
        *,
        slots: int = 8192,
        batch_call_rows_max: int = 1024,
        answer_bytes_max: int = (1 << 64) - 1,
        lookup_timeout_ns_max: int = 50_000_000,
        near_cache_bytes_max: int = 0,
        near_cache_stale_ns_max: int = 600_000_000_000,
        tracing: bool = False,
        sample_ratio: float = 0.0,
        follows_parent: bool = True,
        slow_ns: int = 0,
        log_ratio: float = 0.0,
        logged_calls_max: int = 0,
        call_records_max: int = 2048,
        sample_one_in: int = 0,
        sampled_rows_max: int = 10_000,
        explain_threads: int = 1,
        explain_queue_rows_max: int = 1024,
        explain_inline_ns_max: int = 5_000_000,
        audit: AuditLog | None = None,
        clock: ManualClock | None = None,
    ):
        cdef EngineOptions options
        options.lookup_timeout_ns_max = lookup_timeout_ns_max
        options.has_lookup_thread = clock is None
        options.near_cache_bytes_max = near_cache_bytes_max
        options.near_cache_stale_ns_max = near_cache_stale_ns_max
        if 0 < options.near_cache_bytes_max < kNearCacheBytesMin:
            raise ValueError(f"near_cache_bytes_max: expected 0 or at least {kNearCacheBytesMin}, not {near_cache_bytes_max}")
        options.slots = slots
        options.batch_call_rows_max = batch_call_rows_max
        options.answer_bytes_max = answer_bytes_max
        if options.slots == 0:
            raise ValueError("slots: expected at least 1")
        rows_max = min(LIMITS["batch_rows_wire_max"], int(options.slots) // 4)
        if not 1 <= options.batch_call_rows_max <= rows_max:
            raise ValueError(f"batch_call_rows_max: expected 1..{rows_max} (at most slots / 4), not {batch_call_rows_max}")
        if not 0.0 <= sample_ratio <= 1.0:
            raise ValueError(f"sample_ratio: expected 0..1, not {sample_ratio}")
        if not 0.0 <= log_ratio <= 1.0:
            raise ValueError(f"log_ratio: expected 0..1, not {log_ratio}")
        options.request_log.ratio = log_ratio
        options.request_log.calls_max = logged_calls_max
        options.tracing.is_on = tracing
        options.tracing.sample_ratio = sample_ratio
        options.tracing.follows_parent = follows_parent
        options.tracing.slow_ns = slow_ns
        options.call_records_max = call_records_max
        options.served_rows.one_in = sample_one_in
        options.served_rows.rows_max = sampled_rows_max
        if explain_threads < 1 or explain_queue_rows_max < 1 or explain_inline_ns_max < 0:
            raise ValueError("explain_threads, explain_queue_rows_max: expected at least 1; explain_inline_ns_max: at least 0")
        options.explain.threads = explain_threads
        options.explain.queue_rows_max = explain_queue_rows_max
        options.explain.inline_ns_max = explain_inline_ns_max
        options.explain.has_threads = clock is None
        if audit is not None:
            options.audit.log = audit._log
            options.audit.policy = audit._policy
        self._slots = options.slots
        if clock is None:
            self._clock = &CSystemClock.instance()
        else:
            self._manual_clock = clock._clock
            self._clock = self._manual_clock.get()
        self._engine.reset(new CEngine(options, dereference(self._clock)))
        self._process = getpid()

    def __dealloc__(self):
        if self._engine.get() != NULL and self._process != getpid():
            self._engine.release()   # a fork has the memory but not the threads: to wait for them would be for ever
        with nogil:
            self._engine.reset()
            self._queues.clear()

    def open_queue(self) -> CompletionQueue:
        cdef CompletionQueue queue = CompletionQueue.__new__(CompletionQueue, _FACTORY)
        cdef shared_ptr[CCompletionQueue] owned = make_shared[CCompletionQueue](<size_t>self._slots)
        self._queues.push_back(owned)
        queue._engine = self
        queue._queue = owned.get()
        return queue

    def add_lane(
        self,
        *,
        model: str,
        version: str,
        model_sha256: str,
        reader: FeatureReader,
        runner: OrtModel | PuppetModel | FaultyModel,
        runners: int = 1,
        threads: bool = True,
        score_output: int = 0,
        score_column: int = 0,
        thresholds: Sequence[tuple[float, int]] = (),
        batch_rows_max: int = 256,
        queue_rows_max: int = 4096,
        queue_delay_ns_max: int = 0,
        timeout_ns_default: int = 1_000_000_000,
        inline_overrun_ns: int = 0,
        runtime: str = "",
        drift: DriftEdges | None = None,
        is_default: bool = False,
        shadow: tuple[str, float] | None = None,
        card: Card | None = None,
        standby: OrtModel | PuppetModel | None = None,
        standby_runtime: str = "",
        explained: ExplainedModel | None = None,
    ) -> None:
        cdef LaneSpec spec
        cdef CShadowShare share
        cdef cbool is_shadow = shadow is not None
        cdef unique_ptr[Runner] one
        cdef vector[uint32_t] wanted
        cdef cbool default = is_default
        cdef Status status
        spec.model = string_of_str(model)
        spec.version = string_of_str(version)
        spec.model_sha256 = string_of_str(model_sha256)
        spec.reader = reader._reader
        spec.has_threads = threads
        spec.runtime = string_of_str(runtime)
        spec.standby_runtime = string_of_str(standby_runtime)
        spec.score_output = score_output
        spec.score_column = score_column
        spec.options.batch_rows_max = batch_rows_max
        spec.options.queue_rows_max = queue_rows_max
        spec.options.queue_delay_ns_max = queue_delay_ns_max
        spec.options.timeout_ns_default = timeout_ns_default
        spec.options.inline_overrun_ns = inline_overrun_ns
        if runners < 1 or spec.options.batch_rows_max < 1:
            raise ValueError("runners and batch_rows_max: expected at least 1")
        _add_thresholds(spec, thresholds)
        if drift is not None:
            spec.drift.is_on = True
            spec.drift.input_edges = drift.inputs
            spec.drift.score_edges = drift.score
        _set_infer(spec, runner, reader.plan, &wanted)
        if not reader.plan.is_tensors_only:
            wanted.push_back(<uint32_t>score_output)
        for _ in range(runners):
            _make_runner(runner, reader.plan, spec.options.batch_rows_max, wanted, &one)
            spec.runners.push_back(move(one))
            if standby is not None:
                _make_runner(standby, reader.plan, spec.options.batch_rows_max, wanted, &one)
                spec.standbys.push_back(move(one))
        if explained is not None:
            if explained.plan is not reader.plan:
                raise ValueError("explained: expected a model that was explained with the reader's plan")
            spec.explained = <shared_ptr[const CExplainedModel]>explained._model
        if card is not None:
            spec.card = card._card
        if inline_overrun_ns > 0:
            _make_runner(runner, reader.plan, 1, wanted, &spec.inline_runner)
        if is_shadow:
            share.entity = string_of_str(shadow[0])
            share.share = shadow[1]
        with nogil:
            if is_shadow:
                status = self._engine.get().start_shadow(move(spec), share)
            else:
                status = self._engine.get().add_lane(move(spec), default)
        check_status(status)

    def remove_lane(self, model: str, version: str) -> None:
        """Releases the GIL; returns when the lane's threads have ended."""
        cdef string_view model_view = view_of_str(model)
        cdef string_view version_view = view_of_str(version)
        cdef Status status
        with nogil:
            status = self._engine.get().remove_lane(model_view, version_view)
        check_status(status)

    def set_route(self, model: str, champion: str, challenger: str = "", entity: str = "", canary_share: float = 0.0) -> None:
        """Which version answers requests that name none; one step (_core.pyi)."""
        cdef CRoute route
        route.champion = string_of_str(champion)
        route.challenger = string_of_str(challenger)
        route.entity = string_of_str(entity)
        route.canary_share = canary_share
        check_status(self._engine.get().set_route(view_of_str(model), move(route)))

    def stop_shadow(self, model: str) -> None:
        """Releases the GIL; returns when the shadow's threads have ended."""
        cdef string name = string_of_str(model)
        cdef Status status
        with nogil:
            status = self._engine.get().stop_shadow(name)
        check_status(status)

    def shadow_stats(self) -> list[ShadowStats]:
        """Of the shadows that there are."""
        cdef vector[CShadowStats] all_stats = self._engine.get().shadow_stats()
        cdef size_t i
        return [_shadow_stats(all_stats[i]) for i in range(all_stats.size())]

    cdef int _check_queue(self, CompletionQueue queue) except -1:
        if queue._engine is not self:
            raise ValueError("the queue belongs to another engine")
        return 0

    # The str of `traceparent` outlives the submit that called this.
    cdef inline CallContext _context(self, int64_t deadline_ns, str traceparent) except *:
        cdef CallContext context
        context.received_ns = self._clock.now_ns()
        context.deadline_ns = deadline_ns
        if traceparent is not None:
            context.traceparent = view_of_str(traceparent)
        return context

    # deadline_ns: time.monotonic_ns() based, 0: none. token: any integer the transport chooses; drain() gives it back.
    # traceparent: the header of that name, if tracing is on.
    def submit_score(
        self, data: bytes, deadline_ns: int, queue: CompletionQueue, token: int, traceparent: str | None = None
    ) -> bytes | Accepted | Refusal:
        self._check_queue(queue)
        # With the GIL: microseconds (an inline run's included), and a released GIL may stay away for a switch interval.
        cdef CallContext context = self._context(deadline_ns, traceparent)
        cdef string_view view = view_of_bytes(data)
        return _submitted(dereference(self._engine), self._engine.get().submit_score(view, context, queue._queue, token))

    def submit_batch(
        self, data: bytes, deadline_ns: int, queue: CompletionQueue, token: int, traceparent: str | None = None
    ) -> Accepted | Refusal:
        """Releases the GIL while decoding."""
        cdef string_view view = view_of_bytes(data)
        cdef CallContext context = self._context(deadline_ns, traceparent)
        cdef uint64_t token_given = token
        cdef Submission submission
        self._check_queue(queue)
        with nogil:
            submission = self._engine.get().submit_batch(view, context, queue._queue, token_given)
        return _submitted(dereference(self._engine), submission)

    def submit_infer(
        self, data: bytes, deadline_ns: int, queue: CompletionQueue, token: int, traceparent: str | None = None
    ) -> bytes | Accepted | Refusal:
        """Releases the GIL where the request is long."""
        cdef string_view view = view_of_bytes(data)
        cdef CallContext context = self._context(deadline_ns, traceparent)
        cdef uint64_t token_given = token
        cdef Submission submission
        self._check_queue(queue)
        if view.size() <= _KEPT_GIL_BYTES_MAX:   # as submit_score
            submission = self._engine.get().submit_infer(view, context, queue._queue, token_given)
        else:
            with nogil:
                submission = self._engine.get().submit_infer(view, context, queue._queue, token_given)
        return _submitted(dereference(self._engine), submission)

    def submit_stream(
        self, data: bytes, deadline_ns: int, queue: CompletionQueue, token: int, traceparent: str | None = None
    ) -> bytes | Accepted | Refusal:
        self._check_queue(queue)
        cdef CallContext context = self._context(deadline_ns, traceparent)
        cdef string_view view = view_of_bytes(data)
        return _submitted(dereference(self._engine), self._engine.get().submit_stream(view, context, queue._queue, token))

    def cancel(self, call: int) -> bool:
        """Nobody waits for this call any more: its client left. False: it is finished, or about to come out of drain()."""
        return bool(self._engine.get().cancel(call))

    def expire(self, call: int) -> bool:
        """The same, where the transport has answered DEADLINE_EXCEEDED: its rows count as expired."""
        return bool(self._engine.get().expire(call))

    def refuse(self, reason: str, detail: str = "") -> Refusal:
        """A refusal by reason, encoded as the core encodes its own. For the transport's own refusals."""
        for row in CODE_TABLE:
            if row.reason == reason and row.number != <int>Code.kOk:
                return refusal_of_status(Status(<Code><int>row.number, string_of_str(detail)), NULL)
        raise ValueError(f"no reason {reason!r} in CODE_TABLE")

    def count_refused_call(self, refusal: Refusal) -> None:
        """A call ends with this refusal, and the core did not refuse it itself."""
        if not 0 < refusal.code < len(CODE_TABLE):
            raise ValueError(f"refusal.code: no code {refusal.code} in CODE_TABLE")
        self._engine.get().count_refused_call(<Code><int>refusal.code)

    def refuse_call(self, reason: str, detail: str = "") -> Refusal:
        """refuse() and count_refused_call()."""
        refusal = self.refuse(reason, detail)
        self.count_refused_call(refusal)
        return refusal

    def take_lookups(self, rows_max: int, *, waits: bool = True) -> LookupBatch | None:
        """Rows of lanes with a remote store that wait for their records, oldest first; None: the engine has stopped. `waits`:
        until some are due, for rows are left a little to the thread of a batch under way (_core.pyi); else None: there are
        none. Releases the GIL. Any thread, several at once."""
        cdef LookupBatch batch = LookupBatch.__new__(LookupBatch, _FACTORY)
        cdef size_t count = rows_max
        cdef cbool blocks = waits
        if count == 0:
            raise ValueError("rows_max: expected at least 1")
        with nogil:
            batch._batch = self._engine.get().take_lookups(count, blocks)
        if batch._batch.get() == NULL:
            return None
        batch._engine = self
        return batch

    def run_hops(self, connection, rows_max: int, timeout_s: float, slow_s: float) -> Hops:
        """Fetches over `connection` until something is not as usual (_core.pyi). Releases the GIL. Any thread, several at once."""
        cdef LookupBatch batch = LookupBatch.__new__(LookupBatch, _FACTORY)
        # fileno() and this in one go: nobody else can run between them and close the socket.
        cdef unique_ptr[COwnSocket] own = make_unique[COwnSocket](<int>connection.fileno())
        cdef int number = own.get().number()
        cdef CHopLimits limits
        cdef CHopsResult result
        if number < 0:
            raise ConnectionError("the connection was closed, or no more files can be opened")
        if not 0 < rows_max:
            raise ValueError("rows_max: expected at least 1")
        limits.rows_max = rows_max
        limits.timeout_ns = <int64_t>(<double>timeout_s * 1e9)
        limits.slow_ns = <int64_t>(<double>slow_s * 1e9)
        with nogil:
            result = self._engine.get().run_hops(number, limits)
        if result.batch.get() == NULL:
            return Hops(_HOPS_ENDS[<int>result.end], result.hop_count, None)
        batch._batch = move(result.batch)
        batch._engine = self
        return Hops(_HOPS_ENDS[<int>result.end], result.hop_count, batch)

    def forget_records(self, keys: Sequence[bytes]) -> None:
        """These records were written by this process, or may have been: the near-cache forgets them."""
        for key in keys:
            self._engine.get().forget_record(view_of_bytes(key))

    def step_lookups(self) -> int:
        """Settles the rows that have waited for their records long enough, here and now. Tests."""
        return self._engine.get().step_lookups()

    def drain(self) -> None:
        self._engine.get().drain()

    def wait_idle(self, timeout_s: float) -> bool:
        """Releases the GIL."""
        cdef int64_t timeout_ns = int(timeout_s * 1e9)
        cdef cbool is_idle
        with nogil:
            is_idle = self._engine.get().wait_idle(timeout_ns)
        return bool(is_idle)

    def stop(self) -> None:
        """Ends all threads. Releases the GIL. Idempotent."""
        with nogil:
            self._engine.get().stop()

    def step(self, model: str, version: str) -> int:
        """Runs one batch of a lane without threads, here and now. Tests."""
        cdef string_view model_view = view_of_str(model)
        cdef string_view version_view = view_of_str(version)
        cdef size_t rows
        with nogil:
            rows = self._engine.get().step(model_view, version_view)
        return rows

    def stats(self) -> EngineStats:
        cdef CEngineStats stats = self._engine.get().stats()
        return EngineStats(
            stats.accepted_rows, stats.answered_rows, stats.failed_rows, stats.cancelled_rows, stats.shed_rows,
            stats.refused_calls, tuple([stats.expired_rows[i] for i in range(5)]), stats.defaulted_deadlines,
            stats.batch_count, stats.batched_rows, stats.retried_batches,
            stats.inline_rows, stats.inline_overruns, stats.degraded_rows, stats.sampled_rows, stats.dropped_sampled_rows,
            stats.lookup_batches, stats.lookup_given_up_rows,
            stats.lookup_unavailable_records, stats.lookup_rejected_records, stats.looking_up_rows,
            stats.slots, stats.slots_used, stats.slots_used_max, stats.queued_rows, _near_cache_stats(stats),
            ExplainStats(
                stats.explain.queued_rows, stats.explain.threads, stats.explain.asked_rows, bool(stats.explain.is_suspended)
            ),
        )

    def metrics(self) -> EngineMetrics:
        return _engine_metrics(self._engine.get().metrics())

    def drift(self) -> list[DriftCounts]:
        """Of the lanes that were added with `drift`."""
        cdef vector[CLaneDrift] lanes = self._engine.get().drift()
        cdef size_t i
        return [_drift_counts(lanes[i]) for i in range(lanes.size())]

    def drain_records(self) -> list[CallRecord]:
        """What was worth telling since the last time: calls that were sampled, or were slow, failed or declined."""
        cdef vector[CCallRecord] records
        cdef size_t i
        self._engine.get().drain_records(records)
        return [_call_record(records[i]) for i in range(records.size())]

    def served_rows(self, after: int, rows_max: int) -> list[ServedRow]:
        """At most `rows_max` sampled rows past position `after`, oldest first."""
        cdef vector[shared_ptr[const CServedRow]] rows = self._engine.get().served_rows().after(after, rows_max)
        cdef size_t i
        return [_served_row(dereference(rows[i])) for i in range(rows.size())]

    @property
    def is_tracing(self) -> bool:
        """Whether a traceparent means anything to it."""
        return bool(self._engine.get().is_tracing())

    def set_sample_ratio(self, ratio: float) -> None:
        """What part of the calls is traced from now on, where the caller did not decide."""
        if not 0.0 <= ratio <= 1.0:
            raise ValueError(f"ratio: expected 0..1, not {ratio}")
        self._engine.get().set_sample_ratio(ratio)

    def set_log_ratio(self, ratio: float) -> None:
        """What part of the calls is recorded for a line of the log from now on."""
        if not 0.0 <= ratio <= 1.0:
            raise ValueError(f"ratio: expected 0..1, not {ratio}")
        self._engine.get().set_log_ratio(ratio)

    def check_idle(self) -> None:
        self._engine.get().check_idle()


cdef object _shadow_stats(const CShadowStats& stats):
    return ShadowStats(
        str_of_string(stats.model), str_of_string(stats.version), stats.share,
        stats.compared_rows, stats.failed_rows, stats.shed_rows, stats.held_bytes, stats.difference_sum,
        tuple(differences_of(stats)),
        tuple([tuple(row) for row in decisions_of(stats)]),
    )


cdef object _near_cache_stats(const CEngineStats& stats):
    return NearCacheStats(
        stats.near_cache_hits, stats.near_cache_misses, stats.near_cache_stale_records, stats.near_cache_joined_rows,
        stats.near_cache.evicted_count, stats.near_cache.record_count, stats.near_cache.bytes, stats.near_cache.bytes_max,
    )


cdef object _submitted(CEngine& engine, const Submission& submission):
    if submission.is_complete:
        return _answered(engine, submission.call)
    if submission.code == Code.kOk:
        return _tuple_new(Accepted, (submission.call, submission.deadline_ns))
    return refusal_of(submission.code, submission.message, submission.rpc_status)


# The answer of a completed call: the response message, or why there is none. Frees its slots.
cdef object _answered(CEngine& engine, uint64_t call):
    cdef Answer answer = engine.finish(call)
    if answer.code == Code.kOk:
        return bytes_of_string(answer.payload)
    return refusal_of(answer.code, answer.message, answer.rpc_status)


cdef int _add_thresholds(LaneSpec& spec, object thresholds) except -1:
    cdef Threshold threshold
    for minimum, decision in thresholds:
        threshold.minimum = minimum
        threshold.decision = <Decision>enum_number(decision, DECISIONS, "threshold: decision")
        spec.thresholds.push_back(threshold)
    return 0


cdef int _make_runner(
    object model, FeaturePlan plan, size_t rows_max, const vector[uint32_t]& outputs, unique_ptr[Runner]* runner
) except -1:
    if isinstance(model, OrtModel):
        (<OrtModel>model)._make_runner_of(plan, rows_max, outputs, runner)
    elif isinstance(model, FaultyModel):
        _make_runner((<FaultyModel>model).inner, plan, rows_max, outputs, runner)
        runner[0] = CFaultyModel.wrap((<FaultyModel>model)._model, move(runner[0]))
    else:   # _set_infer() has looked
        runner[0] = CPuppetModel.make_runner((<PuppetModel>model)._model, plan.row_bytes)
    return 0
