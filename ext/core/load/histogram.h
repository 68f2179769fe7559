// LogHistogram: how often each latency occurred, in buckets as wide as 1/512 of what they hold.
//
// Values below 1,024 ns are kept exactly; above, each power of two has 512 buckets (LogLinear), and a quantile is the middle of
// its bucket: off by less than 0.1 %. The smallest and the largest value are exact. Values past kValueMax (4.9 hours) count as
// kValueMax. 144 KiB, taken when it is made. One thread's; merge() is how several come together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/log_linear.h"

namespace assay::load {

class LogHistogram {
 public:
  static constexpr int kValueBits = 44;
  using Scale = LogLinear<9, kValueBits>;
  static constexpr auto kValueMax = static_cast<int64_t>(Scale::kValueMax);

  struct Bucket {
    int64_t value;  // its middle
    uint64_t count;
  };

  LogHistogram() : counts_(Scale::kBuckets, 0) {}

  void record(int64_t value) noexcept {
    if (value < 0) value = 0;
    if (value > kValueMax) value = kValueMax;
    ++counts_[Scale::index_of(static_cast<uint64_t>(value))];
    ++count_;
    sum_ += static_cast<double>(value);
    if (value < min_) min_ = value;
    if (value > max_) max_ = value;
  }
  void merge(const LogHistogram& other) noexcept;
  void clear() noexcept;

  uint64_t count() const noexcept { return count_; }
  int64_t min() const noexcept { return count_ == 0 ? 0 : min_; }
  int64_t max() const noexcept { return max_; }
  double mean() const noexcept { return count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_); }

  // The smallest value that a share `q` (0..1) of all values does not pass; `lost` further values count as endlessly large. -1: that
  // value is one of the lost, or there are no values.
  int64_t quantile(double q, uint64_t lost = 0) const noexcept;
  // Those that are not empty, in order.
  std::vector<Bucket> buckets() const;

 private:
  std::vector<uint64_t> counts_;
  uint64_t count_ = 0;
  double sum_ = 0;
  int64_t min_ = INT64_MAX;
  int64_t max_ = 0;
};

}  // namespace assay::load
