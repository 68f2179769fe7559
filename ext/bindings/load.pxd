# The load generator's headers as Cython sees them: extern declarations and nothing else, as in core.pxd.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.utility cimport pair
from libcpp.vector cimport vector

from core cimport Code, Status


cdef extern from "core/base/status.h" namespace "assay" nogil:
    const Code kCodeIo "assay::Code::kIo"


cdef extern from "core/load/histogram.h" namespace "assay::load" nogil:
    cdef cppclass LogHistogramBucket "assay::load::LogHistogram::Bucket":
        int64_t value
        uint64_t count

    cdef cppclass LogHistogram:
        uint64_t count() noexcept
        int64_t min() noexcept
        int64_t max() noexcept
        double mean() noexcept
        int64_t quantile(double q, uint64_t lost) noexcept
        vector[LogHistogramBucket] buckets()


cdef extern from "core/load/outcome.h" namespace "assay::load" nogil:
    const size_t kOutcomeCount
    const char* outcome_name(size_t outcome) noexcept


cdef extern from "core/load/second_series.h" namespace "assay::load" nogil:
    cdef cppclass CLoadSecond "assay::load::Second":
        uint64_t ok
        uint64_t failed
        int64_t p50_ns
        int64_t p99_ns
        int64_t max_ns


cdef extern from "core/load/load_run.h" namespace "assay::load" nogil:
    cdef cppclass CLoadOptions "assay::load::LoadOptions":
        string target
        string method
        string messages
        uint32_t threads
        uint32_t connections
        uint32_t streams
        uint8_t arrivals
        double rate_per_s
        uint64_t backlog_max
        cbool spins
        int64_t warm_up_ns
        int64_t duration_ns
        int64_t drain_ns_max
        int64_t connect_timeout_ns
        int64_t timeout_ns
        cbool is_shuffled
        uint64_t seed
        vector[pair[string, string]] metadata
        cbool is_tls
        string tls_authorities
        string tls_certificate
        string tls_key
        string tls_server_name

    cdef enum class LoadPhase(unsigned char):
        kNew

    cdef cppclass CLoadProgress "assay::load::LoadProgress":
        LoadPhase phase
        double elapsed_s
        uint64_t sent
        uint64_t ended
        uint64_t ok
        uint64_t in_flight
        uint64_t backlog
        CLoadSecond last_second

    cdef cppclass CLoadResult "assay::load::LoadResult":
        CLoadResult() noexcept
        double duration_s
        LogHistogram ok
        LogHistogram failed
        LogHistogram lag
        uint64_t* outcomes "outcomes.data()"
        string* messages "messages.data()"
        uint64_t ok_in_window
        uint64_t offered
        uint64_t dropped
        uint64_t unsent
        uint64_t lost
        uint64_t in_flight_max
        uint64_t reconnects
        uint64_t sent
        uint64_t sent_bytes
        uint64_t received_bytes
        double cpu_s
        string failure
        vector[CLoadSecond] seconds

    cdef cppclass CLoadRun "assay::load::LoadRun":
        @staticmethod
        Status create(CLoadOptions options, unique_ptr[CLoadRun]* out) noexcept
        Status start() noexcept
        CLoadProgress progress() noexcept
        void stop() noexcept
        cbool wait(int64_t timeout_ns) noexcept
        CLoadResult result() noexcept
        size_t message_count() noexcept
