// Encoding of assay.v1 responses and of google.rpc.Status, straight to bytes. Appends to `out`; allocates only when `out` grows.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/features/embedded_store.h"
#include "core/features/plan.h"
#include "core/features/transaction.h"

namespace assay {

// assay.v1.Decision.
enum class Decision : uint8_t { kUnspecified = 0, kApprove = 1, kChallenge = 2, kReview = 3, kDecline = 4 };

// assay.v1.DegradationKind.
enum class DegradationKind : uint8_t {
  kStoreUnavailable = 1,
  kViewStale = 2,
  kRecordRejected = 3,
  kDistinctSaturated = 4,
  kWindowApproximate = 5,
  kCacheStale = 6,
};

// Of a view whose record was not used.
constexpr DegradationKind rejection_kind(Code rejected) noexcept {
  return rejected == Code::kStoreUnavailable ? DegradationKind::kStoreUnavailable : DegradationKind::kRecordRejected;
}

// The times between which the stages lie, monotonic nanoseconds; a stage ends where the next one starts. 0: not reached.
enum class Stamp : uint8_t {
  kReceived = 0,
  kDecoded = 1,
  kQueued = 2,
  kBatched = 3,
  kRunStarted = 4,
  kScored = 5,
  kExplained = 6,
  kCommitted = 7,
  kDone = 8,
};
using Stamps = std::array<int64_t, 9>;

// The stages of an answered row, in order. Timings, histograms and spans have these names and these times.
struct Stage {
  const char* name;
  Stamp start;
  Stamp end;

  // A row that nobody asked to explain was not explained in no time: it has no such stage.
  bool is_in(const Stamps& stamps) const noexcept {
    return end != Stamp::kExplained || stamps[static_cast<size_t>(end)] != stamps[static_cast<size_t>(start)];
  }
};
inline constexpr std::array<Stage, 8> kStages = {{
    {"decode", Stamp::kReceived, Stamp::kDecoded},
    {"look_up", Stamp::kDecoded, Stamp::kQueued},
    {"queue", Stamp::kQueued, Stamp::kBatched},
    {"assemble", Stamp::kBatched, Stamp::kRunStarted},
    {"infer", Stamp::kRunStarted, Stamp::kScored},
    {"explain", Stamp::kScored, Stamp::kExplained},
    {"commit", Stamp::kExplained, Stamp::kCommitted},
    {"respond", Stamp::kCommitted, Stamp::kDone},
}};

// Everything one answered row needs. All pointers are borrowed for the call.
struct RowAnswer {
  std::string_view transaction_id;
  bool has_score = false;
  double score = 0.0;
  Decision decision = Decision::kUnspecified;
  const FeaturePlan* plan = nullptr;
  const uint8_t* row = nullptr;       // finished row, for include_features
  const uint64_t* missing = nullptr;  // bits as in RowOut
  const uint64_t* imputed = nullptr;
  const FoldResult* views = nullptr;
  bool include_features = false;
  bool include_timings = false;
  const Stamps* stamps = nullptr;  // kDone is the moment of encoding
  uint32_t batch_rows = 0;
  std::string_view explanation;    // an encoded assay.v1.Explanation
  uint8_t explanation_status = 0;  // assay.v1.ExplanationStatus
};

// The bytes of an assay.v1.Provenance; made once per lane.
std::string encode_provenance(std::string_view model, std::string_view version, std::string_view model_sha256,
                              const FeaturePlan& plan);

// A ScoreResponse. `provenance`: bytes made by encode_provenance; empty leaves it out (batch rows).
void append_score_response(const RowAnswer& answer, std::string_view provenance, std::string& out);

// One ScoreResult as field 2 of a ScoreBatchResponse: either an answer or (rpc_status not empty) a google.rpc.Status.
void append_batch_result(const RowAnswer& answer, std::string_view rpc_status, std::string& out);
// The provenance field of a ScoreBatchResponse.
void append_batch_provenance(std::string_view provenance, std::string& out);
// A ScoreStreamResponse; as append_batch_result, with provenance.
void append_stream_response(const RowAnswer& answer, std::string_view rpc_status, std::string_view provenance, std::string& out);

// RecordEventsResponse pieces are control plane: Python builds them with google.protobuf.

// A google.rpc.Status for `status`: code and message by the table (+ status.detail), ErrorInfo{reason, domain "assay"} with
// metadata (byte_offset where one is known), BadRequest with all violations (count beyond the list is said in the message),
// RetryInfo where the table says so.
std::string encode_rpc_status(const Status& status, const Violations* violations = nullptr);

// The message that encode_rpc_status put in; also what goes into grpc-message.
std::string rpc_message(const Status& status, const Violations* violations = nullptr);

}  // namespace assay
