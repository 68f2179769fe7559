# The core's headers as Cython sees them: extern declarations and nothing else. Everything is `noexcept nogil`: the core throws
# nothing. Only what the bindings use stands here. The headers hold the contracts.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.string_view cimport string_view
from libcpp.utility cimport pair
from libcpp.vector cimport vector


# ---------------------------------------------------------------------------------------------------------------- base

cdef extern from "core/base/limits.h" namespace "assay::limits" nogil:
    const size_t kIdBytesMax
    const size_t kNameBytesMax
    const size_t kStringValueBytesMax
    const size_t kViolationsMax
    const size_t kViolationsBytesMax
    const size_t kMapEntriesMax
    const int kWireDepthMax
    const size_t kBatchRowsWireMax
    const size_t kEventsPerMessageMax
    const size_t kEventLineBytesMax
    const int kJsonDepthMax
    const size_t kEntitiesMax
    const size_t kRequestFeaturesMax
    const size_t kViewsMax
    const size_t kColumnsMax
    const size_t kWindowsMax
    const size_t kAggregatesMax
    const size_t kAttributesMax
    const size_t kNodesMax
    const size_t kModelInputsMax
    const size_t kTensorsMax
    const size_t kVocabularyMax
    const uint32_t kExactEventsMin
    const uint32_t kExactEventsMax
    const size_t kTilesMax
    const uint64_t kTileEventsMax
    const size_t kBackgroundRowsMax
    const size_t kLanesMax
    const size_t kTensorRankMax
    const uint32_t kTensorRowBytesMax
    const size_t kAuditOutputsBytesMax
    const size_t kAuditRowBytesMax
    const int64_t kWindowUsMax
    const int64_t kAheadUsMax
    const int64_t kTimeUsMin
    const int64_t kTimeUsMax


cdef extern from "core/base/status.h" namespace "assay" nogil:
    cdef enum class Code(unsigned char):
        kOk
        kInvalidRequest
        kUnknownEntity
        kUnknownFeature
        kWrongType
        kBadTimestamp
        kIntegerOverflow
        kEventDuplicate
        kEventTooLate
        kEventInFuture
        kPlanInvalid
        kInternal
        kCount_

    cdef enum class GrpcCode(unsigned char):
        kOk

    cdef cppclass CodeInfo:
        Code code
        const char* reason
        GrpcCode grpc
        int32_t retry_ms
        const char* message

    const CodeInfo& code_info(Code code) noexcept

    cdef cppclass Status:
        Status() noexcept
        Status(Code code) noexcept
        Status(Code code, string detail) noexcept
        Code code
        uint32_t offset
        string detail
        cbool ok() noexcept

    cdef cppclass Violation:
        Code code
        string field
        string description

    string c_printable "assay::printable"(string_view text) noexcept


cdef extern from "core/base/policy.h" namespace "assay" nogil:
    cdef enum class Listener(unsigned char):
        kPublic
        kAdmin
        kHealth

    cdef enum class Role(unsigned char):
        kScore
        kRead
        kWrite
        kAdmin
        kAnyone

    cdef cppclass CPolicyRow "assay::PolicyRow":
        string_view method
        uint8_t listeners
        uint8_t roles

    cdef cppclass Caller:
        cbool needs_certificate
        cbool has_certificate
        uint8_t roles

    size_t policy_row_count() noexcept
    const CPolicyRow& policy_row(size_t index) noexcept
    Code c_check_access "assay::check_access"(Listener listener, string_view method, const Caller& caller) noexcept


cdef extern from "core/base/value.h" namespace "assay" nogil:
    cdef enum class Dtype(unsigned char):
        kNull
        kFloat64
        kInt64
        kBool
        kString

    cdef enum class TensorType(unsigned char):
        kFloat32
        kInt32
        kInt64
        kBool
        kFloat64

    uint32_t tensor_type_bytes(TensorType type) noexcept

    cdef cppclass Value:
        Value() noexcept
        double float64
        int64_t int64
        cbool boolean
        Dtype dtype
        cbool is_null() noexcept
        string_view string_ "string"() noexcept

    const char* dtype_name(Dtype dtype) noexcept


cdef extern from "core/base/clock.h" namespace "assay" nogil:
    int64_t wall_now_us() noexcept

    cdef cppclass CClock "assay::Clock":
        int64_t now_ns() noexcept

    cdef cppclass CSystemClock "assay::SystemClock"(CClock):
        @staticmethod
        const CSystemClock& instance() noexcept

    cdef cppclass CManualClock "assay::ManualClock"(CClock):
        CManualClock() noexcept
        void advance_ns(int64_t delta_ns) noexcept


cdef extern from "core/base/hash.h" namespace "assay" nogil:
    uint64_t c_xxh64 "assay::xxh64"(string_view data) noexcept
    uint32_t c_crc32c "assay::crc32c"(const void* data, size_t size) noexcept


# ------------------------------------------------------------------------------------------------------------ features

cdef extern from "core/features/view.h" namespace "assay" nogil:
    cdef enum class ViewKind(unsigned char):
        kWindow
        kAttributes

    cdef enum class ColumnSource(unsigned char):
        kRequestFeature
        kEntity
        kEventTime

    cdef enum class AggregateOp(unsigned char):
        kCount
        kSum
        kAvg
        kMin
        kMax
        kLast
        kRateTrue
        kDistinct

    cdef cppclass ColumnSpec:
        ColumnSource source
        uint16_t source_index
        Dtype dtype

    cdef cppclass AggregateSpec:
        AggregateOp op
        int16_t column
        int64_t window_us

    cdef cppclass AttributeSpec:
        string name
        Dtype dtype

    cdef cppclass ViewSpec:
        string name
        uint16_t entity_index
        ViewKind kind
        vector[ColumnSpec] columns
        vector[AggregateSpec] aggregates
        int64_t delay_us
        cbool uses_labels
        cbool includes_current
        uint32_t exact_events_max
        int64_t lateness_us
        vector[AttributeSpec] attributes
        int64_t max_age_us

    cdef cppclass ViewSchema:
        const ViewSpec& spec() noexcept
        int64_t horizon_us() noexcept


cdef extern from "core/features/accepted_ints.h" namespace "assay" nogil:
    cdef cppclass FeatureBits:
        pass

    cdef cppclass AcceptedInts:
        void add(const FeatureBits& features) noexcept
        uint64_t count(size_t feature) noexcept


cdef extern from "core/features/plan.h" namespace "assay" nogil:
    cdef cppclass RequestFeatureSpec:
        string name
        Dtype dtype
        cbool required
        cbool accept_int
        Value default_value
        string default_text
        Value minimum
        Value maximum

    cdef enum class NodeKind(unsigned char):
        kEventTime
        kRequestFeature
        kView
        kDerived

    cdef enum class DerivedOp(unsigned char):
        kScale
        kRatio
        kDifference
        kLog1p
        kHour
        kWeekday
        kIsNight
        kIsWeekend
        kDaysSince
        kHaversineKm
        kSpeedKmh
        kEquals
        kVocabulary
        kHashBucket
        kIsMissing
        kConstant

    cdef cppclass DerivedSpec:
        DerivedOp op
        vector[uint16_t] arguments
        vector[double] constants
        vector[string] vocabulary

    cdef cppclass NodeSpec:
        NodeKind kind
        string name
        uint16_t source_index
        uint16_t output_index
        DerivedSpec derived

    cdef enum class WhenNull(unsigned char):
        kError
        kDefault
        kNan

    cdef cppclass TensorSpec:
        string name
        TensorType type
        uint32_t element_count

    cdef cppclass InputSpec:
        string name
        uint16_t node
        uint16_t tensor
        uint32_t element
        WhenNull when_null
        double default_value

    cdef cppclass PlanSpec:
        string feature_set
        string feature_set_version
        string schema_hash
        vector[string] entities
        vector[RequestFeatureSpec] request_features
        vector[ViewSpec] views
        vector[NodeSpec] nodes
        vector[TensorSpec] tensors
        vector[InputSpec] inputs

    cdef cppclass TensorSegment:
        uint32_t offset_bytes
        uint32_t bytes

    cdef cppclass CFeaturePlan "assay::FeaturePlan":
        @staticmethod
        Status compile(PlanSpec spec, shared_ptr[const CFeaturePlan]* out) noexcept
        @staticmethod
        Status of_tensors(vector[TensorSpec] tensors, shared_ptr[const CFeaturePlan]* out) noexcept
        const PlanSpec& spec() noexcept
        const vector[ViewSchema]& views() noexcept
        const vector[TensorSegment]& segments() noexcept
        uint32_t row_bytes() noexcept
        int find_feature(string_view name) noexcept
        int find_entity(string_view name) noexcept
        AcceptedInts& accepted_ints() noexcept
        cbool is_tensors_only() noexcept


cdef extern from "core/wire/infer_schema.h" namespace "assay" nogil:
    cdef cppclass TensorShape:
        string name
        TensorType type
        vector[int64_t] dims
        uint32_t index

    cdef cppclass InferTensor:
        TensorShape shape
        uint32_t row_bytes
        uint32_t offset_bytes

    cdef cppclass InferSchema:
        vector[InferTensor] inputs
        vector[InferTensor] outputs
        uint32_t output_bytes
        @staticmethod
        Status make(
            const CFeaturePlan& plan, const vector[TensorShape]& inputs, const vector[TensorShape]& outputs, InferSchema* out
        ) noexcept


cdef extern from "core/features/fence.h" namespace "assay" nogil:
    cdef cppclass CFence "assay::Fence":
        CFence() noexcept

    cdef enum class CLateEvents "assay::LateEvents"(unsigned char):
        kRefuse
        kApply


cdef extern from "core/features/transaction.h" namespace "assay" nogil:
    cdef cppclass EntityIds "std::array<std::string_view, assay::limits::kEntitiesMax>":
        string_view& operator[](size_t)

    cdef cppclass FeatureValues "std::array<assay::Value, assay::limits::kRequestFeaturesMax>":
        Value& operator[](size_t)

    cdef const int64_t kNoTime "assay::Transaction::kNoTime"

    cdef cppclass Transaction:
        Transaction() noexcept
        string_view id
        int64_t event_time_us
        int8_t is_fraud
        bint is_label
        int64_t label_time_us
        CFence place
        EntityIds entities
        FeatureBits accepted_ints
        FeatureValues features
        void clear(size_t entity_count, size_t feature_count) noexcept

    cdef cppclass Violations:
        Violations() noexcept
        void add(Code code, string field, string description) noexcept
        void clear() noexcept
        cbool empty() noexcept
        const vector[Violation]& list() noexcept


cdef extern from "core/features/checks.h" namespace "assay" nogil:
    cdef enum class TransactionUse(unsigned char):
        kScore
        kEvent

    cbool check_value(const RequestFeatureSpec& feature, Value& value, Violations& violations) noexcept
    void check_required(
        const CFeaturePlan& plan, TransactionUse use, const Transaction& transaction, Violations& violations
    ) noexcept
    string feature_path(string_view name) noexcept
    string entity_path(string_view name) noexcept


cdef extern from "core/features/event_json.h" namespace "assay" nogil:
    cbool decode_event_json(
        string_view line, const CFeaturePlan& plan, Transaction& event, string& scratch, Violations& violations
    ) noexcept
    cbool decode_label_json(
        string_view line, const CFeaturePlan& plan, Transaction& label, string& scratch, Violations& violations
    ) noexcept


cdef extern from "core/features/embedded_store.h" namespace "assay" nogil:
    cdef cppclass FoldResult:
        cbool is_found
        cbool is_stale
        cbool is_saturated
        cbool is_approximate
        Code rejected
        int64_t age_us

    cdef cppclass CStoreStats "assay::StoreStats":
        uint64_t record_count
        uint64_t bytes
        uint64_t bytes_max
        uint64_t event_count
        uint64_t duplicate_count
        uint64_t late_count
        uint64_t rejected_record_count
        uint64_t tiled_event_count
        uint64_t full_count

    cdef cppclass CEmbeddedStore "assay::EmbeddedStore":
        CEmbeddedStore(uint64_t bytes_max) noexcept
        Status save(const string& path, const ProgressFunction& progress) noexcept
        Status load(const string& path, const ProgressFunction& progress) noexcept
        CStoreStats stats() noexcept


cdef extern from "core/features/feature_reader.h" namespace "assay" nogil:
    cdef cppclass RowOut:
        uint8_t* row
        uint64_t* missing
        uint64_t* imputed
        FoldResult* views

    cdef cppclass FetchedRecord:
        FetchedRecord() noexcept
        string_view bytes
        Code why

    cdef cppclass ReadScratch:
        ReadScratch() noexcept

    cdef cppclass CFeatureReader "assay::FeatureReader":
        @staticmethod
        Status create(
            shared_ptr[const CFeaturePlan] plan, shared_ptr[CEmbeddedStore] store, shared_ptr[const CFeatureReader]* out
        ) noexcept
        @staticmethod
        shared_ptr[const CFeatureReader] create_remote(shared_ptr[const CFeaturePlan] plan, vector[int64_t] near_ages_ns) noexcept
        cbool read(const Transaction& transaction, ReadScratch& scratch, const RowOut& out, Violations& violations) noexcept


cdef extern from "core/features/near_cache.h" namespace "assay" nogil:
    uint64_t kNearCacheBytesMin "assay::NearCache::kBytesMin"

    cdef cppclass CNearCacheStats "assay::NearCacheStats":
        uint64_t record_count
        uint64_t bytes
        uint64_t bytes_max
        uint64_t evicted_count


cdef extern from "core/wire/row_cost.h" namespace "assay" nogil:
    Status measure_rows(
        const CFeatureReader& reader, const vector[string_view]& messages, uint32_t rounds, int64_t* total_ns
    ) noexcept


cdef extern from "core/features/record_key.h" namespace "assay" nogil:
    cdef cppclass CRecordRef "assay::RecordRef":
        string key
        uint32_t view_index
        string entity_id


cdef extern from "core/features/event_writer.h" namespace "assay" nogil:
    cdef cppclass ViewBools "std::array<bool, assay::limits::kViewsMax>":
        cbool& operator[](size_t)

    cdef cppclass CWriterOptions "assay::WriterOptions":
        CWriterOptions() noexcept
        int64_t ahead_us_max
        CLateEvents late
        ViewBools left_out

    cdef cppclass CEventWriter "assay::EventWriter":
        @staticmethod
        Status create(
            shared_ptr[const CFeaturePlan] plan, shared_ptr[CEmbeddedStore] store, const CWriterOptions& options,
            shared_ptr[const CEventWriter]* out
        ) noexcept
        Code write(const Transaction& event) noexcept
        Code write_attributes(size_t view_index, string_view entity_id, int64_t time_us, const Value* values) noexcept
        void add_records_of(const Transaction& event, vector[CRecordRef]* records)
        CRecordRef record_of(size_t view_index, string_view entity_id)
        Code put_record(size_t view_index, string_view entity_id, string_view sealed) noexcept
        cbool take_changed_record(
            size_t view_index, string_view entity_id, string_view before, int64_t now_us, string* sealed
        )


cdef extern from "core/features/resp_exchange.h" namespace "assay" nogil:
    cdef enum class CExchangeEnd "assay::ExchangeEnd":
        kDone, kTimeout, kClosed, kNotResp, kTooLarge

    cdef cppclass COwnSocket "assay::OwnSocket":
        COwnSocket(int socket) noexcept
        int number() noexcept

    CExchangeEnd send_commands(int socket, string_view commands, int64_t deadline_ns, const CClock& clock) noexcept
    CExchangeEnd receive_answers(
        int socket, size_t answer_count, size_t values_max, int64_t deadline_ns, const CClock& clock, string* answers
    ) except +


cdef extern from "core/features/event_log.h" namespace "assay" nogil:
    cdef cppclass CEventRejection "assay::EventRejection":
        uint64_t line
        uint64_t offset_bytes
        string transaction_id
        vector[Violation] violations

    cdef cppclass CIngestReport "assay::IngestReport":
        uint64_t event_count
        uint64_t recorded_count
        uint64_t duplicate_count
        uint64_t late_count
        uint64_t refused_count
        Code refused_code

    cdef cppclass CEventLog "assay::EventLog":
        CEventLog(shared_ptr[const CFeaturePlan] plan, int64_t ahead_us_max) noexcept
        void append(string_view lines, size_t rejections_max, const CFence* places) noexcept
        uint64_t event_count() noexcept
        uint64_t rejected_count() noexcept
        const vector[CEventRejection]& rejections() noexcept
        uint64_t accepted_ints(size_t feature) noexcept
        void sort() noexcept
        void add_records(const CEventWriter& writer, uint64_t start, uint64_t stop, vector[CRecordRef]* records)
        uint64_t position_at(int64_t time_us) noexcept
        void ingest(const CEventWriter& writer, uint64_t start, uint64_t stop, CIngestReport* report) noexcept
        void replay(
            const CFeatureReader& reader,
            const CEventWriter& writer,
            uint64_t start,
            uint64_t stop,
            uint8_t* rows,
            uint8_t* valid,
            int64_t* event_times_us,
            CIngestReport* report,
            uint64_t* missing,
        ) noexcept
        string_view transaction_id(uint64_t index) noexcept


# ---------------------------------------------------------------------------------------------------------------- wire

cdef extern from "core/wire/score_request.h" namespace "assay" nogil:
    cdef enum class Priority(unsigned char):
        kInteractive
        kBulk

    cdef cppclass TransactionScan:
        TransactionScan() noexcept
        string_view transaction_id
        string_view model
        string_view version
        int32_t priority
        cbool include_features
        cbool include_timings

    Status scan_score_request(string_view data, TransactionScan& scan) noexcept
    Status scan_event(string_view data, TransactionScan& scan) noexcept
    Status scan_record_events_request(string_view data, vector[string_view]& events) noexcept
    cbool decode_transaction(
        const TransactionScan& scan, const CFeaturePlan& plan, TransactionUse use, Transaction& out, Violations& violations
    ) noexcept


cdef extern from "core/wire/response.h" namespace "assay" nogil:
    cdef enum class Stamp(unsigned char):
        kReceived

    cdef cppclass Stage:
        const char* name
        Stamp start
        Stamp end

    cdef enum class Decision(unsigned char):
        kUnspecified
        kApprove
        kChallenge
        kReview
        kDecline

    string encode_rpc_status(const Status& status, const Violations* violations) noexcept
    string rpc_message(const Status& status, const Violations* violations) noexcept


# ------------------------------------------------------------------------------------------------------------- serving

cdef extern from "core/serving/runner.h" namespace "assay" nogil:
    cdef cppclass OutputView:
        TensorType type
        const void* data
        size_t row_elements

    cdef cppclass Runner:
        void gather(const uint8_t** rows, size_t count) noexcept
        Status run(size_t count) noexcept
        OutputView output(size_t index) noexcept


cdef extern from "core/serving/completion_queue.h" namespace "assay" nogil:
    cdef cppclass Completion:
        uint64_t token
        uint64_t call

    cdef cppclass CCompletionQueue "assay::CompletionQueue":
        CCompletionQueue(size_t capacity) noexcept
        int fd() noexcept
        void drain(vector[Completion]& out) noexcept


cdef extern from "core/serving/lookups.h" namespace "assay" nogil:
    cdef cppclass CLookupBatch "assay::LookupBatch":
        vector[string] keys


cdef extern from "core/serving/lookup_hops.h" namespace "assay" nogil:
    cdef enum class CHopsEnd "assay::HopsEnd"(unsigned char):
        kStopped
        kSlow
        kTimeout
        kOdd

    cdef cppclass CHopLimits "assay::HopLimits":
        size_t rows_max
        int64_t timeout_ns
        int64_t slow_ns

    cdef cppclass CHopsResult "assay::HopsResult":
        CHopsEnd end
        uint64_t hop_count
        unique_ptr[CLookupBatch] batch


cdef extern from "core/serving/call_record.h" namespace "assay" nogil:
    cdef cppclass TracingOptions:
        cbool is_on
        double sample_ratio
        cbool follows_parent
        int64_t slow_ns

    cdef cppclass CallTrace:
        uint64_t trace_id_high
        uint64_t trace_id_low
        uint64_t parent_span_id
        cbool is_sampled

    cdef enum class CallKind(unsigned char):
        kUnary
        kBatch
        kInfer
        kStream
        kProbe

    cdef enum class RecordReason(unsigned char):
        kSampled
        kSlow
        kFailed
        kDeclined
        kLogged

    cdef cppclass RequestLogOptions:
        double ratio
        uint32_t calls_max

    cdef cppclass LaneName:
        string model
        string version

    cdef cppclass CCallRecord "assay::CallRecord":
        CallTrace trace
        uint64_t span_id
        shared_ptr[const LaneName] lane
        int64_t stamps[9]
        int64_t ended_ns
        uint32_t row_count
        uint32_t failed_rows
        uint32_t batch_rows
        Code answer
        Code failure
        CallKind kind
        Priority priority
        Decision decision
        uint8_t reasons
        cbool is_degraded


cdef extern from "core/serving/lane_metrics.h" namespace "assay" nogil:
    cdef cppclass CLatencyHistogram "assay::LatencyHistogram":
        int64_t sum()

    cdef cppclass RowsHistogram:
        int64_t sum

    cdef cppclass LaneHistograms:
        CLatencyHistogram inference[3]
        CLatencyHistogram stages[8]
        RowsHistogram batch_rows


cdef extern from "core/serving/drift_counts.h" namespace "assay" nogil:
    cdef cppclass DriftSpec:
        cbool is_on
        vector[vector[double]] input_edges
        vector[double] score_edges

    cdef cppclass DriftTotals:
        uint64_t scores
        vector[uint64_t] score_counts
        vector[uint64_t] alert_counts
        vector[vector[uint64_t]] input_counts
        vector[uint64_t] null_counts
        vector[uint64_t] imputed_counts


cdef extern from "core/serving/served_rows.h" namespace "assay" nogil:
    cdef cppclass ServedRowsOptions:
        uint32_t one_in
        uint32_t rows_max

    cdef cppclass CServedRow "assay::ServedRow":
        uint64_t position
        shared_ptr[const LaneName] lane
        string transaction_id
        int64_t event_time_us
        vector[uint8_t] row
        vector[uint64_t] missing
        cbool is_degraded

    cdef cppclass CServedRows "assay::ServedRows":
        vector[shared_ptr[const CServedRow]] after(uint64_t position, size_t rows_max) except +


# --------------------------------------------------------------------------------------------------------------- audit

cdef extern from "core/base/blake2b.h" namespace "assay" nogil:
    cdef cppclass Digest16:
        pass
    cdef cppclass Digest32:
        pass
    Digest16 blake2b_16 "assay::blake2b<16>"(string_view data, string_view key) noexcept

cdef extern from "core/base/card_numbers.h" namespace "assay" nogil:
    cbool append_tokenised(string_view text, string_view key, string& out) except +

cdef extern from "core/audit/segment_layout.h" namespace "assay::audit" nogil:
    size_t audit_block_bytes "assay::audit::block_bytes"(size_t payload_bytes) noexcept
    const size_t kAuditRecordBytesMax "assay::audit::kRecordBytesMax"
    cdef cppclass LogId:
        pass
    cdef cppclass KeyId:
        pass
    cdef cppclass CSegmentHeader "assay::audit::SegmentHeader":
        uint64_t first_sequence
        int64_t made_us
        LogId log_id
        KeyId key_id

cdef extern from "core/audit/segment_writer.h" namespace "assay::audit" nogil:
    KeyId key_id(string_view key) noexcept

cdef extern from "core/audit/segment_reader.h" namespace "assay::audit" nogil:
    cdef cppclass CAuditBlock "assay::audit::Block":
        uint64_t first_sequence
        uint32_t record_count
        int64_t written_us
        string_view payload
        Digest32 chain
        size_t offset
    cdef cppclass SegmentReader:
        @staticmethod
        Code open(string_view data, SegmentReader* out) noexcept
        const CSegmentHeader& header() noexcept
        cbool next(cbool checks_chain, CAuditBlock* out) noexcept
        Code why() noexcept
        size_t offset() noexcept
        uint64_t next_sequence() noexcept
        const Digest32& chain() noexcept
    cbool find_block(string_view data, size_t starts_end, uint64_t sequence_min, uint64_t sequence_end, CAuditBlock* out) noexcept
    cbool next_audit_record "assay::audit::next_record"(string_view& payload, string_view* record) noexcept

cdef extern from "core/audit/spool_files.h" namespace "assay::audit" nogil:
    cdef cppclass CSpoolFiles "assay::audit::SpoolFiles":
        pass
    Status open_disk_files(const string& directory, unique_ptr[CSpoolFiles]* out) except +

cdef extern from "core/audit/spool.h" namespace "assay::audit" nogil:
    cdef enum class CSpoolState "assay::audit::SpoolState"(uint8_t):
        kWriting
        kReserve
        kFull
    cdef cppclass CSpoolOptions "assay::audit::SpoolOptions":
        uint64_t bytes_max
        cbool has_sink
        cbool is_durable
        int64_t age_us_max
        KeyId key_id
    cdef cppclass CSpoolStats "assay::audit::SpoolStats":
        CSpoolState state
        uint64_t bytes
        uint64_t next_sequence
        uint64_t shipped_sequence
        uint64_t unshipped_bytes
        int64_t oldest_unshipped_us
        uint64_t write_failures
        uint64_t sync_failures
        uint64_t lost_records
        uint64_t allocation_failures
        uint64_t torn_bytes
    cdef cppclass CSpool "assay::audit::Spool":
        @staticmethod
        Status open(const CSpoolOptions& options, unique_ptr[CSpoolFiles] files, int64_t now_us, unique_ptr[CSpool]* out) except +

cdef extern from "core/audit/checkpoint.h" namespace "assay::audit" nogil:
    cdef enum class CAuditLevel "assay::audit::AuditLevel"(uint8_t):
        kMemory
        kSpool
        kFsync
    cdef enum class CAuditDrop "assay::audit::AuditDrop"(uint8_t):
        kCount_
    const char* drop_name(CAuditDrop drop) noexcept
    cdef cppclass DropCounts "std::array<uint64_t, static_cast<size_t>(assay::audit::AuditDrop::kCount_)>":
        uint64_t operator[](size_t index) noexcept
    cdef cppclass CAuditCounts "assay::audit::AuditCounts":
        uint64_t recorded
        DropCounts dropped
        uint64_t ring_dropped

cdef extern from "core/audit/audit_log.h" namespace "assay::audit" nogil:
    cdef enum class CWhenFull "assay::audit::WhenFull"(uint8_t):
        kRefuse
        kSample
    cdef cppclass CAuditOptions "assay::audit::AuditOptions":
        CAuditLevel level
        CWhenFull when_full
        uint32_t full_one_in
        cbool has_thread
        string inputs
        string software
    cdef cppclass CAuditStats "assay::audit::AuditStats":
        CSpoolStats spool
        CAuditCounts counts
        uint64_t blocks
        uint64_t buffer_bytes
        uint64_t buffer_bytes_max
        cbool is_refusing
        string last_error
    cdef cppclass CAuditLog "assay::audit::AuditLog":
        CAuditLog(const CAuditOptions& options, unique_ptr[CSpool] spool)
        Status start() noexcept
        cbool append_record(string_view record) noexcept
        cbool commit(const vector[string]& records) noexcept
        cbool is_refusing() noexcept
        void set_shipped(uint64_t sequence) noexcept
        void flush() noexcept
        void close() noexcept
        void step() noexcept
        CAuditStats stats() except +

cdef extern from "core/serving/audit_policy.h" namespace "assay" nogil:
    cdef enum class CAuditInputs "assay::AuditInputs"(uint8_t):
        kFull
        kSample
        kDigest
    cdef cppclass AuditPolicy:
        CAuditInputs inputs
        uint32_t sample_one_in
        string key
    cdef cppclass EngineAudit:
        shared_ptr[CAuditLog] log
        AuditPolicy policy


# ------------------------------------------------------------------------------------------------------- explanations

cdef extern from "core/explain/explained_model.h" namespace "assay::explain" nogil:
    cdef enum class CMethod "assay::explain::Method"(uint8_t):
        kTrees

    cdef enum class CPlayers "assay::explain::Players"(uint8_t):
        kGroups
        kInputs

    cdef cppclass RowTensor:
        TensorType type
        size_t offset_bytes
        size_t elements

    cdef cppclass ExplainerSpec:
        string_view model
        string_view output
        size_t column
        vector[RowTensor] tensors
        size_t row_bytes
        const uint8_t* background
        size_t background_rows
        vector[uint32_t] inputs
        vector[uint32_t] groups
        size_t group_count

    cdef cppclass BackgroundScores:
        vector[double] scores
        cbool are_probabilities

    cdef cppclass CSampledModel "const assay::explain::SampledModel":
        pass

    cdef cppclass Attribution:
        pass

    cdef cppclass Reason:
        string code
        string analyst_text
        string customer_text

    cdef cppclass CExplainedModel "assay::explain::ExplainedModel":
        unique_ptr[CSampledModel] sampled
        cbool is_asked() noexcept
        CMethod method() noexcept
        string background_sha256
        vector[string] group_names
        vector[string] input_names
        vector[uint32_t] element_inputs
        vector[Reason] reasons
        string reasons_version

cdef extern from "core/explain/sampled_row.h" namespace "assay::explain" nogil:
    cdef cppclass SamplingOptions:
        size_t rounds_min
        size_t rounds_max

    cdef cppclass SampledRow:
        @staticmethod
        Status begin(CSampledModel& model, vector[uint8_t] row, double score, CPlayers players, const SamplingOptions& options, SampledRow* out) except +
        size_t next(size_t rows_max) except +
        void fill(size_t i, uint8_t* row) noexcept
        Status give(const double* scores, size_t count) except +
        cbool can_tell() noexcept
        void tell(Attribution* out) except +

cdef extern from "core/serving/explain_worker.h" namespace "assay" nogil:
    cdef cppclass ExplainJob:
        shared_ptr[const CExplainedModel] model
        vector[uint8_t] row
        CPlayers players
        uint32_t top_k
        double score

    cdef cppclass ExplainResult:
        string answer
        string record

    ExplainResult explain_row(const ExplainJob& job) except +
    ExplainResult tell_explanation(const ExplainJob& job, const Attribution& found) except +

cdef extern from "core/serving/explain_options.h" namespace "assay" nogil:
    cdef cppclass ExplainOptions:
        uint32_t threads
        uint32_t queue_rows_max
        int64_t inline_ns_max
        cbool has_threads

    cdef cppclass CExplainStats "assay::ExplainStats":
        uint32_t queued_rows
        uint32_t threads
        uint64_t asked_rows
        cbool is_suspended


# -------------------------------------------------------------------------------------------------------------- engine

cdef extern from "core/serving/engine.h" namespace "assay" nogil:
    cdef cppclass EngineOptions:
        uint32_t slots
        uint32_t batch_call_rows_max
        uint64_t answer_bytes_max
        int64_t lookup_timeout_ns_max
        cbool has_lookup_thread
        uint64_t near_cache_bytes_max
        int64_t near_cache_stale_ns_max
        TracingOptions tracing
        RequestLogOptions request_log
        uint32_t call_records_max
        ServedRowsOptions served_rows
        ExplainOptions explain
        EngineAudit audit

    cdef cppclass Threshold:
        double minimum
        Decision decision

    cdef cppclass CCardUseStats "assay::CardUseStats":
        string model
        string version
        uint32_t rows_max
        uint32_t rows

    cdef cppclass CCardStats "assay::CardStats":
        cbool is_dead
        cbool is_hot
        string why
        string last_fault
        uint64_t runs
        vector[CCardUseStats] uses

    cdef cppclass CCardOptions "assay::CardOptions":
        int64_t hang_ns_max
        int64_t hold_ns_min
        int64_t hold_ns_max
        int64_t patience_ns_min

    cdef cppclass CCard "assay::Card":
        CCard(const CCardOptions& options) except +
        void set_hot(cbool is_hot) noexcept
        CCardStats stats(int64_t now_ns) except +

    cdef cppclass LaneOptions:
        uint32_t batch_rows_max
        uint32_t queue_rows_max
        int64_t queue_delay_ns_max
        int64_t timeout_ns_default
        int64_t inline_overrun_ns

    cdef cppclass LaneSpec:
        string model
        string version
        string model_sha256
        shared_ptr[const CFeatureReader] reader
        vector[unique_ptr[Runner]] runners
        unique_ptr[Runner] inline_runner
        shared_ptr[CCard] card
        vector[unique_ptr[Runner]] standbys
        cbool has_threads
        uint32_t score_output
        uint32_t score_column
        vector[Threshold] thresholds
        shared_ptr[const CExplainedModel] explained
        string runtime
        string standby_runtime
        DriftSpec drift
        LaneOptions options
        vector[TensorShape] infer_inputs
        vector[TensorShape] infer_outputs

    cdef cppclass CallContext:
        int64_t received_ns
        int64_t deadline_ns
        string_view traceparent

    cdef cppclass Submission:
        Code code
        cbool is_complete
        uint64_t call
        int64_t deadline_ns
        string message
        string rpc_status

    cdef cppclass Answer:
        Code code
        string payload
        string message
        string rpc_status

    cdef cppclass CEngineStats "assay::EngineStats":
        uint64_t accepted_rows
        uint64_t answered_rows
        uint64_t failed_rows
        uint64_t cancelled_rows
        uint64_t shed_rows
        uint64_t refused_calls
        uint64_t expired_rows[5]
        uint64_t defaulted_deadlines
        uint64_t batch_count
        uint64_t batched_rows
        uint64_t retried_batches
        uint64_t inline_rows
        uint64_t inline_overruns
        uint64_t degraded_rows
        uint64_t sampled_rows
        uint64_t dropped_sampled_rows
        uint64_t lookup_batches
        uint64_t lookup_given_up_rows
        uint64_t lookup_unavailable_records
        uint64_t lookup_rejected_records
        uint64_t near_cache_hits
        uint64_t near_cache_misses
        uint64_t near_cache_stale_records
        uint64_t near_cache_joined_rows
        CNearCacheStats near_cache
        uint32_t looking_up_rows
        uint32_t slots
        uint32_t slots_used
        uint32_t slots_used_max
        uint32_t queued_rows
        CExplainStats explain

    cdef cppclass CRoute "assay::Route":
        string champion
        string challenger
        string entity
        double canary_share

    cdef cppclass CShadowShare "assay::ShadowShare":
        string entity
        double share

    cdef cppclass CShadowStats "assay::ShadowStats":
        string model
        string version
        double share
        uint64_t compared_rows
        uint64_t failed_rows
        uint64_t shed_rows
        uint64_t held_bytes
        double difference_sum

    cdef cppclass LaneSnapshot:
        string model
        string version
        int64_t oldest_queued_ns
        uint64_t failed_rows
        uint64_t missed_rows
        LaneHistograms histograms
        cbool can_explain
        cbool is_explaining_suspended

    cdef cppclass CLaneDrift "assay::LaneDrift":
        string model
        string version
        vector[Decision] decisions
        DriftTotals totals

    cdef cppclass CEngineMetrics "assay::EngineMetrics":
        vector[LaneSnapshot] lanes
        uint64_t refused_calls[256]  # an element for each code
        uint64_t failed_rows[256]
        uint64_t degradations[4]
        uint64_t left_out_records[256]
        uint64_t expired_rows
        uint64_t dropped_records
        uint64_t refused_traceparents

    cdef cppclass CEngine "assay::Engine":
        CEngine(const EngineOptions& options, const CClock& clock) noexcept
        Status add_lane(LaneSpec spec, cbool is_default) noexcept
        Status remove_lane(string_view model, string_view version) noexcept
        Status set_route(string_view model, CRoute route) noexcept
        Status start_shadow(LaneSpec spec, const CShadowShare& share) noexcept
        Status stop_shadow(const string& model) noexcept
        vector[CShadowStats] shadow_stats()
        Submission submit_score(string_view data, const CallContext& context, CCompletionQueue* queue, uint64_t token) noexcept
        Submission submit_batch(string_view data, const CallContext& context, CCompletionQueue* queue, uint64_t token) noexcept
        Submission submit_stream(string_view data, const CallContext& context, CCompletionQueue* queue, uint64_t token) noexcept
        Submission submit_infer(string_view data, const CallContext& context, CCompletionQueue* queue, uint64_t token) noexcept
        unique_ptr[CLookupBatch] take_lookups(size_t rows_max, cbool waits)
        CHopsResult run_hops(int socket, const CHopLimits& limits) except +
        void give_lookups(const CLookupBatch& batch, const FetchedRecord* records) noexcept
        void fail_lookups(const CLookupBatch& batch) noexcept
        void forget_record(string_view key) noexcept
        size_t step_lookups() noexcept
        void count_refused_call(Code code) noexcept
        Answer finish(uint64_t call) noexcept
        cbool cancel(uint64_t call) noexcept
        cbool expire(uint64_t call) noexcept
        void drain() noexcept
        cbool wait_idle(int64_t timeout_ns) noexcept
        void stop() noexcept
        size_t step(string_view model, string_view version) noexcept
        CEngineStats stats() noexcept
        CEngineMetrics metrics() noexcept
        vector[CLaneDrift] drift() except +
        void drain_records(vector[CCallRecord]& out) noexcept
        const CServedRows& served_rows() noexcept
        cbool is_tracing() noexcept
        void set_sample_ratio(double ratio) noexcept
        void set_log_ratio(double ratio) noexcept
        void check_idle() noexcept


# ------------------------------------------------------------------------------------------------------------- runtime

cdef extern from "core/wire/infer_request.h" namespace "assay" nogil:
    cdef cppclass InferScan:
        string_view model
        string_view version
        string_view id

    cdef cppclass InferCall:
        uint32_t row_count
        uint64_t outputs_wanted

    Status scan_infer_request(string_view data, InferScan& scan) noexcept
    cbool is_bulk(const InferScan& scan, uint32_t row_count) noexcept
    Status check_infer(
        const InferScan& scan, const InferSchema& schema, size_t rows_max, InferCall& call, Violations& violations
    ) noexcept
    void write_infer_rows(
        const InferScan& scan, const InferSchema& schema, const InferCall& call, uint8_t* const* rows
    ) noexcept


cdef extern from "core/runtime/ort_model.h" namespace "assay" nogil:
    cdef cppclass CTensorInfo "assay::TensorInfo":
        string name
        int onnx_type
        cbool has_batch_axis
        vector[int64_t] dims

    cdef cppclass COrtRuntime "assay::OrtRuntime":
        @staticmethod
        Status open(const string& library_path, shared_ptr[COrtRuntime]* out) noexcept
        string version() noexcept
        vector[string] providers() noexcept

    cdef cppclass OrtModelOptions:
        int intra_op_threads
        int cuda_device
        uint64_t cuda_memory_bytes_max

    cdef cppclass COrtModel "assay::OrtModel":
        @staticmethod
        Status load(
            shared_ptr[COrtRuntime] runtime, string_view model_bytes, const OrtModelOptions& options, shared_ptr[COrtModel]* out
        ) noexcept
        const vector[CTensorInfo]& inputs() noexcept
        const vector[CTensorInfo]& outputs() noexcept
        @staticmethod
        Status make_runner(
            shared_ptr[COrtModel] model,
            const vector[TensorSpec]& tensors,
            const vector[TensorSegment]& segments,
            size_t rows_max,
            unique_ptr[Runner]* out,
            const vector[uint32_t]& outputs_wanted,
        ) noexcept
        Status run_matrix(const float* matrix, size_t count, uint32_t output, size_t column, double* scores) noexcept


cdef extern from "core/runtime/puppet_model.h" namespace "assay" nogil:
    cdef cppclass CPuppetModel "assay::PuppetModel":
        CPuppetModel(size_t rows_max) noexcept
        @staticmethod
        double score_of(string_view row) noexcept
        @staticmethod
        unique_ptr[Runner] make_runner(shared_ptr[CPuppetModel] model, size_t row_bytes) noexcept
        void fail_next(uint64_t runs) noexcept
        void poison(string_view row) noexcept
        void hold() noexcept
        void release() noexcept
        vector[uint64_t] batches() noexcept


cdef extern from "core/runtime/run_faults.h" namespace "assay" nogil:
    cdef enum class Fault(uint8_t):
        kOther
        kOutOfMemory
        kSticky

    Fault c_run_fault "assay::run_fault"(string_view text) noexcept


cdef extern from "core/runtime/faulty_model.h" namespace "assay" nogil:
    cdef enum class FaultKind(uint8_t):
        kError
        kHang
        kNan

    cdef cppclass FaultRule:
        FaultKind kind
        string text
        uint64_t rows_min
        uint64_t rows_max
        uint64_t first_run
        uint64_t runs_max
        int64_t nan_row

    cdef cppclass CFaultyModel "assay::FaultyModel":
        @staticmethod
        unique_ptr[Runner] wrap(shared_ptr[CFaultyModel] model, unique_ptr[Runner] inner) noexcept
        void add(const FaultRule& rule) except +
        void clear() noexcept
        void release() noexcept
        vector[uint64_t] batches() except +
        uint64_t hanging() noexcept


# ------------------------------------------------------------------------------------------------------------- explain

cdef extern from "core/explain/tree_ensemble.h" namespace "assay::explain" nogil:
    cdef cppclass TreeEnsemble:
        pass


cdef extern from "core/explain/onnx_trees.h" namespace "assay::explain" nogil:
    cdef enum class Link(uint8_t):
        kIdentity

    double linked(Link link, double margin) noexcept

    cdef cppclass CTreeModel "assay::explain::TreeModel":
        TreeEnsemble trees
        Link link
        void scale(float* row) noexcept

    Status c_find_trees "assay::explain::find_trees"(
        string_view model, string_view output, size_t column, size_t feature_count, CTreeModel* out
    ) noexcept


cdef extern from "core/explain/interventional.h" namespace "assay::explain" nogil:
    cdef cppclass CInterventional "assay::explain::Interventional":
        @staticmethod
        Status create(
            const TreeEnsemble& trees, const float* background, size_t rows, const vector[uint32_t]& groups, size_t players,
            CInterventional* out,
        ) noexcept
        double base() noexcept
        size_t player_count() noexcept
        size_t bytes() noexcept
        double explain(const float* row, double* values) noexcept


# -------------------------------------------------------------------------------------------------------------- bridge

cdef extern from "bindings/cython_bridge.h" namespace "assay::bindings" nogil:
    string bytes_of_array[T](const T& array) except +
    vector[string] card_fault_names() except +
    vector[string] cpu_cause_names() except +
    vector[uint64_t] card_faults(const CCardStats& stats) except +
    vector[uint64_t] card_cpu_rows(const CCardStats& stats) except +
    ctypedef void (*ReportProgress)(void* context, uint64_t done, uint64_t total) noexcept nogil

    cdef cppclass ProgressFunction "std::function<void(uint64_t, uint64_t)>":
        ProgressFunction() noexcept

    Value value_of_float64(double value) noexcept
    Value value_of_int64(int64_t value) noexcept
    Value value_of_bool(cbool value) noexcept
    Value value_of_text(string_view value) noexcept
    void set_view_hash(ViewSpec& spec, const char* hash) noexcept
    ProgressFunction progress_function(ReportProgress report, void* context) noexcept
    vector[int64_t] latency_bounds_ns() noexcept
    vector[int64_t] batch_rows_bounds() noexcept
    vector[double] shadow_difference_bounds() noexcept
    Status make_explainer(const ExplainerSpec& spec, CExplainedModel* model) except +
    Status make_sampled(const ExplainerSpec& spec, BackgroundScores background, CExplainedModel* model) except +
    vector[string] explanation_status_names() noexcept
    vector[uint64_t] explanations_of(const LaneSnapshot& lane) noexcept
    vector[uint64_t] differences_of(const CShadowStats& stats) noexcept
    vector[vector[uint64_t]] decisions_of(const CShadowStats& stats) noexcept
    vector[Stage] stages() noexcept
    vector[int64_t] fine_upper_ns() noexcept
    vector[string] degradation_names() noexcept
    vector[uint64_t] counts_of(const CLatencyHistogram& histogram) noexcept
    vector[uint64_t] counts_of(const RowsHistogram& histogram) noexcept
    vector[pair[uint32_t, uint64_t]] fine_counts_of(const CLatencyHistogram& histogram) noexcept
    string build_flags() noexcept
    string cpu_class() noexcept


# ------------------------------------------------------------------------------------------------------------ transport

cdef extern from "core/transport/transport_options.h" namespace "assay" nogil:
    cdef cppclass TransportOptions:
        uint32_t io_threads
        string forward_path
        size_t receive_message_bytes_max
        size_t send_message_bytes_max
        size_t metadata_bytes_max
        uint32_t connections_max
        uint32_t connection_streams_max
        uint32_t forwarded_streams_max
        uint32_t streams_max
        uint32_t stream_messages_max
        size_t held_bytes_max
        int64_t stream_age_ns_max
        int64_t handshake_ns_max
        int64_t request_ns_max
        int64_t ping_interval_ns_min
        int64_t keepalive_ns
        int64_t keepalive_timeout_ns
        int64_t idle_ns_max
        int64_t age_ns_max
        int64_t age_grace_ns
        vector[string] test_only_methods


cdef extern from "core/transport/native_transport.h" namespace "assay" nogil:
    const size_t kCloseReasonCount
    const char* kCloseReasonNames[12]

    cdef cppclass CTransportStats "assay::TransportStats":
        uint64_t accepted_connections
        uint64_t closed_connections[12]
        uint64_t held_bytes
        uint64_t open_connections
        uint64_t lingering_sockets
        uint64_t cut_sockets
        uint64_t open_streams
        uint64_t open_forwarded_calls
        uint64_t waiting_calls
        uint64_t accept_rests
        uint64_t denied_calls[256]

    cdef cppclass TransportPem:
        string certificate
        string key
        string client_authorities

    cdef cppclass CDeniedCall "assay::DeniedCall":
        Code code
        string method
        string principal

    cdef cppclass CNativeTransport "assay::NativeTransport":
        @staticmethod
        cbool is_built()
        CNativeTransport(CEngine& engine, const CClock& clock, const TransportOptions& options)
        Status start(int listening_fd)
        Status protect(const TransportPem& pem, const vector[pair[string, uint8_t]]* roles)
        vector[CDeniedCall] drain_denials()
        void drain(int64_t grace_ns)
        cbool wait_closed(int64_t timeout_ns)
        void stop()
        CTransportStats stats()


cdef extern from "core/base/black_box.h" namespace "assay::black_box" nogil:
    const size_t kFileBytes
    const unsigned int kFormat
    const size_t kBlackBoxSlots "assay::black_box::kSlots"
    const size_t kBlackBoxErrors "assay::black_box::kErrors"

    cdef cppclass BlackBoxIdentity "assay::black_box::Identity":
        string_view assay
        string_view build
        string_view python
        string_view runtime

    Status black_box_open "assay::black_box::open"(int file, const BlackBoxIdentity& identity) except +
    void black_box_close "assay::black_box::close"() noexcept
    void black_box_name_runtime "assay::black_box::name_runtime"(string_view version) noexcept
    Status black_box_read_modules "assay::black_box::read_modules"() except +
    cbool black_box_is_open "assay::black_box::is_open"() noexcept
