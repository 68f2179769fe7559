// ServedRows: a bounded sample of the rows that models were given, to be held against a replay of the same events.
//
// The transaction's first entity decides, not chance: of one customer in `one_in` every row is kept, so that a path of theirs can
// be followed from row to row. A row is copied when it is finished, whatever becomes of its call. Of the request the copy has the
// transaction's id and time, no entity and no feature that the model does not read. When the list is full the oldest row goes.
//
// THREADS. Any. Who is not sampled pays for one hash; for the others one mutex is held for a move, or to copy pointers.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/features/feature_reader.h"
#include "core/serving/call_record.h"
#include "core/serving/counters.h"

namespace assay {

struct ServedRowsOptions {
  uint32_t one_in = 0;  // entities; 0: off
  uint32_t rows_max = 10'000;
};

struct ServedRow {
  uint64_t position = 0;  // from 1, in the order in which rows were kept
  std::shared_ptr<const LaneName> lane;
  std::string transaction_id;
  int64_t event_time_us = 0;
  std::vector<uint8_t> row;       // plan.row_bytes()
  std::vector<uint64_t> missing;  // as RowOut
  // A record was out of reach, or not to be trusted, or older than it may be: a replay, which has them all, need not agree.
  bool is_degraded = false;
};

class ServedRows {
 public:
  // Memory: rows_max * (about 250 bytes + the row + the id).
  explicit ServedRows(const ServedRowsOptions& options);

  // A row is finished. REQUIRES: FeatureReader::read() filled it from this transaction, and returned true.
  void offer(const std::shared_ptr<const LaneName>& lane, const FeaturePlan& plan, const Transaction& transaction,
             const RowOut& out) noexcept {
    if (__builtin_expect(is_wanted(plan, transaction), 0)) keep(lane, plan, transaction, out);
  }

  // At most `rows_max` kept rows past `position`, oldest first.
  std::vector<std::shared_ptr<const ServedRow>> after(uint64_t position, size_t rows_max) const;
  // Position of the newest: how many were ever kept.
  uint64_t sampled_rows() const noexcept { return sampled_rows_.get(); }
  // Of those, the ones that gave way to newer ones, or that there was no memory for.
  uint64_t dropped_rows() const noexcept { return dropped_rows_.get(); }

 private:
  bool is_wanted(const FeaturePlan& plan, const Transaction& transaction) const noexcept;
  void keep(const std::shared_ptr<const LaneName>& lane, const FeaturePlan& plan, const Transaction& transaction,
            const RowOut& out) noexcept;

  const uint32_t one_in_;
  const size_t rows_max_;
  Counter sampled_rows_;
  Counter dropped_rows_;
  mutable std::mutex mutex_;
  uint64_t newest_ = 0;                                 // guarded by mutex_
  std::vector<std::shared_ptr<const ServedRow>> rows_;  // guarded by mutex_; row of position p at (p - 1) % rows_max
};

}  // namespace assay
