// Codes and statuses: every way the core can say no.
//
// Malformed input and full queues are operating errors and travel as a Code or a Status; nothing throws across the core's
// border. A broken invariant is ASSAY_ASSERT. The one table Code -> (reason, gRPC status, retry) lives in status.cc; Python
// reads it through assay._core.CODE_TABLE and docs/errors.md is tested against it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace assay {

// Numbers are internal; the reason string is the public name. Append only.
enum class Code : uint8_t {
  kOk = 0,
  // --- the request as a whole (INVALID_ARGUMENT and kin)
  kMalformedMessage,  // bytes are not the message; Status::offset is the first bad byte
  kInvalidRequest,    // umbrella: one or more violations below
  kTooManyRows,       // a batch call, or one message of events, over its row limit
  kEmptyBatch,
  kUnknownModel,    // NOT_FOUND
  kUnknownVersion,  // NOT_FOUND
  // --- violations: reasons of one BadRequest.FieldViolation (or of one event's rejection)
  kMissingField,  // transaction_id, event_time
  kMissingEntity,
  kUnknownEntity,
  kMissingFeature,
  kUnknownFeature,
  kWrongType,
  kValueUnset,  // a FeatureValue with no value set
  kNotFinite,   // NaN or infinity on the wire
  kOutOfRange,  // outside the declared range, past float32, or an accepted integer past 2^53
  kTooLong,     // text or id over its limit
  kBadTimestamp,
  kBadDuration,
  kBadPriority,
  kExplainUnsupported,
  kNotInBatch,    // a field that stands on the batch, set in a row
  kNullInput,     // a model input is null and its when_null is error
  kDuplicateKey,  // strict JSON: the same key twice
  kMalformedJson,
  kIntegerOverflow,  // a JSON integer past int64, or a checked sum past int64
  // --- load
  kQueueFull,       // UNAVAILABLE + RetryInfo
  kQueueTooLong,    // UNAVAILABLE + RetryInfo: for the call's deadline
  kSlotsExhausted,  // UNAVAILABLE + RetryInfo
  kShed,            // UNAVAILABLE + RetryInfo: gave way to a higher priority
  kDraining,        // UNAVAILABLE + RetryInfo
  kStreamLimit,     // RESOURCE_EXHAUSTED: client over its quota
  kDeadlineExceeded,
  kCancelled,
  // --- the model
  kModelRunFailed,      // INTERNAL
  kModelOutputInvalid,  // INTERNAL: NaN or infinity came out, or a wrong shape
  kModelUnsupported,    // FAILED_PRECONDITION at load
  kRuntimeUnavailable,  // ONNX Runtime could not be opened, failed its self-check, or has no such device
  // --- the store
  kStoreUnavailable,  // UNAVAILABLE
  kStoreFull,         // RESOURCE_EXHAUSTED
  kEventDuplicate,    // a no-op, counted
  kEventTooLate,      // FAILED_PRECONDITION
  kEventInFuture,     // FAILED_PRECONDITION: its time is ahead of this machine's clock
  kRecordMagic,       // DATA_LOSS, one for each check so that each has its counter
  kRecordVersion,
  kRecordLength,
  kRecordChecksum,
  kRecordView,
  kRecordEntity,
  kRecordLayout,
  kSnapshotMagic,
  kSnapshotVersion,
  kSnapshotTruncated,
  kSnapshotChecksum,
  kSnapshotView,
  kIo,  // UNAVAILABLE: the operating system said no; detail has errno's text
  // --- the house
  kPlanInvalid,  // FAILED_PRECONDITION: a feature plan that cannot be
  kInternal,
  // --- the policy (base/policy.h)
  kUnknownMethod,       // UNIMPLEMENTED: no row, or nothing that answers it
  kWrongListener,       // UNIMPLEMENTED: answered elsewhere
  kMissingCertificate,  // UNAUTHENTICATED
  kMissingRole,         // PERMISSION_DENIED
  // --- connections
  kStreamTooOld,    // UNAVAILABLE + RetryInfo: its connection may be about to end
  kAnswerTooLarge,  // RESOURCE_EXHAUSTED: past what the server sends
  // --- the native transport
  kMessageTooLarge,      // RESOURCE_EXHAUSTED: past what the server reads
  kMetadataTooLarge,     // RESOURCE_EXHAUSTED
  kMalformedCall,        // INTERNAL: not gRPC as its protocol has it
  kEncodingUnsupported,  // UNIMPLEMENTED
  kForwardingFailed,     // UNAVAILABLE: the server behind the listener
  // --- labels
  kEventUnknown,  // NOT_FOUND: a label of an event that the store does not hold
  // --- the audit log
  kAuditUnavailable,  // UNAVAILABLE + RetryInfo: a score that could not be recorded is not given
  kSegmentMagic,      // DATA_LOSS, one for each check
  kSegmentVersion,
  kSegmentChecksum,
  kSegmentSequence,
  kSegmentChain,
  // --- rolling models out
  kBundleRefused,   // FAILED_PRECONDITION: a bundle that was to be loaded did not prove itself
  kRolloutRefused,  // FAILED_PRECONDITION: a version, label or share that cannot be changed so now
  // --- ModelInfer
  kBadTensor,         // INVALID_ARGUMENT, in a violation: its name, datatype, shape, size or elements are not the model's
  kBadParameter,      // INVALID_ARGUMENT, in a violation: one that means something here and cannot be done
  kNoFeatureSet,      // FAILED_PRECONDITION: a score of a model that takes tensors alone
  kInferUnsupported,  // FAILED_PRECONDITION: no output of the model has a declared size
  // --- explanations
  kBadExplain,     // INVALID_ARGUMENT, in a violation: options that are none, or contradict each other
  kNoAuditLog,     // FAILED_PRECONDITION: a score of the past, of a server that keeps no log
  kScoreUnknown,   // NOT_FOUND: the log has no score of this transaction
  kNoExplanation,  // FAILED_PRECONDITION: the log has the score, but nothing to explain it with
  kCount_,
};

// gRPC status numbers, for the table.
enum class GrpcCode : uint8_t {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

// One row of the table. All strings are literals.
struct CodeInfo {
  Code code;
  const char* reason;  // UPPER_SNAKE, google.rpc.ErrorInfo.reason
  GrpcCode grpc;
  int32_t retry_ms;     // RetryInfo.retry_delay in milliseconds; 0: not retryable
  const char* message;  // what happened and what to do, for people; no values
};

// The row of `code`. Thread-safe, never fails.
const CodeInfo& code_info(Code code) noexcept;

inline const char* reason_of(Code code) noexcept { return code_info(code).reason; }

// The outcome of a call that is not on the hot path, or of the refusal of one that is. `detail` allocates on failure only.
struct Status {
  Code code = Code::kOk;
  uint32_t offset = 0;  // byte offset into the input, where the code is about bytes
  std::string detail;   // names the field, expected and found types, what to do. Never a value.

  Status() = default;
  explicit Status(Code c, std::string d = {}, uint32_t o = 0) : code(c), offset(o), detail(std::move(d)) {}
  bool ok() const noexcept { return code == Code::kOk; }
};

// One field's violation. Built on the failure path only.
struct Violation {
  Code code = Code::kOk;
  std::string field;        // proto path: features["amount"], entities["customer_id"], event_time
  std::string description;  // expected and found types, and what to do; never the value
};

// Text from outside made safe to show in an error: control characters escaped, at most 64 bytes, numbers of 12 or more
// digits masked, whatever stands between their groups (a card number typed into the wrong field must not reach a log).
std::string printable(std::string_view text);

[[noreturn]] void assert_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace assay

// An invariant of ours. Always on: a wrong score costs more than a branch.
#define ASSAY_ASSERT(condition) \
  (__builtin_expect(!!(condition), 1) ? (void)0 : ::assay::assert_failed(#condition, __FILE__, __LINE__))
