// What a call came to: gRPC's own status numbers, and after them what has none.
#pragma once

#include <cstddef>
#include <cstdint>

namespace assay::load {

enum class Outcome : uint8_t {
  kOk = 0,
  kDeadlineExceeded = 4,  // 0..16: as the server said, in trailers or trailers alone
  kUnauthenticated = 16,
  kUnknownStatus,   // a grpc-status that is no status
  kHttpError,       // an HTTP status other than 200 and no grpc-status: not a gRPC server, or a proxy before it
  kNoStatus,        // it ended without a grpc-status
  kNoMessage,       // OK without an answer
  kReset,           // RST_STREAM from the server: it refused the stream, or the connection is about to end (GOAWAY)
  kConnectionLost,  // the connection ended with the call open
  kTimedOut,        // not answered within the timeout; reset from here
  kUnanswered,      // open when the run was over
  kCount_,
};
inline constexpr size_t kOutcomeCount = static_cast<size_t>(Outcome::kCount_);

// Names as people see them, gRPC's for gRPC's: "OK", "UNAVAILABLE", "connection lost". Literals.
inline const char* outcome_name(size_t outcome) noexcept {
  static constexpr const char* kNames[kOutcomeCount] = {
      "OK",
      "CANCELLED",
      "UNKNOWN",
      "INVALID_ARGUMENT",
      "DEADLINE_EXCEEDED",
      "NOT_FOUND",
      "ALREADY_EXISTS",
      "PERMISSION_DENIED",
      "RESOURCE_EXHAUSTED",
      "FAILED_PRECONDITION",
      "ABORTED",
      "OUT_OF_RANGE",
      "UNIMPLEMENTED",
      "INTERNAL",
      "UNAVAILABLE",
      "DATA_LOSS",
      "UNAUTHENTICATED",
      "unknown status",
      "HTTP error",
      "no status",
      "OK without a message",
      "reset",
      "connection lost",
      "timed out",
      "unanswered",
  };
  return kNames[outcome];
}

}  // namespace assay::load
