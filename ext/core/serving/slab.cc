#include "core/serving/slab.h"

#include <algorithm>
#include <chrono>

namespace assay {

Slab::Slab(uint32_t slots) : size_(slots), slots_(new Slot[slots]), abandoned_hints_(new std::atomic<uint8_t>[slots]) {
  ASSAY_ASSERT(slots > 0 && slots < kNoSlot);
  free_.reserve(slots);
  for (uint32_t i = 0; i < slots; ++i) {
    free_.push_back(slots - 1 - i);
    abandoned_hints_[i].store(0, std::memory_order_relaxed);
    slots_[i].call_word.store(call_word(1, CallPhase::kClosed), std::memory_order_relaxed);  // so that no CallId is 0
  }
}

bool Slab::allocate(uint32_t count, uint32_t* out) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (free_.size() < count) return false;
  std::copy(free_.rbegin(), free_.rbegin() + count, out);
  free_.resize(free_.size() - count);
  use_.used += count;
  use_.used_max = std::max(use_.used_max, use_.used);
  use_.allocated_count += count;
  return true;
}

void Slab::free(const uint32_t* slots, uint32_t count) noexcept {
  bool wake = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ASSAY_ASSERT(use_.used >= count);
    free_.insert(free_.end(), std::make_reverse_iterator(slots + count), std::make_reverse_iterator(slots));
    use_.used -= count;
    use_.freed_count += count;
    wake = use_.used == 0 && idle_waiters_ > 0;
  }
  if (wake) idle_.notify_all();
}

bool Slab::wait_idle(int64_t timeout_ns) noexcept {
  timeout_ns = std::clamp<int64_t>(timeout_ns, 0, 24ll * 3600 * 1'000'000'000);  // a deadline far away would overflow
  std::unique_lock<std::mutex> lock(mutex_);
  ++idle_waiters_;
  const bool is_idle = idle_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), [this] { return use_.used == 0; });
  --idle_waiters_;
  return is_idle;
}

SlabUse Slab::use() const noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return use_;
}

}  // namespace assay
