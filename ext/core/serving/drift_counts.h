// DriftCounts: of every row that a lane scored, which of the baseline's frozen bins each model input and the score fell into.
//
// A value v is in bin i where edges[i - 1] <= v < edges[i], as models/baseline.py has it: bin 0 is below the first edge, the last
// one at or above the last edge; what is not finite (null) is counted apart. Values are compared as the float64 that they equal
// (int64 beyond 2^53: rounded to), so the counts are those of numpy.searchsorted(edges, values, side="right") to the last row.
//
// A row is counted when the model has scored it, by the thread that ran it: row memory and tables are warm there, the batch is at
// hand, and the threads that talk to clients do nothing for it. (A row whose deadline passes between its score and its answer is
// counted too.) Counts only grow; who wants a window subtracts two copies.
//
// COST. 60 to 80 ns a row of 15 float32 inputs with 13 edges each (python -m benchmarks drift): every row is counted, none sampled.
// Every batch run has a shard of its own; its mutex is taken once a batch and is contended only while a copy is made.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/features/feature_reader.h"
#include "core/features/plan.h"

namespace assay {

// Ascending edges, those of the inputs in the plan's order. An input without edges has one bin. Default: nothing is counted.
struct DriftSpec {
  bool is_on = false;
  std::vector<std::vector<double>> input_edges;
  std::vector<double> score_edges;
};

// kModelUnsupported: not one list of edges for each input, or edges that are not finite and ascending.
Status check_drift_spec(const DriftSpec& spec, const FeaturePlan& plan);

// A copy of all counts. Sums of `score_counts` and of each input's counts and nulls are `scores`.
struct DriftTotals {
  uint64_t scores = 0;
  std::vector<uint64_t> score_counts;               // edges + 1
  std::vector<uint64_t> alert_counts;               // by threshold, ascending: scores at or above it
  std::vector<std::vector<uint64_t>> input_counts;  // edges + 1 each
  std::vector<uint64_t> null_counts;                // by input: not finite
  std::vector<uint64_t> imputed_counts;             // by input: a declared default went in
};

class DriftShard;

class DriftCounts {
 public:
  // REQUIRES: check_drift_spec() had nothing to say; `thresholds` ascend.
  DriftCounts(const DriftSpec& spec, const FeaturePlan& plan, std::vector<double> thresholds);
  ~DriftCounts();
  DriftCounts(const DriftCounts&) = delete;
  DriftCounts& operator=(const DriftCounts&) = delete;

  // One more that counts; lives as long as this. Not while totals() may be called.
  DriftShard* add_shard();
  // Any thread.
  DriftTotals totals() const;

 private:
  friend class DriftShard;

  // The elements of one tensor, as its bytes lie in the row. Lanes are padded to whole blocks.
  struct Segment {
    TensorType type = TensorType::kFloat32;
    uint32_t offset_bytes = 0;
    uint32_t lanes = 0;
    uint32_t padded_lanes = 0;
    bool is_read_in_place = false;         // float32: as many bytes as the padded lanes have lie in the row, whosever they are
    uint32_t levels = 0;                   // most edges that one of them has
    std::vector<float> float32_edges;      // float32 tensors: [level][padded lane]
    std::vector<double> float64_edges;     // others: the same
    std::vector<uint32_t> first_counters;  // by padded lane: where its bins begin
    std::vector<uint32_t> null_counters;
  };

  const std::vector<double> score_edges_;
  const std::vector<double> thresholds_;
  std::vector<Segment> segments_;
  // Counters lie in one array: by input its bins and then its nulls; then the score's bins, the thresholds, the imputed by input.
  std::vector<uint32_t> input_firsts_;  // one more than inputs
  uint32_t score_first_ = 0;
  uint32_t alert_first_ = 0;
  uint32_t imputed_first_ = 0;
  uint32_t counter_count_ = 0;
  uint32_t lanes_max_ = 0;  // padded, of the widest tensor
  std::vector<std::unique_ptr<DriftShard>> shards_;
};

// The counters of one batch run. add() within lock() and unlock() (std::lock_guard), by one thread at a time.
class DriftShard {
 public:
  explicit DriftShard(const DriftCounts& counts);

  void lock() noexcept { mutex_.lock(); }
  void unlock() noexcept { mutex_.unlock(); }
  // REQUIRES: the row is finished and of the plan; the score is finite.
  void add(const RowOut& out, double score) noexcept;
  void add_to(std::vector<uint64_t>& counters) const noexcept;

 private:
  template <typename T>
  void count_bins(const DriftCounts::Segment& segment, const T* values, const std::vector<T>& edges) noexcept;
  const float* float32_values(const DriftCounts::Segment& segment, const uint8_t* bytes) noexcept;
  template <typename T>
  void count_converted(const DriftCounts::Segment& segment, const uint8_t* bytes) noexcept;

  const DriftCounts& counts_;
  mutable std::mutex mutex_;
  std::vector<uint64_t> counters_;     // guarded by mutex_
  std::vector<float> float32_values_;  // of one tensor, padded with zeros; scratch
  std::vector<double> float64_values_;
};

}  // namespace assay
