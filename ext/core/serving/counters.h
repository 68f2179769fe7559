// Counters: what the engine counts. Relaxed atomics; read for EngineStats and by check_idle().
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/base/status.h"

namespace assay {

class Counter {
 public:
  void add(uint64_t amount) noexcept { value_.fetch_add(amount, std::memory_order_relaxed); }
  void subtract(uint64_t amount) noexcept { value_.fetch_sub(amount, std::memory_order_relaxed); }
  uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }
  const std::atomic<uint64_t>& value() const noexcept { return value_; }  // for the black box

 private:
  std::atomic<uint64_t> value_{0};
};

// One counter for each code.
class CodeCounters {
 public:
  void add(Code code, uint64_t amount) noexcept { counters_[static_cast<size_t>(code)].add(amount); }
  uint64_t get(Code code) const noexcept { return counters_[static_cast<size_t>(code)].get(); }
  uint64_t total() const noexcept {
    uint64_t sum = 0;
    for (const Counter& counter : counters_) sum += counter.get();
    return sum;
  }

 private:
  std::array<Counter, static_cast<size_t>(Code::kCount_)> counters_;
};

// What was not as it should be with a view that was used all the same. Of a record that was left out the reason is told (Code).
enum class Degradation : uint8_t { kViewStale = 0, kDistinctSaturated = 1, kWindowApproximate = 2, kCacheStale = 3 };
// As assay.v1.DegradationKind has them.
inline constexpr std::array<const char*, 4> kDegradationNames = {"VIEW_STALE", "DISTINCT_SATURATED", "WINDOW_APPROXIMATE",
                                                                 "CACHE_STALE"};

struct Counters {
  // --- rows, when they come
  Counter accepted_rows;
  Counter queued_rows;  // a level, not a sum
  CodeCounters refused_calls;
  Counter defaulted_deadlines;
  std::array<Counter, 2> expired_refused_rows;  // of calls refused at admission and after look-up
  // --- rows, when their call is freed; together they are accepted_rows once idle
  Counter answered_rows;
  CodeCounters failed_rows;
  Counter cancelled_rows;
  Counter shed_rows;
  std::array<Counter, 5> expired_rows;
  uint64_t ended_rows() const noexcept {
    uint64_t rows = answered_rows.get() + failed_rows.total() + cancelled_rows.get() + shed_rows.get();
    for (const Counter& expired : expired_rows) rows += expired.get();
    return rows;
  }
  Counter degraded_rows;
  // The same by cause, a row once for each that it has.
  std::array<Counter, kDegradationNames.size()> degradations;
  CodeCounters left_out_records;
  // --- batches. On their own cache line: runners write them, and whoever runs a row inline
  alignas(64) Counter batch_count;
  Counter batched_rows;
  Counter retried_batches;
  // --- rows that were not queued: their submitter took them to their end. Written by submitters
  alignas(64) Counter inline_rows;
  Counter inline_overruns;
  // --- rows of lanes with a remote store
  Counter looking_up_rows;  // a level, not a sum
  Counter lookup_batches;
  Counter lookup_given_up_rows;        // their time for it ran out
  Counter lookup_unavailable_records;  // the store gave nothing, in time or at all
  Counter lookup_rejected_records;     // could not be trusted
  // --- their records of views that the near-cache keeps
  Counter near_cache_hits;
  Counter near_cache_misses;         // fetched, though their view is kept
  Counter near_cache_stale_records;  // used past their age because the store gave nothing
  Counter near_cache_joined_rows;    // waited for what another batch was fetching
};

}  // namespace assay
