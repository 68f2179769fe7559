// CallRecorder: records of the calls worth telling, on their way to whoever exports them.
//
// A call is worth telling if it was sampled when it came, or if it turned out slow, failed or declined: that is decided when its
// slots are freed, from its stamps, so nothing is gathered for the others. Records wait in a bounded list; when it is full new
// ones are dropped and counted, and nobody waits. Half of the list is kept for sampled calls: a flood of failures must not push
// them out. Failures are recorded with tracing off too: the log tells them.
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
  CallRecorder(const TracingOptions& options, uint32_t records_max, const Clock& clock);

  TraceSampler& sampler() noexcept { return sampler_; }
  const TraceSampler& sampler() const noexcept { return sampler_; }
  bool is_tracing() const noexcept { return options_.is_on; }

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
  void push(CallRecord&& record) noexcept;

  const TracingOptions options_;
  const size_t records_max_;
  const Clock& clock_;
  TraceSampler sampler_;
  Counter dropped_records_;
  std::mutex mutex_;
  std::vector<CallRecord> records_;  // guarded by mutex_; has room for records_max
};

}  // namespace assay
