# The load generator. Its threads never come here.

from libcpp.utility cimport pair

from load cimport (
    CLoadOptions,
    CLoadProgress,
    CLoadResult,
    CLoadRun,
    CLoadSecond,
    LogHistogram,
    LogHistogramBucket,
    kCodeIo,
    kOutcomeCount,
    outcome_name,
)

LOAD_ARRIVALS = {"closed": 0, "constant": 1, "poisson": 2}
LOAD_PHASES = ("new", "connecting", "warming up", "measuring", "draining", "ended")

LoadSecond = _namedtuple("LoadSecond", "ok failed p50_ns p99_ns max_ns", module="assay._core")
LoadProgress = _namedtuple("LoadProgress", "phase elapsed_s sent ended ok in_flight backlog last_second", module="assay._core")
LoadResult = _namedtuple(
    "LoadResult",
    "duration_s ok failed lag outcomes messages ok_in_window offered dropped unsent lost in_flight_max reconnects sent sent_bytes "
    "received_bytes cpu_s failure seconds",
    module="assay._core",
)

cdef double _LOAD_SECONDS_MAX = 1e6  # far past every limit of the core, and its nanoseconds fit


# Wrong options and files, and targets that are not there, are told as Python tells them.
cdef int _check_load(const Status& status) except -1:
    if status.ok():
        return 0
    detail = str_of_string(status.detail)
    raise OSError(detail) if status.code == kCodeIo else ValueError(detail)


cdef int64_t _load_ns(str name, double seconds) except -1:
    if not 0 <= seconds <= _LOAD_SECONDS_MAX:
        raise ValueError(f"{name}: expected 0 to {_LOAD_SECONDS_MAX:g} seconds")
    return <int64_t>(seconds * 1e9 + 0.5)


@cython.final
cdef class LoadHistogram:
    """Latencies of a load run's calls. Made by LoadRun.result()."""

    cdef shared_ptr[CLoadResult] _owner
    cdef const LogHistogram* _histogram  # in _owner

    def __cinit__(self, key=None):
        require_factory(key, "LoadHistogram", "LoadRun.result()")

    @property
    def count(self) -> int:
        return self._histogram.count()

    @property
    def min_ns(self) -> int:
        return self._histogram.min()

    @property
    def max_ns(self) -> int:
        return self._histogram.max()

    @property
    def mean_ns(self) -> float:
        return self._histogram.mean()

    def quantile(self, q: float, lost: int = 0) -> int | None:
        """Nanoseconds that a share `q` of all calls does not pass; None: it is one of the `lost`, or there are none."""
        if not 0 <= q <= 1:
            raise ValueError(f"quantile: expected 0 to 1, not {q}")
        cdef int64_t value = self._histogram.quantile(q, lost)
        return None if value < 0 else value

    def buckets(self) -> list[tuple[int, int]]:
        """(nanoseconds, count) of the buckets that are not empty, in order."""
        cdef vector[LogHistogramBucket] found = self._histogram.buckets()
        cdef size_t i
        return [(found[i].value, found[i].count) for i in range(found.size())]


@cython.final
cdef class LoadRun:
    """Sends calls to a server and says how long the answers took. See ext/core/load/load_run.h."""

    cdef unique_ptr[CLoadRun] _run
    cdef bint _is_used
    cdef bint _is_started

    def __cinit__(
        self,
        *,
        target: str,
        method: str,
        messages: str,
        threads: int = 1,
        connections: int = 1,
        streams: int = 1,
        arrivals: int = 0,
        rate_per_s: float = 0.0,
        backlog_max: int = 100_000,
        spin: bool = False,
        warm_up_s: float = 0.0,
        duration_s: float = 10.0,
        drain_s_max: float = 5.0,
        connect_timeout_s: float = 5.0,
        timeout_s: float = 0.0,
        shuffle: bool = False,
        seed: int = 0,
        metadata: Sequence[tuple[str, str]] = (),
        tls: bool = False,
        tls_authorities: bytes = b"",
        tls_certificate: bytes = b"",
        tls_key: bytes = b"",
        tls_server_name: str = "",
    ):
        """Reads the messages. Releases the GIL meanwhile."""
        cdef CLoadOptions options
        cdef Status status
        options.target = string_of_str(target)
        options.method = string_of_str(method)
        options.messages = string_of_str(messages)
        options.threads = threads
        options.connections = connections
        options.streams = streams
        options.arrivals = arrivals
        options.rate_per_s = rate_per_s
        options.backlog_max = backlog_max
        options.spins = spin
        options.warm_up_ns = _load_ns("warm_up_s", warm_up_s)
        options.duration_ns = _load_ns("duration_s", duration_s)
        options.drain_ns_max = _load_ns("drain_s_max", drain_s_max)
        options.connect_timeout_ns = _load_ns("connect_timeout_s", connect_timeout_s)
        options.timeout_ns = _load_ns("timeout_s", timeout_s)
        options.is_shuffled = shuffle
        options.seed = seed
        for name, value in metadata:
            options.metadata.push_back(pair[string, string](string_of_str(name), string_of_str(value)))
        options.is_tls = tls
        options.tls_authorities = string(view_of_bytes(tls_authorities))
        options.tls_certificate = string(view_of_bytes(tls_certificate))
        options.tls_key = string(view_of_bytes(tls_key))
        options.tls_server_name = string_of_str(tls_server_name)
        with nogil:
            status = CLoadRun.create(options, &self._run)
        _check_load(status)

    def __dealloc__(self):
        # Joins the threads of a run that nobody waited for.
        with nogil:
            self._run.reset()

    @property
    def message_count(self) -> int:
        return self._run.get().message_count()

    def start(self) -> None:
        """Connects and begins to send. OSError: there is nothing to talk to. Once. Releases the GIL."""
        cdef Status status
        if self._is_used:
            raise ValueError("a run starts once")
        self._is_used = True
        with nogil:
            status = self._run.get().start()
        _check_load(status)
        self._is_started = True

    def progress(self) -> LoadProgress:
        cdef CLoadProgress found = self._run.get().progress()
        cdef Py_ssize_t phase = <Py_ssize_t>found.phase
        return LoadProgress(
            LOAD_PHASES[phase], found.elapsed_s, found.sent, found.ended, found.ok, found.in_flight, found.backlog,
            _load_second(found.last_second),
        )

    def stop(self) -> None:
        """Sends nothing new; the run ends within a second or so."""
        self._run.get().stop()

    def wait(self, timeout_s: float) -> bool:
        """Whether the run has ended, after waiting that long at most. Releases the GIL."""
        cdef int64_t timeout_ns = _load_ns("timeout_s", timeout_s)
        cdef cbool is_ended
        if not self._is_started:
            raise ValueError("the run has not started")
        with nogil:
            is_ended = self._run.get().wait(timeout_ns)
        return is_ended

    def result(self) -> LoadResult:
        """What was measured. ValueError: the run has not ended."""
        cdef shared_ptr[CLoadResult] result
        if not self.wait(0.0):
            raise ValueError("the run has not ended")
        result = make_shared[CLoadResult]()
        with nogil:
            result.get()[0] = self._run.get().result()
        return _load_result(result)


cdef object _load_second(const CLoadSecond& second):
    return LoadSecond(second.ok, second.failed, second.p50_ns, second.p99_ns, second.max_ns)


cdef object _load_histogram(shared_ptr[CLoadResult] owner, const LogHistogram* histogram):
    cdef LoadHistogram made = LoadHistogram.__new__(LoadHistogram, _FACTORY)
    made._owner = owner
    made._histogram = histogram
    return made


cdef object _load_result(shared_ptr[CLoadResult] owner):
    cdef CLoadResult* found = owner.get()
    cdef size_t i
    outcomes = {}
    messages = {}
    for i in range(kOutcomeCount):
        name = outcome_name(i).decode()
        if found.outcomes[i] > 0:
            outcomes[name] = found.outcomes[i]
        if not found.messages[i].empty():
            messages[name] = str_of_string(found.messages[i])
    return LoadResult(
        found.duration_s,
        _load_histogram(owner, &found.ok),
        _load_histogram(owner, &found.failed),
        _load_histogram(owner, &found.lag),
        outcomes,
        messages,
        found.ok_in_window,
        found.offered,
        found.dropped,
        found.unsent,
        found.lost,
        found.in_flight_max,
        found.reconnects,
        found.sent,
        found.sent_bytes,
        found.received_bytes,
        found.cpu_s,
        str_of_string(found.failure),
        tuple([_load_second(found.seconds[i]) for i in range(found.seconds.size())]),
    )
