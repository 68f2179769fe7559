// CallRecord: what is told about one call after it ended. Spans and log lines are made of it, by whoever drains the recorder.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/black_box_format.h"
#include "core/base/status.h"
#include "core/serving/trace_sampler.h"
#include "core/wire/response.h"
#include "core/wire/score_request.h"

namespace assay {

// kProbe: rows that nobody sent: an explanation asks about them (sampling_desk.h).
enum class CallKind : uint8_t { kUnary = 1, kBatch = 2, kStream = 3, kInfer = 4, kProbe = 5 };

// A lane's name, shared with records that outlive it.
struct LaneName {
  std::string model;
  std::string version;
  uint16_t black_box_model = black_box::kNoModel;
};

// Why a call is told. A record has at least one.
enum class RecordReason : uint8_t {
  kSampled = 1,   // decided when it came
  kSlow = 2,      // it took TracingOptions::slow_ns or longer
  kFailed = 4,    // it, or a row of it, failed by the server's fault (is_server_failure)
  kDeclined = 8,  // a row's decision is decline
  kLogged = 16,   // chosen for a line of the log, at its end (RequestLogOptions). Alone it is no reason for a span
};

// Calls that are chosen for a line of the log of their own.
struct RequestLogOptions {
  double ratio = 0.0;      // of all calls; may be changed
  uint32_t calls_max = 0;  // between two drains
};

struct CallRecord {
  CallTrace trace;                       // with an id, made now if the call came without
  uint64_t span_id = 0;                  // of the call itself
  std::shared_ptr<const LaneName> lane;  // null: refused before one was chosen
  Stamps stamps{};                       // of a batch: when its last row got there
  int64_t ended_ns = 0;
  uint32_t row_count = 0;
  uint32_t failed_rows = 0;
  uint32_t batch_rows = 0;   // of the largest run that scored a row of it
  Code answer = Code::kOk;   // the RPC's (a stream message's own) outcome
  Code failure = Code::kOk;  // of the first row that failed
  CallKind kind = CallKind::kUnary;
  Priority priority = Priority::kUnspecified;  // unspecified: refused before it was read
  Decision decision = Decision::kUnspecified;  // of a call of one row
  uint8_t reasons = 0;                         // bits of RecordReason
  bool is_degraded = false;                    // a row of it was
};

// Whether a code is the server's fault, as OpenTelemetry's conventions for gRPC servers see it.
bool is_server_failure(Code code) noexcept;

}  // namespace assay
