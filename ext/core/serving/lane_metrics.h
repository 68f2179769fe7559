// LaneMetrics: how long the rows of one lane took, stage by stage, and how large its batches were.
//
// Every answered row is in `inference` and in each stage once, added when its call is finished, by the thread that finishes it;
// so the count of `inference` is the number of answered rows.
//
// No thread sleeps for another. There are four sets of histograms, each with a flag; a thread adds to its own one, or if that is
// just taken (by another thread, or a scrape that copies it) to the next that is not. One exchange of a flag and plain additions
// cost a third of the relaxed atomic additions that they replace, and what a copy has of a call it has whole.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/serving/counters.h"
#include "core/serving/latency_histogram.h"
#include "core/serving/row_queue.h"
#include "core/serving/slab.h"
#include "core/wire/response.h"

namespace assay {

// Rows of a batch: powers of two up to the largest that a configuration allows.
inline constexpr std::array<int64_t, 13> kBatchRowsBounds = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};

// The first bucket whose bound is not below the number of rows; one past the last bound is the bucket without one.
size_t batch_rows_bucket(uint32_t rows) noexcept;

using RowsHistogram = Histogram<kBatchRowsBounds.size()>;

struct LaneHistograms {
  std::array<LatencyHistogram, kPriorityCount> inference;  // received to answered, by priority_index()
  std::array<LatencyHistogram, kStages.size()> stages;
  RowsHistogram batch_rows;

  LaneHistograms& operator+=(const LaneHistograms& other) noexcept;
};

class LaneMetrics {
 public:
  void add_batch(uint32_t rows) noexcept;
  // Adds every answered row of a finished call. REQUIRES: the caller owns its slots; they are stamped kDone.
  void add_call(const Slab& slab, uint32_t head) noexcept;
  // Of calls that named no version: whoever names one, or a label, must not speak for the others. Failed: a row that its model
  // failed or scored invalidly. Missed: a row, or once a whole call, refused as INVALID_REQUEST, whatever was wrong with it; a row
  // that was accepted and came too late. Any thread.
  void add_failed_row() noexcept { failed_rows_.add(1); }
  void add_missed_row() noexcept { missed_rows_.add(1); }
  uint64_t failed_rows() const noexcept { return failed_rows_.get(); }
  uint64_t missed_rows() const noexcept { return missed_rows_.get(); }
  // The sum of all sets, added to `sum`.
  void add_to(LaneHistograms& sum) const noexcept;

 private:
  struct alignas(64) Set {
    std::atomic<bool> is_taken{false};
    LaneHistograms histograms;  // of whoever has taken it
  };
  class Taken;

  static constexpr size_t kSets = 4;
  mutable std::array<Set, kSets> sets_;
  Counter failed_rows_;
  Counter missed_rows_;
};

}  // namespace assay
