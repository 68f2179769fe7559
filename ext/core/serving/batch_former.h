// BatchFormer: which waiting rows make the next batch. A pure function of the queue, the time and what earlier batches left
// owing.
//
// WHEN. With a delay of 0 at once. Else as soon as the batch is full or some row must start: a row waits at most the delay, and
// at most half of the time it had left when it was queued (the other half is for the run).
//
// WHO. Interactive rows first. While more rows wait than a batch holds, bulk rows are guaranteed 1/8 and shadow rows 1/32 of all
// batch places; where that is less than a row a batch (small batches), it is saved up. A priority whose oldest row has waited
// longer than `ageing_ns` is guaranteed a row a batch (a quarter of the places of a batch of less than four), so interactive rows
// always keep half.
//
// NOT WHO. Rows of cancelled calls and rows past their deadline are handed back, to be answered without the lock.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/serving/row_queue.h"
#include "core/serving/slab.h"

namespace assay {

// Dead rows taken out by one form(): bounds the time under the lane's lock. The rest go next time.
inline constexpr size_t kDeadRowsPerBatchMax = 512;

// Reused by one runner; made with all the room it will need.
struct FormedBatch {
  explicit FormedBatch(uint32_t rows_max) {
    rows.reserve(rows_max);
    expired.reserve(kDeadRowsPerBatchMax);
    cancelled.reserve(kDeadRowsPerBatchMax);
  }
  void clear() noexcept {
    rows.clear();
    expired.clear();
    cancelled.clear();
  }

  std::vector<QueuedRow> rows;
  std::vector<QueuedRow> expired;
  std::vector<QueuedRow> cancelled;
};

class BatchFormer {
 public:
  BatchFormer(int64_t queue_delay_ns_max, int64_t ageing_ns) : queue_delay_ns_max_(queue_delay_ns_max), ageing_ns_(ageing_ns) {}

  // QueuedRow::latest_start_ns of a row queued now.
  int64_t latest_start_ns(int64_t queued_ns, int64_t deadline_ns) const noexcept;

  // When the next batch is to be formed; a time that has passed means now. INT64_MAX: nothing waits.
  int64_t form_at_ns(const RowQueue& queue, uint32_t rows_max) const noexcept;

  // How many of the rows that wait leave before one that is queued now, by rank or by its priority's guaranteed share, whichever is
  // sooner. An estimate: what comes later is not counted, nor is ageing.
  static uint32_t rows_before(const RowQueue& queue, size_t priority) noexcept;

  // Takes the rows of the next batch out of the queue. REQUIRES: `out` is clear and has room for rows_max rows.
  void form(RowQueue& queue, const Slab& slab, int64_t now_ns, uint32_t rows_max, FormedBatch& out) noexcept;

 private:
  uint32_t reserve_places(const RowQueue& queue, size_t priority, int64_t now_ns, uint32_t rows_max) noexcept;

  const int64_t queue_delay_ns_max_;
  const int64_t ageing_ns_;
  std::array<uint32_t, kPriorityCount> owed_{};  // 1/32 of a place
};

}  // namespace assay
