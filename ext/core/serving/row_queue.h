// RowQueue: rows of one lane that wait for a runner. Bounded; three priorities, first in first out within each.
//
// Not thread-safe: the lane's mutex guards it. Never allocates after it is made.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/wire/score_request.h"

namespace assay {

inline constexpr size_t kPriorityCount = 3;
// The queue's name for a priority: 0 interactive, 1 bulk, 2 shadow. Lower goes first.
constexpr size_t priority_index(Priority priority) noexcept { return static_cast<size_t>(priority) - 1; }

// What the batcher needs to know of a row without touching its slot.
struct QueuedRow {
  uint32_t slot = 0;
  uint32_t head = 0;  // of its call
  int64_t queued_ns = 0;
  int64_t deadline_ns = 0;
  int64_t latest_start_ns = 0;  // a free runner starts a batch no later than this, full or not
};

class RowQueue {
 public:
  explicit RowQueue(uint32_t rows_max);

  uint32_t rows_max() const noexcept { return rows_max_; }
  uint32_t size() const noexcept { return size_; }
  uint32_t size(size_t priority) const noexcept { return rings_[priority].count; }
  // The earliest latest_start_ns of all rows. INT64_MAX when empty.
  int64_t latest_start_ns() const noexcept { return latest_start_ns_; }

  // Adds all rows or none. If they do not fit, the newest rows of lower priorities, lowest first, give way: they go to `evicted`
  // (room for `count`). False: not even that makes room, and nothing has changed.
  bool push(const QueuedRow* rows, uint32_t count, size_t priority, QueuedRow* evicted, uint32_t* evicted_count) noexcept;

  // REQUIRES: size(priority) > 0.
  const QueuedRow& front(size_t priority) const noexcept;
  QueuedRow pop_front(size_t priority) noexcept;

  // Makes latest_start_ns() exact again after pops. Looks at every row: called once a batch, and only where a delay is set.
  void refresh_latest_start() noexcept;

 private:
  struct Ring {
    std::vector<QueuedRow> cells;  // rows_max of them: any one priority may fill the queue
    uint32_t first = 0;
    uint32_t count = 0;
  };
  uint32_t cell(const Ring& ring, uint32_t position) const noexcept {
    const uint32_t index = ring.first + position;
    return index < rows_max_ ? index : index - rows_max_;
  }
  void push_back(Ring& ring, const QueuedRow& row) noexcept;
  QueuedRow pop_back(Ring& ring) noexcept;

  const uint32_t rows_max_;
  uint32_t size_ = 0;
  int64_t latest_start_ns_ = INT64_MAX;
  std::array<Ring, kPriorityCount> rings_;
};

}  // namespace assay
