// SampleRatio: one in so many, as a bound that a random number is held against. May be changed while others ask.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>

namespace assay {

class SampleRatio {
 public:
  explicit SampleRatio(double ratio) noexcept : bound_(bound_of(ratio)) {}

  // 0..1. Any thread; whoever asks from now on sees it.
  void set(double ratio) noexcept { bound_.store(bound_of(ratio), std::memory_order_relaxed); }
  bool is_zero() const noexcept { return bound_.load(std::memory_order_relaxed) == 0; }
  // `random`: 64 random bits, such as the low half of a trace id.
  bool takes(uint64_t random) const noexcept {
    const uint64_t bound = bound_.load(std::memory_order_relaxed);
    return random < bound || bound == kAll;
  }

 private:
  // 2^64 does not fit, and no ratio below 1 comes to this bound: the largest double below 1 comes to 2^64 - 2^11.
  static constexpr uint64_t kAll = UINT64_MAX;

  // round(ratio * 2^64), half to even, as OpenTelemetry's Python does it.
  static uint64_t bound_of(double ratio) noexcept {
    if (!(ratio > 0.0)) return 0;
    return ratio >= 1.0 ? kAll : static_cast<uint64_t>(std::nearbyint(std::ldexp(ratio, 64)));
  }

  std::atomic<uint64_t> bound_;
};

}  // namespace assay
