// Slab: every slot of the engine, allocated once at start. What is handed out and what comes back is counted.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/serving/slot.h"

namespace assay {

struct SlabUse {
  uint32_t used = 0;
  uint32_t used_max = 0;
  uint64_t allocated_count = 0;  // slots handed out since the start
  uint64_t freed_count = 0;
};

class Slab {
 public:
  explicit Slab(uint32_t slots);

  uint32_t size() const noexcept { return size_; }
  Slot& operator[](uint32_t index) noexcept { return slots_[index]; }
  const Slot& operator[](uint32_t index) const noexcept { return slots_[index]; }

  // Takes `count` free slots, all or none. The last freed come first: their memory is warm.
  bool allocate(uint32_t count, uint32_t* out) noexcept;
  // Gives slots back. REQUIRES: state kFree, and that nothing points to them.
  void free(const uint32_t* slots, uint32_t count) noexcept;

  // Waits until no slot is in use, at most `timeout_ns` of real time.
  bool wait_idle(int64_t timeout_ns) noexcept;
  SlabUse use() const noexcept;

  // A hint that nobody may wait for the call headed by this slot: a byte a slot, so that a runner that looks at a whole queue stays
  // in its own cache. May be left over from an earlier call; Slot::call_word decides.
  void hint_abandoned(uint32_t head) noexcept { abandoned_hints_[head].store(1, std::memory_order_release); }
  bool is_abandoned(uint32_t head) const noexcept {
    return abandoned_hints_[head].load(std::memory_order_acquire) != 0 &&
           assay::is_abandoned(phase_of(slots_[head].call_word.load(std::memory_order_acquire)));
  }
  void clear_hint(uint32_t head) noexcept {
    if (abandoned_hints_[head].load(std::memory_order_relaxed) != 0) abandoned_hints_[head].store(0, std::memory_order_relaxed);
  }

 private:
  const uint32_t size_;
  std::unique_ptr<Slot[]> slots_;
  std::unique_ptr<std::atomic<uint8_t>[]> abandoned_hints_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::vector<uint32_t> free_;  // guarded by mutex_; a stack
  SlabUse use_;                 // guarded by mutex_
  uint32_t idle_waiters_ = 0;   // guarded by mutex_
};

}  // namespace assay
