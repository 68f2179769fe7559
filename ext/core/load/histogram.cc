#include "core/load/histogram.h"

#include <algorithm>
#include <cmath>

namespace assay::load {

void LogHistogram::merge(const LogHistogram& other) noexcept {
  if (other.count_ == 0) return;
  for (size_t i = 0; i < Scale::kBuckets; ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

void LogHistogram::clear() noexcept {
  if (count_ == 0) return;
  std::fill(counts_.begin(), counts_.end(), 0);
  count_ = 0;
  sum_ = 0;
  min_ = INT64_MAX;
  max_ = 0;
}

int64_t LogHistogram::quantile(double q, uint64_t lost) const noexcept {
  // The tolerance keeps 0.999 of 1,000 at rank 999: the product is a hair above it.
  const double wanted = std::ceil(q * static_cast<double>(count_ + lost) - 1e-6);
  const uint64_t rank = wanted < 1 ? 1 : static_cast<uint64_t>(wanted);
  if (rank > count_) return -1;
  if (rank == count_) return max_;
  uint64_t seen = 0;
  size_t index = Scale::index_of(static_cast<uint64_t>(min_));
  while ((seen += counts_[index]) < rank) ++index;
  return std::clamp(static_cast<int64_t>(Scale::middle_of(index)), min_, max_);
}

std::vector<LogHistogram::Bucket> LogHistogram::buckets() const {
  std::vector<Bucket> found;
  for (size_t i = 0; i < Scale::kBuckets; ++i) {
    if (counts_[i] > 0) found.push_back({static_cast<int64_t>(Scale::middle_of(i)), counts_[i]});
  }
  return found;
}

}  // namespace assay::load
