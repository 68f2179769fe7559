#include "core/base/status.h"

#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "core/base/black_box.h"

namespace assay {
namespace {

constexpr GrpcCode kBad = GrpcCode::kInvalidArgument;
constexpr GrpcCode kPrecondition = GrpcCode::kFailedPrecondition;
constexpr GrpcCode kAway = GrpcCode::kUnavailable;
constexpr GrpcCode kLost = GrpcCode::kDataLoss;

// In the order of Code. docs/errors.md has a section for each reason; a test holds the two together.
constexpr CodeInfo kTable[] = {
    {Code::kOk, "OK", GrpcCode::kOk, 0, "No error."},

    {Code::kMalformedMessage, "MALFORMED_MESSAGE", kBad, 0,
     "The bytes are not a message of the expected type. Encode it with code generated from proto/assay/v1."},
    {Code::kInvalidRequest, "INVALID_REQUEST", kBad, 0, "The request is not valid. Mend the listed fields and send it again."},
    {Code::kTooManyRows, "TOO_MANY_ROWS", kBad, 0, "The message has more rows than the limit. Split it."},
    {Code::kEmptyBatch, "EMPTY_BATCH", kBad, 0, "The batch has no rows. Send at least one."},
    {Code::kUnknownModel, "UNKNOWN_MODEL", GrpcCode::kNotFound, 0,
     "No model of this name is loaded. Check the name, or leave it out for the default model."},
    {Code::kUnknownVersion, "UNKNOWN_VERSION", GrpcCode::kNotFound, 0,
     "The model is loaded, but not in this version. Leave the version out for the one that serves."},

    {Code::kMissingField, "MISSING_FIELD", kBad, 0, "A required field is missing. Set it."},
    {Code::kMissingEntity, "MISSING_ENTITY", kBad, 0, "A required entity is missing. Add its id to entities."},
    {Code::kUnknownEntity, "UNKNOWN_ENTITY", kBad, 0,
     "The feature set declares no entity of this name. Check the name, or leave the entity out."},
    {Code::kMissingFeature, "MISSING_FEATURE", kBad, 0, "A required feature is missing. Add it to features."},
    {Code::kUnknownFeature, "UNKNOWN_FEATURE", kBad, 0,
     "The feature set declares no request feature of this name. Check the name, or leave the feature out."},
    {Code::kWrongType, "WRONG_TYPE", kBad, 0,
     "A value has another type than the declared one. Nothing is converted: send the declared type."},
    {Code::kValueUnset, "VALUE_UNSET", kBad, 0,
     "A feature is named but has no value. Set one of double_value, int64_value, bool_value, string_value, or leave it out."},
    {Code::kNotFinite, "NOT_FINITE", kBad, 0, "A value is NaN or infinite. Leave an unknown value out."},
    {Code::kOutOfRange, "OUT_OF_RANGE", kBad, 0, "A value is outside its declared range, or too large for the model's type."},
    {Code::kTooLong, "TOO_LONG", kBad, 0, "A text or an id is longer than its limit. Shorten it."},
    {Code::kBadTimestamp, "BAD_TIMESTAMP", kBad, 0, "A time is not valid: years 0001 to 9999 in UTC, nanos 0 to 999,999,999."},
    {Code::kBadDuration, "BAD_DURATION", kBad, 0,
     "A duration is not valid: it must be positive, nanos within 999,999,999 and of the same sign."},
    {Code::kBadPriority, "BAD_PRIORITY", kBad, 0,
     "The priority is not one of PRIORITY_INTERACTIVE and PRIORITY_BULK. Leave it out for the default."},
    {Code::kExplainUnsupported, "EXPLAIN_UNSUPPORTED", kBad, 0,
     "This model's scores cannot be explained. Send the request without explain, or pack the model with background rows."},
    {Code::kNotInBatch, "NOT_IN_BATCH", kBad, 0, "A row of a batch sets a field that stands on the batch. Set it there."},
    {Code::kNullInput, "NULL_INPUT", kBad, 0,
     "A model input has no value and its feature set says when_null: error. Send or load what it comes from."},
    {Code::kDuplicateKey, "DUPLICATE_KEY", kBad, 0, "The JSON names the same key twice. Send it once."},
    {Code::kMalformedJson, "MALFORMED_JSON", kBad, 0, "The line is not one JSON object. Mend the JSON at the given byte."},
    {Code::kIntegerOverflow, "INTEGER_OVERFLOW", kBad, 0, "An integer, or a sum of integers, does not fit in an int64."},

    {Code::kQueueFull, "QUEUE_FULL", kAway, 20, "The model's queue is full. Wait as RetryInfo says, then try again."},
    {Code::kQueueTooLong, "QUEUE_TOO_LONG", kAway, 20,
     "The model's queue is too long for the call's deadline. Wait as RetryInfo says, then try again."},
    {Code::kSlotsExhausted, "SLOTS_EXHAUSTED", kAway, 20, "All slots are in use. Wait as RetryInfo says, then try again."},
    {Code::kShed, "SHED", kAway, 50, "The request gave way to more urgent ones. Wait as RetryInfo says, then try again."},
    {Code::kDraining, "DRAINING", kAway, 100,
     "The server is shutting down. Try again; the next connection reaches another server."},
    {Code::kStreamLimit, "STREAM_LIMIT", GrpcCode::kResourceExhausted, 0,
     "This client has more in flight than it may. Wait for answers before sending more."},
    {Code::kDeadlineExceeded, "DEADLINE_EXCEEDED", GrpcCode::kDeadlineExceeded, 0,
     "The deadline passed before the answer was ready. Nothing was changed."},
    {Code::kCancelled, "CANCELLED", GrpcCode::kCancelled, 0, "The request was cancelled."},

    {Code::kModelRunFailed, "MODEL_RUN_FAILED", GrpcCode::kInternal, 0,
     "The model could not be run on this row. The server's log has the reason."},
    {Code::kModelOutputInvalid, "MODEL_OUTPUT_INVALID", GrpcCode::kInternal, 0,
     "The model gave NaN, an infinity or another shape than it declares. The answer was withheld."},
    {Code::kModelUnsupported, "MODEL_UNSUPPORTED", kPrecondition, 0,
     "The model cannot be served. Run 'assay model check' on its bundle."},
    {Code::kRuntimeUnavailable, "RUNTIME_UNAVAILABLE", kPrecondition, 0,
     "ONNX Runtime, or the CUDA device asked of it, cannot be used. Run 'assay doctor'."},

    {Code::kStoreUnavailable, "STORE_UNAVAILABLE", kAway, 1000,
     "The feature store cannot be reached. Wait as RetryInfo says, then try again."},
    {Code::kStoreFull, "STORE_FULL", GrpcCode::kResourceExhausted, 0,
     "The feature store has reached its memory limit; nothing was changed. Raise the limit or shorten the windows."},
    {Code::kEventDuplicate, "EVENT_DUPLICATE", GrpcCode::kAlreadyExists, 0,
     "The event is in the store already. Nothing was changed."},
    {Code::kEventTooLate, "EVENT_TOO_LATE", kPrecondition, 0,
     "The event is older than anything the store still holds exactly. Nothing was changed; load old events into a fresh view."},
    {Code::kEventInFuture, "EVENT_IN_FUTURE", kPrecondition, 0,
     "The time is further ahead of this machine's clock than is allowed. Nothing was changed; mend the clock or the time."},
    {Code::kRecordMagic, "RECORD_MAGIC", kLost, 0,
     "A row record does not start as one. It was left out; load the entity's events again."},
    {Code::kRecordVersion, "RECORD_VERSION", kLost, 0,
     "A row record has a format that this server does not know. It was left out."},
    {Code::kRecordLength, "RECORD_LENGTH", kLost, 0,
     "A row record is shorter or longer than it says. It was left out; load the entity's events again."},
    {Code::kRecordChecksum, "RECORD_CHECKSUM", kLost, 0,
     "A row record's checksum is wrong. It was left out; load the entity's events again."},
    {Code::kRecordView, "RECORD_VIEW", kLost, 0, "A row record belongs to another definition of the view. It was left out."},
    {Code::kRecordEntity, "RECORD_ENTITY", kLost, 0, "A row record belongs to another entity. It was left out."},
    {Code::kRecordLayout, "RECORD_LAYOUT", kLost, 0,
     "A row record's parts do not fit together. It was left out; load the entity's events again."},
    {Code::kSnapshotMagic, "SNAPSHOT_MAGIC", kLost, 0, "The file is not a snapshot of a feature store. Check the path."},
    {Code::kSnapshotVersion, "SNAPSHOT_VERSION", kLost, 0,
     "The snapshot has a format that this version of assay does not know. Use the version that wrote it, or a newer one."},
    {Code::kSnapshotTruncated, "SNAPSHOT_TRUNCATED", kLost, 0,
     "The snapshot is shorter or longer than it says; nothing of it was loaded. Take an older copy or ingest again."},
    {Code::kSnapshotChecksum, "SNAPSHOT_CHECKSUM", kLost, 0,
     "The snapshot's checksum is wrong; nothing of it was loaded. Take an older copy or ingest again."},
    {Code::kSnapshotView, "SNAPSHOT_VIEW", kLost, 0, "The snapshot's views do not fit the store's; nothing of it was loaded."},
    {Code::kIo, "IO", kAway, 0, "The operating system refused a read or a write."},

    {Code::kPlanInvalid, "PLAN_INVALID", kPrecondition, 0, "The feature plan cannot be compiled. Mend the feature set."},
    {Code::kInternal, "INTERNAL", GrpcCode::kInternal, 0,
     "A fault of the server. Please report it with the time and the transaction_id."},

    {Code::kUnknownMethod, "UNKNOWN_METHOD", GrpcCode::kUnimplemented, 0,
     "This server has no such method. Check the service's and the method's name, and the server's version."},
    {Code::kWrongListener, "WRONG_LISTENER", GrpcCode::kUnimplemented, 0,
     "Another listener of this server answers the method: what changes anything is for the admin listener, scoring for the "
     "public one."},
    {Code::kMissingCertificate, "MISSING_CERTIFICATE", GrpcCode::kUnauthenticated, 0,
     "The call came without a verified client certificate. Connect with one that the server's client CA has signed."},
    {Code::kMissingRole, "MISSING_ROLE", GrpcCode::kPermissionDenied, 0,
     "The client's certificate is good, but its principal has no role that may call this. Ask for one in the server's roles "
     "file."},

    {Code::kStreamTooOld, "STREAM_TOO_OLD", kAway, 1,
     "The stream has been open for as long as one may be; all that was read of it is answered. Open a new one, and send again "
     "what was not."},
    {Code::kAnswerTooLarge, "ANSWER_TOO_LARGE", GrpcCode::kResourceExhausted, 0,
     "The answer is larger than the server sends. Ask for fewer rows at once, or for fewer details."},

    {Code::kMessageTooLarge, "MESSAGE_TOO_LARGE", GrpcCode::kResourceExhausted, 0,
     "The message is larger than the server reads. Send fewer rows at once."},
    {Code::kMetadataTooLarge, "METADATA_TOO_LARGE", GrpcCode::kResourceExhausted, 0,
     "The call's metadata is larger than the server reads. Send less of it."},
    {Code::kMalformedCall, "MALFORMED_CALL", GrpcCode::kInternal, 0,
     "The call breaks gRPC's protocol over HTTP/2. Call with a gRPC library, and look at what stands between it and the server."},
    {Code::kEncodingUnsupported, "ENCODING_UNSUPPORTED", GrpcCode::kUnimplemented, 0,
     "The server does not read messages compressed like this. Use gzip, deflate, or none."},
    {Code::kForwardingFailed, "FORWARDING_FAILED", kAway, 100,
     "The part of the server that answers this method cannot be reached. Wait as RetryInfo says, then try again."},

    {Code::kEventUnknown, "EVENT_UNKNOWN", GrpcCode::kNotFound, 0,
     "The store holds no event of this transaction_id at this event_time. Record the event first, or mend the label."},

    {Code::kAuditUnavailable, "AUDIT_UNAVAILABLE", kAway, 1000,
     "The audit log has no room for a record of it, and nothing goes unrecorded. Wait as RetryInfo says, then try again."},
    {Code::kSegmentMagic, "SEGMENT_MAGIC", kLost, 0, "The file is not a segment of an audit log. Check the path."},
    {Code::kSegmentVersion, "SEGMENT_VERSION", kLost, 0,
     "The segment has a format that this version of assay does not know. Use the version that wrote it, or a newer one."},
    {Code::kSegmentChecksum, "SEGMENT_CHECKSUM", kLost, 0,
     "A part of the audit segment is torn or damaged. What stands before it is sound."},
    {Code::kSegmentSequence, "SEGMENT_SEQUENCE", kLost, 0, "Records of the audit log are missing, or stand in it twice."},
    {Code::kSegmentChain, "SEGMENT_CHAIN", kLost, 0,
     "The audit log was changed after it was written, or its parts are of different logs."},

    {Code::kBundleRefused, "BUNDLE_REFUSED", kPrecondition, 0,
     "The bundle did not prove itself; what serves is unchanged. Run 'assay model check' on it."},
    {Code::kRolloutRefused, "ROLLOUT_REFUSED", kPrecondition, 0,
     "The model's versions and labels do not allow this now; nothing was changed. 'assay model list' shows them."},

    {Code::kBadTensor, "BAD_TENSOR", kBad, 0,
     "A tensor is not one that the model takes or gives. ModelMetadata has their names, datatypes and shapes."},
    {Code::kBadParameter, "BAD_PARAMETER", kBad, 0,
     "A parameter asks for what this server does not do. Leave it out; docs/open-inference.md has those it knows."},
    {Code::kNoFeatureSet, "NO_FEATURE_SET", kPrecondition, 0,
     "The model has no feature set: it cannot be asked for a score. Send its tensors with "
     "inference.GRPCInferenceService/ModelInfer, or pack it with a feature set."},
    {Code::kInferUnsupported, "INFER_UNSUPPORTED", kPrecondition, 0,
     "No output of the model declares how large its rows are, so that ModelInfer cannot be answered. Export it with fixed output "
     "axes behind the batch."},

    {Code::kBadExplain, "BAD_EXPLAIN", kBad, 0,
     "An option of explain is none of its values, or contradicts another. Set it as the contract says, or leave it out."},
    {Code::kNoAuditLog, "NO_AUDIT_LOG", kPrecondition, 0,
     "This server keeps no audit log (audit.level is off), so it knows no score of the past. Ask by the request itself."},
    {Code::kScoreUnknown, "SCORE_UNKNOWN", GrpcCode::kNotFound, 0,
     "The server's audit log has no score of this transaction; older records make way for newer ones. Ask the server that gave "
     "the score, or look where audit.sink keeps records."},
    {Code::kNoExplanation, "NO_EXPLANATION", kPrecondition, 0,
     "The score is on record, but no explanation that was asked for, and it cannot be explained now."},
};

constexpr bool table_is_complete() noexcept {
  if (std::size(kTable) != static_cast<size_t>(Code::kCount_)) return false;
  for (size_t i = 0; i < std::size(kTable); ++i) {
    if (static_cast<size_t>(kTable[i].code) != i) return false;
  }
  return true;
}
static_assert(table_is_complete(), "one row for each Code, in its order");

}  // namespace

const CodeInfo& code_info(Code code) noexcept {
  const size_t index = static_cast<size_t>(code);
  return index < std::size(kTable) ? kTable[index] : kTable[static_cast<size_t>(Code::kInternal)];
}

void assert_failed(const char* condition, const char* file, int line) noexcept {
  black_box::note_fatal(condition, file, line);
  std::fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, condition);
  std::fflush(stderr);
  std::abort();
}

}  // namespace assay
