// CallRecorder: records of the calls worth telling, on their way to whoever exports them.
//
// A call is worth telling if it was sampled when it came, or if it turned out slow, failed or declined: that is decided when its
// slots are freed, from its stamps, so nothing is gathered for the others. Records wait in a bounded list; when it is full new
// ones are dropped and counted, and nobody waits. Half of the list is kept for sampled calls: a flood of failures must not push
// them out. Failures are recorded with tracing off too: the log tells them. So are the calls that are chosen for a line of their
// own: one in so many, and no more between two drains than the log takes.
//
// THREADS. Any. One mutex, held for one move of a record, or for a swap.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "core/base/clock.h"
#include "core/serving/call_record.h"
#include "core/serving/slab.h"

namespace assay {

class CallRecorder {
 public:
  CallRecorder(const TracingOptions& options, uint32_t records_max, const Clock& clock, const RequestLogOptions& log = {});

  TraceSampler& sampler() noexcept { return sampler_; }
  const TraceSampler& sampler() const noexcept { return sampler_; }
  bool is_tracing() const noexcept { return options_.is_on; }
  // For calls that end from now on. 0..1; any thread.
  void set_log_ratio(double ratio) noexcept { log_ratio_.set(ratio); }

  // An open call has ended: `answer` is what its RPC says. REQUIRES: the caller owns its slots.
  void ended(const Slab& slab, uint32_t head, Code answer, int64_t now_ns) noexcept;
  // The same for one that nobody waits for: kCancelled or kDeadlineExceeded.
  void abandoned(const Slab& slab, uint32_t head, Code answer) noexcept { ended(slab, head, answer, clock_.now_ns()); }
  // It never was a call. `refusal` has what is known: trace, kind, lane, rows, kReceived and the answer.
  void refused(CallRecord&& refusal) noexcept;

  // Takes all records; `out` is overwritten.
  void drain(std::vector<CallRecord>& out);
  uint64_t dropped_records() const noexcept { return dropped_records_.get(); }

 private:
  bool takes_line() noexcept;
  void push(CallRecord&& record) noexcept;

  const TracingOptions options_;
  const size_t records_max_;
  const Clock& clock_;
  TraceSampler sampler_;
  SampleRatio log_ratio_;
  const int32_t log_calls_max_;
  std::atomic<int32_t> log_calls_left_;  // until the next drain
  Counter dropped_records_;
  std::mutex mutex_;
  std::vector<CallRecord> records_;  // guarded by mutex_; has room for records_max
};

}  // namespace assay
