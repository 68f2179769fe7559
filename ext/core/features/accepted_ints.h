// AcceptedInts: how many values of each request feature came as an int64 and were taken as the float64 that equals them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/base/limits.h"

namespace assay {

// Request features by index, as bits.
class FeatureBits {
 public:
  void clear() noexcept { words_.fill(0); }
  void set(size_t feature) noexcept { words_[feature / 64] |= uint64_t{1} << (feature % 64); }
  bool has(size_t feature) const noexcept { return (words_[feature / 64] >> (feature % 64) & 1) != 0; }

  // Calls take(feature) for each that is set, in order.
  template <typename Take>
  void for_each(Take&& take) const {
    for (size_t i = 0; i < words_.size(); ++i) {
      for (uint64_t word = words_[i]; word != 0; word &= word - 1) take(64 * i + static_cast<size_t>(__builtin_ctzll(word)));
    }
  }

 private:
  std::array<uint64_t, (limits::kRequestFeaturesMax + 63) / 64> words_{};
};

// Thread-safe. One counter a feature, so its size is bounded by the plan's limits: 2 KiB.
class AcceptedInts {
 public:
  void add(const FeatureBits& features) noexcept {
    features.for_each([this](size_t feature) { counts_[feature].fetch_add(1, std::memory_order_relaxed); });
  }
  uint64_t count(size_t feature) const noexcept { return counts_[feature].load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<uint64_t>, limits::kRequestFeaturesMax> counts_{};
};

}  // namespace assay
