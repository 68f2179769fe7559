#include "core/serving/row_queue.h"

#include <algorithm>

#include "core/base/status.h"

namespace assay {

RowQueue::RowQueue(uint32_t rows_max) : rows_max_(rows_max) {
  for (Ring& ring : rings_) ring.cells.resize(rows_max);
}

bool RowQueue::push(const QueuedRow* rows, uint32_t count, size_t priority, QueuedRow* evicted,
                    uint32_t* evicted_count) noexcept {
  *evicted_count = 0;
  uint32_t room = rows_max_ - size_;
  for (size_t lower = priority + 1; lower < kPriorityCount; ++lower) room += rings_[lower].count;
  if (count > room) return false;

  size_t lowest = kPriorityCount - 1;
  while (rows_max_ - size_ < count) {
    while (rings_[lowest].count == 0) --lowest;
    ASSAY_ASSERT(lowest > priority);
    evicted[(*evicted_count)++] = pop_back(rings_[lowest]);
  }
  for (uint32_t i = 0; i < count; ++i) push_back(rings_[priority], rows[i]);
  return true;
}

const QueuedRow& RowQueue::front(size_t priority) const noexcept {
  ASSAY_ASSERT(rings_[priority].count > 0);
  return rings_[priority].cells[rings_[priority].first];
}

QueuedRow RowQueue::pop_front(size_t priority) noexcept {
  const QueuedRow row = front(priority);
  Ring& ring = rings_[priority];
  ring.first = cell(ring, 1);
  --ring.count;
  if (--size_ == 0) latest_start_ns_ = INT64_MAX;
  return row;
}

void RowQueue::refresh_latest_start() noexcept {
  latest_start_ns_ = INT64_MAX;
  for (const Ring& ring : rings_) {
    for (uint32_t i = 0; i < ring.count; ++i)
      latest_start_ns_ = std::min(latest_start_ns_, ring.cells[cell(ring, i)].latest_start_ns);
  }
}

void RowQueue::push_back(Ring& ring, const QueuedRow& row) noexcept {
  ring.cells[cell(ring, ring.count)] = row;
  ++ring.count;
  ++size_;
  latest_start_ns_ = std::min(latest_start_ns_, row.latest_start_ns);
}

QueuedRow RowQueue::pop_back(Ring& ring) noexcept {
  --ring.count;
  --size_;
  return ring.cells[cell(ring, ring.count)];
}

}  // namespace assay
