// SampledRow: one row on its way to be explained by asking its model: which rows to ask about, and what is known by now.
//
//   while (const size_t count = row.next(rows_max)) {
//     fill(i, ...) for i below count; the model's score for each, in this order; at a deadline: stop
//     give(scores, count);
//   }
//   if (row.can_tell()) row.tell(&attribution);
//
// The seed is the row's own digest: the same row, model and background give the same contributions, in whatever order and company rows
// are explained, if no deadline cuts them short. One owner at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "core/explain/permutation.h"
#include "core/explain/sampled_model.h"

namespace assay::explain {

class SampledRow {
 public:
  SampledRow() = default;  // of nobody; move only
  SampledRow(SampledRow&&) = default;
  SampledRow& operator=(SampledRow&&) = default;

  // `model` outlives it; `row`: model.row_bytes(), finished; `score`: the model's for it. kModelOutputInvalid, kExplainUnsupported.
  static Status begin(const SampledModel& model, std::vector<uint8_t> row, double score, Players players,
                      const SamplingOptions& options, SampledRow* out);

  // How many rows are to be asked about now, at most `rows_max`. 0: nothing more is asked.
  size_t next(size_t rows_max);
  // Row `i` of them: model.row_bytes() at `row`.
  void fill(size_t i, uint8_t* row) const noexcept;
  // The scores of the first `count` of them. kModelOutputInvalid: NaN or infinity; nothing is taken.
  Status give(const double* scores, size_t count);

  // Whether enough whole rounds are there for contributions and errors that mean something.
  bool can_tell() const noexcept;
  // REQUIRES: can_tell().
  void tell(Attribution* out) const;

 private:
  const SampledModel* model_ = nullptr;
  std::vector<uint8_t> row_;
  double score_ = 0.0;
  Players players_ = Players::kGroups;
  PermutationSampling sampling_;
  std::vector<double> margins_;
};

}  // namespace assay::explain
