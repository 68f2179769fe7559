#include "core/serving/batch_former.h"

#include <algorithm>

namespace assay {
namespace {

constexpr size_t kInteractive = 0, kBulk = 1, kShadow = 2;
constexpr uint32_t kWholePlace = 32;
constexpr uint32_t kShares[kPriorityCount] = {0, 4, 1};  // of each place, in 1/32
constexpr uint32_t kAgedShare = 8;                       // of each place, in 1/32; at most one place a batch

// Moves rows from the front of one priority into the batch until it has `rows_target` rows.
void take(RowQueue& queue, const Slab& slab, size_t priority, int64_t now_ns, size_t rows_target, FormedBatch& out) noexcept {
  while (out.rows.size() < rows_target && queue.size(priority) > 0) {
    if (out.expired.size() + out.cancelled.size() == kDeadRowsPerBatchMax) return;
    const QueuedRow row = queue.pop_front(priority);
    if (slab.is_abandoned(row.head)) {
      out.cancelled.push_back(row);
    } else if (row.deadline_ns <= now_ns) {
      out.expired.push_back(row);
    } else {
      out.rows.push_back(row);
    }
  }
}

}  // namespace

int64_t BatchFormer::latest_start_ns(int64_t queued_ns, int64_t deadline_ns) const noexcept {
  return queued_ns + std::min(queue_delay_ns_max_, std::max<int64_t>(0, (deadline_ns - queued_ns) / 2));
}

int64_t BatchFormer::form_at_ns(const RowQueue& queue, uint32_t rows_max) const noexcept {
  if (queue.size() == 0) return INT64_MAX;
  if (queue_delay_ns_max_ == 0 || queue.size() >= rows_max) return INT64_MIN;
  return queue.latest_start_ns();
}

uint32_t BatchFormer::rows_before(const RowQueue& queue, size_t priority) noexcept {
  uint32_t by_rank = 0;
  for (size_t index = 0; index <= priority; ++index) by_rank += queue.size(index);
  if (kShares[priority] == 0) return by_rank;
  return std::min(by_rank, queue.size(priority) * kWholePlace / kShares[priority]);
}

void BatchFormer::form(RowQueue& queue, const Slab& slab, int64_t now_ns, uint32_t rows_max, FormedBatch& out) noexcept {
  const uint32_t bulk_places = reserve_places(queue, kBulk, now_ns, rows_max);
  const uint32_t shadow_places = reserve_places(queue, kShadow, now_ns, rows_max);
  const size_t full = rows_max;

  take(queue, slab, kBulk, now_ns, std::min<size_t>(full, bulk_places), out);
  const size_t bulk_rows = out.rows.size();
  take(queue, slab, kShadow, now_ns, std::min<size_t>(full, bulk_rows + shadow_places), out);
  const size_t shadow_rows = out.rows.size() - bulk_rows;
  owed_[kBulk] -= std::min(owed_[kBulk], static_cast<uint32_t>(bulk_rows) * kWholePlace);
  owed_[kShadow] -= std::min(owed_[kShadow], static_cast<uint32_t>(shadow_rows) * kWholePlace);

  take(queue, slab, kInteractive, now_ns, full, out);
  take(queue, slab, kBulk, now_ns, full, out);
  take(queue, slab, kShadow, now_ns, full, out);
  for (const size_t priority : {kBulk, kShadow}) {
    if (queue.size(priority) == 0) owed_[priority] = 0;  // nothing is saved up for rows that do not wait
  }
  if (queue_delay_ns_max_ > 0 && queue.size() > 0) queue.refresh_latest_start();
}

// Adds what this batch owes the priority and returns the whole places that it may take before interactive rows.
uint32_t BatchFormer::reserve_places(const RowQueue& queue, size_t priority, int64_t now_ns, uint32_t rows_max) noexcept {
  uint32_t& owed = owed_[priority];
  if (queue.size(priority) == 0 || queue.size() <= rows_max) {  // nobody waits, or nobody is left out
    owed = 0;
    return 0;
  }
  uint32_t due = rows_max * kShares[priority];
  const bool is_aged = now_ns - queue.front(priority).queued_ns > ageing_ns_;
  if (is_aged) due = std::max(due, std::min(kWholePlace, rows_max * kAgedShare));
  owed = std::min(owed + due, rows_max * kWholePlace);
  return owed / kWholePlace;
}

}  // namespace assay
