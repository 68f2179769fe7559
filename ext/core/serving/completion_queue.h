// CompletionQueue: finished calls on their way to one transport thread.
//
// Runners push, the transport thread that owns the queue drains. The file descriptor (an eventfd) becomes readable when the queue
// goes from empty to not empty: one wake per batch, whatever its size. Bounded by the slab: a call is in at most once.
// REQUIRES: outlives every engine that was given it, or that engine's stop().
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace assay {

// Slot index in the low 32 bits, its generation in the high 32: a late handle never reaches another call.
using CallId = uint64_t;

struct Completion {
  uint64_t token = 0;  // what the transport gave with the call
  CallId call = 0;
};

class CompletionQueue {
 public:
  // `capacity`: the slab's slots. Aborts if the kernel gives no eventfd (start-up only).
  explicit CompletionQueue(size_t capacity);
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  int fd() const noexcept { return fd_; }
  // Appends all at once and wakes the owner if the queue was empty. Any thread. The wake is made outside the lock.
  void push(const Completion* completions, size_t count) noexcept;
  // Takes everything (`out` is overwritten) and clears the eventfd. The owner's thread.
  void drain(std::vector<Completion>& out) noexcept;

 private:
  int fd_ = -1;
  std::mutex mutex_;
  std::vector<Completion> pending_;  // guarded by mutex_
  std::vector<Completion> taken_;    // the owner's: changes places with pending_, so that both keep their reserve
};

}  // namespace assay
