#include "core/serving/lane_metrics.h"

#include <algorithm>

namespace assay {
namespace {

constexpr size_t bit_width(uint64_t value) noexcept {
  size_t bits = 0;
  for (; value != 0; value >>= 1) ++bits;
  return bits;
}

// By the number of a value's bits: the first bound that a value of so many bits can lie under. From there on a few steps are left.
constexpr std::array<uint8_t, 65> first_buckets() noexcept {
  std::array<uint8_t, 65> first{};
  for (size_t bits = 1; bits < first.size(); ++bits) {
    const uint64_t smallest = uint64_t{1} << (bits - 1);
    while (first[bits] < kLatencyBoundsNs.size() && static_cast<uint64_t>(kLatencyBoundsNs[first[bits]]) < smallest)
      ++first[bits];
  }
  return first;
}
constexpr std::array<uint8_t, 65> kFirstBuckets = first_buckets();
static_assert(bit_width(static_cast<uint64_t>(kLatencyBoundsNs[0])) == 10, "bounds are nanoseconds");

size_t value_bits(uint64_t value) noexcept { return value == 0 ? 0 : 64 - static_cast<size_t>(__builtin_clzll(value)); }

}  // namespace

size_t latency_bucket(int64_t ns) noexcept {
  const auto value = static_cast<uint64_t>(std::max<int64_t>(ns, 0));
  size_t bucket = kFirstBuckets[value_bits(value)];
  while (bucket < kLatencyBoundsNs.size() && static_cast<uint64_t>(kLatencyBoundsNs[bucket]) < value) ++bucket;
  return bucket;
}

size_t batch_rows_bucket(uint32_t rows) noexcept {
  return rows <= 1 ? 0 : std::min(value_bits(rows - 1), kBatchRowsBounds.size());
}

void LaneMetrics::add_batch(uint32_t rows) noexcept {
  const size_t bucket = batch_rows_bucket(rows);
  const std::lock_guard<std::mutex> lock(mutex_);
  histograms_.batch_rows.add(bucket, rows);
}

void LaneMetrics::add_call(const Slab& slab, uint32_t head) noexcept {
  const auto add = [](LatencyHistogram& histogram, const Stamps& stamps, Stamp start, Stamp end) {
    const int64_t ns = stamps[static_cast<size_t>(end)] - stamps[static_cast<size_t>(start)];
    histogram.add(latency_bucket(ns), ns);
  };
  const std::lock_guard<std::mutex> lock(mutex_);
  for (uint32_t index = head; index != kNoSlot; index = slab[index].next) {
    const Slot& slot = slab[index];
    if (slot.outcome != Code::kOk) continue;
    add(histograms_.inference, slot.stamps, Stamp::kReceived, Stamp::kDone);
    for (size_t i = 0; i < kStages.size(); ++i) add(histograms_.stages[i], slot.stamps, kStages[i].start, kStages[i].end);
  }
}

LaneHistograms LaneMetrics::copy() const noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return histograms_;
}

}  // namespace assay
