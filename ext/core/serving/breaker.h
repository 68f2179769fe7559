// Breaker: what fails time and again is left alone for a while.
//
//   closed -- kFailuresMax failures in a row --> open until a time -- then one try --> closed, or open again
//
// Lock-free; any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace assay {

class Breaker {
 public:
  static constexpr uint32_t kFailuresMax = 5;
  static constexpr int64_t kRestNs = 5'000'000'000;

  // Whether to try now. Once its rest is over, one caller in each kRestNs is told to.
  bool allows(int64_t now_ns) noexcept {
    int64_t rests_until_ns = rests_until_ns_.load(std::memory_order_relaxed);
    if (__builtin_expect(rests_until_ns == kClosed, 1)) return true;
    if (now_ns < rests_until_ns) return false;
    return rests_until_ns_.compare_exchange_strong(rests_until_ns, now_ns + kRestNs, std::memory_order_relaxed);
  }
  void succeeded() noexcept {
    failures_.store(0, std::memory_order_relaxed);
    rests_until_ns_.store(kClosed, std::memory_order_relaxed);
  }
  void failed(int64_t now_ns) noexcept {
    if (failures_.fetch_add(1, std::memory_order_relaxed) + 1 < kFailuresMax) return;
    rests_until_ns_.store(now_ns + kRestNs, std::memory_order_relaxed);
  }
  bool is_open() const noexcept { return rests_until_ns_.load(std::memory_order_relaxed) != kClosed; }

 private:
  static constexpr int64_t kClosed = INT64_MIN;

  std::atomic<uint32_t> failures_{0};
  std::atomic<int64_t> rests_until_ns_{kClosed};
};

}  // namespace assay
