// LatencyHistogram: how often each latency occurred, finely enough for percentiles and exactly at Prometheus' bounds.
//
// Fine buckets are log-linear, 32 to a power of two, from 1 ns to 137 s (longer ones count as that): the middle of one is off by
// less than 1.6 %. The bounds that /metrics shows (kLatencyBoundsNs) cut the fine buckets that they lie in, so what is counted
// below each of them is exact and not an estimate. Where a value goes is one look into a table and one comparison. 9 KiB.
//
// Not thread-safe: LaneMetrics sees to that.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/base/log_linear.h"

namespace assay {

// Upper bounds, inclusive: gRPC's own (gRFC A66) without 0, finer below 300 us, where our stages are, and with the 12 ms that a
// score is allowed to take.
inline constexpr std::array<int64_t, 46> kLatencyBoundsNs = {
    1'000,         2'000,         5'000,          10'000,         20'000,         50'000,         100'000,     200'000,
    300'000,       600'000,       800'000,        1'000'000,      2'000'000,      3'000'000,      4'000'000,   5'000'000,
    6'000'000,     8'000'000,     10'000'000,     12'000'000,     13'000'000,     16'000'000,     20'000'000,  25'000'000,
    30'000'000,    40'000'000,    50'000'000,     65'000'000,     80'000'000,     100'000'000,    130'000'000, 160'000'000,
    200'000'000,   250'000'000,   300'000'000,    400'000'000,    500'000'000,    650'000'000,    800'000'000, 1'000'000'000,
    2'000'000'000, 5'000'000'000, 10'000'000'000, 20'000'000'000, 50'000'000'000, 100'000'000'000};

template <size_t kBounds>
struct Histogram {
  std::array<uint64_t, kBounds + 1> counts{};  // of each bucket alone; the last has no bound
  int64_t sum = 0;

  void add(size_t bucket, int64_t value) noexcept {
    ++counts[bucket];
    sum += value;
  }
  Histogram& operator+=(const Histogram& other) noexcept {
    for (size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
    sum += other.sum;
    return *this;
  }
};

using LatencyScale = LogLinear<5, 37>;
// Each bound of kLatencyBoundsNs makes two fine buckets of one.
inline constexpr size_t kFineBuckets = LatencyScale::kBuckets + kLatencyBoundsNs.size();
// The largest value of each fine bucket, in order; a bucket starts one above the bucket before it. Of the last one: the largest
// that fits.
extern const std::array<int64_t, kFineBuckets> kFineUpperNs;

// Where a value is counted. Below 0 is 0.
size_t fine_bucket(int64_t ns) noexcept;

class LatencyHistogram {
 public:
  void add(int64_t ns) noexcept {
    ++counts_[fine_bucket(ns)];
    sum_ += ns;
  }
  LatencyHistogram& operator+=(const LatencyHistogram& other) noexcept {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    sum_ += other.sum_;
    return *this;
  }

  const std::array<uint64_t, kFineBuckets>& counts() const noexcept { return counts_; }
  int64_t sum() const noexcept { return sum_; }  // exact, nanoseconds
  uint64_t count() const noexcept;
  // As Prometheus has it; exact.
  Histogram<kLatencyBoundsNs.size()> by_bounds() const noexcept;

 private:
  std::array<uint64_t, kFineBuckets> counts_{};
  int64_t sum_ = 0;
};

}  // namespace assay
