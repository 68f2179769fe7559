#include "core/serving/completion_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "core/base/status.h"

namespace assay {

CompletionQueue::CompletionQueue(size_t capacity) : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  ASSAY_ASSERT(fd_ >= 0);
  pending_.reserve(capacity);
  taken_.reserve(capacity);
}

CompletionQueue::~CompletionQueue() { close(fd_); }

void CompletionQueue::push(const Completion* completions, size_t count) noexcept {
  if (count == 0) return;
  bool was_empty = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    was_empty = pending_.empty();
    pending_.insert(pending_.end(), completions, completions + count);  // within the reserve: a call is in at most once
  }
  if (!was_empty) return;
  const uint64_t one = 1;
  ssize_t written;
  do { written = write(fd_, &one, sizeof(one)); } while (written < 0 && errno == EINTR);
  ASSAY_ASSERT(written == sizeof(one) || errno == EAGAIN);  // EAGAIN: the counter is full, so the descriptor is readable anyway
}

void CompletionQueue::drain(std::vector<Completion>& out) noexcept {
  // First the descriptor, then the list: a push between the two finds its wake-up still to be read, or its entry taken here. The
  // other way round a wake-up would be lost.
  uint64_t ignored = 0;
  ssize_t got;
  do { got = read(fd_, &ignored, sizeof(ignored)); } while (got < 0 && errno == EINTR);
  taken_.clear();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    pending_.swap(taken_);
  }
  out.assign(taken_.begin(), taken_.end());
}

}  // namespace assay
