// LaneMetrics: how long the rows of one lane took, stage by stage, and how large its batches were. Histograms for Prometheus.
//
// Every answered row is in `inference` and in each stage once, added when its call is finished, by the thread that finishes it; so
// the count of `inference` is the number of answered rows. One mutex, taken once a call and once a batch: uncontended it costs less
// than a third of the atomic additions that it replaces, and a copy is consistent.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "core/serving/slab.h"
#include "core/wire/response.h"

namespace assay {

// Upper bounds, inclusive: gRPC's own (gRFC A66) without 0, finer below 300 us, where our stages are, and with the 12 ms that a
// score is allowed to take.
inline constexpr std::array<int64_t, 46> kLatencyBoundsNs = {
    1'000,         2'000,         5'000,          10'000,         20'000,         50'000,         100'000,     200'000,
    300'000,       600'000,       800'000,        1'000'000,      2'000'000,      3'000'000,      4'000'000,   5'000'000,
    6'000'000,     8'000'000,     10'000'000,     12'000'000,     13'000'000,     16'000'000,     20'000'000,  25'000'000,
    30'000'000,    40'000'000,    50'000'000,     65'000'000,     80'000'000,     100'000'000,    130'000'000, 160'000'000,
    200'000'000,   250'000'000,   300'000'000,    400'000'000,    500'000'000,    650'000'000,    800'000'000, 1'000'000'000,
    2'000'000'000, 5'000'000'000, 10'000'000'000, 20'000'000'000, 50'000'000'000, 100'000'000'000};

// Rows of a batch: powers of two up to the largest that a configuration allows.
inline constexpr std::array<int64_t, 13> kBatchRowsBounds = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};

// The first bucket whose bound is not below the value; one past the last bound is the bucket without one.
size_t latency_bucket(int64_t ns) noexcept;
size_t batch_rows_bucket(uint32_t rows) noexcept;

template <size_t kBounds>
struct Histogram {
  std::array<uint64_t, kBounds + 1> counts{};  // of each bucket alone; the last has no bound
  int64_t sum = 0;

  void add(size_t bucket, int64_t value) noexcept {
    ++counts[bucket];
    sum += value;
  }
};
using LatencyHistogram = Histogram<kLatencyBoundsNs.size()>;
using RowsHistogram = Histogram<kBatchRowsBounds.size()>;

struct LaneHistograms {
  LatencyHistogram inference;  // received to answered
  std::array<LatencyHistogram, kStages.size()> stages;
  RowsHistogram batch_rows;
};

class LaneMetrics {
 public:
  void add_batch(uint32_t rows) noexcept;
  // Adds every answered row of a finished call. REQUIRES: the caller owns its slots; they are stamped kDone.
  void add_call(const Slab& slab, uint32_t head) noexcept;
  LaneHistograms copy() const noexcept;

 private:
  mutable std::mutex mutex_;
  LaneHistograms histograms_;  // guarded by mutex_
};

}  // namespace assay
