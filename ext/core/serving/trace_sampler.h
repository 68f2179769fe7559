// TraceSampler: whether a call is told, decided once, when it comes.
//
// OpenTelemetry's ParentBased(TraceIdRatioBased(ratio)): a caller's decision holds; without one the low 64 bits of the trace id are
// compared with ratio * 2^64. A call that is not sampled and came without a trace costs one random number, and gets no id.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/serving/counters.h"
#include "core/serving/sample_ratio.h"

namespace assay {

struct TracingOptions {
  bool is_on = false;
  double sample_ratio = 0.0;   // 0..1 of the calls that nobody decided about
  bool follows_parent = true;  // a valid traceparent's flag decides; false: the ratio always does
  int64_t slow_ns = 0;         // calls that took as long are recorded too. 0: none for that
};

// A call's place in a trace. Stands in the head's slot.
struct CallTrace {
  uint64_t trace_id_high = 0;
  uint64_t trace_id_low = 0;    // both 0: no trace
  uint64_t parent_span_id = 0;  // 0: it begins here
  bool is_sampled = false;

  bool has_id() const noexcept { return (trace_id_high | trace_id_low) != 0; }
};

class TraceSampler {
 public:
  explicit TraceSampler(const TracingOptions& options) noexcept;

  // `traceparent`: the header, empty where there was none. One that cannot be read is counted, and as good as none.
  CallTrace begin(std::string_view traceparent) noexcept;

  // For calls that come from now on. 0..1; any thread.
  void set_sample_ratio(double ratio) noexcept { ratio_.set(ratio); }

  uint64_t refused_traceparents() const noexcept { return refused_traceparents_.get(); }

 private:
  const bool is_on_;
  const bool follows_parent_;
  SampleRatio ratio_;
  Counter refused_traceparents_;
};

}  // namespace assay
