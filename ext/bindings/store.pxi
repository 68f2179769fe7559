# The embedded store and the progress of its snapshots.

StoreStats = _namedtuple(
    "StoreStats",
    "record_count bytes bytes_max event_count duplicate_count late_count rejected_record_count tiled_event_count full_count",
    module="assay._core",
)

# A callback takes the GIL: at most 20 calls a second, whatever the core's rhythm.
cdef int64_t _PROGRESS_NS_MIN = 50_000_000


# Lives on the stack of one save or load. What the callback raised waits here until C++ is done.
@cython.final
cdef class _Progress:
    cdef object callback
    cdef object error
    cdef int64_t reported_ns

    def __cinit__(self, callback):
        self.callback = callback
        self.error = None
        self.reported_ns = 0

    cdef ProgressFunction function(self):
        if self.callback is None:
            return progress_function(NULL, NULL)
        return progress_function(_report_progress, <void*>self)

    cdef void report(self, uint64_t done, uint64_t total) noexcept:
        if self.error is not None:
            return
        try:
            self.callback(done, total)
        except BaseException as error:
            self.error = error

    cdef int check(self) except -1:
        if self.error is not None:
            raise self.error
        return 0


cdef void _report_progress(void* context, uint64_t done, uint64_t total) noexcept nogil:
    cdef int64_t now_ns = CSystemClock.instance().now_ns()
    # Written by the one thread that runs this save or load.
    cdef int64_t* reported_ns = &(<_Progress>context).reported_ns
    if done != total and now_ns - reported_ns[0] < _PROGRESS_NS_MIN:
        return
    reported_ns[0] = now_ns
    with gil:
        (<_Progress>context).report(done, total)


@cython.final
cdef class EmbeddedStore:
    """Row records in this process. Thread-safe; bounded by bytes_max."""

    cdef shared_ptr[CEmbeddedStore] _store

    def __cinit__(self, bytes_max: int = 1 << 30):
        self._store = make_shared[CEmbeddedStore](<uint64_t>bytes_max)

    def __dealloc__(self):
        # Freeing a full store takes long.
        with nogil:
            self._store.reset()

    def save(self, path: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Writes an atomic snapshot. Releases the GIL. What `progress` raises comes out at the end; the snapshot stands."""
        cdef _Progress reporter = _Progress(progress)
        cdef ProgressFunction function = reporter.function()
        cdef string file = string_of_str(path)
        cdef Status status
        with nogil:
            status = self._store.get().save(file, function)
        check_status(status)
        reporter.check()

    def load(self, path: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Reads a snapshot into this store, which must be empty. All or nothing. Releases the GIL."""
        cdef _Progress reporter = _Progress(progress)
        cdef ProgressFunction function = reporter.function()
        cdef string file = string_of_str(path)
        cdef Status status
        with nogil:
            status = self._store.get().load(file, function)
        check_status(status)
        reporter.check()

    def stats(self) -> StoreStats:
        cdef CStoreStats stats = self._store.get().stats()
        return StoreStats(
            stats.record_count, stats.bytes, stats.bytes_max, stats.event_count, stats.duplicate_count, stats.late_count,
            stats.rejected_record_count, stats.tiled_event_count, stats.full_count,
        )
